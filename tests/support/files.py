# SPDX-License-Identifier: MIT
"""Graph files in tests: writing and reading them, and drawing graphs with everything that they can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from hypothesis import strategies as st

import freewire as fw
from freewire.graph.data import GraphData
from freewire.graph.fields import EDGE_FIELDS
from tests.support.graphs import graphs

_NUMBERS = st.integers(-(2**63), 2**63 - 1)
#: None of them looks like an integer.
_TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8).map(lambda s: s + "\u20ac,")
#: Values of fields as arrays hold them, missing ones included.
_VALUES = {
    "weight": st.floats(allow_nan=True),
    "sign": st.sampled_from((-1, 0, 1)),
    "frozen": st.booleans(),
    "delay": st.integers(0, 65535),
    "leak": st.floats(0, 1, exclude_min=True),
    "group": st.integers(-1, 2**53 - 1),
    "bias": st.floats(allow_nan=True),
}


def again(g: fw.Graph, path: Path) -> fw.Graph:
    """The graph that a written file holds."""
    fw.write_graph(g, path)
    return fw.read_graph(path)


def text_of(g: fw.Graph, path: Path) -> str:
    """The text that is written for a graph."""
    fw.write_graph(g, path)
    return path.read_text(encoding="utf-8")


def read_text(path: Path, content: str | bytes, **options: Any) -> fw.Graph:
    """The graph that a file of this content holds."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return fw.read_graph(path, **options)


def edge_list(g: fw.Graph) -> fw.Graph:
    """A graph of the edges of ``g`` alone, which CSV can hold."""
    _, ends = np.unique(g.edge_index, return_inverse=True)
    return fw.Graph.from_edges(*ends.reshape(2, -1))


def _values(draw: st.DrawFn, name: str, length: int) -> list[Any] | None:
    """Values for all elements, or None."""
    return draw(st.none() | st.lists(_VALUES[name], min_size=length, max_size=length))


@st.composite
def stored_graphs(draw: st.DrawFn) -> fw.Graph:
    """Draw any graph, with any numbers, constraints and delays stored, and names that all formats can hold."""
    g = draw(graphs())
    fields = {name: _values(draw, name, g.num_edges) for name in ("weight", "sign", "frozen", "group", "delay")}
    nodes = {"bias": _values(draw, "bias", g.num_nodes)}
    if fields["delay"]:
        nodes["leak"] = _values(draw, "leak", g.num_nodes)
    G = g.with_values().to_networkx()
    for e, (_, _, data) in enumerate(G.edges(data=True)):
        data |= {name: values[e] for name, values in fields.items() if values and values[e] == values[e]}
    for i, (node, data) in enumerate(G.nodes(data=True)):
        if node not in g.inputs:
            data |= {name: values[i] for name, values in nodes.items() if values and values[i] == values[i]}
    kind = draw(st.sampled_from((_NUMBERS, _TEXTS, None)))
    if kind is None:
        return fw.Graph.from_networkx(G)
    names = draw(st.lists(kind, unique=True, min_size=g.num_nodes, max_size=g.num_nodes))
    return fw.Graph.from_networkx(nx.relabel_nodes(G, dict(zip(list(G), names, strict=True))))


@st.composite
def edge_lists(draw: st.DrawFn) -> fw.Graph:
    """Draw a graph that CSV can hold, of any edges, names and stored values."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=20))
    ends = [(min(a, b), max(a, b) + 1) for a, b in pairs]  # acyclic
    nodes = list(dict.fromkeys(node for pair in ends for node in pair))  # by first occurrence
    kind = draw(st.sampled_from((_NUMBERS, _TEXTS, None)))
    if kind is not _TEXTS:
        nodes = draw(st.permutations(nodes))
    names = range(len(nodes))
    if kind is not None:
        names = draw(st.lists(kind, unique=True, min_size=len(nodes), max_size=len(nodes)))
        names = tuple(sorted(names) if kind is _NUMBERS else names)
    src, dst = np.array([[nodes.index(node) for node in pair] for pair in ends], np.int64).T
    stored = {field: _values(draw, field.name, len(ends)) for field in EDGE_FIELDS}
    fields = {field.name: np.array(values, field.dtype) for field, values in stored.items() if values is not None}
    return fw.Graph.from_data(GraphData(names, src, dst, fields=fields))
