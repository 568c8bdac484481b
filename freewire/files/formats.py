# SPDX-License-Identifier: MIT
"""Wirings on disk, in formats that others read and write: GraphML, CSV edge lists, JSON.

Enters: a path, or a `Graph`. Leaves: a `Graph`, or a file from which `read_graph` makes an equal one. A file is data
only and checked as a caller's arguments would be: nothing in it is ever executed. `freewire.nn.serialization` keeps trained networks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable
from typing import Any

import networkx as nx

from freewire.errors import FileFormatError, GraphError
from freewire.files.csv_format import EDGE_COLUMNS, read_csv, write_csv
from freewire.files.graphml import read_graphml
from freewire.files.text import decoded, encodable, replacing, texts
from freewire.graph import Graph
from freewire.graph.networkx_conversion import INPUT_MARK, OUTPUT_MARK, read_networkx

__all__ = ["read_graph", "write_graph"]

_FORMATS = (".graphml", ".csv", ".json")
#: The attributes that mean something to `Graph.from_networkx`.
_KNOWN = {"node": ("activation", "aggregation", "bias", INPUT_MARK, OUTPUT_MARK), "edge": EDGE_COLUMNS}


def read_graph(
    path: str | os.PathLike[str],
    inputs: Iterable[Hashable] | None = None,
    outputs: Iterable[Hashable] | None = None,
    activation: str = "relu",
    output_activation: str = "linear",
) -> Graph:
    r"""Read a wiring from a file that `write_graph` or another program wrote; time is linear in its size.

    - ``.csv``: an edge a line, with a header or without, and a comma, semicolon or tab between cells. With a header
      the ends are the columns source and target (or pre and post, src and dst, from and to, ...), else the first two;
      columns ``weight``, ``sign`` and ``frozen`` are read, and others passed over. Without a header the third column
      is the weight. A line with an empty target declares a node: see `write_graph`. Nodes come in the order of their
      declarations, then integers by size and other names as they first occur; only nodes that occur exist.
    - ``.graphml``: directed, of networkx, Gephi, igraph or yEd; a node's name is its id.
    - ``.json``: networkx's node-link format, with a list "edges" or "links".

    In CSV and GraphML names are integers if all of them are (as Python writes them, of 64 bits), else strings.
    Attributes mean what they do in `Graph.from_networkx`; others are passed over.

    Args:
        path: The file; its ending, in any case, tells the format.
        inputs: As in `Graph.from_networkx`, and so the arguments that follow.
        outputs: Node names.
        activation: Of computed nodes whose own is not in the file.
        output_activation: Of outputs whose own is not in the file.

    Raises:
        FileNotFoundError: No such file.
        FileFormatError: Another ending; a damaged file, and where.
        GraphError: An undirected graph, or as `Graph.from_networkx`: a cycle, an unknown node, a NaN weight.

    Example:
        >>> import freewire as fw, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp(), "wires.csv")
        >>> _ = path.write_text("pre,post,weight\nx,h,0.5\nx,y,-1\nh,y,2\n")
        >>> g = fw.read_graph(path, activation="tanh")
        >>> g.nodes, g.weight.tolist()
        (('x', 'h', 'y'), [0.5, -1.0, 2.0])
    """
    path = os.fsdecode(path)
    ending = _format(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"path: expected a graph file, got {path!r}, which is no file. Check the path.")
    with open(path, "rb") as file:
        if ending == ".csv":
            arguments = read_csv(path, file.read(), inputs, outputs)
        elif ending == ".json":
            arguments = read_networkx(_read_json(path, file.read()), inputs, outputs)
        else:
            arguments = read_networkx(read_graphml(path, file, _KNOWN), inputs, outputs)
    return Graph._build(**arguments, default_activation=(activation, output_activation))


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a wiring with all it stores; an interrupted write leaves any older file whole.

    - ``.csv``: ``source,target`` and ``weight``, ``sign``, ``frozen`` where stored. Where these edges alone would not
      bring the graph back, a line a node goes before them, its target empty, with columns ``activation``,
      ``aggregation``, ``bias``, ``input`` and ``output`` (places in `Graph.inputs` and `Graph.outputs`).
    - ``.graphml`` and ``.json``: what networkx writes of `Graph.to_networkx`, JSON in its node-link format with a list
      "edges". Infinite weights are ``Infinity`` in JSON, as Python's own reader and writer have it.

    Args:
        graph: The wiring. In CSV and GraphML all names must be strings (not all of them integers as text) or all
            integers; in JSON str, int, float, bool or tuples of them.
        path: Where to; its ending, in any case, tells the format.

    Raises:
        FileNotFoundError: No such folder.
        FileFormatError: Another ending.
        GraphError: A node name that would not come back the same.

    Example:
        >>> import freewire as fw, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "mlp.json")
        >>> fw.write_graph(fw.generators.mlp([2, 3, 1]), path)
        >>> fw.read_graph(path)
        Graph(6 nodes, 2 inputs, 1 outputs, 9 edges, depth 2)
    """
    if not isinstance(graph, Graph):
        raise GraphError(
            f"graph: expected a freewire Graph, got {type(graph).__name__}. Use Graph.from_networkx, or fw.save for a "
            "Network."
        )
    ending = _format(os.fsdecode(path))
    if ending == ".json":
        document = _document(graph)
        with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
            file.write(json.dumps(document))  # not json.dump, which is far slower
    else:
        texts(graph.nodes)  # raises before anything is written
        with replacing(path) as partial:
            if ending == ".csv":
                with open(partial, "w", encoding="utf-8", newline="") as file:
                    write_csv(graph, file)
            else:
                nx.write_graphml_xml(graph.to_networkx(), partial)


