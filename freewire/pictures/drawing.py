# SPDX-License-Identifier: MIT
"""What a picture of a wiring consists of, before it is drawn by matplotlib or written as SVG, which thus agree.

In: a `Subject`, perhaps with values of its nodes. Out: a `Wiring`, nodes and curves, where few enough nodes can be
distinguished; else a `Matrix`, in which groups of nodes are rows and columns. Both have a note that says what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from freewire.graph import Graph
from freewire.graph.arguments import FloatArray, IntArray
from freewire.pictures.colours import limit
from freewire.pictures.curves import curves
from freewire.pictures.labels import label
from freewire.pictures.layout import layered
from freewire.pictures.subject import Subject
from freewire.pictures.thinning import binned, strongest
from freewire.pictures.values import read_values

__all__ = ["KINDS", "LEGEND_ORDER", "MANY_EDGES", "Matrix", "Wiring", "prepare"]

MOST_NODES = 2_000  # more are drawn as a matrix
MOST_EDGES = 1_500  # more are thinned, but every node keeps its strongest
MANY_EDGES = 400  # more are thin, translucent lines
MOST_LABELS = 40  # in a picture
MOST_LABELS_BESIDE = 25  # in the first level and in the last one, if the picture has more nodes
BINS = 160  # rows and columns of a matrix, more or less
LEVELS_MARKED, LEVELS_LABELLED = 50, 14  # in a matrix, at most
WIDE_RANGE = 30.0  # between the largest and the smallest number of a matrix: its colours are then logarithmic
SMALLEST = 1e-30  # below, an axis has no ticks
KINDS = ("hidden", "input", "output", "input and output")
LEGEND_ORDER = (1, 0, 2, 3)  # from left to right, as in the picture


@dataclass(frozen=True)
class Wiring:
    """Nodes and edges.

    Attributes:
        graph: The wiring.
        position: Coordinates of the nodes ``[N, 2]``, y downwards.
        kind: Index into `KINDS` of each node ``[N]``.
        labels: Text per node; None where it is not shown.
        node_value: Numbers that colour the nodes ``[N]``, NaN: none; or None.
        node_limit: The absolute value where the colours of the nodes end.
        node_what: What the numbers are.
        edges: Columns of the edges that are shown, in the order in which to draw them, the strongest last ``[K]``.
        curves: Control points of a cubic Bezier curve per shown edge, ``[K, 4, 2]``.
        edge_value: Their weights ``[K]``, NaN: none; or None.
        edge_limit: As ``node_limit``.
        note: What is shown.
    """

    graph: Graph
    position: FloatArray
    kind: IntArray
    labels: list[str | None]
    node_value: FloatArray | None
    node_limit: float
    node_what: str
    edges: IntArray
    curves: FloatArray
    edge_value: FloatArray | None
    edge_limit: float
    note: str

    def line_widths(self) -> FloatArray:
        """Width of each shown edge's line ``[K]``, in points or pixels: the wider, the stronger."""
        many = len(self.edges) > MANY_EDGES
        if self.edge_value is None:
            return np.full(len(self.edges), 0.7 if many else 1.0)
        strength = np.clip(np.nan_to_num(np.abs(self.edge_value / self.edge_limit)), 0, 1)
        return (0.3 + 0.5 * strength) if many else (0.8 + 1.8 * strength)

    def opacity(self) -> float:
        """Of the lines."""
        return 0.6 if self.edge_value is None or len(self.edges) > MANY_EDGES else 1.0


@dataclass(frozen=True)
class Matrix:
    """Edges between groups of nodes, which are in order of their levels.

    Attributes:
        graph: The wiring.
        cells: ``[B, B]``, source by destination, NaN where there is no edge.
        cells_what: What the numbers are.
        first: Row and column where each level begins, ``[levels + 1]``; fractions where groups span several levels.
        node_value: Mean of the numbers of each group's nodes ``[B]``, NaN: none; or None.
        node_limit: The absolute value where the colours of the nodes end.
        node_what: What the numbers are.
        note: What is shown.
    """

    graph: Graph
    cells: FloatArray
    cells_what: str
    first: FloatArray
    node_value: FloatArray | None
    node_limit: float
    node_what: str
    note: str

    def colour_range(self) -> tuple[float, float]:
        """The numbers where the colours begin and end; where the first is above 0, they are logarithmic."""
        positive = self.cells[self.cells > 0]
        if not positive.size:
            return 0.0, 1.0
        low, high = np.percentile(positive, (2, 99.8)).tolist()
        if high <= WIDE_RANGE * low or low < SMALLEST:
            return 0.0, max(float(positive.max()), SMALLEST)
        return low, high

    def boundaries(self) -> list[float]:
        """Where to draw lines between levels."""
        return _apart(self.first[1:-1], len(self.cells) / LEVELS_MARKED)

    def ticks(self) -> list[tuple[int, float]]:
        """Which levels to label, and where they are."""
        middle = (self.first[:-1] + self.first[1:]) / 2
        places = _apart(middle, len(self.cells) / LEVELS_LABELLED)
        return list(zip(np.searchsorted(middle, places).tolist(), places, strict=True))


