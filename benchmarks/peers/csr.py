# SPDX-License-Identifier: MIT
"""torch CSR: one sparse matrix product per level, as a torch user would write it.

A level is ``A @ values``, with ``A`` a ``torch.sparse_csr`` matrix ``[nodes in the level, rows so far]`` and the values
batch-last, ``[rows, B]``, on a tape that is written level by level.

`CsrPeer` has a hand-written backward: a level's input gradients are one product with the reversed graph's matrix (a
gather), and all weight gradients are a single `torch.sparse.sampled_addmm` at the end. `CsrAutogradPeer` leaves the
backward to torch, which does differentiate a product by the matrix's values; its step takes 9 times as long. Both
share one forward when no gradient is needed.

Tried and found slower: values batch-first (7 times the forward); int64 indices (a tenth more); ``mm`` and then a sum
with the bias instead of ``addmm`` into rows preset with it (the same, or a tenth more); matrices built at every call
instead of once over views of the weights. For autograd: one matrix per level as the parameter; one weight vector per
level.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import freewire as fw
from benchmarks.peers.base import FlatPeer, indices
from benchmarks.peers.layout import Layout, activate, activated, scale_by_derivative

__all__ = ["CsrAutogradPeer", "CsrPeer"]


def _matrix(ptr: NDArray[Any], column: NDArray[Any], values: Tensor, columns: int) -> Tensor:
    """A CSR matrix over ``values``, sharing their memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            indices((ptr - ptr[0]).astype(np.int32), values),
            indices(column.astype(np.int32), values),
            values,
            size=(len(ptr) - 1, columns),
            check_invariants=False,
        )


@dataclass(frozen=True)
class _Matrices:
    """The matrices of a layout over one weight vector."""

    layout: Layout
    #: One per level, [nodes in the level, rows before it].
    forward: list[Tensor]
    #: The reversed graph's, for the input rows and then each level, [its rows, rows after it]; None without edges.
    backward: list[Tensor | None]
    #: The weights in the reversed graph's order, which `backward` reads, and the permutation to it.
    reversed_weight: Tensor
    reversed_edge: Tensor
    #: All edges, [computed rows, rows]: the pattern that weight gradients are sampled at.
    pattern: Tensor
    outputs: Tensor

    @classmethod
    def of(cls, layout: Layout, weight: Tensor) -> _Matrices:
        src, dst, in_ptr = layout.src, layout.dst, layout.in_ptr
        forward = [
            _matrix(
                in_ptr[level.begin - layout.num_inputs : level.end - layout.num_inputs + 1],
                src[level.first : level.last],
                weight[level.first : level.last],
                level.begin,
            )
            for level in layout.levels
        ]
        by_source = np.argsort(src, kind="stable")
        out_ptr = np.searchsorted(src[by_source], np.arange(layout.num_rows + 1))
        reversed_weight = torch.empty_like(weight)
        backward: list[Tensor | None] = []
        for begin, end in [(0, layout.num_inputs), *((level.begin, level.end) for level in layout.levels)]:
            ptr = out_ptr[begin : end + 1]
            edges = slice(ptr[0], ptr[-1])
            backward.append(
                _matrix(ptr, dst[by_source[edges]] - end, reversed_weight[edges], layout.num_rows - end)
                if ptr[-1] > ptr[0]
                else None
            )
        return cls(
            layout,
            forward,
            backward,
            reversed_weight,
            indices(by_source, weight),
            _matrix(in_ptr, src, torch.zeros_like(weight), layout.num_rows),
            indices(layout.outputs, weight),
        )

    def run(self, x: Tensor, bias: Tensor, tape: Tensor) -> None:
        """Write every row's value to the tape, ``[R, B]``."""
        layout = self.layout
        tape[: layout.num_inputs] = x.T
        tape[layout.num_inputs :] = bias[:, None]
        for level, matrix in zip(layout.levels, self.forward, strict=True):
            values = tape[level.begin : level.end]
            torch.addmm(values, matrix, tape[: level.begin], out=values)
            activate(values, level)


class _Function(torch.autograd.Function):
    """(x, weight, bias) -> y, with the backward written by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, matrices: _Matrices) -> Tensor:
        tape = x.new_empty(matrices.layout.num_rows, x.shape[0])
        matrices.run(x, bias, tape)
        ctx.matrices = matrices
        ctx.save_for_backward(tape, weight)
        return tape[matrices.outputs].T

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        matrices: _Matrices = ctx.matrices
        layout = matrices.layout
        tape, weight = ctx.saved_tensors
        torch.index_select(weight, 0, matrices.reversed_edge, out=matrices.reversed_weight)
        grad = torch.zeros_like(tape)
        grad[matrices.outputs] = grad_y.T
        for level, matrix in zip(reversed(layout.levels), reversed(matrices.backward), strict=False):
            rows = grad[level.begin : level.end]
            if matrix is not None:
                torch.addmm(rows, matrix, grad[level.end :], out=rows)
            scale_by_derivative(rows, tape[level.begin : level.end], level)
        grad_z = grad[layout.num_inputs :]
        first = matrices.backward[0]
        grad_x = grad[: layout.num_inputs]
        if first is not None:
            torch.addmm(grad_x, first, grad_z, out=grad_x)
        grad_weight = torch.sparse.sampled_addmm(matrices.pattern, grad_z, tape.T, beta=0.0).values()
        return grad_x.T, grad_weight, grad_z.sum(1), None


class CsrPeer(FlatPeer):
    """One CSR product per level, with a backward of products and one sampled product."""

    label = "torch CSR"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        self.matrices = _Matrices.of(self.layout, self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            y: Tensor = _Function.apply(x, self.weight, self.bias, self.matrices)
            return y
        tape = self.kept_tape(x, self.layout.num_rows, x.shape[0])
        self.matrices.run(x, self.bias, tape)
        return tape[self.matrices.outputs].T


class CsrAutogradPeer(CsrPeer):
    """The same forward with torch's own backward, which needs new values at every level instead of a tape."""

    label = "torch CSR, autograd"

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        layout, values = self.layout, x.T
        for level, matrix in zip(layout.levels, self.matrices.forward, strict=True):
            weight = self.weight[level.first : level.last]
            sparse = torch.sparse_csr_tensor(
                matrix.crow_indices(),
                matrix.col_indices(),
                weight,
                size=matrix.shape,
                check_invariants=False,
            )
            own = slice(level.begin - layout.num_inputs, level.end - layout.num_inputs)
            z = torch.sparse.mm(sparse, values) + self.bias[own, None]
            parts = [activated(z[begin:end], code) for begin, end, code in level.stretches]
            values = torch.cat((values, *parts))
        return values[self.matrices.outputs].T
