# SPDX-License-Identifier: MIT
"""jax: a gather and a small product per level, with the whole forward and the whole backward one jitted call each.

The kernels are in `benchmarks.peers.jax_kernels`, the only module that imports jax for this peer. Tensors are passed
to jax and back by DLPack, without a copy where torch's memory is aligned as jax wants it. That is part of what is timed
and takes microseconds; compilation (half a minute for W1) is not timed.

A level's nodes gather their sources' values, ``[nodes, fan-in, B]``, and contract them with their weights. The
backward is written by hand: each level gathers from its readers, and the weights' gradients are products of two
gathers. Where all nodes of a level have the same sources, both are dense products.

Tried on W1 (on a shared machine, so only the order is meaningful; medians of 7): ``segment_sum`` over the edges, `BCOO`
products, dense matrices filled from the weights, a new array of values per level instead of one written in place, and
one `lax.scan` over padded levels, which compiles in a second. Each took longer in the forward than this; so did the
step, with the backward by `jax.grad`, compared with a gather differentiated by `jax.grad`. Whether the hand-written
backward beats `jax.grad`, whose scatters run on one thread, was not measured side by side.
"""

from __future__ import annotations

import torch

import freewire as fw
from benchmarks.harness.machine import cores
from benchmarks.peers.base import KernelPeer, missing

__all__ = ["JaxPeer", "why_no_jax"]

_DEEPEST = 500  # levels; each is compiled separately


def why_no_jax(net: fw.Network) -> str | None:
    """Why a peer that runs in jax cannot run, or None if it can."""
    if (absent := missing("jax", "jax>=0.10")) is not None:
        return absent
    if net.weight.device.type != "cpu":
        return "its adapter is written for jax on a CPU"
    if torch.get_num_threads() != cores():
        return f"jax takes all {cores()} cores, and {torch.get_num_threads()} thread(s) are asked for"
    return None


class JaxPeer(KernelPeer):
    """A gather and a product per level, compiled by XLA."""

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
            return f"{net.graph.depth} levels, each compiled separately, take too long"
        return super().refusal(net)
