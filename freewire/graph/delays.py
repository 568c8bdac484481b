# SPDX-License-Identifier: MIT
"""What is different where edges have delays: default delays, levels, canonical order, and paths through cycles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from freewire._native.planner import planner
from freewire.graph.arguments import IntArray
from freewire.graph.data import GraphData
from freewire.graph.fields import DELAY


class Order(NamedTuple):
    """Levels, and where edges are in canonical order.

    Attributes:
        level: Number of edges without delay on the longest path of such edges that ends at each node, int64 ``[N]``;
            -1 for a node on a cycle of such edges, or behind one.
        edge_index: Edges in canonical order, int64 ``[2, E]``; None if there is such a cycle.
        edge_position: Where each of the caller's edges is now, int64 ``[E]``; None if there is such a cycle.
    """

    level: IntArray
    edge_index: IntArray | None
    edge_position: IntArray | None


def filled_delays(data: GraphData, inputs: IntArray) -> IntArray:
    """The delay of each edge, int64 ``[E]``: where it has none, 0 for an edge from an input and 1 for others."""
    given = data.fields.get(DELAY.name)
    delay = DELAY.empty(len(data.src)) if given is None else given.copy()
    missing = DELAY.is_missing(delay)
    if missing.any():
        is_input = np.zeros(len(data.names), np.bool_)
        is_input[inputs] = True
        delay[missing] = ~is_input[data.src[missing]]
    return delay


def order_with_delays(src: IntArray, dst: IntArray, delay: IntArray, num_nodes: int) -> Order:
    """Levels and canonical order of a recurrent graph; linear in nodes and edges.

    The order is that of every graph: by the destination's (level, number), then the source's, then the caller's.
    """
    instant = delay == 0
    level = planner.order(src[instant], dst[instant], num_nodes)["level"]
    if (level < 0).any():
        return Order(level, None, None)
    node = np.argsort(level, kind="stable")
    rank = np.empty(num_nodes, np.int64)
    rank[node] = np.arange(num_nodes)
    # The planner orders graphs without cycles. In this one every node appears twice, as a source and behind all sources
    # as a destination, each in order of rank.
    ordered = planner.order(rank[src], rank[dst] + num_nodes, 2 * num_nodes)
    edge_index = ordered["edge_index"]
    edge_index[1] -= num_nodes
    return Order(level, node[edge_index], ordered["edge_position"])


def reach_through_cycles(edge_index: IntArray, start: IntArray, num_nodes: int, *, backward: bool) -> NDArray[np.bool_]:
    """`freewire.graph.canonical.reach` for edges that do not all lead to later nodes.

    Each pass follows all paths along the order of edges, so there are as many as paths turn back.
    """
    while True:
        reached = planner.reach(edge_index, start, num_nodes, backward)
        if np.count_nonzero(reached) == len(start):
            return reached
        start = np.flatnonzero(reached)
