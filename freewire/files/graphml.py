# SPDX-License-Identifier: MIT
"""Graphs in GraphML, as networkx, Gephi, igraph and yEd write it.

networkx writes; reading is our own pass over the file, because networkx's reader (3.6) loses things without an error:
it merges parallel edges of one id (Gephi's) and repeated nodes, adds nodes that the file does not have, does not apply
``<default>`` values, drops all graphs of a file but the first, and has no line numbers. It also fails on attributes
that do not matter here. A DOCTYPE is refused as soon as the parser meets it, since only there can a file define
entities, which expansion bombs and references to other files need.

The parser scans a tag, a comment or an attribute again from its start whenever more of it arrives, and keeps all open
elements: both are bounded, so that time and memory stay proportional to the file.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Mapping
from typing import IO, Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape

import networkx as nx
import numpy as np

from freewire.errors import FileFormatError, FreewireError, GraphError, cut, shown
from freewire.files.names import NameIndex, integers, repeated, texts
from freewire.graph import Graph
from freewire.graph.arguments import as_number, plain
from freewire.graph.data import GraphData
from freewire.graph.fields import is_undirected
from freewire.graph.networkx_conversion import EDGE_ATTRIBUTES, NODE_ATTRIBUTES, read_attributes

#: The most elements inside each other.
MAX_DEPTH = 256
#: The most bytes of one tag or comment.
MAX_TOKEN = 2**20
#: Bytes that the parser is given at a time.
CHUNK = 2**18

_NAMESPACES = ("", "http://graphml.graphdrawing.org/xmlns", "http://graphml.graphdrawing.org/xmlns/graphml")


def _double(text: str) -> float:
    """A number as programs write it, or as C does in hexadecimal, which graph-tool writes."""
    return float.fromhex(text) if "0x" in text.lower() else as_number(text)


_TYPES: dict[str, Any] = {
    "boolean": lambda text: {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()],
    **dict.fromkeys(("short", "int", "integer", "long"), lambda text: int(plain(text))),
    **dict.fromkeys(("float", "double", "long_double", "long double"), _double),
}
_NOTHING: dict[str, Any] = {}


def read_graphml(
    path: str, data: bytes, inputs: Iterable[Hashable] | None, outputs: Iterable[Hashable] | None
) -> GraphData:
    """Read a file's bytes, which must hold one directed graph without hyperedges; see `freewire.files.read_graph`."""
    reader = _Reader(path)
    try:
        reader.read(data)
    except expat.ExpatError as error:
        raise FileFormatError(
            f"{path}, line {error.lineno}: expected XML, got something else ({expat.ErrorString(error.code)}). "
            "The file is damaged or cut short."
        ) from None
    except FreewireError:
        raise
    except (LookupError, ValueError) as error:
        raise FileFormatError(
            f"{path}: expected XML in an encoding known to Python, got another ({cut(error)}). Save the file as UTF-8."
        ) from None
    return reader.graph(inputs, outputs)


def write_graphml(graph: Graph, file: IO[bytes]) -> None:
    """Write a graph; GraphError for node names that a reader would not restore."""
    _check_tags(graph, texts(graph.nodes))
    nx.write_graphml_xml(graph.to_networkx(), file)


def _check_tags(graph: Graph, names: list[str]) -> None:
    """Refuse names whose tags would be longer than a reader allows."""
    rest = 100  # of the tag of an edge
    if 2 * 6 * max(map(len, names)) + rest <= MAX_TOKEN:  # no character takes more than the 6 bytes of &quot;
        return
    size = np.array([len(escape(name, {'"': "&quot;"}).encode()) for name in names])
    src, dst = graph.edge_index
    longest = max(size.max(), (size[src] + size[dst]).max(initial=0)) + rest
    if longest > MAX_TOKEN:
        raise GraphError(
            f"node names: expected tags of at most {MAX_TOKEN:,} bytes in .graphml, got {longest:,} for names such as "
            f"{shown(names[size.argmax()])}. Write .json."
        )


