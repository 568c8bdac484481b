# SPDX-License-Identifier: MIT
"""Masked dense: a level is a dense product with all values so far, edges that do not exist held at weight 0.

Enters: a network. Leaves: `MaskedPeer`. What ``F.linear`` with a masked weight computes, in the layout that was
fastest: values batch-last on a tape ``[rows, B]`` written level by level, weights kept masked by masking their
gradient (so that the forward multiplies by no mask), and a backward of dense products written by hand.

Tried and found slower: ``F.linear`` on ``[B, rows]`` values, concatenated every level (twice the forward, 1.5 times
the step) or written into a tape (1.5 times the forward); ``weight * mask`` in every forward; plain autograd in each
layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.peers.base import Peer, indices, to_canonical
from benchmarks.peers.layout import Layout, activate, scale_by_derivative

__all__ = ["MaskedPeer"]

_LARGEST = 2 << 30  # bytes of dense weights


class _Function(torch.autograd.Function):
    """(x, weights and then biases of the levels) -> y."""

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
    """One dense product a level, ``[nodes in the level, rows so far] @ [rows so far, B]``."""

    label = "masked dense"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        assert net.bias is not None
        layout = self.layout
        edge_weight = net.weight.detach()[indices(layout.weight_entry, net.weight)]
        row_bias = net.bias.detach()[indices(layout.bias_entry, net.bias)][:, None]
        self.outputs = indices(layout.outputs, net.weight)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.masks: list[Tensor] = []
        self.places: list[tuple[Tensor, ...]] = []
        for level in layout.levels:
            edges = slice(level.first, level.last)
            at = tuple(indices(ends, net.weight) for ends in (layout.dst[edges] - level.begin, layout.src[edges]))
            weight = edge_weight.new_zeros(level.end - level.begin, level.begin)
            mask = torch.zeros_like(weight)
            weight.index_put_(at, edge_weight[edges], accumulate=True)  # two edges of one pair share an entry
            mask[at] = 1
            self.weights.append(nn.Parameter(weight))
            self.masks.append(mask)
            self.places.append(at)
            own = slice(level.begin - layout.num_inputs, level.end - layout.num_inputs)
            self.biases.append(nn.Parameter(row_bias[own].clone()))

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
