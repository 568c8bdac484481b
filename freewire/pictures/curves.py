# SPDX-License-Identifier: MIT
"""Edges as cubic Bezier curves: smooth, from left to right, past the nodes between their ends.

In: a wiring, where its nodes are, and which edges to draw. Out: control points.
"""

from __future__ import annotations

import numpy as np

from freewire.graph import Graph
from freewire.graph.arguments import FloatArray, IntArray

__all__ = ["bezier", "curves"]

ALONG = 0.45  # how far the inner control points are from the ends, as a share of the curve's length
BACK = 0.3  # how far they are to the right where an edge leads to no later level
TRIED = np.linspace(-1, 1, 17)  # bends, as shares of the largest
CLEARANCE = 0.45  # distance from a node that is enough; rows are 1 apart
PAIRS = 40_000  # edges times nodes up to which the best bend is looked for


def curves(graph: Graph, position: FloatArray, edges: IntArray) -> FloatArray:
    """Control points ``[K, 4, 2]``. Curves begin and end horizontally; those over several levels bend.

    Edges of recurrent graphs that lead to no later level leave and arrive to the right of their nodes, and those from a
    node to itself are loops beside it.

    Args:
        graph: The wiring.
        position: Coordinates of the nodes ``[N, 2]``.
        edges: Columns of the edges ``[K]``.
    """
    source, target = graph.edge_index[:, edges]
    begin, end = position[source], position[target]
    points = np.repeat(begin[:, None], 4, axis=1)
    points[:, 2:] = end[:, None]
    along = ALONG * (end[:, 0] - begin[:, 0])
    back = graph.level[target] <= graph.level[source]
    along[back] = BACK
    points[:, 1, 0] += along
    points[:, 2, 0] -= np.where(back, -along, along)
    height = np.ptp(position[:, 1]) if len(position) else 0.0
    span = np.maximum(graph.level[target] - graph.level[source] - 1, 0)
    largest = np.minimum(0.3 * span * max(1.0, height / 10), 0.35 * height + 0.3 * span**0.5)
    side = np.where(source % 2, 1.0, -1.0)  # where nothing else decides, as in a chain
    middle = np.round(begin[:, 1] + end[:, 1], 6)
    if len(edges) * graph.num_nodes <= PAIRS:
        bend = _past_nodes(position, points, np.where(span > 0, 1.5 * largest + 0.6, 0.0), side)
    else:
        bend = largest * np.where(middle == 0, side, np.sign(middle))  # away from the middle
    bend[graph.level[target] < graph.level[source]] += 0.5 * max(1.0, height / 10)  # not over the edges that lead there
    bend += _beside(source, target, edges) * max(1.0, height / 10)
    points[:, 1:3, 1] += bend[:, None]
    loop = source == target
    points[loop, 1:3] = begin[loop, None] + np.array([[BACK, 2 * BACK], [-BACK, 2 * BACK]])
    return points


def _past_nodes(position: FloatArray, points: FloatArray, largest: FloatArray, side: FloatArray) -> FloatArray:
    """The smallest bend of each edge that passes the nodes between its ends, or passes farthest from the nearest.

    Args:
        position: Coordinates of the nodes ``[N, 2]``.
        points: Control points without a bend ``[K, 4, 2]``.
        largest: The largest bend of each edge ``[K]``.
        side: 1 or -1, the side that is preferred of two equal ones ``[K]``.
    """
    begin, end = points[:, :1, 0], points[:, 3:, 0]
    x, y = position.T
    between = (x > begin + 0.5) & (x < end - 0.5)  # [K, N]
    share = np.clip((x - begin) / np.maximum(end - begin, 1e-9), 0, 1)
    steps = np.linspace(0, 1, 101)
    weights = _weights(steps)
    t = np.interp(share, weights @ [0, ALONG, 1 - ALONG, 1], steps)  # where the curve reaches each node's column
    unbent = np.einsum("knc,kc->kn", _weights(t), points[..., 1])
    bends = TRIED * largest[:, None]  # [K, C]
    passed = unbent[:, None] + bends[..., None] * (3 * t * (1 - t))[:, None] - y
    nearest = np.where(between[:, None], np.abs(passed), np.inf).min(axis=2, initial=np.inf)
    score = np.minimum(nearest, CLEARANCE) - 0.02 * np.abs(bends) + 1e-6 * side[:, None] * bends
    return np.take_along_axis(bends, score.argmax(axis=1)[:, None], axis=1)[:, 0]


def _beside(source: IntArray, target: IntArray, edges: IntArray) -> FloatArray:
    """Bends ``[K]`` by which parallel edges, which are neighbours in the canonical order, lie beside each other."""
    order = np.argsort(edges)
    pair = np.stack((source, target))[:, order]
    new = np.concatenate(([True], (pair[:, 1:] != pair[:, :-1]).any(axis=0)))[: len(edges)]
    run = np.cumsum(new) - 1
    copies = np.bincount(run, minlength=1)[run]
    bend = np.empty(len(edges))
    bend[order] = (np.arange(len(edges)) - np.flatnonzero(new)[run] - (copies - 1) / 2) * 0.6 / np.maximum(copies, 3)
    return bend


def _weights(t: FloatArray) -> FloatArray:
    """Of the control points at each t, ``[..., 4]``."""
    return np.stack(((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3), axis=-1)


def bezier(points: FloatArray, pieces: int) -> FloatArray:
    """Points ``[K, pieces + 1, 2]`` on curves of control points ``[K, 4, 2]``."""
    return np.einsum("pc,kcd->kpd", _weights(np.linspace(0.0, 1.0, pieces + 1)), points)