def _apart(places: FloatArray, distance: float) -> list[float]:
    """Those of the ascending places that are at least so far from the last one kept."""
    kept: list[float] = []
    for place in places.tolist():
        if not kept or place - kept[-1] >= distance:
            kept.append(place)
    return kept


def prepare(shown: Subject, values: Any = None) -> Wiring | Matrix:
    """Decide what a picture shows.

    Args:
        shown: The wiring, its weights and biases.
        values: Numbers that colour the nodes instead of the biases; see `read_values`.

    Raises:
        InputError: ``values`` do not fit.
    """
    node_value, node_what = shown.bias, "bias"
    if values is not None:
        node_value, node_what = read_values(values, shown.graph), "value"
    position = layered(shown.graph)
    if shown.graph.num_nodes > MOST_NODES:
        return _matrix(shown, position, node_value, node_what)
    return _wiring(shown, position, node_value, node_what)


def _wiring(shown: Subject, position: FloatArray, node_value: FloatArray | None, node_what: str) -> Wiring:
    graph, weight = shown.graph, shown.weight
    edges, each = strongest(graph, weight, MOST_EDGES)
    note = f"{_count(graph.num_nodes, 'node')}, {_count(graph.num_edges, 'edge')}"
    if len(edges) < graph.num_edges:
        which = "the strongest" if weight is not None else "chosen at random"
        note = (
            f"{_count(graph.num_nodes, 'node')}; {len(edges):,} of {graph.num_edges:,} edges: {which}, at most "
            f"{each:,} into each node"
        )
    value = None if weight is None else weight[edges]
    if value is not None:
        order = np.argsort(np.nan_to_num(np.abs(value), nan=-1.0, posinf=np.inf), kind="stable")
        edges, value = edges[order], value[order]
    kind = _kinds(graph)
    return Wiring(
        graph=graph,
        position=position,
        kind=kind,
        labels=_labels(graph, position, kind),
        node_value=node_value,
        node_limit=limit(node_value),
        node_what=node_what,
        edges=edges,
        curves=curves(graph, position, edges),
        edge_value=value,
        edge_limit=limit(weight),
        note=note,
    )


def _kinds(graph: Graph) -> IntArray:
    """Index into `KINDS` of each node.

    Where no node is an input and all are outputs, as in a `GraphStage`, those without in-edges and without out-edges
    are taken for them: they read the stage's input, and its result is made of them.
    """
    kind = np.zeros(graph.num_nodes, np.int64)
    if graph.num_edges and not len(graph.input_index) and len(graph.output_index) == graph.num_nodes:
        is_target, is_source = (np.bincount(ends, minlength=graph.num_nodes) > 0 for ends in graph.edge_index[::-1])
        return np.where(is_target, 0, 1) + np.where(is_source, 0, 2)
    kind[graph.input_index] += 1
    kind[graph.output_index] += 2
    return kind


def _labels(graph: Graph, position: FloatArray, kind: IntArray) -> list[str | None]:
    """All names where there are few nodes; else those of inputs and outputs in levels of few nodes."""
    width = np.bincount(graph.level, minlength=1)
    named = np.full(graph.num_nodes, graph.num_nodes <= MOST_LABELS)
    outer = (graph.level == 0) | (graph.level == graph.depth)
    named |= (kind > 0) & outer & (width[graph.level] <= MOST_LABELS_BESIDE)
    return [label(name) if has else None for name, has in zip(graph.nodes, named.tolist(), strict=True)]


def _matrix(shown: Subject, position: FloatArray, node_value: FloatArray | None, node_what: str) -> Matrix:
    graph, weight = shown.graph, shown.weight
    order = np.lexsort((position[:, 0], position[:, 1], graph.level))
    width = np.bincount(graph.level)
    first = np.concatenate(([0], np.cumsum(width)))
    if len(width) <= BINS // 4:  # groups of one level each
        bins = np.minimum(np.maximum(1, np.rint(width / graph.num_nodes * BINS)), width).astype(np.int64)
        start = np.concatenate(([0], np.cumsum(bins)))
        level = graph.level[order]
        in_order = start[level] + (np.arange(len(order)) - first[level]) * bins[level] // width[level]
    else:
        in_order = np.arange(len(order)) * BINS // len(order)
        start = first * BINS / len(order)
    group = np.empty(len(order), np.int64)
    group[order] = in_order
    what = "edges per pair of nodes" if weight is None else "mean |weight| over all pairs of nodes"
    note = (
        f"{graph.num_nodes:,} nodes in order of their levels, in {in_order[-1] + 1} groups; {graph.num_edges:,} edges: "
        f"{what}, from group to group"
    )
    if weight is not None and (unknown := int(np.count_nonzero(~np.isfinite(weight)))):
        note += f"; {_count(unknown, 'weight')} of no finite value counted as 0"
    means = None
    if node_value is not None:
        has = np.isfinite(node_value)
        counts = np.bincount(group[has], minlength=in_order[-1] + 1)
        sums = np.bincount(group[has], node_value[has], in_order[-1] + 1)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return Matrix(
        graph=graph,
        cells=binned(graph, weight, group),
        cells_what=what,
        first=start,
        node_value=means,
        node_limit=limit(means),
        node_what=f"mean {node_what}",
        note=note,
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
