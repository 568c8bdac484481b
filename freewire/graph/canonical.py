# SPDX-License-Identifier: MIT
"""A wiring checked, put into canonical order and frozen: where every constructor of `Graph` and the file reader end.

Enters: names, edge arrays in the caller's order, and what nodes and edges carry. Leaves: the attributes of a `Graph`,
or a `GraphError` that names what is wrong, a cycle among it. The order itself is worked out by the compiled planner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire._native.planner import planner
from freewire.errors import GraphError
from freewire.graph import arguments as read
from freewire.graph.arguments import ACTIVATIONS, UNSET, CodeArray, FloatArray, IntArray

if TYPE_CHECKING:
    from freewire.graph.graph import Graph


def canonical(
    names: Sequence[Hashable],
    src: IntArray,
    dst: IntArray,
    *,
    inputs: IntArray | None,
    outputs: IntArray | None,
    default_activation: tuple[str, str] = ("relu", "linear"),
    activation: CodeArray | None = None,
    aggregation: CodeArray | None = None,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    sign: NDArray[np.int8] | None = None,
    frozen: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """The attributes of a `Graph`.

    ``inputs`` and ``outputs`` are node indices; NaN in ``weight`` or ``bias`` means not given, `UNSET` in the
    codes that the defaults hold. Node numbers are in range. Nothing given is kept or changed.
    """
    num_nodes = len(names)
    if not isinstance(names, range) and all(type(name) is int and name == i for i, name in enumerate(names)):
        names = range(num_nodes)  # nothing to keep, and nothing to write to a file
    order = planner.order(np.require(src, np.int64, ["C", "A"]), np.require(dst, np.int64, ["C", "A"]), num_nodes)
    if inputs is None:
        inputs = np.flatnonzero(order["in_degree"] == 0)
    if outputs is None:
        outputs = np.flatnonzero(order["out_degree"] == 0)
    _check_ends(inputs, outputs, order["in_degree"], names)
    if "edge_index" not in order:
        _refuse_cycle(src, dst, order["level"] < 0, names)
    if not len(outputs):
        raise GraphError("outputs: expected at least one node, got none. Name the nodes whose values you want.")
    activations, aggregations = _codes(num_nodes, inputs, outputs, default_activation, activation, aggregation)
    position = order["edge_position"]
    return {
        "_names": names,
        "_input_index": inputs.astype(np.int64),
        "_output_index": outputs.astype(np.int64),
        "_level": order["level"],
        "_edge_index": order["edge_index"],
        "_edge_position": position,
        "_activation": activations,
        "_aggregation": aggregations,
        "_weight": None if weight is None or np.isnan(weight).all() else _moved(weight, position),
        "_bias": _biases(bias, inputs, names),
        "_sign": None if sign is None or not sign.any() else _moved(sign, position),
        "_frozen": None if frozen is None or not frozen.any() else _moved(frozen, position),
    }


def _check_ends(inputs: IntArray, outputs: IntArray, in_degree: IntArray, names: Sequence[Hashable]) -> None:
    heard = inputs[in_degree[inputs] > 0]
    if len(heard):
        raise GraphError(
            f"inputs: expected nodes without in-edges, got {read.show(heard, names)} with "
            f"{in_degree[heard[0]]} in-edge(s) at the first. Remove those edges, or feed a node of its own instead."
        )
    for what, index in (("inputs", inputs), ("outputs", outputs)):
        values, counts = np.unique(index, return_counts=True)
        if len(values) < len(index):
            raise GraphError(
                f"{what}: expected each node once, got {read.show(values[counts > 1], names)} more than once. "
                "Name it once; copy columns outside the network."
            )


def _refuse_cycle(src: IntArray, dst: IntArray, stuck: NDArray[np.bool_], names: Sequence[Hashable]) -> None:
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
    shown = [repr(names[i]) for i in cycle[: read.NAMES_SHOWN]]
    if len(cycle) > read.NAMES_SHOWN:
        shown.append(f"... ({len(cycle) - read.NAMES_SHOWN} more)")
    raise GraphError(
        f"graph: expected no cycle, got {' -> '.join([*shown, repr(names[cycle[0]])])}. "
        "Remove one of these edges, or unroll the loop into steps."
    )


def _codes(
    num_nodes: int,
    inputs: IntArray,
    outputs: IntArray,
    default_activation: tuple[str, str],
    activation: CodeArray | None,
    aggregation: CodeArray | None,
) -> tuple[CodeArray, CodeArray]:
    usual, at_output = (
        read.code(name, ACTIVATIONS, what)
        for name, what in zip(default_activation, ("activation", "output_activation"), strict=True)
    )
    activations = np.full(num_nodes, usual, np.uint8)
    activations[outputs] = at_output
    aggregations = np.zeros(num_nodes, np.uint8)
    for codes, given in ((activations, activation), (aggregations, aggregation)):
        if given is not None:
            np.copyto(codes, given, where=given != UNSET)
        codes[inputs] = 0
    return activations, aggregations


def _biases(bias: FloatArray | None, inputs: IntArray, names: Sequence[Hashable]) -> FloatArray | None:
    if bias is None:
        return None
    at_inputs = np.nan_to_num(bias[inputs])
    if at_inputs.any():
        first = inputs[np.flatnonzero(at_inputs)[0]]
        raise GraphError(
            f"bias: expected 0 at an input, got {bias[first]} at {names[first]!r}. "
            "An input's value is the feature itself: add the bias to a node that reads it."
        )
    bias = bias.copy()
    bias[inputs] = np.nan
    return None if np.isnan(bias).all() else bias


def _moved(column: NDArray[Any], position: IntArray) -> NDArray[Any]:
    """What the caller's i-th edge carries, at the place where that edge now stands."""
    moved = np.empty_like(column)
    moved[position] = column
    return moved


def stored_values(given: ArrayLike | None, length: int, name: str, unit: str) -> FloatArray | None:
    """Weights or biases in canonical order, for `Graph.with_values`."""
    if given is None:
        return None
    array = np.array(given, np.float64)
    if array.shape != (length,):
        raise GraphError(f"{name}: expected {length} values, got shape {list(array.shape)}. Give one {unit}.")
    return array


def reach(graph: Graph, start: IntArray, *, backward: bool) -> NDArray[np.bool_]:
    """Which nodes paths from ``start`` lead to, or (backward) paths to it come from, bool [N]."""
    reached = planner.reach(graph.edge_index, start, graph.num_nodes, backward)
    reached.flags.writeable = False
    return reached


def wiring_hash(graph: Graph) -> str:
    """See `Graph.wiring_hash`."""
    digest = hashlib.sha256(b"freewire wiring 1")  # the layout below, should it ever change
    sizes = np.array([graph.num_nodes, graph.num_edges, len(graph.input_index), len(graph.output_index)])
    for array in (sizes, graph.input_index, graph.output_index, graph.edge_index):
        digest.update(np.ascontiguousarray(array, "<i8").reshape(-1).data)  # no copy where it is so already
    digest.update(graph.activation.data)
    digest.update(graph.aggregation.data)
    return digest.hexdigest()
