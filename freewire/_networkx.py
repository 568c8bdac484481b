# SPDX-License-Identifier: MIT
"""Graphs from and to networkx: the attributes of its nodes and edges as arrays, and back.

Enters: a networkx graph, or a `Graph`. Leaves: what `Graph._build` takes, or a networkx graph. Time is linear in both.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from freewire import _arguments as read
from freewire._arguments import ACTIVATIONS, AGGREGATIONS, UNSET
from freewire.errors import GraphError

if TYPE_CHECKING:
    from freewire._arguments import FloatArray
    from freewire.graph import Graph


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
    inputs = G.graph.get("inputs") if inputs is None else inputs
    outputs = G.graph.get("outputs") if outputs is None else outputs
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
            frozen[i] = bool(data["frozen"])

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


def write_networkx(
    graph: Graph, gradients: tuple[FloatArray, FloatArray | None] | None = None
) -> nx.DiGraph | nx.MultiDiGraph:
    """See `Graph.to_networkx`; ``gradients`` of edges [E] and nodes [N] become the attribute ``grad``, NaN left out."""
    names, (src, dst) = graph.nodes, graph.edge_index
    pairs = np.unique(src * graph.num_nodes + dst)
    G = nx.DiGraph() if len(pairs) == graph.num_edges else nx.MultiDiGraph()  # noqa: N806
    G.graph.update(inputs=list(graph.inputs), outputs=list(graph.outputs))
    edge_grad, node_grad = (None, None) if gradients is None else gradients

    known: Mapping[str, Any] = {"bias": graph.bias, "grad": node_grad}
    nodes = {name: array.tolist() for name, array in known.items() if array is not None}
    G.add_nodes_from(names)
    for i in graph.computed_index.tolist():
        G.nodes[names[i]].update(
            activation=ACTIVATIONS[graph.activation[i]],
            aggregation=AGGREGATIONS[graph.aggregation[i]],
            **{name: values[i] for name, values in nodes.items() if values[i] == values[i]},
        )

    known = {"weight": graph.weight, "grad": edge_grad}
    edges = {name: array.tolist() for name, array in known.items() if array is not None}
    # Reserved attributes: 0 and False say the same as nothing.
    for name, array in (("sign", graph.sign), ("frozen", graph.frozen)):
        if array is not None:
            edges[name] = [value or float("nan") for value in array.tolist()]
    for e, (u, v) in enumerate(zip(src.tolist(), dst.tolist(), strict=True)):
        data = {name: values[e] for name, values in edges.items() if values[e] == values[e]}
        G.add_edge(names[u], names[v], **data)
    return G
