# SPDX-License-Identifier: MIT
"""Tables of edges in Parquet and Feather files: one edge per row, millions of them in seconds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError, shown
from freewire.files.arrow import ArrowTable, numbered, sorted_names
from freewire.files.columns import Columns, Options, pairs, signs
from freewire.files.edge_tables import Nodes, edge_data
from freewire.graph.arguments import IntArray
from freewire.graph.data import GraphData


def read_arrow(
    path: str,
    file: IO[bytes],
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
    nodes: Nodes | None = None,
    **options: Any,
) -> GraphData:
    """Read an open file; see `freewire.files.read_graph`.

    Nodes are ordered by number if their names are integers, else by first occurrence, as in CSV.

    Args:
        path: The file, for errors; its suffix names the format.
        file: The file, which can seek.
        inputs: As in `freewire.files.read_graph`, like all arguments below.
        outputs: Node names.
        nodes: A table of nodes.
        **options: Those of `Options`.
    """
    given = Options(**options)
    table = ArrowTable(path, file)
    columns = Columns(path, table.names, given, table.refuse, table.is_number)
    ends = columns.given_ends()
    if ends is None:
        known = pairs(columns.plain)
        ends = columns.known_ends(known) if known else columns.other_ends(lambda: table.is_integer(0))
    roles = columns.roles(ends)
    for column, words in roles.undirected:
        _refuse_undirected(table, column, words)
    names, src, dst = _ends(table, ends)
    fields = {entry.name: table.field(entry, column) for entry, column in roles.fields}
    if roles.sign_of_weight:
        fields["sign"] = signs(fields["weight"])
    return edge_data(path, names, src, dst, fields, inputs, outputs, nodes, [table.names[k] for k in ends])


def _ends(table: ArrowTable, ends: Sequence[int]) -> tuple[Sequence[Hashable], IntArray, IntArray]:
    """Names, and the index of each edge's source and destination.

    Each column becomes indices into its own few names, by hashing; then only names are sorted, and indices exchanged.
    """
    whats = ("source", "target")
    for k, what in zip(ends, whats, strict=True):
        table.check_named(k, what)
    if table.is_integer(ends[0]) != table.is_integer(ends[1]):
        got = " and ".join(str(table.schema.field(k).type) for k in ends)
        table.refuse("columns of one type as source and target", got, "Write both as integers or both as text.")
    found, codes = zip(*(table.coded(k, what) for k, what in zip(ends, whats, strict=True)), strict=True)
    if table.is_integer(ends[0]):
        names, places = sorted_names(found)
    else:
        # When an edge's source comes before its target, the k-th name's first place is twice its row, or one more.
        first = [2 * _first(parts, len(each)) + end for end, (parts, each) in enumerate(zip(codes, found, strict=True))]
        order = np.argsort(np.concatenate(first), kind="stable")
        both = [*found[0], *found[1]]
        names = tuple(dict.fromkeys(both[k] for k in order.tolist()))
        index = {name: k for k, name in enumerate(names)}
        places = [np.array([index[name] for name in each], np.int64) for each in found]
    src, dst = (numbered(parts, place) for parts, place in zip(codes, places, strict=True))
    return names, src, dst


def _first(parts: Sequence[NDArray[Any]], length: int) -> IntArray:
    """The row at which each of ``length`` names occurs first, given that they are numbered by first occurrence."""
    first = np.zeros(length, np.int64)
    begin = seen = 0
    for part in parts:
        highest = np.maximum(np.maximum.accumulate(part), seen - 1)
        new = np.flatnonzero(np.diff(highest, prepend=seen - 1) > 0)
        first[seen : seen + len(new)] = begin + new
        seen += len(new)
        begin += len(part)
    return first


def _refuse_undirected(table: ArrowTable, column: int, words: frozenset[str]) -> None:
    """Refuse edges that a column says have no direction."""
    values, compute = table.column(column), table.arrow.compute
    with table.errors():
        different = compute.unique(values).to_pylist() if not table.arrow.types.is_nested(values.type) else []
    for value in different:
        text = str(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        if text.strip().lower() in words:
            row = compute.index(values, table.arrow.scalar(value, values.type)).as_py()
            raise GraphError(
                f"{table.path}, row {row}: expected directed edges, got {shown(value)}. Give each edge one direction, "
                "or remove the column if it means something else."
            )
