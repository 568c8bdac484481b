# SPDX-License-Identifier: MIT
"""Sums over the parameters of each level: rows of parameters go in, sums of squares and products come out.

A level's parameters are the weights of the edges that lead to its nodes, and these nodes' biases. Edges are in order of
level already (canonical order), so a level is one segment of them. Sums are in float64, over chunks of bounded size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freewire.graph import Graph

__all__ = ["Levels"]

_CHUNK = 1 << 18  # edges, of which a row takes 2 MiB in float64


class Levels:
    """Sums by level.

    Args:
        graph: The wiring.
        num_rows: Rows per call.
        device: Where the rows are.

    Attributes:
        count: Number of levels, that of the inputs included.
        node: Level of each node, int64 ``[N]``.
    """

    def __init__(self, graph: Graph, num_rows: int, device: torch.device) -> None:
        self.count = graph.depth + 1
        self.node = torch.tensor(graph.level, device=device)
        self._num_rows = num_rows
        edge_level = graph.level[graph.edge_index[1]]
        bias_level = graph.level[graph.computed_index]
        order = np.argsort(bias_level, kind="stable")
        self._bias_order = torch.from_numpy(order).to(device)
        self._bias = self._segments(bias_level[order], device)
        self._edges = [
            (slice(begin, begin + _CHUNK), self._segments(edge_level[begin : begin + _CHUNK], device))
            for begin in range(0, len(edge_level), _CHUNK)
        ]

    def _segments(self, level: NDArray[np.int64], device: torch.device) -> Tensor:
        counts = np.bincount(level, minlength=self.count)
        return torch.from_numpy(np.tile(counts, self._num_rows)).to(device)

    def sums(
        self,
        weight: Sequence[Tensor],
        bias: Sequence[Tensor] | None,
        factor: int,
        combine: Callable[[Tensor], object],
    ) -> tuple[Tensor, Tensor]:
        """Sums of squares by level, and inner products.

        Args:
            weight: Rows ``[E]``.
            bias: As many rows ``[computed nodes]``, or None.
            factor: The row that all rows are multiplied by for the inner products.
            combine: Replaces rows by others, in place; called with some columns of all rows, float64.

        Returns:
            Sums of squares ``[rows, levels]`` and inner products ``[rows]`` over all parameters, float64.
        """
        squares = torch.zeros(len(weight), self.count, dtype=torch.float64, device=self.node.device)
        products = squares.new_zeros(len(weight))
        pieces = [([row[part] for row in weight], segments) for part, segments in self._edges]
        if bias is not None:
            pieces.append(([row.index_select(0, self._bias_order) for row in bias], self._bias))
        for rows, segments in pieces:
            numbers = torch.stack([row.double() for row in rows])
            combine(numbers)
            products += numbers @ numbers[factor]
            numbers.mul_(numbers)
            squares += torch.segment_reduce(numbers.view(-1), "sum", lengths=segments, unsafe=True).view_as(squares)
        return squares, products
