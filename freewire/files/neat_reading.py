# SPDX-License-Identifier: MIT
"""neat-python's JSON export of a network (format 1.0), feed-forward or recurrent, as a graph that computes the same.

A node of neat-python is ``f(bias + response * aggregation(weight * value))`` with functions that have gains of their
own; see `freewire.files.neat_functions`. Gains and responses become part of weights and biases. What cannot be kept is
refused, and the message names it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

import numpy as np

from freewire.errors import FileFormatError, GraphError, shown
from freewire.files.names import NameIndex, check_hashes
from freewire.files.neat_functions import FROM_NEAT, Step
from freewire.graph.arguments import lookup
from freewire.graph.data import GraphData
from freewire.graph.fields import ACTIVATIONS, AGGREGATIONS

#: The keys that are read, of all objects of a file.
NEAT_KEYS = (
    *("format_version", "network_type", "topology", "input_keys", "output_keys", "nodes", "connections"),
    *("id", "type", "activation", "aggregation", "name", "custom", "bias", "response"),
    *("from", "to", "weight", "enabled"),
)
_VERSION = "1.0"
_REMEDY = "Write the network with neat.export.export_network_json."
_OTHER_KINDS = (
    "A ctrnn's time step is not in the file, and there are no spiking neurons here (iznn): see docs/recurrent.md for "
    "the former."
)


def is_neat(document: Any) -> bool:
    """Whether a JSON document is neat-python's and not a node-link graph."""
    if not isinstance(document, dict) or {"edges", "links"} & document.keys():
        return False
    return {"format_version", "network_type"} <= document.keys()


class _Node(NamedTuple):
    """A computed node of the file."""

    chain: tuple[Step, ...]
    aggregation: str
    bias: float
    response: float


#: A node that neat-python does not compute, since it reads nothing; its value stays 0.
_ZERO = _Node((Step("linear"),), "sum", 0.0, 1.0)


def read_neat(
    path: str, document: dict[str, Any], inputs: Iterable[Hashable] | None, outputs: Iterable[Hashable] | None
) -> GraphData:
    """Read a document; see `freewire.files.read_graph`. ``path`` is named in errors."""
    version, kind = document["format_version"], document["network_type"]
    if version != _VERSION:
        raise _error(path, f'"{_VERSION}" as "format_version" of neat-python', shown(version))
    if kind not in ("feedforward", "recurrent"):
        raise _error(path, 'feedforward or recurrent as "network_type" of neat-python', shown(kind), _OTHER_KINDS)
    ids, nodes, num_inputs = _read_nodes(path, document)
    index = NameIndex(ids)
    ends = [_ids(path, document.get("topology"), key) for key in ("input_keys", "output_keys")]
    connections = _objects(path, document, "connections")
    for number in (*ends[1], *(item.get("from") for item in connections if kind == "recurrent")):
        if type(number) is int and index.add(number):
            ids.append(number)
            nodes.append(_ZERO)
    if len(index) != len(ids) or sorted(ids[:num_inputs]) != sorted(ends[0]):
        got = f"{shown(ends[0])}, with {num_inputs} nodes of that type"
        raise _error(path, 'each input as a node and in "input_keys" once, and other nodes once', got)
    check_hashes(ids, FileFormatError, path)
    reads: list[list[tuple[int, float]]] = [[] for _ in ids]
    for k, item in enumerate(connections):
        if item.get("enabled", True) is not True:
            continue
        source, target = (_known(path, index, item, end, k) for end in ("from", "to"))
        if target < num_inputs:
            raise _error(path, "connections to computed nodes", f"number {k}, to input {ids[target]}", "Remove it.")
        reads[target].append((source, _number(path, item, "weight", f"connection {k}")))
    return _graph(path, ids, nodes, reads, ends, kind == "recurrent", inputs, outputs)


def _read_nodes(path: str, document: dict[str, Any]) -> tuple[list[int], list[_Node], int]:
    """The numbers of the nodes, inputs first; the computed ones; and how many inputs there are."""
    inputs, computed, nodes = [], [], []
    for k, item in enumerate(_objects(path, document, "nodes")):
        number, kind = item.get("id"), item.get("type")
        if type(number) is not int:
            raise _error(path, f'a whole number as "id" of node {k}', shown(number))
        if kind not in ("input", "hidden", "output"):
            raise _error(path, f'input, hidden or output as "type" of node {number}', shown(kind))
        if kind == "input":
            inputs.append(number)
            continue
        activation, aggregation = (_function(path, item, what, number) for what in ("activation", "aggregation"))
        if activation not in FROM_NEAT:
            raise _refused(path, "activation", activation, number, FROM_NEAT)
        if aggregation not in (*AGGREGATIONS, "median"):
            raise _refused(path, "aggregation", aggregation, number, AGGREGATIONS)
        bias, response = (_number(path, item, what, f"node {number}") for what in ("bias", "response"))
        computed.append(number)
        nodes.append(_Node(FROM_NEAT[activation], aggregation, bias, response))
    return inputs + computed, nodes, len(inputs)


