# SPDX-License-Identifier: MIT
"""Masked dense: each level is a dense product with all values so far, where missing edges have weight 0.

This computes what ``F.linear`` with a masked weight does, in the layout that was fastest: values batch-last on a tape
``[rows, B]`` written level by level, weights kept masked by masking their gradient (so that the forward multiplies by
no mask), and a hand-written backward of dense products.

Tried and found slower: ``F.linear`` on ``[B, rows]`` values, concatenated at every level (twice the forward, 1.5 times
the step) or written into a tape (1.5 times the forward); ``weight * mask`` in every forward; plain autograd in each
layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.peers.base import Peer, indices, level_parameters, to_canonical
from benchmarks.peers.layout import Layout, activate, scale_by_derivative

__all__ = ["MaskedPeer"]

_LARGEST = 2 << 30  # bytes of dense weights


class _Function(torch.autograd.Function):
    """(x, then the levels' weights, then their biases) -> y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, peer: MaskedPeer, *parameters: Tensor) -> Tensor:
        tape = x.new_empty(peer.layout.num_rows, x.shape[0])
        peer.run(x, tape)
        ctx.peer = peer
        ctx.save_for_backward(tape, *parameters[: len(peer.masks)])
        return tape[peer.outputs].T

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
        peer: MaskedPeer = ctx.peer
        tape, *weights = ctx.saved_tensors
        grad = torch.zeros_like(tape)
        grad[peer.outputs] = grad_y.T
        grad_weights, grad_biases = [], []
        for level, weight, mask in zip(
            reversed(peer.layout.levels), reversed(weights), reversed(peer.masks), strict=True
        ):
            rows = grad[level.begin : level.end]
            scale_by_derivative(rows, tape[level.begin : level.end], level)
            before = grad[: level.begin]
            torch.addmm(before, weight.T, rows, out=before)
            grad_weights.append((rows @ tape[: level.begin].T).mul_(mask))
            grad_biases.append(rows.sum(1, keepdim=True))
        return grad[: peer.layout.num_inputs].T, None, *reversed(grad_weights), *reversed(grad_biases)


class MaskedPeer(Peer):
    """One dense product per level, ``[nodes in the level, rows so far] @ [rows so far, B]``."""

    label = "masked dense"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        self.outputs = indices(self.layout.outputs, net.weight)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.masks: list[Tensor] = []
        self.places: list[tuple[Tensor, Tensor]] = []
        for weight, bias, at in level_parameters(net, self.layout, [0] * len(self.layout.levels)):
            mask = torch.zeros_like(weight)
            mask[at] = 1
            self.weights.append(nn.Parameter(weight))
            self.masks.append(mask)
            self.places.append(at)
            self.biases.append(nn.Parameter(bias[:, None]))

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        refusal = super().refusal(net)
        if refusal is None:
            layout = Layout.of(net.graph)
            entries = sum((level.end - level.begin) * level.begin for level in layout.levels)
            if entries * net.weight.element_size() > _LARGEST:
                refusal = f"{entries * net.weight.element_size() / 2**30:.0f} GiB of dense weights"
        return refusal

    def run(self, x: Tensor, tape: Tensor) -> None:
        """Write every row's value to the tape, ``[R, B]``."""
        layout = self.layout
        tape[: layout.num_inputs] = x.T
        for level, weight, bias in zip(layout.levels, self.weights, self.biases, strict=True):
            values = tape[level.begin : level.end]
            torch.addmm(bias, weight, tape[: level.begin], out=values)
            activate(values, level)

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            y: Tensor = _Function.apply(x, self, *self.weights, *self.biases)
            return y
        tape = self.kept_tape(x, self.layout.num_rows, x.shape[0])
        self.run(x, tape)
        return tape[self.outputs].T

    def gradients(self) -> tuple[Tensor, Tensor]:
        """See `Peer`."""
        grad_weight = [weight.grad[at] for weight, at in zip(self.weights, self.places, strict=True)]
        grad_bias = [bias.grad.flatten() for bias in self.biases]
        return to_canonical(self, torch.cat(grad_weight), torch.cat(grad_bias))
