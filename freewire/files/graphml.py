# SPDX-License-Identifier: MIT
"""Graphs in GraphML, as networkx, Gephi, igraph and yEd write it.

networkx writes; reading is our own pass over the file, because networkx's reader (3.6) loses things without an error:
it merges parallel edges of one id (Gephi's) and repeated nodes, adds nodes that the file does not have, does not apply
``<default>`` values, drops all graphs of a file but the first, and has no line numbers. It also fails on attributes
that do not matter here. A DOCTYPE is refused as soon as the parser meets it, since only there can a file define
entities, which expansion bombs and references to other files need.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import IO, Any, NoReturn
from xml.parsers import expat

import networkx as nx

from freewire.errors import FileFormatError, FreewireError, GraphError
from freewire.files.names import integers, texts
from freewire.graph import Graph
from freewire.graph.data import GraphData
from freewire.graph.networkx_conversion import EDGE_ATTRIBUTES, NODE_ATTRIBUTES, read_networkx

_NAMESPACES = ("", "http://graphml.graphdrawing.org/xmlns")
_TYPES: dict[str, Any] = {
    "boolean": lambda text: {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()],
    **dict.fromkeys(("int", "integer", "long"), int),
    **dict.fromkeys(("float", "double"), float),
}


def read_graphml(
    path: str, data: bytes, inputs: Iterable[Hashable] | None, outputs: Iterable[Hashable] | None
) -> GraphData:
    """Read a file's bytes, which must hold one directed graph without hyperedges; see `freewire.files.read_graph`."""
    reader = _Reader(path)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FileFormatError(
            f"{path}, line {error.lineno}: expected XML, got something else ({expat.ErrorString(error.code)}). "
            "The file is damaged or cut short."
        ) from None
    except FreewireError:
        raise
    except (LookupError, ValueError) as error:
        raise FileFormatError(
            f"{path}: expected XML in an encoding known to Python, got another ({error}). Save the file as UTF-8."
        ) from None
    return read_networkx(reader.graph(), inputs, outputs)


def write_graphml(graph: Graph, file: IO[bytes]) -> None:
    """Write a graph; GraphError for node names that a reader would not restore."""
    texts(graph.nodes)
    nx.write_graphml_xml(graph.to_networkx(), file)


class _Reader:
    """The parser's handlers, called element by element."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.known = {"node": NODE_ATTRIBUTES, "edge": EDGE_ATTRIBUTES}  # other attributes are not even converted
        self.keys: dict[str, tuple[str, str, str]] = {}  # id -> (node, edge or all; attribute; type)
        self.defaults: dict[str, dict[str, Any]] = {"node": {}, "edge": {}}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: list[tuple[int, str, str, dict[str, Any]]] = []  # with the line of each
        self.open: list[str] = []
        self.graphs = 0
        self.item: tuple[str, dict[str, Any]] | None = None  # the node or edge that is open
        self.key: tuple[str, str, str] | None = None  # of the <data> or <default> that is open
        self.text: list[str] = []
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text.append

    def refuse(self, expected: str, got: str, remedy: str, line: int = 0, error: Any = FileFormatError) -> NoReturn:
        line = line or self.parser.CurrentLineNumber
        raise error(f"{self.path}, line {line}: expected {expected}, got {got}. {remedy}")

    def doctype(self, *_: Any) -> None:
        self.refuse("XML without a document type", "a DOCTYPE", "Remove that declaration; GraphML needs none.")

    def start(self, tag: str, given: dict[str, str]) -> None:
        space, _, tag = tag.rpartition(" ")
        tag = tag if space in _NAMESPACES else "foreign"
        if not self.open and tag != "graphml":
            self.refuse("GraphML", f"XML of <{tag}>", "Export the graph as GraphML.")
        self.open.append(tag)
        self.text.clear()
        match tag:
            case "node":
                self.start_node(given)
            case "edge":
                self.start_edge(given)
            case "data" if self.item is not None and self.open[-2] in ("node", "edge"):
                key = self.keys.get(self.required(given, "key"))
                if key is None:
                    self.refuse("data with a declared key", repr(given["key"]), "Declare it with a <key> first.")
                self.key = key if key[1] in self.known[self.item[0]] else None
            case "key":
                name = given.get("attr.name", "")
                self.keys[self.required(given, "id")] = (
                    given.get("for", "all"),
                    name,
                    given.get("attr.type", "string"),
                )
            case "default" if self.open[-2] == "key":
                self.key = next(reversed(self.keys.values()))
            case "graph":
                self.start_graph(given)
            case "hyperedge":
                self.refuse("edges from one node to another", "a hyperedge", "Replace it with edges.")

    def required(self, given: dict[str, str], name: str) -> str:
        if name not in given:
            self.refuse(f"<{self.open[-1]}> with an attribute {name}", "none", "The file is damaged: export it again.")
        return given[name]

    def start_graph(self, given: dict[str, str]) -> None:
        self.graphs += 1
        if self.graphs > 1:
            self.refuse("one graph", "another one inside or after it", "Export one graph, without groups.")
        if given.get("edgedefault") != "directed":
            found = given.get("edgedefault", "none")
            remedy = 'Export it as directed, or give each edge its direction and write edgedefault="directed".'
            self.refuse("a directed graph", f"edgedefault {found!r}", remedy, error=GraphError)

    def start_node(self, given: dict[str, str]) -> None:
        name = self.required(given, "id")
        if name in self.nodes:
            self.refuse("each node once", f"{name!r} twice", "Remove one of them.")
        self.nodes[name] = {}
        self.item = ("node", self.nodes[name])

    def start_edge(self, given: dict[str, str]) -> None:
        if given.get("directed") == "false":
            self.refuse("directed edges", 'directed="false"', "Give the edge a direction.", error=GraphError)
        ends = self.required(given, "source"), self.required(given, "target")
        self.edges.append((self.parser.CurrentLineNumber, *ends, {}))
        self.item = ("edge", self.edges[-1][3])

    def end(self, tag: str) -> None:
        tag = self.open.pop()
        if tag in ("data", "default") and self.key is not None:
            if tag == "data" and self.item is not None:
                self.item[1][self.key[1]] = self.value()
            elif tag == "default":
                for kind in ("node", "edge"):
                    if self.key[0] in (kind, "all") and self.key[1] in self.known[kind]:
                        self.defaults[kind][self.key[1]] = self.value()
            self.key = None
        elif tag in ("node", "edge"):
            self.item = None
        self.text.clear()

    def value(self) -> Any:
        assert self.key is not None
        text, (_, name, kind) = "".join(self.text), self.key
        try:
            return _TYPES.get(kind, str)(text)
        except (KeyError, ValueError):
            self.refuse(f"{name} of type {kind}", repr(text), "Correct it, or the type in its <key>.")

    def graph(self) -> nx.MultiDiGraph:
        if not self.graphs:
            self.refuse("a <graph>", "none", "Export the graph as GraphML.")
        for line, *ends, _ in self.edges:
            for end in ends:
                if end not in self.nodes:
                    self.refuse("edges between nodes of the file", f"{end!r}", "Add a <node> of that id.", line)
        numbers = integers(list(self.nodes))
        names: dict[str, Any] = dict(zip(self.nodes, self.nodes if numbers is None else numbers.tolist(), strict=True))
        G = nx.MultiDiGraph()  # noqa: N806
        G.add_nodes_from((names[node], {**self.defaults["node"], **data}) for node, data in self.nodes.items())
        at_edges = self.defaults["edge"]
        G.add_edges_from((names[u], names[v], {**at_edges, **data}) for _, u, v, data in self.edges)
        return G
