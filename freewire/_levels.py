# SPDX-License-Identifier: MIT
"""Levels of a directed graph, and the cycle that forbids them.

Enters: edge arrays. Leaves: each node's level, or an error that names a cycle. Plain numpy, linear in nodes and edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from freewire._arguments import NAMES_SHOWN
from freewire.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from freewire._arguments import IntArray


def levels(src: IntArray, dst: IntArray, in_degree: IntArray, names: Sequence[Hashable]) -> IntArray:
    """Length of the longest path that ends at each node, int64 [N]; raises on a cycle, naming it.

    Kahn's algorithm in rounds: a node leaves in the round after its last source, so the round is its level.
    """
    num_nodes = len(names)
    level = np.zeros(num_nodes, np.int64)
    by_source = np.argsort(src, kind="stable")
    out_ptr = np.concatenate(([0], np.cumsum(np.bincount(src, minlength=num_nodes))))
    targets = dst[by_source]
    waiting = in_degree.copy()
    frontier = np.flatnonzero(waiting == 0)
    left, current = num_nodes - len(frontier), 0
    while len(frontier):
        current += 1
        begin, count = out_ptr[frontier], out_ptr[frontier + 1] - out_ptr[frontier]
        # All out-edges of the frontier: position within the gathered list, shifted to each node's own range.
        positions = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
        heard, times = np.unique(targets[positions], return_counts=True)
        waiting[heard] -= times
        frontier = heard[waiting[heard] == 0]
        level[frontier] = current
        left -= len(frontier)
    if left:
        cycle = _find_cycle(src, dst, waiting > 0)
        shown = [repr(names[i]) for i in cycle[:NAMES_SHOWN]]
        if len(cycle) > NAMES_SHOWN:
            shown.append(f"... ({len(cycle) - NAMES_SHOWN} more)")
        raise GraphError(
            f"graph: expected no cycle, got {' -> '.join([*shown, repr(names[cycle[0]])])}. "
            "Remove one of these edges, or unroll the loop into steps."
        )
    return level


def _find_cycle(src: IntArray, dst: IntArray, stuck: NDArray[np.bool_]) -> list[int]:
    """The nodes of one cycle in edge order, given the nodes that Kahn's algorithm left over."""
    inside = stuck[src] & stuck[dst]
    source_of = np.zeros(len(stuck), np.int64)
    source_of[dst[inside]] = src[inside]  # each stuck node has a stuck source: walking back must close a loop
    seen: dict[int, int] = {}
    node = int(np.flatnonzero(stuck)[0])
    while node not in seen:
        seen[node] = len(seen)
        node = int(source_of[node])
    return list(seen)[seen[node] :][::-1]


def spread(
    start: IntArray, near: IntArray, far: IntArray, level_of_dst: IntArray, num_nodes: int, *, backward: bool
) -> NDArray[np.bool_]:
    """Nodes that paths reach from ``start``, walking edges from ``near`` to ``far``, bool [num_nodes].

    ``level_of_dst`` is ascending: edges into one level stand side by side, and by then their sources are decided.
    """
    reached = np.zeros(num_nodes, np.bool_)
    reached[start] = True
    depth = int(level_of_dst[-1]) if len(level_of_dst) else 0
    bounds = np.searchsorted(level_of_dst, np.arange(1, depth + 2))
    steps = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    for begin, end in reversed(steps) if backward else steps:
        reached[far[begin:end][reached[near[begin:end]]]] = True
    return reached
