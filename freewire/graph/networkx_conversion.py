# SPDX-License-Identifier: MIT
"""Graphs from and to networkx: the attributes of its nodes and edges as arrays, and back.

Enters: a networkx graph, or a `Graph`. Leaves: what `Graph._build` takes, or a networkx graph. Time is linear in both.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from freewire.errors import GraphError
from freewire.graph import arguments as read
from freewire.graph.arguments import ACTIVATIONS, AGGREGATIONS, UNSET

if TYPE_CHECKING:
    from freewire.graph.arguments import FloatArray
    from freewire.graph.graph import Graph


#: Node attributes that hold a node's place among the inputs and outputs; names that nobody's data has by chance.
INPUT_MARK, OUTPUT_MARK = "freewire_input", "freewire_output"


def check_dag(dag: Any) -> None:
    """Raise `GraphError` unless it is a directed graph of at least one node; a cycle is found later, with its nodes."""
    if not isinstance(dag, nx.Graph) or not dag.is_directed():
        raise GraphError(
            f"dag: expected a networkx DiGraph or MultiDiGraph, got {type(dag).__name__}. "
            "Give every edge a direction first, say from the smaller to the larger node."
        )
    if not len(dag):
        raise GraphError("dag: expected at least one node, got none. Add nodes.")


def read_networkx(
    G: Any,  # noqa: N803 (networkx's own name for it)
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
) -> dict[str, Any]:
    """The arguments of `Graph._build` but the default activations; see `Graph.from_networkx`."""
    if not isinstance(G, nx.Graph) or not G.is_directed():
        raise GraphError(
            f"G: expected a networkx DiGraph or MultiDiGraph, got {type(G).__name__}. "
            "Give every edge a direction first."
        )
    names = tuple(G.nodes)
    index = {name: i for i, name in enumerate(names)}
    inputs = _marked(G, INPUT_MARK) if inputs is None else inputs
    outputs = _marked(G, OUTPUT_MARK) if outputs is None else outputs
    if inputs is None:
        inputs = [name for name, degree in G.in_degree if degree == 0]
    input_index = read.lookup(inputs, names, index, "inputs")
    computed = np.ones(len(names), np.bool_)
    computed[input_index] = False

    codes = np.full((2, len(names)), UNSET, np.uint8)
    bias = np.full(len(names), np.nan)
    for i, (name, data) in enumerate(G.nodes(data=True)):
        if computed[i] and "activation" in data:
            codes[0, i] = read.code(data["activation"], ACTIVATIONS, f"activation of node {name!r}")
        if computed[i] and "aggregation" in data:
            codes[1, i] = read.code(data["aggregation"], AGGREGATIONS, f"aggregation of node {name!r}")
        if "bias" in data:
            bias[i] = read.number(data["bias"], f"bias of node {name!r}")

    edges = list(G.edges(data=True))
    src = np.fromiter((index[u] for u, _, _ in edges), np.int64, len(edges))
    dst = np.fromiter((index[v] for _, v, _ in edges), np.int64, len(edges))
    weight = np.full(len(edges), np.nan)
    sign = np.zeros(len(edges), np.int8)
    frozen = np.zeros(len(edges), np.bool_)
    for i, (u, v, data) in enumerate(edges):
        if "weight" in data:
            weight[i] = read.number(data["weight"], f"weight of edge {u!r} -> {v!r}")
        if "sign" in data:
            sign[i] = read.sign(data["sign"], f"sign of edge {u!r} -> {v!r}")
        if "frozen" in data:
            frozen[i] = read.flag(data["frozen"], f"frozen of edge {u!r} -> {v!r}")

    return dict(
        names=names,
        src=src,
        dst=dst,
        inputs=input_index,
        outputs=None if outputs is None else read.lookup(outputs, names, index, "outputs"),
        activation=codes[0],
        aggregation=codes[1],
        weight=weight,
        bias=bias,
        sign=sign,
        frozen=frozen,
    )


def _marked(G: Any, mark: str) -> list[Hashable] | None:  # noqa: N803
    """Nodes by their attribute ``mark``, False meaning no; None where no node has the attribute at all."""
    marked = [(value, name) for name, value in G.nodes(data=mark) if value is not None]
    if not marked:
        return None
    found = [(value, name) for value, name in marked if value is not False]
    for value, name in found:
        if not isinstance(value, int | float | np.number):
            raise GraphError(
                f"{mark} of node {name!r}: expected a number, the place among the others, got {value!r}. "
                "Correct it, or remove the attribute and pass inputs= and outputs=."
            )
    return [name for _, name in sorted(found, key=lambda item: item[0])]


def write_networkx(
    graph: Graph, learnt: Mapping[str, tuple[FloatArray | None, FloatArray | None]] | None = None
) -> nx.DiGraph | nx.MultiDiGraph:
    """See `Graph.to_networkx`.

    Args:
        graph: The wiring; its stored weights and biases are written where given.
        learnt: Written instead of those, whole (NaN too): ``"values"`` and perhaps ``"grad"``, each the edges' [E] and
            the nodes' [N] or None.
    """
    names, (src, dst) = graph.nodes, graph.edge_index
    pairs = np.unique(src * graph.num_nodes + dst)
    G = nx.DiGraph() if len(pairs) == graph.num_edges else nx.MultiDiGraph()  # noqa: N806

    def column(array: Any, whole: bool) -> list[Any]:
        return array.tolist() if whole else [None if value != value else value for value in array.tolist()]

    whole = learnt is not None
    values = (graph.weight, graph.bias) if learnt is None else learnt["values"]
    gradients = (None, None) if learnt is None else learnt.get("grad", (None, None))
    columns = [
        {name: column(pair[k], whole) for name, pair in ((value, values), ("grad", gradients)) if pair[k] is not None}
        for k, value in enumerate(("weight", "bias"))
    ]
    edges, nodes = columns
    for name, array in (("sign", graph.sign), ("frozen", graph.frozen)):
        if array is not None:
            edges[name] = [value or None for value in array.tolist()]

    G.add_nodes_from(names)
    for mark, ends in ((INPUT_MARK, graph.inputs), (OUTPUT_MARK, graph.outputs)):
        for place, end in enumerate(ends):
            G.nodes[end][mark] = place
    if not graph.inputs:  # or the nodes that hear nothing would become inputs
        nx.set_node_attributes(G, False, INPUT_MARK)
    for i in graph.computed_index.tolist():
        G.nodes[names[i]].update(
            activation=ACTIVATIONS[graph.activation[i]],
            aggregation=AGGREGATIONS[graph.aggregation[i]],
            **{name: given[i] for name, given in nodes.items() if given[i] is not None},
        )
    for e, (u, v) in enumerate(zip(src.tolist(), dst.tolist(), strict=True)):
        G.add_edge(names[u], names[v], **{name: given[e] for name, given in edges.items() if given[e] is not None})
    return G
