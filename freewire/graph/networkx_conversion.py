# SPDX-License-Identifier: MIT
"""Graphs from and to networkx, whose attributes of nodes and edges become arrays and back; time is linear in both.

`write_networkx` marks every node: inputs and outputs with their position, all nodes with whether they are hidden. So
`read_networkx` can tell a node that was added to such a graph since from one that was a constant or dead before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError, cut, shown
from freewire.graph import arguments as read
from freewire.graph.arguments import FloatArray, IntArray
from freewire.graph.data import GraphData
from freewire.graph.field_types import Field
from freewire.graph.fields import EDGE_FIELDS, NODE_FIELDS, UNDIRECTED, is_undirected

#: Node attributes that hold a node's position among the inputs and outputs; nobody's data has these names by chance.
INPUT_MARK, OUTPUT_MARK = "freewire_input", "freewire_output"
#: Node attribute of all nodes of an exported graph: whether a node is neither input nor output.
HIDDEN_MARK = "freewire_hidden"
#: The attributes that `read_networkx` reads.
NODE_ATTRIBUTES = (*(field.name for field in NODE_FIELDS), INPUT_MARK, OUTPUT_MARK, HIDDEN_MARK)
EDGE_ATTRIBUTES = (*(field.name for field in EDGE_FIELDS), *UNDIRECTED)


def check_directed(G: Any, argument: str, remedy: str) -> None:  # noqa: N803 (networkx's own name for it)
    """Raise `GraphError` unless it is a directed networkx graph."""
    if not isinstance(G, nx.Graph) or not G.is_directed():
        raise GraphError(f"{argument}: expected a networkx DiGraph or MultiDiGraph, got {type(G).__name__}. {remedy}")


def check_dag(dag: Any) -> None:
    """Raise `GraphError` unless it is a directed graph of at least one node; cycles are found and named later."""
    check_directed(dag, "dag", "Give every edge a direction first, say from the smaller to the larger node.")
    if not len(dag):
        raise GraphError("dag: expected at least one node, got none. Add nodes.")


def read_networkx(
    G: Any,  # noqa: N803
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
    default_activation: tuple[str, str] = ("relu", "linear"),
) -> GraphData:
    """Read a networkx graph; see `Graph.from_networkx`."""
    check_directed(G, "G", "Give every edge a direction first.")
    names = tuple(G.nodes)
    index = {name: i for i, name in enumerate(names)}
    edges = list(G.edges(data=True))
    return read_attributes(
        names,
        index,
        np.fromiter((index[u] for u, _, _ in edges), np.int64, len(edges)),
        np.fromiter((index[v] for _, v, _ in edges), np.int64, len(edges)),
        [data for _, data in G.nodes(data=True)],
        [data for _, _, data in edges],
        inputs,
        outputs,
        default_activation,
    )


def read_attributes(
    names: Sequence[Hashable],
    index: Mapping[Hashable, int],
    src: IntArray,
    dst: IntArray,
    nodes: Sequence[Mapping[str, Any]],
    edges: Sequence[Mapping[str, Any]],
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
    default_activation: tuple[str, str] = ("relu", "linear"),
) -> GraphData:
    """Read nodes and edges that carry networkx's attributes.

    Args:
        names: Node names ``[N]``.
        index: Index of each name.
        src: Index of each edge's source, int64 ``[E]``.
        dst: Index of each edge's destination, int64 ``[E]``.
        nodes: Attributes of each node.
        edges: Attributes of each edge.
        inputs: As in `Graph.from_networkx`, like all arguments below.
        outputs: Node names.
        default_activation: ``activation`` and ``output_activation``.
    """

    def show_edge(e: int) -> str:
        return f"edge {shown(names[src[e]])} -> {shown(names[dst[e]])}"

    def show_node(i: int) -> str:
        return f"node {shown(names[i])}"

    _check_case(nodes, NODE_ATTRIBUTES, show_node)
    edge_names = _check_case(edges, tuple(field.name for field in EDGE_FIELDS), show_edge)
    _check_edges_directed(edges, edge_names, show_edge)
    _check_hidden(nodes, show_node)
    in_degree, out_degree = (np.bincount(end, minlength=len(names)) for end in (dst, src))

    def ends(given: Iterable[Hashable] | None, mark: str, degree: IntArray, what: str) -> IntArray | None:
        return _marked(nodes, names, mark, degree) if given is None else read.lookup(given, names, index, what)

    input_index = ends(inputs, INPUT_MARK, in_degree, "inputs")
    if input_index is None:
        input_index = np.flatnonzero(in_degree == 0)
    computed: list[Mapping[str, Any]] = list(nodes)
    for i in input_index.tolist():
        computed[i] = {}
    return GraphData(
        names=names,
        src=src,
        dst=dst,
        inputs=input_index,
        outputs=ends(outputs, OUTPUT_MARK, out_degree, "outputs"),
        fields={
            **{field.name: _attributes(field, edges, show_edge) for field in EDGE_FIELDS},
            **{
                field.name: _attributes(field, computed if field.role == "wiring" else nodes, show_node)
                for field in NODE_FIELDS
            },
        },
        default_activation=default_activation,
    )


def _check_case(
    elements: Sequence[Mapping[str, Any]], known: Sequence[str], show_element: Callable[[int], str]
) -> set[Any]:
    """Refuse attributes that would be read if they were in lower case, and return the names of all attributes."""
    names = {*chain.from_iterable(elements)}
    near = sorted(n for n in names if isinstance(n, str) and n not in known and n.casefold() in known)
    if near:
        i = next(i for i, data in enumerate(elements) if near[0] in data)
        meant = near[0].casefold()
        raise GraphError(
            f"{meant} of {show_element(i)}: expected an attribute {shown(meant)}, got {shown(near[0])}. Rename it, in "
            "lower case if it is meant, since upper and lower case differ here."
        )
    return names


def _check_edges_directed(
    edges: Sequence[Mapping[str, Any]], names: Iterable[Any], show_element: Callable[[int], str]
) -> None:
    """Refuse edges with an attribute of another program, one of ``names``, that says that they have no direction."""
    for name in sorted(n for n in names if isinstance(n, str) and n.lower() in UNDIRECTED):
        for e, data in enumerate(edges):
            if name in data and is_undirected(name, data[name]):
                raise GraphError(
                    f"{cut(name, 80)} of {show_element(e)}: expected a directed edge, got {shown(data[name])}. Give "
                    "each edge one direction, or remove the attribute if it means something else."
                )


def _check_hidden(nodes: Sequence[Mapping[str, Any]], show_element: Callable[[int], str]) -> None:
    """Refuse marks of hidden nodes that are not booleans."""
    for i, data in enumerate(nodes):
        value = data.get(HIDDEN_MARK)
        if not (value is None or isinstance(value, bool | np.bool_) or read.whole(value) in (0, 1)):
            raise GraphError(
                f"{HIDDEN_MARK} of {show_element(i)}: expected true or false, got {shown(value)}. Correct it or omit "
                "the attribute."
            )


def _attributes(
    field: Field, elements: Sequence[Mapping[str, Any]], show_element: Callable[[int], str]
) -> NDArray[Any] | None:
    """One field of all edges or nodes; None where none has it."""
    values = None
    for i, data in enumerate(elements):
        if field.name in data:
            if values is None:
                values = field.empty(len(elements))
            try:
                values[i] = field.parse(data[field.name])
            except (ValueError, TypeError, OverflowError):
                raise GraphError(
                    f"{field.name} of {show_element(i)}: expected {field.expected}, got {shown(data[field.name])}. "
                    "Correct it or omit the attribute."
                ) from None
    return values


def _marked(
    nodes: Sequence[Mapping[str, Any]], names: Sequence[Hashable], mark: str, degree: IntArray
) -> IntArray | None:
    """Nodes in the order of their attribute ``mark``, without those of False; None where no node has the attribute.

    Args:
        nodes: Attributes of each node.
        names: Name of each node.
        mark: `INPUT_MARK` or `OUTPUT_MARK`.
        degree: In-degree of each node, or out-degree; at 0 a node without marks would be an input, or an output.
    """
    values = [data.get(mark) for data in nodes]
    if all(value is None for value in values):
        return None
    found = [
        (value, i)
        for i, value in enumerate(value.item() if isinstance(value, np.generic) else value for value in values)
        if value is not None and value is not False
    ]
    for value, i in found:
        if not isinstance(value, int | float) or value != value:
            raise GraphError(
                f"{mark} of node {shown(names[i])}: expected its position, a number, got {shown(value)}. "
                "Correct it, or remove the attribute and pass inputs= and outputs=."
            )
    # Not in a dictionary: a file could choose positions that collide there, which would take quadratic time.
    ranked = sorted(found, key=lambda item: item[0])
    if not all(value is True for value, _ in found):
        twice = [(j, i, value) for (value, i), (following, j) in pairwise(ranked) if value == following]
        if twice:
            j, i, value = min(twice)
            raise GraphError(
                f"{mark}: expected a position for each node, got {shown(value)} at {shown(names[i])} and "
                f"{shown(names[j])}. Pass inputs= and outputs=, or combine graphs with Graph.union."
            )
    _check_added(nodes, names, mark, degree)
    if mark == INPUT_MARK and (fed := [i for _, i in found if degree[i]]):
        raise GraphError(
            f"{mark}: expected nodes without in-edges, got {shown(names[fed[0]])} (in-degree {degree[fed[0]]}). Remove "
            "those edges, or pass inputs= and outputs=."
        )
    return np.array([i for _, i in ranked], np.int64)


def _check_added(nodes: Sequence[Mapping[str, Any]], names: Sequence[Hashable], mark: str, degree: IntArray) -> None:
    """Refuse nodes that look like inputs (outputs) and were added to a graph whose inputs (outputs) are marked."""
    known: tuple[str, ...] = (INPUT_MARK, OUTPUT_MARK, HIDDEN_MARK)
    if all(data.get(HIDDEN_MARK) is None for data in nodes):
        # Marked by hand, or exported by an early version, whose computed nodes had an activation at least.
        known += tuple(field.name for field in NODE_FIELDS)
    ends = np.flatnonzero(degree == 0).tolist()
    added = [i for i in ends if all(nodes[i].get(attribute) is None for attribute in known)]
    if added:
        whats, edges = ("inputs", "in-edges") if mark == INPUT_MARK else ("outputs", "out-edges")
        raise GraphError(
            f"{mark}: expected a mark at every node without {edges}, since the graph marks its {whats}, got "
            f"none at {read.show(np.array(added), names)}. Set it to the node's position, or to False for a node that "
            f"is not one of the {whats}; or pass {whats}=."
        )


#: The fields that ``learnt`` replaces, in the order of its pairs.
_LEARNT = (("edge", "weight"), ("node", "bias"))


def write_networkx(
    data: GraphData, learnt: Mapping[str, tuple[FloatArray | None, FloatArray | None]] | None = None
) -> nx.DiGraph | nx.MultiDiGraph:
    """Make a networkx graph; see `Graph.to_networkx`.

    Args:
        data: A graph in canonical order, of `Graph.to_data`.
        learnt: Arrays to write, NaN included, in place of the stored weights and biases: ``"values"`` and perhaps
            ``"grad"``, each a pair of the edges' ``[E]`` and the nodes' ``[N]``, either of them None.
    """
    assert data.inputs is not None and data.outputs is not None  # noqa: PT018 (for the type checker)
    names = data.names
    columns: dict[str, dict[str, list[Any]]] = {"edge": {}, "node": {}}
    for field, values in data.stored():
        if learnt is None or (field.element, field.name) not in _LEARNT:
            columns[field.element][field.name] = field.to_list(values)
    for kind, pair in ({} if learnt is None else learnt).items():
        for (element, name), found in zip(_LEARNT, pair, strict=True):
            if found is not None:
                columns[element]["grad" if kind == "grad" else name] = found.tolist()

    def attributes(element: str, i: int) -> dict[str, Any]:
        return {name: column[i] for name, column in columns[element].items() if column[i] is not None}

    pairs = np.unique(data.src * len(names) + data.dst)
    G = nx.DiGraph() if len(pairs) == len(data.src) else nx.MultiDiGraph()  # noqa: N806
    G.add_nodes_from(names)
    inputs, outputs = data.inputs.tolist(), data.outputs.tolist()
    for mark, ends in ((INPUT_MARK, inputs), (OUTPUT_MARK, outputs)):
        for place, end in enumerate(ends):
            G.nodes[names[end]][mark] = place
    if not inputs:  # or the nodes without in-edges would become inputs
        nx.set_node_attributes(G, False, INPUT_MARK)
    is_input, is_end = set(inputs), {*inputs, *outputs}
    for i, node in enumerate(names):
        G.nodes[node][HIDDEN_MARK] = i not in is_end
        if i not in is_input:
            G.nodes[node].update(attributes("node", i))
    for e, (u, v) in enumerate(zip(data.src.tolist(), data.dst.tolist(), strict=True)):
        G.add_edge(names[u], names[v], **attributes("edge", e))
    return G
