# SPDX-License-Identifier: MIT
"""Graphs with dense blocks planted among other nodes, all numbered at random."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

import freewire as fw

#: What `planted_graph` adds to a graph.
PARTS = ("layer", "padded", "triangle", "few", "random", "apart")


def shuffled(src: Sequence[int], dst: Sequence[int], seed: int = 0, **options: Any) -> fw.Graph:
    """A graph of these edges, with its nodes, edges and inputs in random order. Inputs are the nodes without in-edges.

    Args:
        src: Sources.
        dst: Destinations.
        seed: Of the order.
        options: More arguments of `fw.Graph.from_edges`; lists per node are in the numbering of ``src`` and ``dst``.
    """
    rng = np.random.default_rng(seed)
    ends = np.array([src, dst], np.int64)
    number = rng.permutation(int(ends.max()) + 1)
    ends = ends[:, rng.permutation(ends.shape[1])]
    inputs = rng.permutation(np.setdiff1d(np.arange(len(number)), ends[1]))
    for name, value in options.items():
        if isinstance(value, list):
            options[name] = [value[node] for node in np.argsort(number)]
    src, dst = number[ends]
    return fw.Graph.from_edges(src, dst, num_nodes=len(number), inputs=number[inputs], **options)


def planted_graph(parts: Sequence[str], seed: int) -> fw.Graph:
    """Inputs, and then each of the ``parts``, one of `PARTS`, wired to some nodes before it.

    An eighth of the nodes has no linear aggregation, so that some of what is planted is no block.
    """
    rng = np.random.default_rng(seed)
    first, count = 0, 24  # of the nodes that later parts may read
    edges: list[tuple[int, int]] = []
    for part in parts:
        if part == "apart":
            first, count = count, count + 24
            continue
        earlier = np.arange(first, count)
        read = np.sort(rng.choice(earlier, rng.integers(4 if part == "layer" else 16, 25), replace=False)).tolist()
        for i in range({"few": 3, "padded": 10, "triangle": 21}.get(part, 6)):
            if part == "random":
                sources = rng.choice(earlier, rng.integers(1, 7)).tolist()
            elif part == "padded":
                sources = [u for u in read if rng.random() < 0.9]
            else:
                sources = read + list(range(count, count + i)) * (part == "triangle")
            edges += [(u, count + i) for u in sources]
        count = max([count, *(v + 1 for _, v in edges)])
    edges += [(first, count), (first + 1, count)]
    kinds = rng.choice(["sum", "mean", "max"], count + 1, p=(0.75, 0.2, 0.05)).tolist()
    return shuffled(*zip(*edges, strict=True), seed, aggregation=kinds, activation="tanh")


def layers(sizes: Sequence[int], density: float = 1.0, seed: int = 0) -> tuple[list[int], list[int]]:
    """Sources and destinations of layers, each node of which reads this share of the layer before, at random."""
    rng = np.random.default_rng(seed)
    src, dst, first = [], [], 0
    for width, following in itertools.pairwise(sizes):
        reader, source = np.nonzero(rng.random((following, width)) < density)
        src += (source + first).tolist()
        dst += (reader + first + width).tolist()
        first += width
    return src, dst
