# SPDX-License-Identifier: MIT
"""Checking a graph and putting its edges into canonical order, which every constructor of `Graph` ends with.

`canonical` reads a `GraphData` in the caller's order and returns it in canonical order with all defaults filled in, or
raises a `GraphError` that names what is wrong. The compiled planner computes the order. Also here: which nodes paths
reach, and the hash of a wiring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from freewire._native.planner import planner
from freewire.errors import GraphError, shown
from freewire.graph import arguments as read
from freewire.graph.arguments import IntArray
from freewire.graph.data import GraphData
from freewire.graph.delays import filled_delays, order_with_delays, reach_through_cycles
from freewire.graph.field_types import Field
from freewire.graph.fields import ACTIVATION, DELAY, EDGE_FIELDS, LEAK, NODE_FIELDS


class Canonical(NamedTuple):
    """A checked graph.

    Attributes:
        data: Its arrays, edges in canonical order; every field is in ``fields``, None where nothing is stored.
        edge_index: ``data.src`` and ``data.dst`` as the rows of one array, int64 ``[2, E]``.
        edge_position: Where each of the caller's edges is now, int64 ``[E]``.
        level: Number of edges on the longest path that ends at each node, int64 ``[N]``.
    """

    data: GraphData
    edge_index: IntArray
    edge_position: IntArray
    level: IntArray


def canonical(data: GraphData) -> Canonical:
    """Check a graph and sort its edges; no array of ``data`` is kept or changed."""
    names, src, dst, inputs, outputs = data.names, data.src, data.dst, data.inputs, data.outputs
    num_nodes = len(names)
    if not isinstance(names, range) and all(type(name) is int and name == i for i, name in enumerate(names)):
        names = range(num_nodes)  # takes no memory, and no space in files
    src, dst = np.require(src, np.int64, ["C", "A"]), np.require(dst, np.int64, ["C", "A"])
    recurrent = data.recurrent or data.fields.get(DELAY.name) is not None
    in_degree, out_degree = (np.bincount(end, minlength=num_nodes) for end in (dst, src))
    if inputs is None:
        inputs = np.flatnonzero(in_degree == 0)
    if outputs is None:
        outputs = np.flatnonzero(out_degree == 0)
    _check_ends(inputs, outputs, in_degree, names)
    given = dict(data.fields)
    if recurrent:
        given[DELAY.name] = delay = filled_delays(data, inputs)
        level, edge_index, position = order_with_delays(src, dst, delay, num_nodes)
        if edge_index is None or position is None:
            instant = delay == 0
            _refuse_cycle(src[instant], dst[instant], level < 0, names, recurrent)
    else:
        order = planner.order(src, dst, num_nodes)
        level = order["level"]
        if "edge_index" not in order:
            _refuse_cycle(src, dst, level < 0, names, recurrent)
        edge_index, position = order["edge_index"], order["edge_position"]
        if given.get(LEAK.name) is not None:
            raise GraphError(
                "leak: expected none, since the graph is not recurrent, got some. Pass recurrent=True, or remove leak."
            )
    if not len(outputs):
        why = ", since every node feeds another one" if recurrent and num_nodes else ""
        raise GraphError(f"outputs: expected at least one node, got none{why}. Name the nodes whose values you want.")
    edge_fields = {field.name: _sorted(field, given.get(field.name), position) for field in EDGE_FIELDS}
    if recurrent and not len(src):
        edge_fields[DELAY.name] = delay  # which says that it is recurrent
    found = replace(
        data,
        names=names,
        src=edge_index[0],
        dst=edge_index[1],
        inputs=inputs.astype(np.int64),
        outputs=outputs.astype(np.int64),
        fields={**_node_fields(data, inputs, outputs), **edge_fields},
        recurrent=recurrent,
    )
    return Canonical(found, edge_index, position, level)


def _check_ends(inputs: IntArray, outputs: IntArray, in_degree: IntArray, names: Sequence[Hashable]) -> None:
    computed = inputs[in_degree[inputs] > 0]
    if len(computed):
        whose = "in-degree of the first: " if len(computed) > 1 else "in-degree "
        raise GraphError(
            f"inputs: expected nodes without in-edges, got {read.show(computed, names)} "
            f"({whose}{in_degree[computed[0]]}). Remove those edges, or add a separate input node."
        )
    for what, index in (("inputs", inputs), ("outputs", outputs)):
        twice = np.flatnonzero(np.bincount(index) > 1)
        if len(twice):
            raise GraphError(
                f"{what}: expected each node once, got {read.show(twice, names)} more than once. "
                "List it once; copy columns outside the network."
            )


def _refuse_cycle(
    src: IntArray, dst: IntArray, stuck: NDArray[np.bool_], names: Sequence[Hashable], recurrent: bool
) -> NoReturn:
    """Raise, naming one cycle in edge order, given the nodes that no level could be found for."""
    inside = stuck[src] & stuck[dst]
    source_of = np.zeros(len(stuck), np.int64)
    source_of[dst[inside]] = src[inside]  # each stuck node has a stuck source: walking back must close a loop
    seen: dict[int, int] = {}
    node = int(np.flatnonzero(stuck)[0])
    while node not in seen:
        seen[node] = len(seen)
        node = int(source_of[node])
    cycle = list(seen)[seen[node] :][::-1]
    path = [shown(names[i]) for i in cycle[: read.NAMES_SHOWN]]
    if len(cycle) > read.NAMES_SHOWN:
        path.append(f"... ({len(cycle) - read.NAMES_SHOWN} more)")
    cycle_shown = " -> ".join([*path, path[0]])
    if recurrent:
        raise GraphError(
            f"delay: expected an edge of delay 1 or more in every cycle, got {cycle_shown} without one. "
            "Delay one of these edges."
        )
    raise GraphError(
        f"graph: expected no cycle, got {cycle_shown}. "
        "Remove one of these edges, or pass recurrent=True for a network that runs step by step."
    )


def _sorted(field: Field, values: NDArray[Any] | None, position: IntArray) -> NDArray[Any] | None:
    """An edge field in canonical order; None where no edge has a value."""
    if values is None or field.is_missing(values).all():
        return None
    moved = np.empty_like(values)
    moved[position] = values
    return moved


def _node_fields(data: GraphData, inputs: IntArray, outputs: IntArray) -> dict[str, NDArray[Any] | None]:
    """All node fields, with defaults where nodes have no value and nothing of the caller's at inputs."""
    usual, at_output = (
        ACTIVATION.code(name, argument)
        for name, argument in zip(data.default_activation, ("activation", "output_activation"), strict=True)
    )
    found: dict[str, NDArray[Any] | None] = {}
    for field in NODE_FIELDS:
        given = data.fields.get(field.name)
        if field.default is None:
            found[field.name] = None if given is None else _without_inputs(field, given, inputs, data.names)
            continue
        values = np.full(len(data.names), field.default, field.dtype)
        if field is ACTIVATION:
            values[:] = usual
            values[outputs] = at_output
        if given is not None:
            np.copyto(values, given, where=~field.is_missing(given))
        values[inputs] = field.default  # an input is not computed
        found[field.name] = values
    return found