def _format(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()
    if ending not in _FORMATS:
        raise FileFormatError(f"path: expected a name that ends in {', '.join(_FORMATS)}, got {path!r}. Rename it.")
    return ending


def _document(graph: Graph) -> dict[str, Any]:
    """The node-link form of a graph."""
    G = graph.to_networkx()  # noqa: N806
    names = [encodable(name, GraphError) for name in graph.nodes]
    for name, again in zip(graph.nodes, json.loads(json.dumps(names)), strict=True):
        if decoded(again) != name:  # a NaN, which is not even equal to itself
            raise GraphError(
                f"node names: expected names that equal themselves when read back, got {name!r}. Rename it, for "
                "example with networkx.relabel_nodes."
            )
    text = dict(zip(graph.nodes, names, strict=True))
    edges = [{"source": text[u], "target": text[v], **data} for u, v, data in G.edges(data=True)]
    if G.is_multigraph():
        for edge, (_, _, key) in zip(edges, G.edges(keys=True), strict=True):
            edge["key"] = key
    return {
        "directed": True,
        "multigraph": G.is_multigraph(),
        "graph": {},
        "nodes": [{"id": text[name], **data} for name, data in G.nodes(data=True)],
        "edges": edges,
    }


def _read_json(path: str, data: bytes) -> nx.MultiDiGraph:
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"{path}, line {error.lineno}: expected JSON, got something else ({error.msg}). "
            "The file is damaged or cut short."
        ) from None
    except (ValueError, RecursionError) as error:  # no text, a number of thousands of digits, lists without end
        raise FileFormatError(
            f"{path}: expected JSON, got what cannot be read ({error}). The file is damaged, or no JSON."
        ) from None
    remedy = "Write the graph in networkx's node-link format: networkx.node_link_data."

    def refuse(expected: str, got: str, remedy: str = remedy) -> FileFormatError:
        return FileFormatError(f"{path}: expected {expected}, got {got}. {remedy}")

    found = [key for key in ("nodes", "edges", "links") if isinstance(document, dict) and key in document]
    if len(found) != 2 or found[0] != "nodes":
        raise refuse('an object with "nodes" and either "edges" or "links"', ", ".join(found) or "neither")
    if document.get("directed") is not True:
        given = "false" if document.get("directed") is False else "something else"
        raise GraphError(
            f'{path}: expected a directed graph, got {given if "directed" in document else "none"} as "directed". '
            'Give every edge a direction and write "directed": true.'
        )
    nodes, edges = (document[key] for key in found)
    for key, kind in zip(found, (nodes, edges), strict=True):
        if not isinstance(kind, list) or not all(isinstance(item, dict) for item in kind):
            raise refuse(f'a list of objects as "{key}"', "something else")

    def named(item: dict[str, Any], field: str, what: str, number: int) -> Hashable:
        try:
            return decoded(item[field])
        except (KeyError, ValueError, RecursionError):
            remedy = "Give it a string, a number or a list of those."
            raise refuse(f'a name as "{field}" of {what} {number}', "none", remedy) from None

    def attributes(item: dict[str, Any], kind: str) -> dict[str, Any]:
        return {key: item[key] for key in _KNOWN[kind] if item.get(key) is not None}

    G = nx.MultiDiGraph()  # noqa: N806
    for k, item in enumerate(nodes):
        name = named(item, "id", "node", k)
        if name in G:
            raise refuse("each node once", f"{name!r} again", "Remove one of the two.")
        G.add_node(name, **attributes(item, "node"))
    for k, item in enumerate(edges):
        ends = named(item, "source", "edge", k), named(item, "target", "edge", k)
        for end in ends:
            if end not in G:
                raise refuse("edges between nodes of the file", repr(end), "Add it to the nodes.")
        G.add_edge(*ends, **attributes(item, "edge"))
    return G
