# SPDX-License-Identifier: MIT
"""Which edges a picture shows where all of them would hide each other, and a matrix of edge counts where none would do.

In: a wiring, perhaps with weights. Out: columns of edges, or a matrix of bins; always the same for the same input.
"""

from __future__ import annotations

import numpy as np

from freewire.graph import Graph
from freewire.graph.arguments import FloatArray, IntArray

__all__ = ["binned", "strongest"]


def strongest(graph: Graph, weight: FloatArray | None, most: int) -> tuple[IntArray, int]:
    """The strongest edges into each node, or without weights edges chosen at random, the same ones each time.

    Args:
        graph: The wiring.
        weight: Weights ``[E]``; an edge whose weight is NaN is the weakest.
        most: The number of edges to keep at most, but one into each node at least.

    Returns:
        Columns of the kept edges, ascending; and how many of each node's were kept at most.
    """
    edges, target = graph.num_edges, graph.edge_index[1]
    fan_in = np.bincount(target, minlength=graph.num_nodes)
    if edges <= most:
        return np.arange(edges), int(fan_in.max(initial=0))
    # Keeping k of each node's edges keeps sum(min(k, fan-in)): the largest k for which that is not too much.
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(fan_in, middle).sum() <= most else (low, middle - 1)
    # PCG64's raw numbers are the same on every platform and version.
    chance = np.random.PCG64(0).random_raw(edges)
    strength = np.zeros(edges) if weight is None else np.nan_to_num(np.abs(weight), nan=-1.0, posinf=np.inf)
    order = np.lexsort((chance, -strength, target))
    place = np.arange(edges) - (np.cumsum(fan_in) - fan_in)[target[order]]
    return np.sort(order[place < low]), low


def binned(graph: Graph, weight: FloatArray | None, group: IntArray) -> FloatArray:
    """How strongly groups of nodes are connected.

    Args:
        graph: The wiring.
        weight: Weights ``[E]``; those that are not finite count as 0.
        group: Group of each node, 0 to B - 1, ``[N]``; none is empty.

    Returns:
        ``[B, B]``, source by destination: the mean of |weight| over all pairs of nodes, connected or not; without
        weights the number of edges per pair. NaN where there is no edge.
    """
    size = np.bincount(group)
    bins = len(size)
    cell = group[graph.edge_index[0]] * bins + group[graph.edge_index[1]]
    counts = np.bincount(cell, minlength=bins * bins)
    strength = None if weight is None else np.nan_to_num(np.abs(weight), nan=0.0, posinf=0.0)
    sums = np.bincount(cell, strength, bins * bins).reshape(bins, bins)
    return np.where(counts.reshape(bins, bins) > 0, sums / np.outer(size, size), np.nan)
