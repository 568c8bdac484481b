# SPDX-License-Identifier: MIT
"""Random genomes of neat-python, its networks of them, and its networks of a file."""

from __future__ import annotations

import json
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import freewire as fw

#: Those of neat-python that a graph can compute.
ACTIVATIONS = (
    *("sigmoid", "tanh", "sin", "gauss", "relu", "elu", "lelu", "selu", "softplus", "identity", "clamped", "abs"),
    *("hat", "square", "cube"),
)
AGGREGATIONS = ("sum", "product", "max", "min", "maxabs", "mean")


def draw_network(rng: np.random.Generator, recurrent: bool) -> Any:
    """A network of neat-python from a random genome: some functions, disabled edges, nodes that read nothing."""
    import neat
    from neat.activations import ActivationFunctionSet
    from neat.aggregations import AggregationFunctionSet

    inputs, outputs, hidden = (int(rng.integers(low, high)) for low, high in ((1, 5), (1, 4), (0, 9)))
    genome = neat.DefaultGenome(0)
    activations = rng.choice(ACTIVATIONS, rng.integers(1, 5), replace=False)
    aggregations = rng.choice(AGGREGATIONS, rng.integers(1, 4), replace=False)
    for key in range(outputs + hidden):
        gene = genome.nodes[key] = neat.genes.DefaultNodeGene(key)
        gene.bias, gene.response = rng.normal(), rng.normal() * rng.choice((1.0, 1.0, 0.0), p=(0.5, 0.4, 0.1))
        gene.activation, gene.aggregation = str(rng.choice(activations)), str(rng.choice(aggregations))
    order = rng.permutation(np.arange(outputs, outputs + hidden)).tolist()
    sources = [*range(-inputs, 0), *order]
    for target in (*order, *range(outputs)):
        earlier = sources[: sources.index(target)] if target in sources else sources
        known = [*sources, *range(outputs)] if recurrent else earlier
        for source in rng.permutation(known)[: rng.integers(0, 5)].tolist():
            edge = neat.genes.DefaultConnectionGene((source, target), innovation=len(genome.connections))
            edge.weight, edge.enabled = rng.normal() * 0.8, bool(rng.random() < 0.85)
            genome.connections[source, target] = edge
    config = types.SimpleNamespace(
        input_keys=list(range(-1, -inputs - 1, -1)),
        output_keys=list(range(outputs)),
        activation_defs=ActivationFunctionSet(),
        aggregation_function_defs=AggregationFunctionSet(),
    )
    kind = neat.nn.RecurrentNetwork if recurrent else neat.nn.FeedForwardNetwork
    return kind.create(genome, types.SimpleNamespace(genome_config=config))


def export(network: Any, path: Path) -> Path:
    """Write a network as neat-python does."""
    from neat.export import export_network_json

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it uses datetime.utcnow
        export_network_json(network, str(path), metadata={"fitness": 1.5})
    return path


def network_of(path: Path) -> Any:
    """The network of neat-python that a file describes, which neat-python itself cannot read."""
    import neat
    from neat.activations import ActivationFunctionSet
    from neat.aggregations import AggregationFunctionSet

    document = json.loads(path.read_text())
    activations, aggregations = ActivationFunctionSet(), AggregationFunctionSet()
    links: dict[int, list[tuple[int, float]]] = {node["id"]: [] for node in document["nodes"]}
    for edge in document["connections"]:
        assert edge["enabled"] is True
        links[edge["to"]].append((edge["from"], edge["weight"]))
    nodes = [
        (
            node["id"],
            activations.get(node["activation"]["name"]),
            aggregations.get(node["aggregation"]["name"]),
            node["bias"],
            node["response"],
            links[node["id"]],
        )
        for node in document["nodes"]
        if node["type"] != "input"
    ]
    kinds = {"feedforward": neat.nn.FeedForwardNetwork, "recurrent": neat.nn.RecurrentNetwork}
    keys = (document["topology"][key] for key in ("input_keys", "output_keys"))
    return kinds[document["network_type"]](*keys, nodes)


def results_of(network: Any, x: np.ndarray) -> np.ndarray:
    """What a network of neat-python computes for one sample after another, ``[T, outputs]``."""
    if hasattr(network, "reset"):
        network.reset()
    return np.array([network.activate(row) for row in x.tolist()])


def results_of_graph(graph: fw.Graph, x: np.ndarray) -> np.ndarray:
    """The same of a graph, in float64."""
    rows = torch.from_numpy(x)
    with torch.no_grad():
        if graph.recurrent:
            return fw.Recurrent(graph, dtype=torch.float64)(rows.unsqueeze(1))[0].squeeze(1).numpy()
        return fw.Network(graph, dtype=torch.float64)(rows).numpy()
