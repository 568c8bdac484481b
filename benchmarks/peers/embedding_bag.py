# SPDX-License-Identifier: MIT
"""embedding_bag: one call per level, which adds up rows of a table with a weight for each.

The table is the tape, ``[rows so far, B]``; a node is a bag of its sources' rows, with its weights as
``per_sample_weights``. `EmbeddingBagPeer` has a hand-written backward: a level's input gradients are one call over the
reversed graph, its weight gradients one call of the function that torch's own backward uses. `EmbeddingBagAutogradPeer`
leaves the backward to torch, which adds up a gradient of the whole table at every level; its step takes 5 times as
long. Both share one forward when no gradient is needed.

Tried and found slower: int64 indices (the same forward, a third more for autograd's step). Indices that are not
contiguous are copied at every call, and make autograd's step 16 times as long.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

import freewire as fw
from benchmarks.peers.base import KernelPeer, indices
from benchmarks.peers.layout import IntArray, Layout, activate, activated, scale_by_derivative

__all__ = ["EmbeddingBagAutogradPeer", "EmbeddingBagPeer"]

_weight_gradients = torch.ops.aten._embedding_bag_per_sample_weights_backward.default


class _Bags(NamedTuple):
    """The bags of some successive rows."""

    #: The row of each element, and the first element of each bag.
    rows: Tensor
    offsets: Tensor
    #: The bag of each element.
    bag: Tensor

    def sum(self, table: Tensor, weight: Tensor) -> Tensor:
        """Each bag's weighted sum of rows of the table."""
        return embedding_bag(self.rows, table, self.offsets, mode="sum", per_sample_weights=weight)

    @classmethod
    def of(cls, ptr: IntArray, rows: IntArray, like: Tensor) -> _Bags:
        """Bags whose elements are numbered from ``ptr[i]`` to ``ptr[i + 1]``, their rows in ``rows``."""
        bag = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
        arrays = rows[ptr[0] : ptr[-1]], ptr[:-1] - ptr[0], bag
        return cls(*(indices(array.astype(np.int32), like) for array in arrays))


class _Kernels:
    """What `KernelPeer` calls."""

    def __init__(self, layout: Layout, like: Tensor) -> None:
        self.layout = layout
        self.outputs = indices(layout.outputs, like)
        inputs = layout.num_inputs
        bounds = [inputs, *(level.end for level in layout.levels)]
        self.forward_bags = [
            _Bags.of(layout.in_ptr[begin - inputs : end - inputs + 1], layout.src, like)
            for begin, end in pairwise(bounds)
        ]
        #: The reversed graph's, for the inputs and then each level; the weights in its order, and where they begin.
        by_source = np.argsort(layout.src, kind="stable")
        out_ptr = np.searchsorted(layout.src[by_source], np.arange(layout.num_rows + 1))
        dst = layout.dst[by_source]
        self.backward_bags = [_Bags.of(out_ptr[begin : end + 1], dst, like) for begin, end in pairwise([0, *bounds])]
        self.reversed_edge = indices(by_source, like)
        self.reversed_ptr = out_ptr[[0, *bounds]].tolist()

    def run(self, x: Tensor, weight: Tensor, bias: Tensor, tape: Tensor) -> Tensor:
        """Write every row's value to the tape, ``[R, B]``; returns the outputs."""
        inputs = self.layout.num_inputs
        tape[:inputs] = x.T
        for level, bags in zip(self.layout.levels, self.forward_bags, strict=True):
            values = tape[level.begin : level.end]
            sums = bags.sum(tape[: level.begin], weight[level.first : level.last])
            torch.add(sums, bias[level.begin - inputs : level.end - inputs, None], out=values)
            activate(values, level)
        return tape[self.outputs].T

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs, and the tape for the backward."""
        tape = x.new_empty(self.layout.num_rows, x.shape[0])
        return self.run(x, weight, bias, tape), tape

    def backward(self, grad_y: Tensor, weight: Tensor, tape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, weights and biases."""
        levels, inputs = self.layout.levels, self.layout.num_inputs
        weight = weight[self.reversed_edge]
        grad = torch.zeros_like(tape)
        grad[self.outputs] = grad_y.T
        grad_weight = torch.empty_like(weight)
        for at in reversed(range(-1, len(levels))):
            begin, end = (levels[at].begin, levels[at].end) if at >= 0 else (0, inputs)
            first, last = self.reversed_ptr[at + 1 : at + 3]
            rows = grad[begin:end]
            if last > first:
                rows += self.backward_bags[at + 1].sum(grad, weight[first:last])
            if at >= 0:
                level, bags = levels[at], self.forward_bags[at]
                scale_by_derivative(rows, tape[begin:end], level)
                grad_weight[level.first : level.last] = _weight_gradients(rows, tape[:begin], *bags, 0)
        return grad[:inputs].T, grad_weight, grad[inputs:].sum(1)


class EmbeddingBagPeer(KernelPeer):
    """One embedding_bag per level, with a backward of embedding_bags."""

    label = "embedding_bag"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        self.kernels = _Kernels(self.layout, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            return super().forward(x)
        tape = self.kept_tape(x, self.layout.num_rows, x.shape[0])
        return self.kernels.run(x, self.weight, self.bias, tape)


class EmbeddingBagAutogradPeer(EmbeddingBagPeer):
    """The same forward with torch's own backward, which needs a new table at every level."""

    label = "embedding_bag, autograd"

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        inputs, values = self.layout.num_inputs, x.T
        for level, bags in zip(self.layout.levels, self.kernels.forward_bags, strict=True):
            sums = bags.sum(values, self.weight[level.first : level.last])
            z = sums + self.bias[level.begin - inputs : level.end - inputs, None]
            parts = [activated(z[begin:end], code) for begin, end, code in level.stretches]
            values = torch.cat((values, *parts))
        return values[self.kernels.outputs].T
