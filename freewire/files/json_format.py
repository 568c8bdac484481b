# SPDX-License-Identifier: MIT
"""Graphs in networkx's node-link form as JSON, the format that holds all of a `Graph` and most types of node names.

JSON that neat-python wrote is recognised by its keys, and read by `freewire.files.neat_reading`.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Hashable, Iterable
from itertools import pairwise
from typing import IO, Any

import numpy as np

from freewire.errors import FileFormatError, GraphError, cut, shown
from freewire.files.names import NameIndex, check_hashes, decoded, encoded
from freewire.files.neat_reading import NEAT_KEYS, is_neat, read_neat
from freewire.graph import Graph
from freewire.graph.arguments import IntArray, as_number
from freewire.graph.data import GraphData
from freewire.graph.networkx_conversion import EDGE_ATTRIBUTES, NODE_ATTRIBUTES, read_attributes

#: The keys of an object that are kept, besides attributes; the rest is dropped as soon as it is parsed.
_KEYS = (
    "directed",
    "multigraph",
    "nodes",
    "edges",
    "links",
    "id",
    "source",
    "target",
    "format_version",
    "network_type",
)
_NOTHING: dict[str, Any] = {}
#: Objects of fewer keys are checked for repeated keys of any name; larger ones take much memory.
LARGE = 1000


def read_json(
    path: str, data: bytes, inputs: Iterable[Hashable] | None, outputs: Iterable[Hashable] | None
) -> GraphData:
    """Read a file's bytes; see `freewire.files.read_graph`. ``path`` is named in errors."""
    attributes = {*NODE_ATTRIBUTES, *EDGE_ATTRIBUTES}
    document = _parse(path, data, {*_KEYS, *attributes}, attributes)
    if is_neat(document):
        del document
        return read_neat(path, _parse(path, data, NEAT_KEYS), inputs, outputs)
    found = [key for key in ("nodes", "edges", "links") if isinstance(document, dict) and key in document]
    if len(found) != 2 or found[0] != "nodes":
        raise _error(path, 'an object with "nodes" and either "edges" or "links"', ", ".join(found) or "neither")
    if document.get("directed") is not True:
        given = "false" if document.get("directed") is False else "something else"
        raise GraphError(
            f'{path}: expected a directed graph, got {given if "directed" in document else "none"} as "directed". '
            'Give every edge a direction and write "directed": true.'
        )
    if not isinstance(document.get("multigraph", False), bool):
        raise _error(path, 'true or false as "multigraph"', shown(document["multigraph"]), "Correct it or omit it.")
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

    index, names = NameIndex(), []
    for k, item in enumerate(nodes):
        names.append(named(item, "id", "node", k))
        if len(item) == 1:
            nodes[k] = _NOTHING  # which frees much of what a file without attributes takes
    try:
        for name in names:
            if not index.add(name):
                raise _error(path, "each node once", f"{shown(name)} twice", "Remove one of the two.")
    except RecursionError:
        raise _error(path, "names of a few lists inside each other", "more", "Rename the nodes.") from None
    check_hashes(names, FileFormatError, path)
    columns: dict[str, IntArray] = {}
    for field in ("source", "target"):
        ends = array("q")
        for k, item in enumerate(edges):
            name = named(item, field, "edge", k)
            try:
                ends.append(index[name])
            except (KeyError, RecursionError):
                raise _error(path, "edges between nodes of the file", shown(name), "Add it to the nodes.") from None
        columns[field] = np.array(ends, np.int64)
    src, dst = columns.values()
    return read_attributes(tuple(names), index, src, dst, nodes, edges, inputs, outputs)


def write_json(graph: Graph, file: IO[bytes]) -> None:
    """Write a graph; GraphError for node names that a reader would not restore."""
    G = graph.to_networkx()  # noqa: N806
    text = dict(zip(graph.nodes, encoded(graph.nodes, GraphError), strict=True))
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


def _parse(path: str, data: bytes, kept: Collection[str], attributes: Collection[str] = ()) -> Any:
    """The document, with those of its keys that are ``kept``, and ``attributes`` in any case."""
    kept = set(kept)

    def is_kept(key: str) -> bool:
        """Attributes in other case are kept too, since `read_attributes` refuses them."""
        return key in kept or key.casefold() in attributes

    def read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """The attributes of one object that are kept; null means no value."""
        found = dict(pairs) if len(pairs) < LARGE else {key: value for key, value in pairs if is_kept(key)}
        if len(found) < (len(pairs) if len(pairs) < LARGE else sum(is_kept(key) for key, _ in pairs)):
            keys = sorted(key for key, _ in pairs)
            twice = next(key for key, following in pairwise(keys) if key == following)
            raise ValueError(f"an object with the key {shown(twice)} twice")
        if None in found.values() or not found.keys() <= kept:
            found = {key: value for key, value in found.items() if value is not None and is_kept(key)}
        return found or _NOTHING

    try:
        return json.loads(data, object_pairs_hook=read, parse_float=as_number)
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"{path}, line {error.lineno}: expected JSON, got something else ({cut(error.msg)}). "
            "The file is damaged or cut short."
        ) from None
    # Not text, a number of thousands of digits or beyond float64, endless lists, a key twice.
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: expected JSON, got something that cannot be read ({cut(error)}). "
            "The file is damaged, or not JSON."
        ) from None


def _error(
    path: str,
    expected: str,
    got: str,
    remedy: str = "Write the graph in networkx's node-link format: networkx.node_link_data.",
) -> FileFormatError:
    return FileFormatError(f"{path}: expected {expected}, got {got}. {remedy}")
