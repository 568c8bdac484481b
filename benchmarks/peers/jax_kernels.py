# SPDX-License-Identifier: MIT
"""The jitted calls of `benchmarks.peers.jax_levels`.

`Kernels` compiles a `Layout` into calls that take and return torch tensors. Values and their gradients are ``[R, B]``,
one row per node and one column per sample (R rows, of which I are inputs, B samples, M edges, O outputs). Importing
this module needs jax.
"""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.peers.layout import RELU, TANH, Layout, Level

__all__ = ["Kernels", "to_jax", "to_torch"]

Array = Any


class _Lists:
    """For some nodes, the rows that each gathers from and the edges in between, padded to ``[nodes, most]``.

    Args:
        ptr: Where each node's entries begin, ``[nodes + 1]``.
        row: The row of each entry.
        edge: The edge of each entry. The edge of the padding is ``none``, whose weight is 0.
        none: The number of edges M.
    """

    def __init__(self, ptr: NDArray[Any], row: NDArray[Any], edge: NDArray[Any], none: int) -> None:
        count = np.diff(ptr)
        self.shape = (len(count), int(count.max(initial=0)))
        node, place = np.repeat(np.arange(len(count)), count), np.arange(len(row)) - np.repeat(ptr[:-1] - ptr[0], count)
        self.row, self.edge = np.zeros(self.shape, np.int32), np.full(self.shape, none, np.int32)
        self.row[node, place], self.edge[node, place] = row, edge
        first = self.row[:1]
        contiguous = (np.diff(first) == 1).all() and (self.row == first).all()
        #: If every node gathers from the same consecutive rows, the first of them; otherwise None.
        self.first = int(first[0, 0]) if contiguous and self.shape[1] > 1 and (count == self.shape[1]).all() else None

    def gather(self, values: Array, weight: Array) -> Array:
        """Weighted sums, ``[nodes, B]``; ``weight`` is ``[M + 1]`` with 0 as its last entry."""
        own = weight[self.edge]
        if self.first is not None:
            return own @ values[self.first : self.first + self.shape[1]]
        return jnp.einsum("nf,nfb->nb", own, _rows(values, self.row))


class Kernels:
    """A network's calls, compiled at the first call of each batch size.

    Args:
        layout: The network's layout.
        dtype: float32 or float64.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype) -> None:
        self._layout, self._wide = layout, dtype == torch.float64
        num_inputs, num_edges, src, dst = layout.num_inputs, len(layout.src), layout.src, layout.dst
        self._in = [
            _Lists(
                layout.in_ptr[level.begin - num_inputs : level.end - num_inputs + 1],
                src[level.first : level.last],
                np.arange(level.first, level.last),
                num_edges,
            )
            for level in layout.levels
        ]
        by_source = np.argsort(src, kind="stable")
        out_ptr = np.searchsorted(src[by_source], np.arange(layout.num_rows + 1))
        self._out = []
        for begin, end in [(0, num_inputs), *((level.begin, level.end) for level in layout.levels)]:
            ptr = out_ptr[begin : end + 1]
            edge = by_source[ptr[0] : ptr[-1]]
            self._out.append(_Lists(ptr, dst[edge], edge, num_edges))
        self._infer = jax.jit(lambda *a: self._run(*a)[0])
        self._forward = jax.jit(self._run)
        self._backward = jax.jit(self._pull)

    def infer(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The outputs ``[B, O]``."""
        with self._types():
            return to_torch(self._infer(*map(to_jax, (x, weight, bias))))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Array]:
        """The outputs ``[B, O]`` and the tape, a jax array."""
        with self._types():
            y, tape = self._forward(*map(to_jax, (x, weight, bias)))
            return to_torch(y), tape

    def backward(self, grad_y: Tensor, weight: Tensor, tape: Array) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x ``[B, I]``, weight ``[M]`` and bias ``[R - I]``."""
        with self._types():
            grad_x, grad_weight, grad_bias = self._backward(to_jax(grad_y), to_jax(weight), tape)
            return to_torch(grad_x), to_torch(grad_weight), to_torch(grad_bias)

    def _types(self) -> Any:
        """Enable float64 in jax, which is off by default."""
        return jax.enable_x64(True) if self._wide else contextlib.nullcontext()

    def _run(self, x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
        layout = self._layout
        num_inputs, padded = layout.num_inputs, jnp.append(weight, 0)
        tape = jnp.zeros((layout.num_rows, x.shape[0]), x.dtype).at[:num_inputs].set(x.T)
        for level, lists in zip(layout.levels, self._in, strict=True):
            z = lists.gather(tape, padded) + bias[level.begin - num_inputs : level.end - num_inputs, None]
            tape = lax.dynamic_update_slice(tape, _by_stretch(level, _activated, z), (level.begin, 0))
        return tape[layout.outputs].T, tape

    def _pull(self, grad_y: Array, weight: Array, tape: Array) -> tuple[Array, Array, Array]:
        layout = self._layout
        num_inputs, padded = layout.num_inputs, jnp.append(weight, 0)
        grad = jnp.zeros_like(tape).at[layout.outputs].add(grad_y.T)
        for level, lists in zip(reversed(layout.levels), reversed(self._out), strict=False):
            own = grad[level.begin : level.end]
            if lists.shape[1]:
                own += lists.gather(grad, padded)
            own = _by_stretch(level, _scaled, own, tape[level.begin : level.end])
            grad = lax.dynamic_update_slice(grad, own, (level.begin, 0))
        grad_x = grad[:num_inputs]
        if self._out[0].shape[1]:
            grad_x += self._out[0].gather(grad, padded)
        grad_weight = [
            self._edge_gradients(level, lists, grad, tape) for level, lists in zip(layout.levels, self._in, strict=True)
        ]
        return grad_x.T, jnp.concatenate(grad_weight), grad[num_inputs:].sum(1)

    def _edge_gradients(self, level: Level, lists: _Lists, grad: Array, tape: Array) -> Array:
        own = grad[level.begin : level.end]
        if lists.first is not None:
            return (own @ tape[lists.first : lists.first + lists.shape[1]].T).ravel()
        edges = slice(level.first, level.last)
        return (_rows(grad, self._layout.dst[edges]) * _rows(tape, self._layout.src[edges])).sum(1)


def _rows(values: Array, row: NDArray[Any]) -> Array:
    return values.at[row].get(mode="promise_in_bounds")


def _by_stretch(level: Level, function: Any, *values: Array) -> Array:
    parts = [function(code, *(value[begin:end] for value in values)) for begin, end, code in level.stretches]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def _activated(code: int, z: Array) -> Array:
    return jnp.maximum(z, 0) if code == RELU else jnp.tanh(z) if code == TANH else z


def _scaled(code: int, grad: Array, value: Array) -> Array:
    """The gradient times the derivative of the activation at a node's value."""
    if code == RELU:
        return jnp.where(value > 0, grad, 0)
    return grad * (1 - value * value) if code == TANH else grad


def to_jax(value: Tensor) -> Array:
    """A tensor as a jax array, sharing its memory where the alignment allows."""
    return jnp.from_dlpack(value.detach())


def to_torch(value: Array) -> Tensor:
    """A jax array as a tensor, once it is computed."""
    result: Tensor = torch.from_dlpack(jax.block_until_ready(value))
    return result
