# SPDX-License-Identifier: MIT
"""A graph as every peer needs it: its live nodes in rows, its levels, and its edges by row.

`Layout.of` turns a freewire `Graph` into numpy arrays. Like freewire, the peers skip nodes that reach no output, so
that all of them do the same arithmetic. `activate`, `activated` and `scale_by_derivative` are the node functions that
the peers written in torch share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS

__all__ = ["LINEAR", "RELU", "TANH", "IntArray", "Layout", "Level", "activate", "activated", "scale_by_derivative"]

LINEAR, RELU, TANH = (ACTIVATIONS.index(name) for name in ("linear", "relu", "tanh"))

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Level:
    """Rows ``[begin, end)``, which read only rows before ``begin``, and the edges ``[first, last)`` into them."""

    begin: int
    end: int
    first: int
    last: int
    #: Begin, end (counted from the level's first row) and code of each stretch of one activation.
    stretches: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Layout:
    """A graph in rows: the inputs in the order of the features, then the live computed nodes by level.

    There are R rows, of which I are inputs, M live edges and O outputs.
    """

    num_inputs: int
    num_rows: int
    #: The computed levels, in order.
    levels: tuple[Level, ...]
    #: Edges ``[in_ptr[r - I], in_ptr[r - I + 1])`` lead into row r; int64 ``[R - I + 1]``.
    in_ptr: IntArray
    #: Source and destination row of each live edge, destinations ascending; int64 ``[M]``.
    src: IntArray
    dst: IntArray
    #: Each live edge's entry in `Network.weight`, int64 ``[M]``, and each computed row's in `Network.bias`.
    weight_entry: IntArray
    bias_entry: IntArray
    #: Activation code of each computed row, int64 ``[R - I]``.
    activation: IntArray
    #: Row of each output, int64 ``[O]``.
    outputs: IntArray

    @classmethod
    def of(cls, graph: fw.Graph) -> Layout:
        """Lay out a graph.

        Raises:
            ValueError: The graph has nodes that the peers do not compute.
        """
        live = graph.reaches_output.copy()
        live[graph.input_index] = True
        node = np.flatnonzero(live)
        node = node[np.argsort(graph.level[node], kind="stable")]
        num_inputs = len(graph.input_index)
        level = graph.level[node]
        if not np.array_equal(node[:num_inputs], graph.input_index) or (level[num_inputs:] == 0).any():
            raise ValueError(
                "graph: expected inputs in node order and no other nodes without in-edges, got others. "
                "The peers are kept simple: reorder the inputs."
            )
        codes = graph.activation[node[num_inputs:]].astype(np.int64)
        if not np.isin(codes, (LINEAR, RELU, TANH)).all():
            raise ValueError("graph: expected linear, relu and tanh nodes only, got others. Peers support no more.")
        if (graph.aggregation[node] != AGGREGATIONS.index("sum")).any():
            raise ValueError("graph: expected sum aggregation only, got another. Peers support no more.")

        row = np.full(graph.num_nodes, -1, np.int64)
        row[node] = np.arange(len(node))
        weight_entry = np.flatnonzero(live[graph.edge_index[1]])
        src, dst = row[graph.edge_index[:, weight_entry]]
        bias_entry = np.searchsorted(graph.computed_index, node[num_inputs:])
        in_ptr = np.searchsorted(dst, np.arange(num_inputs, len(node) + 1))
        bounds = np.flatnonzero(np.diff(level, append=level[-1:] + 1)) + 1  # one past each level's last row
        levels = tuple(
            Level(
                begin,
                end,
                int(in_ptr[begin - num_inputs]),
                int(in_ptr[end - num_inputs]),
                _stretches(codes[begin - num_inputs : end - num_inputs]),
            )
            for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        )
        outputs = row[graph.output_index]
        return cls(
            num_inputs,
            len(node),
            levels,
            in_ptr,
            src,
            dst,
            weight_entry,
            bias_entry,
            codes,
            outputs,
        )

    def level_before(self) -> list[int]:
        """For each level the first row of the level before it; 0, the first input, for the first level."""
        return [0, *(level.begin for level in self.levels)][: len(self.levels)]


def _stretches(codes: IntArray) -> tuple[tuple[int, int, int], ...]:
    ends = np.flatnonzero(np.diff(codes, append=-1)) + 1
    begins = np.concatenate(([0], ends[:-1]))
    return tuple((int(b), int(e), int(codes[b])) for b, e in zip(begins, ends, strict=True))


def activate(values: Tensor, level: Level) -> None:
    """Apply a level's activations in place to its sums, ``[nodes in the level, B]``."""
    for begin, end, code in level.stretches:
        if code == RELU:
            values[begin:end].relu_()
        elif code == TANH:
            values[begin:end].tanh_()


def activated(z: Tensor, code: int) -> Tensor:
    """The values of nodes of one activation, not in place."""
    name = ACTIVATIONS[code]
    return z if name == "linear" else getattr(torch, name)(z)


def scale_by_derivative(grad: Tensor, values: Tensor, level: Level) -> None:
    """Multiply a level's gradients in place by the derivatives at its values; both ``[nodes in the level, B]``."""
    for begin, end, code in level.stretches:
        value = values[begin:end]
        if code == RELU:
            grad[begin:end].mul_(value > 0)
        elif code == TANH:
            grad[begin:end].mul_(1 - value * value)
