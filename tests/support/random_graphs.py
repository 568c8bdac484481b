# SPDX-License-Identifier: MIT
"""Random graphs of every legal shape from one seed, for tests that run thousands of them, and weights to go with them.

Any activations and aggregations, parallel edges, nodes without edges, nodes that no input reaches or that reach no
output, inputs that are outputs, outputs that feed other nodes, fan-ins from 0 to some hundred, wide and deep graphs.
Nodes and edges are numbered in random order. Unlike hypothesis (`tests.support.graphs.graphs`) it does not shrink, but
a graph takes a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS

__all__ = ["EXACT_ACTIVATIONS", "EXACT_AGGREGATIONS", "draw_graph", "draw_integers", "draw_parameters"]

#: Functions that are exact where weights and inputs are small integers, so that ties are ties everywhere.
EXACT_ACTIVATIONS = ("linear", "relu", "abs", "step", "hard_tanh")
EXACT_AGGREGATIONS = ("sum", "product", "max", "min", "maxabs")


def draw_graph(
    rng: np.random.Generator, activations: Sequence[str] = ACTIVATIONS, aggregations: Sequence[str] = AGGREGATIONS
) -> fw.Graph:
    """Draw a graph of 1 to about 100 nodes and at most about 1,000 edges.

    Args:
        rng: The source of all draws.
        activations: Names to choose from; half of the graphs use at most three of them.
        aggregations: The same.
    """
    shape = rng.choice(("any", "deep", "wide", "hub"), p=(0.5, 0.15, 0.2, 0.15))
    num_nodes = int({"any": rng.integers(1, 40), "deep": rng.integers(10, 100)}.get(shape, rng.integers(10, 60)))
    num_sources = int(rng.integers(1, max(2, num_nodes // 2 if shape != "deep" else 4)))
    pairs: list[tuple[int, int]] = []
    for node in range(num_sources, num_nodes):
        first, last = 0, node
        fan_in = int(rng.choice((0, 1, 1, 2, 2, 3, 5, 8, 17)))
        if shape == "deep":
            first, fan_in = max(0, node - 3), min(fan_in, 5)
        elif shape == "wide":  # three levels
            last = num_sources if node < num_nodes * 2 // 3 else node * 2 // 3
            last = max(1, min(last, node))
        elif shape == "hub" and rng.random() < 0.1:
            fan_in = int(rng.integers(32, 400))
        pairs += [(int(source), node) for source in rng.integers(first, last, fan_in)]
    if rng.random() < 0.02:
        pairs = []
    fed = {node for _, node in pairs}
    free = rng.permutation([node for node in range(num_nodes) if node not in fed])
    inputs = free[: int(rng.integers(0, len(free) + 1)) if rng.random() < 0.5 else len(free)]
    outputs = rng.permutation(num_nodes)[: int(rng.integers(1, min(num_nodes, 12) + 1))]
    if rng.random() < 0.7 and len(outputs) < num_nodes:  # or much of a deep graph would reach none
        outputs = np.unique(np.append(outputs, num_nodes - 1))
    number = rng.permutation(num_nodes)
    src, dst = number[np.array(rng.permutation(pairs), np.int64).reshape(-1, 2).T]
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=num_nodes,
        inputs=number[inputs],
        outputs=number[rng.permutation(outputs)],
        activation=_some(rng, activations, num_nodes),
        aggregation=_some(rng, aggregations, num_nodes),
    )


def _some(rng: np.random.Generator, names: Sequence[str], count: int) -> list[str]:
    """``count`` of the names, in half of the cases of three at most."""
    palette = rng.permutation(names)[: int(rng.integers(1, 4))] if rng.random() < 0.5 else names
    return [str(name) for name in rng.choice(palette, count)]


def draw_parameters(rng: np.random.Generator, graph: fw.Graph) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[E]`` and biases ``[computed nodes]`` that keep most values of order one, float64."""
    dst = graph.edge_index[1]
    fan_in = np.bincount(dst, minlength=graph.num_nodes)[dst]
    summed = graph.aggregation[dst] == AGGREGATIONS.index("sum")
    multiplied = graph.aggregation[dst] == AGGREGATIONS.index("product")
    weight = rng.standard_normal(len(dst)) / np.where(summed, np.sqrt(np.maximum(fan_in, 1)), 1)
    near_one = rng.choice((-1.0, 1.0), len(dst)) * rng.uniform(0.7, 1.4, len(dst))
    weight = np.where(multiplied, near_one, weight)
    return weight, rng.standard_normal(len(graph.computed_index)) / 2


def draw_integers(rng: np.random.Generator, graph: fw.Graph) -> tuple[np.ndarray, np.ndarray]:
    """The same as `draw_parameters`, but -1, 0 and 1, so that terms tie."""
    return rng.integers(-1, 2, graph.num_edges) * 1.0, rng.integers(-1, 2, len(graph.computed_index)) * 1.0
