# SPDX-License-Identifier: MIT
"""Where the nodes of a picture are: in columns by level, so that every edge runs from left to right.

In: a graph. Out: coordinates, x to the right and y downwards, as on a screen. The order within the levels is found as
by Sugiyama, Tagawa and Toda (1981), "Methods for visual understanding of hierarchical system structures": sweeps over
the levels, forwards and backwards, sort each level by the mean place of its nodes' neighbours (their barycentre), so
that fewer edges cross. Unlike there, an edge over several levels has no dummy nodes, which would be one per level.
"""

from __future__ import annotations

import numpy as np

from freewire.graph import Graph
from freewire.graph.arguments import FloatArray, IntArray

__all__ = ["layered"]

ROWS = 40  # a level of more nodes is wrapped into a block of sub-columns
TALL = 4.0  # rows per sub-column of a block, once that exceeds ROWS
BLOCK = 0.6  # width of a block; the columns are 1 apart
SPREAD = 0.5  # of the height of the tallest level, which a level of few nodes is spread over
SWEEPS = 12  # forwards and backwards in turn
WORK = 24_000_000  # edges read in all sweeps: fewer sweeps where the graph is huge
LEVEL_COST = 1_000  # what a level costs in a sweep, in edges


def layered(graph: Graph) -> FloatArray:
    """Coordinates of the nodes.

    Inputs, and the outputs within a level, keep their order; other nodes are ordered so that few edges cross. A level
    of more than 40 nodes is a block of sub-columns, filled row by row. The result depends on the graph alone.

    Args:
        graph: The wiring.

    Returns:
        ``[N, 2]``: x, a node's level, plus at most 0.3 to either side within a block; and y, its place in the level:
        centred on 0, the first at the top (the smallest), rows at least 1 apart.

    Example:
        >>> import freewire as fw
        >>> layered(fw.generators.mlp([2, 1])).tolist()
        [[0.0, -0.5], [0.0, 0.5], [1.0, 0.0]]
    """
    level = graph.level
    width = np.bincount(level, minlength=1)
    place = _ordered(graph, width)
    rows = np.where(width <= ROWS, width, np.maximum(ROWS, np.ceil(np.sqrt(TALL * width)))).astype(np.int64)
    columns = -(-width // np.maximum(rows, 1))
    rows = -(-width // np.maximum(columns, 1))
    step = np.maximum(1.0, SPREAD * rows.max() / np.maximum(rows, 1))
    row, column = place // columns[level], place % columns[level]
    x = level + BLOCK * ((column + 0.5) / columns[level] - 0.5)
    return np.column_stack((x, (row - (rows[level] - 1) / 2) * step[level]))


def _ordered(graph: Graph, width: IntArray) -> IntArray:
    """The place of each node within its level, 0 to width - 1."""
    level = graph.level
    start = np.concatenate(([0], np.cumsum(width)))
    members = np.argsort(level, kind="stable")
    place = np.empty(graph.num_nodes, np.int64)
    place[members] = np.arange(graph.num_nodes)
    place -= start[level]
    outputs = graph.output_index
    kept = [graph.input_index, outputs[~np.isin(outputs, graph.input_index)]]
    for nodes in kept:
        _put_in_order(nodes, level, place)
    sweeps = min(SWEEPS, WORK // (graph.num_edges + LEVEL_COST * int(np.count_nonzero(width > 1)) + 1))
    return _swept(graph, place, members, start, kept, sweeps) if graph.num_edges else place


def _put_in_order(nodes: IntArray, level: IntArray, place: IntArray) -> None:
    """Put nodes into this order within each level, in the places that they have together."""
    nodes = nodes[np.argsort(level[nodes], kind="stable")]
    place[nodes] = place[nodes][np.lexsort((place[nodes], level[nodes]))]


def _swept(
    graph: Graph, place: IntArray, members: IntArray, start: IntArray, kept: list[IntArray], sweeps: int
) -> IntArray:
    """The places after the best of some sweeps.

    Args:
        graph: The wiring.
        place: Places to begin with ``[N]``.
        members: The nodes by level ``[N]``.
        start: Where each level begins in ``members``, ``[levels + 1]``.
        kept: Nodes that keep their order.
        sweeps: How many sweeps.
    """
    level, (source, target) = graph.level, graph.edge_index
    seat = np.empty_like(place)  # of a node in its level's part of `members`
    seat[members] = np.arange(len(members)) - start[level[members]]
    scale = 1.0 / np.diff(start)[level]
    relative = (place + 0.5) * scale  # 0 (top) to 1 (bottom) within the level
    backward = np.argsort(level[source], kind="stable")
    sides = []  # of both directions: node and neighbour of each edge, by the node's level, and where levels begin
    for node, neighbour in ((target, source), (source[backward], target[backward])):
        first = np.searchsorted(level[node], np.arange(len(start)))
        sides.append((seat[node], neighbour, first, np.maximum(np.bincount(node, minlength=len(place)), 1)))
    grouped = [nodes[np.argsort(level[nodes], kind="stable")] for nodes in kept]
    group_start = [np.searchsorted(level[nodes], np.arange(len(start))) for nodes in grouped]
    wide = np.flatnonzero(np.diff(start) > 1)

    best, least = place.copy(), np.abs(relative[source] - relative[target]).sum()
    for sweep in range(sweeps):
        seats, neighbours, first, counts = sides[sweep % 2]
        for k in wide if sweep % 2 == 0 else wide[::-1]:
            nodes, edges = members[start[k] : start[k + 1]], slice(first[k], first[k + 1])
            if edges.start == edges.stop:
                continue
            sums = np.bincount(seats[edges], relative[neighbours[edges]], len(nodes))
            has_none = np.bincount(seats[edges], minlength=len(nodes)) == 0
            centre = np.where(has_none, relative[nodes], sums / counts[nodes])
            place[nodes[np.lexsort((place[nodes], centre))]] = np.arange(len(nodes))
            for group, begin in zip(grouped, group_start, strict=True):
                ordered = group[begin[k] : begin[k + 1]]
                place[ordered] = np.sort(place[ordered])
            relative[nodes] = (place[nodes] + 0.5) * scale[nodes]
        length = np.abs(relative[source] - relative[target]).sum()
        if length < least:
            best, least = place.copy(), length
    return best
