# SPDX-License-Identifier: MIT
"""Writing a graph as neat-python's JSON export has it (format 1.0); what that cannot hold is refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np

from freewire.errors import FileFormatError, GraphError, InputError, cut, shown
from freewire.files.atomic import replacing
from freewire.files.neat_functions import AT_MOST_ONE, CLAMP, NEED_BOUND, SHIFT, TO_NEAT, Step
from freewire.files.paths import path_name
from freewire.graph import Graph
from freewire.graph.fields import ACTIVATIONS, AGGREGATIONS
from freewire.version import __version__

__all__ = ["write_neat_python"]


def write_neat_python(
    graph: Graph, path: str | bytes | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a graph as neat-python exports networks (its JSON format 1.0); `read_graph` reads it back.

    A graph without delays becomes a feed-forward network, and a recurrent one a recurrent network. Nodes keep their
    names if all of them are whole numbers, those of inputs negative and others not; else inputs become -1, -2, ..., and
    the outputs 0, 1, ..., before the other nodes. Functions of freewire become those of neat-python, with ``response``
    for a gain, or some nodes that compute the same. Signs, groups and frozen weights are not written.

    Args:
        graph: A graph that stores all weights; a bias that is not stored is 0. That of a network is
            ``Graph.from_networkx(net.to_networkx())``.
        path: A file ``.json``, which is replaced.
        metadata: Added to the file's, such as ``{"fitness": 3.9}``.

    Raises:
        FileFormatError: The name ends otherwise.
        GraphError: A weight is not stored, or not finite. An activation that neat-python has not: ``gelu``, ``step``;
            ``sin``, ``cos`` and ``softplus`` whose argument may be beyond 60, where neat-python's end; in recurrent
            graphs those that take several nodes (``leaky_relu``, ``silu``, ``softplus``, ``hard_sigmoid``), leaks, and
            other delays than 0 from inputs and 1 from other nodes.
        InputError: JSON cannot hold the metadata.
        OSError: The file cannot be written.

    Example:
        >>> import freewire as fw, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "net.json")
        >>> graph = fw.Graph.from_edges([0, 1], [2, 2], weight=[0.5, -1.0], output_activation="tanh")
        >>> fw.files.write_neat_python(graph, path)
        >>> fw.read_graph(path).nodes
        (-1, -2, 0)
    """
    if not isinstance(graph, Graph):
        raise GraphError(
            f"graph: expected a freewire Graph, got {type(graph).__name__}. That of a network is "
            "Graph.from_networkx(net.to_networkx())."
        )
    if not path_name(path).lower().endswith(".json"):
        raise FileFormatError(f"path: expected a name that ends in .json, got {shown(path)}. Rename it.")
    document = _document(graph)
    document["metadata"].update({} if metadata is None else metadata)
    try:
        text = json.dumps(document, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:  # all else are finite numbers and names of our own
        raise InputError(
            f"metadata: expected what JSON can hold, got something else ({cut(error)}). Use texts and finite numbers."
        ) from None
    with replacing(path) as file:
        file.write(text.encode())


def _document(graph: Graph) -> dict[str, Any]:
    src, dst = graph.edge_index
    weight = np.full(graph.num_edges, np.nan) if graph.weight is None else graph.weight
    bias = np.zeros(graph.num_nodes) if graph.bias is None else np.where(np.isnan(graph.bias), 0, graph.bias)
    for what, values in (("weights", weight), ("biases", bias)):
        if not np.isfinite(values).all():
            raise GraphError(
                f"graph: expected finite {what} that are stored, got {values[~np.isfinite(values)][0]}. Write that of "
                "a network: Graph.from_networkx(net.to_networkx())."
            )
    _check_time(graph, src, dst)
    numbers = _numbered(graph)
    spare = max(0, *numbers) + 1
    is_input = np.zeros(graph.num_nodes, np.bool_)
    is_input[graph.input_index] = True
    by_target = np.searchsorted(dst[np.argsort(dst, kind="stable")], np.arange(graph.num_nodes + 1))
    edges_of = np.split(np.argsort(dst, kind="stable"), by_target[1:-1])
    outputs = set(graph.output_index.tolist())
    nodes: list[dict[str, Any]] = []
    connections: list[dict[str, Any]] = []

    def add(number: int, kind: str, step: Step, aggregation: str, bias: float) -> None:
        activation = {"name": step.function, "custom": False}
        named = {"activation": activation, "aggregation": {"name": aggregation, "custom": False}}
        nodes.append({"id": number, "type": kind, **named, "bias": bias, "response": step.gain})

    def connect(source: int, target: int, weight: float) -> None:
        connections.append({"from": source, "to": target, "weight": weight, "enabled": True})

    for node in np.argsort(graph.level, kind="stable").tolist():  # neat-python computes nodes in the file's order
        if is_input[node]:
            continue
        function = ACTIVATIONS[graph.activation[node]]
        chain = _chain(graph, node, function, edges_of[node], weight, float(bias[node]))
        ids = [*range(spare, spare + len(chain) - 1), numbers[node]]
        spare += len(chain) - 1
        aggregation = AGGREGATIONS[graph.aggregation[node]] if len(edges_of[node]) else "sum"
        for k, step in enumerate(chain):
            own = chain[0].gain * (float(bias[node]) + SHIFT.get(function, 0.0))
            kind = "output" if node in outputs and k == len(chain) - 1 else "hidden"
            add(ids[k], kind, step, step.aggregation if k else aggregation, step.bias if k else own)
            for i, factor in step.reads:
                connect(ids[i], ids[k], factor)
        for edge in edges_of[node].tolist():
            connect(numbers[src[edge]], ids[0], float(weight[edge]))
    keys = []
    for node in graph.output_index.tolist():
        keys.append(numbers[node])
        if is_input[node]:  # neat-python's outputs are no inputs
            keys[-1] = spare
            add(spare, "output", Step("identity"), "sum", 0.0)
            connect(numbers[node], spare, 1.0)
            spare += 1
    inputs = [numbers[node] for node in graph.input_index.tolist()]
    for number in inputs:
        add(number, "input", Step("identity"), "none", 0.0)
    topology = {"num_inputs": len(inputs), "num_outputs": len(keys), "input_keys": inputs, "output_keys": keys}
    return {
        "format_version": "1.0",
        "network_type": "recurrent" if graph.recurrent else "feedforward",
        "metadata": {"created_timestamp": datetime.now(timezone.utc).isoformat(), "freewire_version": __version__},
        "topology": topology,
        "nodes": nodes,
        "connections": connections,
    }


def _numbered(graph: Graph) -> list[int]:
    """neat-python's number of each node."""
    is_input = np.zeros(graph.num_nodes, np.bool_)
    is_input[graph.input_index] = True
    names = list(graph.nodes)
    if all(
        type(name) is int and (name < 0) == negative for name, negative in zip(names, is_input.tolist(), strict=True)
    ):
        return [name for name in names if isinstance(name, int)]  # all of them
    numbers = np.full(graph.num_nodes, -1)
    numbers[graph.input_index] = -1 - np.arange(len(graph.input_index))
    ends = [node for node in graph.output_index.tolist() if not is_input[node]]
    numbers[ends] = np.arange(len(ends))
    others = ~is_input
    others[ends] = False
    numbers[others] = len(ends) + np.arange(int(others.sum()))
    return numbers.tolist()


def _check_time(graph: Graph, src: Any, dst: Any) -> None:
    """Refuse what neat-python's recurrent networks do not have: leaks, and other delays than theirs."""
    if graph.delay is None:
        return
    own = ~np.isin(src, graph.input_index)
    other = np.flatnonzero(graph.delay != own)
    if len(other):
        u, v = (shown(graph.nodes[end[other[0]]]) for end in (src, dst))
        raise GraphError(
            f"graph: expected delay 0 for edges from inputs and 1 for others, as neat-python has them, got "
            f"{graph.delay[other[0]]} at {u} -> {v}. Write it with write_graph."
        )
    leaks = np.zeros(0) if graph.leak is None else graph.leak[~np.isnan(graph.leak) & (graph.leak != 1)]
    if len(leaks):
        raise GraphError(
            f"graph: expected no leak, as neat-python has none, got {leaks[0]}. Write the graph with write_graph."
        )


def _chain(graph: Graph, node: int, function: str, edges: Any, weight: Any, bias: float) -> tuple[Step, ...]:
    """What computes a node's activation in neat-python; refused where nothing does."""
    name = shown(graph.nodes[node])
    chain = TO_NEAT.get(function)
    if chain is None:
        raise GraphError(
            f"graph: expected activations that neat-python can compute, {', '.join(TO_NEAT)}, got {function} at "
            f"{name}. Write it with write_graph."
        )
    if graph.recurrent and len(chain) > 1:
        raise GraphError(
            f"graph: expected activations that one node of neat-python computes, since each takes a time step, got "
            f"{function} at {name}. Write it with write_graph."
        )
    if function in NEED_BOUND:
        bounded = all(
            ACTIVATIONS[code] in AT_MOST_ONE for code in graph.activation[graph.edge_index[0, edges]].tolist()
        )
        size = np.abs(weight[edges])
        product = AGGREGATIONS[graph.aggregation[node]] == "product"
        most = float(size.prod() if product and len(size) else size.sum()) + abs(bias) + SHIFT.get(function, 0.0)
        if not bounded or most > CLAMP:
            got = f"up to {most:g}" if bounded else "one of unknown size"
            raise GraphError(
                f"graph: expected arguments of {function} within {CLAMP:g}, where neat-python's function ends, got "
                f"{got} at {name}. Make it read nodes of bounded activations, or write it with write_graph."
            )
    return chain
