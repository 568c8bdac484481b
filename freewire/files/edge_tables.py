# SPDX-License-Identifier: MIT
"""Tables of edges, of any format, with a table of nodes or without: the last step of their readers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire.errors import FileFormatError, GraphError, shown
from freewire.files.columns import are_indices
from freewire.files.names import NameIndex
from freewire.graph import arguments as read
from freewire.graph.arguments import IntArray
from freewire.graph.data import GraphData


@dataclass(frozen=True)
class Nodes:
    """All nodes of a graph, in order.

    Attributes:
        names: All different.
        fields: The node fields that are given, as in `GraphData`.
        origin: The file that they come from or the argument, for errors.
    """

    names: Sequence[Hashable]
    fields: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    origin: str = "nodes="


def edge_data(
    path: str,
    names: Sequence[Hashable],
    src: IntArray,
    dst: IntArray,
    fields: Mapping[str, NDArray[Any]],
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
    nodes: Nodes | None = None,
    end_names: Sequence[str] = (),
) -> GraphData:
    """Make a graph's arrays of the edges of a table.

    Args:
        path: The table's file, for errors.
        names: The nodes that the edges name, all different.
        src: Index into ``names`` of each edge's source, int64 ``[E]``.
        dst: Index into ``names`` of each edge's destination, int64 ``[E]``.
        fields: Edge fields, as in `GraphData`.
        inputs: As in `freewire.files.read_graph`, like ``outputs``.
        outputs: Node names.
        nodes: All nodes, if there is a table of them.
        end_names: Names of the columns of source and target. Where both end in index, they hold row numbers of the
            table of nodes.

    Raises:
        GraphError: An edge or an argument names a node that is not in ``nodes``.
        FileFormatError: A row number that the table of nodes does not have.
    """
    if nodes is not None:
        place = _rows(path, names, nodes) if end_names and are_indices(end_names) else _places(path, names, nodes)
        names, src, dst, fields = nodes.names, place[src], place[dst], {**fields, **nodes.fields}
    index = NameIndex(names if inputs is not None or outputs is not None else ())
    return GraphData(
        names=names,
        src=src,
        dst=dst,
        inputs=None if inputs is None else read.lookup(inputs, names, index, "inputs"),
        outputs=None if outputs is None else read.lookup(outputs, names, index, "outputs"),
        fields=fields,
    )


def _places(path: str, names: Sequence[Hashable], nodes: Nodes) -> IntArray:
    """The index into the table of nodes of each name."""
    index = NameIndex(nodes.names)
    places = np.empty(len(names), np.int64)
    for k, name in enumerate(names):
        try:
            places[k] = index[name]
        except KeyError:
            raise GraphError(
                f"{path}: expected edges between the nodes of {nodes.origin}, got {shown(name)}. Add it to the nodes, "
                "or correct it."
            ) from None
    return places


def _rows(path: str, names: Sequence[Hashable], nodes: Nodes) -> IntArray:
    """The same where names are numbers of rows of the table of nodes."""
    for name in names:
        if not isinstance(name, int) or not 0 <= name < len(nodes.names):
            raise FileFormatError(
                f"{path}: expected numbers from 0 to {len(nodes.names) - 1}, of rows of {nodes.origin}, since the "
                f"names of both columns end in index, got {shown(name)}. Correct it, or omit nodes=."
            )
    return np.array(names, np.int64)
