# SPDX-License-Identifier: MIT
"""Where the nodes of a picture are: in columns by level, so that every edge runs from left to right."""

from __future__ import annotations

import numpy as np

from freewire.graph import Graph
from freewire.graph.arguments import FloatArray

__all__ = ["layered"]


def layered(graph: Graph) -> FloatArray:
    """Coordinates ``[N, 2]``: a node's level, and its place within the level, in steps of 1 and centred on 0."""
    level = graph.level
    order = np.argsort(level, kind="stable")
    first = np.searchsorted(level[order], level)  # of each node's level, where that begins in the order
    place = np.empty(graph.num_nodes)
    place[order] = np.arange(graph.num_nodes)
    width = np.bincount(level, minlength=1)[level]
    return np.column_stack((level.astype(np.float64), place - first - (width - 1) / 2))
