# SPDX-License-Identifier: MIT
"""Changes of one genome's structure or functions: nodes and edges added and deleted, edges toggled, functions redrawn.

Each function takes a genome and returns another one, or the same where the change is not possible. All edges of a
genome that is not recurrent, disabled ones too, are free of cycles, so that any of them may be enabled at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire.graph.arguments import IntArray
from freewire.graph.fields import ACTIVATIONS, AGGREGATIONS
from freewire.search.neat.genome import EDGE_GENES, NODE_GENES, Genome
from freewire.search.neat.innovations import Innovations
from freewire.search.neat.settings import Settings

__all__ = ["MUTATIONS", "draw_functions"]

Mutation = Callable[[Genome, np.random.Generator, Innovations, Settings], Genome]


def _with_edge(genome: Genome, innovation: int, source: int, target: int, weight: float) -> dict[str, Any]:
    """The edge genes of a genome with one more, in its place by the innovation."""
    new = {"innovation": innovation, "source": source, "target": target, "weight": weight, "enabled": True}
    place = int(np.searchsorted(genome.innovation, innovation))
    return {name: np.insert(getattr(genome, name), place, value) for name, value in new.items()}


def draw_functions(
    node: IntArray, num_outputs: int, rng: np.random.Generator, settings: Settings
) -> dict[str, NDArray[np.uint8]]:
    """Codes of an activation and an aggregation for each node, drawn among those that are allowed there."""
    options = (settings.output_activation, settings.activation, settings.aggregation)
    at_output, hidden = (np.array([ACTIVATIONS.index(name) for name in names], np.uint8) for names in options[:2])
    aggregations = np.array([AGGREGATIONS.index(name) for name in settings.aggregation], np.uint8)
    draws = rng.random((3, len(node)))
    chosen = (
        np.take(codes, (draw * len(codes)).astype(int)) for codes, draw in zip((at_output, hidden), draws, strict=False)
    )
    activation = np.where(node < num_outputs, *chosen)
    return {"activation": activation, "aggregation": np.take(aggregations, (draws[2] * len(aggregations)).astype(int))}


def delete_node(genome: Genome, rng: np.random.Generator, innovations: Innovations, settings: Settings) -> Genome:
    """Remove a hidden node with its edges."""
    hidden = len(genome.node) - genome.num_outputs
    if not hidden:
        return genome
    place = genome.num_outputs + int(rng.integers(hidden))
    gone = genome.node[place]
    kept = (genome.source != gone) & (genome.target != gone)
    genes: dict[str, Any] = {name: np.delete(getattr(genome, name), place) for name in NODE_GENES}
    genes |= {name: getattr(genome, name)[kept] for name in EDGE_GENES}
    return replace(genome, **genes)


def delete_edge(genome: Genome, rng: np.random.Generator, innovations: Innovations, settings: Settings) -> Genome:
    """Remove an edge."""
    if not len(genome.innovation):
        return genome
    place = int(rng.integers(len(genome.innovation)))
    genes: dict[str, Any] = {name: np.delete(getattr(genome, name), place) for name in EDGE_GENES}
    return replace(genome, **genes)


def add_node(genome: Genome, rng: np.random.Generator, innovations: Innovations, settings: Settings) -> Genome:
    """Divide an enabled edge in two: it is disabled, and a path through a new node has its place.

    The edge to the new node has weight 1 and the one from it that of the old edge, as in the paper, so that with a
    function that is nearly linear around 0 little changes.
    """
    enabled = np.flatnonzero(genome.enabled)
    if not len(enabled):
        return genome
    edge = int(enabled[rng.integers(len(enabled))])
    source, target = int(genome.source[edge]), int(genome.target[edge])
    number = innovations.split(int(genome.innovation[edge]))
    new = draw_functions(np.array([number]), genome.num_outputs, rng, settings)
    nodes = {"node": number, "bias": 0.0, "activation": new["activation"][0], "aggregation": new["aggregation"][0]}
    place = int(np.searchsorted(genome.node, number))
    genes: dict[str, Any] = {name: np.insert(getattr(genome, name), place, value) for name, value in nodes.items()}
    still = genome.enabled.copy()
    still[edge] = False
    weight = float(genome.weight[edge])
    genome = replace(genome, **genes, enabled=still)
    genome = replace(genome, **_with_edge(genome, innovations.edge(source, number), source, number, 1.0))
    return replace(genome, **_with_edge(genome, innovations.edge(number, target), number, target, weight))


def add_edge(genome: Genome, rng: np.random.Generator, innovations: Innovations, settings: Settings) -> Genome:
    """Join two nodes that no edge joins yet.

    Targets are tried in random order, and the source is drawn among all nodes that may feed the first that has any.
    Without recurrence that is no output, and no node that the target reaches.
    """
    readers: dict[int, list[int]] = {}
    for source, target in zip(genome.source.tolist(), genome.target.tolist(), strict=True):
        readers.setdefault(source, []).append(target)
    first = 0 if genome.recurrent else genome.num_outputs
    sources = np.concatenate((np.arange(-1, -genome.num_inputs - 1, -1), genome.node[first:]))
    for target in rng.permutation(genome.node).tolist():
        refused = set(genome.source[genome.target == target].tolist())
        if not genome.recurrent:
            refused |= _reached(target, readers)
        allowed = [source for source in sources.tolist() if source not in refused]
        if allowed:
            source = allowed[int(rng.integers(len(allowed)))]
            weight = float(np.clip(rng.normal(0, settings.weight_std), -settings.weight_limit, settings.weight_limit))
            return replace(genome, **_with_edge(genome, innovations.edge(source, target), source, target, weight))
    return genome


def _reached(node: int, readers: dict[int, list[int]]) -> set[int]:
    """The node and all that it feeds, directly or not."""
    found, waiting = {node}, [node]
    while waiting:
        new = [reader for reader in readers.get(waiting.pop(), ()) if reader not in found]
        found.update(new)
        waiting += new
    return found


def toggle_edge(genome: Genome, rng: np.random.Generator, innovations: Innovations, settings: Settings) -> Genome:
    """Enable a disabled edge, or disable an enabled one."""
    if not len(genome.enabled):
        return genome
    enabled = genome.enabled.copy()
    enabled[rng.integers(len(enabled))] ^= True
    return replace(genome, enabled=enabled)


def mutate_activation(genome: Genome, rng: np.random.Generator, innovations: Innovations, settings: Settings) -> Genome:
    """Redraw the activation of a node."""
    return _redrawn("activation", genome, rng, settings)


def mutate_aggregation(
    genome: Genome, rng: np.random.Generator, innovations: Innovations, settings: Settings
) -> Genome:
    """Redraw the aggregation of a node."""
    return _redrawn("aggregation", genome, rng, settings)


def _redrawn(name: str, genome: Genome, rng: np.random.Generator, settings: Settings) -> Genome:
    codes = getattr(genome, name).copy()
    place = int(rng.integers(len(codes)))
    codes[place] = draw_functions(genome.node[place : place + 1], genome.num_outputs, rng, settings)[name][0]
    return replace(genome, **{name: codes})


#: By the name of the setting that is their probability, in the order in which they happen.
MUTATIONS: dict[str, Mutation] = {
    "delete_node": delete_node,
    "delete_edge": delete_edge,
    "add_node": add_node,
    "add_edge": add_edge,
    "toggle_edge": toggle_edge,
    "mutate_activation": mutate_activation,
    "mutate_aggregation": mutate_aggregation,
}
