# SPDX-License-Identifier: MIT
"""Graphs in networkx's node-link form as JSON, the format that holds all of a `Graph` and most types of node names."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from typing import IO, Any

import networkx as nx

from freewire.errors import FileFormatError, GraphError
from freewire.files.names import decoded, encodable
from freewire.graph import Graph
from freewire.graph.data import GraphData
from freewire.graph.networkx_conversion import EDGE_ATTRIBUTES, NODE_ATTRIBUTES, read_networkx


def read_json(
    path: str, data: bytes, inputs: Iterable[Hashable] | None, outputs: Iterable[Hashable] | None
) -> GraphData:
    """Read a file's bytes; see `freewire.files.read_graph`. ``path`` is named in errors."""
    document = _parse(path, data)
    found = [key for key in ("nodes", "edges", "links") if isinstance(document, dict) and key in document]
    if len(found) != 2 or found[0] != "nodes":
        raise _error(path, 'an object with "nodes" and either "edges" or "links"', ", ".join(found) or "neither")
    if document.get("directed") is not True:
        given = "false" if document.get("directed") is False else "something else"
        raise GraphError(
            f'{path}: expected a directed graph, got {given if "directed" in document else "none"} as "directed". '
            'Give every edge a direction and write "directed": true.'
        )
    for key in found:
        if not isinstance(document[key], list) or not all(isinstance(item, dict) for item in document[key]):
            raise _error(path, f'a list of objects as "{key}"', "something else")
    nodes, edges = (document[key] for key in found)

    def named(item: dict[str, Any], field: str, what: str, number: int) -> Hashable:
        try:
            return decoded(item[field])
        except (KeyError, ValueError, RecursionError):
            remedy = "Give it a string, a number or a list of those."
            raise _error(path, f'a name as "{field}" of {what} {number}', "none", remedy) from None

    G = nx.MultiDiGraph()  # noqa: N806
    for k, item in enumerate(nodes):
        name = named(item, "id", "node", k)
        if name in G:
            raise _error(path, "each node once", f"{name!r} twice", "Remove one of the two.")
        G.add_node(name, **_known(item, NODE_ATTRIBUTES))
    for k, item in enumerate(edges):
        ends = named(item, "source", "edge", k), named(item, "target", "edge", k)
        for end in ends:
            if end not in G:
                raise _error(path, "edges between nodes of the file", repr(end), "Add it to the nodes.")
        G.add_edge(*ends, **_known(item, EDGE_ATTRIBUTES))
    return read_networkx(G, inputs, outputs)


def write_json(graph: Graph, file: IO[bytes]) -> None:
    """Write a graph; GraphError for node names that a reader would not restore."""
    G = graph.to_networkx()  # noqa: N806
    names = [encodable(name, GraphError) for name in graph.nodes]
    for name, again in zip(graph.nodes, json.loads(json.dumps(names)), strict=True):
        if decoded(again) != name:  # a NaN, which does not even equal itself
            raise GraphError(
                f"node names: expected names that are equal when read back, got {name!r}. Rename it, for "
                "example with networkx.relabel_nodes."
            )
    text = dict(zip(graph.nodes, names, strict=True))
    edges = [{"source": text[u], "target": text[v], **data} for u, v, data in G.edges(data=True)]
    if G.is_multigraph():
        for edge, (_, _, key) in zip(edges, G.edges(keys=True), strict=True):
            edge["key"] = key
    document = {
        "directed": True,
        "multigraph": G.is_multigraph(),
        "graph": {},
        "nodes": [{"id": text[name], **data} for name, data in G.nodes(data=True)],
        "edges": edges,
    }
    file.write(json.dumps(document).encode())  # json.dump is far slower


def _parse(path: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"{path}, line {error.lineno}: expected JSON, got something else ({error.msg}). "
            "The file is damaged or cut short."
        ) from None
    except (ValueError, RecursionError) as error:  # not text, a number of thousands of digits, endless lists
        raise FileFormatError(
            f"{path}: expected JSON, got something that cannot be read ({error}). The file is damaged, or not JSON."
        ) from None


def _error(
    path: str,
    expected: str,
    got: str,
    remedy: str = "Write the graph in networkx's node-link format: networkx.node_link_data.",
) -> FileFormatError:
    return FileFormatError(f"{path}: expected {expected}, got {got}. {remedy}")


def _known(item: dict[str, Any], attributes: Iterable[str]) -> dict[str, Any]:
    return {key: item[key] for key in attributes if item.get(key) is not None}
