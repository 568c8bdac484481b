# SPDX-License-Identifier: MIT
"""jax: every level a gather and a small product, all of it one jitted call forward and one back.

Enters: a network. Leaves: `JaxPeer`. The kernels stand in `benchmarks.peers.jax_kernels`, which alone imports jax.
Tensors cross over to jax and back by DLPack, without a copy where torch's memory is aligned as jax wants it. That is
inside of what is timed and takes microseconds; compilation (W1: half a minute) is not.

A level's nodes gather their sources' values, ``[nodes, fan-in, B]``, and contract them with their weights. The
backward is written by hand: each level gathers from its readers, and the weights' gradients are products of two
gathers. Where all nodes of a level have the same sources, both are dense products.

Tried on W1 (a shared machine, so only the order means something; medians of 7): ``segment_sum`` over the edges, `BCOO`
products, dense matrices filled from the weights, a new array of values a level instead of one that is written in place,
and one `lax.scan` over padded levels, which compiles in a second. In the forward each took longer than this; so did the
step of each, left to `jax.grad`, than that of the gather left to it. That a backward by hand beats `jax.grad`, whose
scatters run on one thread, was not measured side by side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import freewire as fw
from benchmarks.harness.machine import cores
from benchmarks.peers.base import FlatPeer, missing

__all__ = ["JaxPeer", "why_no_jax"]

_DEEPEST = 500  # levels; each is compiled for itself


class _Function(torch.autograd.Function):
    """(x, weight, bias) -> y; the tape stays in jax."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, peer: JaxPeer) -> Tensor:
        y, ctx.tape = peer.kernels.forward(x, weight, bias)
        ctx.peer = peer
        ctx.save_for_backward(weight)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return *ctx.peer.kernels.backward(grad_y.contiguous(), weight, ctx.tape), None


def why_no_jax(net: fw.Network) -> str | None:
    """Why a peer that runs in jax is left out, or None if it can be had."""
    if (absent := missing("jax", "jax>=0.10")) is not None:
        return absent
    if net.weight.device.type != "cpu":
        return "its adapter is written for jax on a CPU"
    if torch.get_num_threads() != cores():
        return f"jax takes all {cores()} cores, and {torch.get_num_threads()} thread(s) are asked for"
    return None


class JaxPeer(FlatPeer):
    """A gather and a product a level, compiled by XLA."""

    label = "jax"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        from benchmarks.peers.jax_kernels import Kernels

        self.kernels = Kernels(self.layout, net.weight.dtype)

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        if (reason := why_no_jax(net)) is not None:
            return reason
        if net.graph.depth > _DEEPEST:
            return f"{net.graph.depth} levels, each compiled for itself, take too long"
        return super().refusal(net)

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            y: Tensor = _Function.apply(x, self.weight, self.bias, self)
            return y
        return self.kernels.infer(x, self.weight.detach(), self.bias.detach())