def _without_inputs(
    field: Field, given: NDArray[Any], inputs: IntArray, names: Sequence[Hashable]
) -> NDArray[Any] | None:
    """A copy without the inputs' values, which must be 0 for a parameter; None where no node has a value."""
    refused = inputs[np.nan_to_num(given[inputs]) != 0]
    if len(refused) and field.role == "parameter":
        raise GraphError(
            f"{field.name}: expected 0 at an input, got {given[refused[0]]} at {shown(names[refused[0]])}. "
            f"An input's value is the feature itself: move the {field.name} to a node that reads it."
        )
    values = given.copy()
    values[inputs] = field.missing
    return None if field.is_missing(values).all() else values


def reach(
    edge_index: IntArray, start: IntArray, num_nodes: int, *, backward: bool, recurrent: bool = False
) -> NDArray[np.bool_]:
    """Which nodes paths from ``start`` lead to, or (backward) which nodes have a path to ``start``, bool ``[N]``.

    Args:
        edge_index: Edges in canonical order, int64 ``[2, E]``.
        start: Node indices, int64; these nodes reach themselves.
        num_nodes: ``N``.
        backward: Follow edges against their direction.
        recurrent: Whether there may be cycles.
    """
    search = reach_through_cycles if recurrent else planner.reach
    reached = search(edge_index, start, num_nodes, backward=backward)
    reached.flags.writeable = False
    return reached


def wiring_hash(data: GraphData) -> str:
    """SHA-256 (hex) of a graph in canonical order: sizes, inputs, outputs, edges and the fields of role "wiring"."""
    assert data.inputs is not None and data.outputs is not None  # noqa: PT018 (for the type checker)
    digest = hashlib.sha256(b"freewire wiring 1")  # the version of the layout below
    sizes = np.array([len(data.names), len(data.src), len(data.inputs), len(data.outputs)])
    for array in (sizes, data.inputs, data.outputs, data.src, data.dst):
        digest.update(np.ascontiguousarray(array, "<i8").data)  # no copy where it is so already
    for field, values in data.stored():
        if field.role == "wiring":
            digest.update(np.ascontiguousarray(values, np.dtype(field.dtype).newbyteorder("<")).data)
    return digest.hexdigest()