class _Reader:
    """The parser's handlers, called element by element."""

    def __init__(self, path: str) -> None:
        self.path = path
        # Other attributes are not even converted.
        self.known = {"node": frozenset(NODE_ATTRIBUTES), "edge": frozenset(EDGE_ATTRIBUTES)}
        self.keys: dict[str, tuple[str, str, str]] = {}  # id -> (node, edge or all; attribute; type)
        self.defaults: dict[str, dict[str, Any]] = {"node": {}, "edge": {}}
        # Nodes are numbered as their ids are met, in tags of nodes or of edges.
        self.numbers: dict[str, int] = {}
        self.nodes = array("q")  # numbers in the order of the tags of nodes
        self.edges = (array("q"), array("q"), array("q"))  # numbers of source and target, and the line
        self.data: dict[str, dict[int, dict[str, Any]]] = {"node": {}, "edge": {}}  # of those that have any
        self.open: list[str] = []
        self.graphs = 0
        self.item: tuple[str, int] | None = None  # the node or edge that is open, by its number
        self.key: tuple[str, str, str] | None = None  # of the <data> or <default> that is open
        self.text: list[str] = []
        self.igraph = False  # whether a comment says that igraph wrote the file
        self.labels: dict[int, str] = {}  # igraph's names of nodes
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.CommentHandler = self.comment

    def read(self, data: bytes) -> None:
        """Parse a whole file."""
        # Newer versions of expat wait before they scan a tag again, and report a place that is behind meanwhile.
        getattr(self.parser, "SetReparseDeferralEnabled", lambda _: None)(False)
        for begin in range(0, len(data), CHUNK):
            self.parser.Parse(data[begin : begin + CHUNK], False)
            if begin - self.parser.CurrentByteIndex > MAX_TOKEN:
                got = f"one of more than {MAX_TOKEN:,} bytes"
                self.refuse(f"tags and comments of at most {MAX_TOKEN:,} bytes", got, "Shorten it.")
        self.parser.Parse(b"", True)

    def characters(self, text: str) -> None:
        if self.key is not None:
            self.text.append(text)

    def comment(self, text: str) -> None:
        self.igraph |= text.strip() == "Created by igraph"

    def refuse(self, expected: str, got: str, remedy: str, line: int = 0, error: Any = FileFormatError) -> NoReturn:
        line = line or self.parser.CurrentLineNumber
        raise error(f"{self.path}, line {line}: expected {expected}, got {got}. {remedy}")

    def doctype(self, *_: Any) -> None:
        self.refuse("XML without a document type", "a DOCTYPE", "Remove that declaration; GraphML needs none.")

    def start(self, tag: str, given: dict[str, str]) -> None:
        space, _, tag = tag.rpartition(" ")
        tag = tag if space in _NAMESPACES else "foreign"
        if not self.open and tag != "graphml":
            self.refuse("GraphML", f"XML of <{cut(tag, 80)}>", "Export the graph as GraphML.")
        self.open.append(tag)
        if len(self.open) > MAX_DEPTH:
            self.refuse(f"at most {MAX_DEPTH} elements inside each other", "more", "Remove the nested graphs.")
        self.text.clear()
        match tag:
            case "node":
                self.start_node(given)
            case "edge":
                self.start_edge(given)
            case "data" if self.item is not None and self.open[-2] in ("node", "edge"):
                key = self.keys.get(self.required(given, "key"))
                if key is None:
                    self.refuse("data with a declared key", shown(given["key"]), "Declare it with a <key> first.")
                known = key[1] in self.known[self.item[0]] or self.is_read(self.item[0], key[1])  # the first is fast
                self.key = key if known or key[1:] == ("name", "string") else None
            case "key":
                name = self.required(given, "id")
                if name in self.keys:
                    self.refuse("each key once", f"{shown(name)} twice", "Remove one of them.")
                self.keys[name] = (
                    given.get("for", "all"),
                    given.get("attr.name", ""),
                    given.get("attr.type", "string"),
                )
                self.igraph |= name == "v_name"
            case "default" if self.open[-2] == "key":
                self.key = next(reversed(self.keys.values()))
            case "graph":
                self.start_graph(given)
            case "hyperedge":
                self.refuse("edges from one node to another", "a hyperedge", "Replace it with edges.")

    def is_read(self, kind: str, attribute: str) -> bool:
        """Whether `read_attributes` gets an attribute: also those in other case, which it refuses."""
        return attribute.casefold() in self.known[kind]

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
            self.refuse("a directed graph", f"edgedefault {shown(found)}", remedy, error=GraphError)

    def start_node(self, given: dict[str, str]) -> None:
        name = self.required(given, "id")
        if not name:
            self.refuse("a node's id", "an empty one", "Give it one.")
        number = self.numbers.setdefault(name, len(self.numbers))
        if number in self.data["node"]:
            self.refuse("each node once", f"{shown(name)} twice", "Remove one of them.")
        self.data["node"][number] = _NOTHING
        self.nodes.append(number)
        self.item = ("node", number)

    def start_edge(self, given: dict[str, str]) -> None:
        if "directed" in given and is_undirected("directed", given["directed"]):
            self.refuse(
                "directed edges", f"directed={shown(given['directed'])}", "Give the edge a direction.", error=GraphError
            )
        source, target, line = self.edges
        for end, name in ((source, "source"), (target, "target")):
            end.append(self.numbers.setdefault(self.required(given, name), len(self.numbers)))
        line.append(self.parser.CurrentLineNumber)
        self.item = ("edge", len(line) - 1)

    def end(self, tag: str) -> None:
        tag = self.open.pop()
        if tag in ("data", "default") and self.key is not None:
            if tag == "data" and self.item is not None:
                self.keep(*self.item)
            elif tag == "default":
                for kind in ("node", "edge"):
                    if self.key[0] in (kind, "all") and self.is_read(kind, self.key[1]):
                        self.defaults[kind][self.key[1]] = self.value()
            self.key = None
        elif tag in ("node", "edge"):
            self.item = None
        self.text.clear()

    def keep(self, kind: str, number: int) -> None:
        """Keep the value of the <data> that ends."""
        assert self.key is not None
        name = self.key[1]
        if name not in self.known[kind] and not self.is_read(kind, name):
            if kind == "node":
                self.labels[number] = "".join(self.text)
            return
        data = self.data[kind].get(number) or {}
        if name in data:
            self.refuse(f"{name} once", "two values of it", "Remove one of them.")
        data[name] = self.value()
        self.data[kind][number] = data

    def value(self) -> Any:
        """The text that ends as a value; None if a value that is not text is empty."""
        assert self.key is not None
        text, (_, name, kind) = "".join(self.text), self.key
        if kind not in _TYPES:
            return text
        try:
            return _TYPES[kind](text) if text.strip() else None
        except (KeyError, ValueError, OverflowError):
            self.refuse(f"{name} of type {cut(kind, 80)}", shown(text), "Correct it, or the type in its <key>.")

    def graph(self, inputs: Iterable[Hashable] | None, outputs: Iterable[Hashable] | None) -> GraphData:
        """What was read, once all of the file was."""
        if not self.graphs:
            self.refuse("a <graph>", "none", "Export the graph as GraphML.")
        ids = list(self.numbers)
        place = np.full(len(ids), -1)
        place[self.nodes] = np.arange(len(self.nodes))
        src, dst = (place[end] for end in self.edges[:2])
        unknown = np.flatnonzero((src < 0) | (dst < 0))
        if len(unknown):
            k = int(unknown[0])
            end = next(ids[end[k]] for end in self.edges[:2] if place[end[k]] < 0)
            self.refuse("edges between nodes of the file", shown(end), "Add a <node> of that id.", self.edges[2][k])
        found = self.names([ids[number] for number in self.nodes])
        numbers = integers(found)
        names = tuple(found if numbers is None else numbers.tolist())
        index = NameIndex(names if inputs is not None or outputs is not None else ())
        nodes = [self.attributes("node", number) for number in self.nodes]
        edges = [self.attributes("edge", number) for number in range(len(src))]
        return read_attributes(names, index, src, dst, nodes, edges, inputs, outputs)

    def names(self, ids: list[str]) -> list[str]:
        """The ids; but in igraph's files, whose ids are n0, n1, ... in order, the nodes' names if they have any."""
        kinds = [kind for element, name, kind in self.keys.values() if name == "name" and element in ("node", "all")]
        if not self.igraph or not kinds or any(name != f"n{k}" for k, name in enumerate(ids)):
            return ids
        if kinds[0] != "string":
            remedy = "In igraph, convert it to text or delete it."
            self.refuse("igraph's node attribute name to be text", f"type {shown(kinds[0])}", remedy)
        found = [self.labels.get(number, "") for number in self.nodes]
        if not all(found):
            remedy = "In igraph, name every node or delete the attribute name."
            self.refuse("igraph's node attribute name at every node", f"none at {shown(ids[found.index('')])}", remedy)
        if (twice := repeated(found)) is not None:
            remedy = "Rename one of the nodes in igraph, or delete their attribute name."
            self.refuse("each name once", f"{shown(twice)} twice", remedy)
        return found

    def attributes(self, kind: str, number: int) -> Mapping[str, Any]:
        """All of a node or an edge, with defaults, without those of no value."""
        default, data = self.defaults[kind], self.data[kind].get(number, _NOTHING)
        found = {**default, **data} if default else data
        return {name: value for name, value in found.items() if value is not None} if None in found.values() else found
