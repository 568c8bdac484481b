# SPDX-License-Identifier: MIT
"""Sums over the parameters of each level: rows of parameters go in, sums of squares and products come out.

A level's parameters are the weights of the edges that lead to its nodes, and these nodes' biases. Edges are in order of
level already (canonical order), so a level is one segment of them. Sums are in float64, over chunks of parameters that
are copied into one workspace of bounded size. Measurements are rare, so nothing they touch is in the caches, and the
number of calls counts as much as their length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freewire.graph import Graph

__all__ = ["Levels", "segment_sums"]

_CHUNK = 1 << 16  # edges

#: Replaces rows of numbers by others, in place: called with every row of the workspace, float64.
Combine = Callable[[Sequence[Tensor]], object]


class _Chunk(NamedTuple):
    """Some of the parameters.

    Attributes:
        edges: Which edges.
        to_edges: Where a row of these goes, per row: views of the workspace.
        to_biases: Where a row of all biases goes, in the first chunk, per row.
        rows: All of this ``[rows, n]``, and ``row``, each row of it.
        starts: Where segments of edges start.
        levels: The levels of these segments.
    """

    edges: slice
    to_edges: tuple[Tensor, ...]
    to_biases: tuple[Tensor, ...]
    rows: Tensor
    row: tuple[Tensor, ...]
    starts: NDArray[np.int64]
    levels: slice


class Levels:
    """Sums by level.

    Args:
        graph: The wiring.
        num_rows: Rows per call.
        has_bias: Whether there are rows of biases.
        device: Where the rows are.

    Attributes:
        numbers: The graph's levels that have parameters, or would have if there were biases, ascending.
    """

    def __init__(self, graph: Graph, num_rows: int, has_bias: bool, device: torch.device) -> None:
        bias_level = graph.level[graph.computed_index]
        numbers = np.unique(bias_level)
        self.numbers: list[int] = numbers.tolist()
        self._index = np.searchsorted(numbers, graph.level)  # of each computed node
        order = np.argsort(bias_level, kind="stable")
        is_sorted = bool((np.diff(order) > 0).all())
        self._bias_order = None if is_sorted else torch.from_numpy(order).to(device)
        self._bias_starts = np.searchsorted(bias_level[order], numbers)
        edge_level = np.searchsorted(numbers, graph.level[graph.edge_index[1]])
        num_biases = len(order) if has_bias else 0
        widest = min(_CHUNK, len(edge_level)) + num_biases
        workspace = torch.empty(num_rows * widest, dtype=torch.float64, device=device)
        self._chunks = []
        for begin in range(0, max(1, len(edge_level)), _CHUNK):
            level = edge_level[begin : begin + _CHUNK]
            biases = num_biases if begin == 0 else 0
            rows = workspace[: num_rows * (len(level) + biases)].view(num_rows, len(level) + biases)
            chunk = _Chunk(
                slice(begin, begin + len(level)),
                rows[:, : len(level)].unbind(),
                rows[:, len(level) :].unbind() if biases else (),
                rows,
                rows.unbind(),
                np.flatnonzero(np.diff(level, prepend=-1)),
                # Every level but the first has edges, so those of a chunk are consecutive.
                slice(int(level[0]), int(level[-1]) + 1) if len(level) else slice(0, 0),
            )
            self._chunks.append(chunk)

    def count(self, nodes: NDArray[np.int64]) -> list[int]:
        """How many of some computed nodes, given by their indices, each level has."""
        if not len(nodes):
            return [0] * len(self.numbers)
        return np.bincount(self._index[nodes], minlength=len(self.numbers)).tolist()

    def sums(
        self, weight: Sequence[Tensor], bias: Sequence[Tensor], factor: int, combine: Combine
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of squares by level, and inner products.

        Args:
            weight: Rows ``[E]``.
            bias: As many rows ``[computed nodes]``, or none.
            factor: The row that all rows are multiplied by for the inner products.
            combine: Replaces rows by others, in place.

        Returns:
            Sums of squares ``[rows, levels]`` and inner products ``[rows]`` over all parameters.
        """
        squares, totals = np.zeros((len(weight), len(self.numbers))), np.zeros(len(weight))
        for chunk in self._chunks:
            edges = list(weight) if len(self._chunks) == 1 else [row[chunk.edges] for row in weight]
            torch._foreach_copy_([*chunk.to_edges, *chunk.to_biases], [*edges, *(bias if chunk.to_biases else ())])
            combine(chunk.row)
            products = torch.mv(chunk.rows, chunk.row[factor])
            chunk.rows.mul_(chunk.rows)
            if chunk.to_biases:
                biases = chunk.rows[:, chunk.edges.stop :]
                if self._bias_order is not None:
                    biases = biases.index_select(1, self._bias_order)
                squares += segment_sums(biases, self._bias_starts)
            squares[:, chunk.levels] += segment_sums(chunk.rows[:, : chunk.to_edges[0].shape[0]], chunk.starts)
            totals += products.cpu().numpy()
        return squares, totals


def segment_sums(rows: Tensor, starts: NDArray[np.int64], on_device: bool | None = None) -> NDArray[Any]:
    """The sums of consecutive segments of every row.

    Args:
        rows: ``[rows, n]``, float64.
        starts: Where the segments start, ascending from 0; none is empty.
        on_device: Whether torch adds up. None: on a GPU; on the CPU numpy is twice as fast.

    Returns:
        ``[rows, segments]``.
    """
    if not starts.size:
        return np.zeros((len(rows), 0))
    if not (rows.is_cuda if on_device is None else on_device):
        return np.add.reduceat(rows.numpy(), starts, axis=1)
    lengths = torch.from_numpy(np.tile(np.diff(starts, append=rows.shape[1]), len(rows))).to(rows.device)
    sums = torch.segment_reduce(rows.reshape(-1), "sum", lengths=lengths, unsafe=True)
    return sums.view(len(rows), -1).cpu().numpy()