def _graph(
    path: str,
    ids: list[int],
    nodes: list[_Node],
    reads: list[list[tuple[int, float]]],
    ends: list[list[int]],
    recurrent: bool,
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
) -> GraphData:
    """Write each node's chain, its last node where others expect the node."""
    num_inputs = len(ids) - len(nodes)
    names: list[Hashable] = list(ids[:num_inputs])
    last = list(range(num_inputs))  # where in the graph each node of the file is
    for number, node in zip(ids[num_inputs:], nodes, strict=True):
        names += [*((number, step.function) for step in node.chain[:-1]), number]
        last.append(len(names) - 1)
    activation = np.zeros(len(names), np.uint8)
    aggregation = np.zeros(len(names), np.uint8)
    bias = np.full(len(names), np.nan)
    edges: list[tuple[int, int, float, int]] = []  # source, destination, weight, delay
    for k, node in enumerate(nodes, num_inputs):
        first = last[k] - len(node.chain) + 1
        factor = node.chain[0].gain * node.response
        kind, weights, constant = _folded(path, ids[k], node.aggregation, factor, [w for _, w in reads[k]])
        for (source, _), weight in zip(reads[k], weights, strict=True):
            edges.append((last[source], first, weight, int(source >= num_inputs)))
        for j, step in enumerate(node.chain):
            activation[first + j] = ACTIVATIONS.index(step.function)
            aggregation[first + j] = AGGREGATIONS.index(step.aggregation if j else kind)
            bias[first + j] = step.bias if j else node.chain[0].gain * node.bias + constant
            edges += [(first + i, first + j, weight, 0) for i, weight in step.reads]
    src, dst, value, delay = (np.array([edge[k] for edge in edges], kind) for k, kind in enumerate("qqdq"))
    index = NameIndex(names)
    first_ends = lookup(ends[0] if inputs is None else inputs, names, index, "inputs")
    last_ends = lookup(ends[1] if outputs is None else outputs, names, index, "outputs")
    fields = {"activation": activation, "aggregation": aggregation, "bias": bias, "weight": value}
    if recurrent:
        fields["delay"] = delay
    return GraphData(tuple(names), src, dst, first_ends, last_ends, fields, recurrent=recurrent)


def _folded(
    path: str, number: int, aggregation: str, factor: float, weights: list[float]
) -> tuple[str, list[float], float]:
    """``factor * aggregation(weight * value)`` as an aggregation of freewire, its weights, and what is added to it."""
    if not weights:  # neat-python's product of nothing is 1, ours is 0
        return "sum", weights, factor if aggregation == "product" else 0.0
    if aggregation == "product":
        return aggregation, [weights[0] * factor, *weights[1:]], 0.0
    if aggregation == "median":
        if len(weights) > 2:
            raise GraphError(
                f"{path}: expected aggregations that freewire has, got median of {len(weights)} connections at node "
                f"{number}. Of one or two it is read as mean; evolve the network without it."
            )
        aggregation = "mean"
    if factor < 0:
        aggregation = {"max": "min", "min": "max"}.get(aggregation, aggregation)
    return aggregation, [weight * factor for weight in weights], 0.0


# ---------------------------------------------------------------------------------- parts of the document


def _objects(path: str, document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    items = document.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _error(path, f'a list of objects as "{key}"', "something else")
    return items


def _ids(path: str, topology: Any, key: str) -> list[int]:
    numbers = topology.get(key) if isinstance(topology, dict) else None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise _error(path, f'a list of whole numbers as "{key}" of "topology"', shown(numbers))
    return numbers


def _number(path: str, item: dict[str, Any], key: str, what: str) -> float:
    value = item.get(key)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(number := float(value)):
            return number
    except OverflowError:
        pass
    raise _error(path, f'a finite number as "{key}" of {what}', shown(value))


def _function(path: str, item: dict[str, Any], what: str, number: int) -> str:
    function = item.get(what)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _error(path, f'an object with a "name" as "{what}" of node {number}', shown(function))
    if function.get("custom", False) is not False:
        raise GraphError(
            f"{path}: expected functions of neat-python's own, got the custom {what} {shown(function['name'])} at node "
            f"{number}. Evolve the network with those of neat-python."
        )
    return function["name"]


def _refused(path: str, what: str, name: str, number: int, known: Iterable[str]) -> GraphError:
    return GraphError(
        f"{path}: expected {what}s that freewire can compute, {', '.join(known)}, got {shown(name)} at node {number}. "
        "Evolve the network without it."
    )


def _known(path: str, index: NameIndex, item: dict[str, Any], end: str, k: int) -> int:
    number = item.get(end)
    if type(number) is not int or number not in index:
        raise _error(path, f'a node\'s number as "{end}" of connection {k}', shown(number), "Add it to the nodes.")
    return index[number]


def _error(path: str, expected: str, got: str, remedy: str = _REMEDY) -> FileFormatError:
    return FileFormatError(f"{path}: expected {expected}, got {got}. {remedy}")
