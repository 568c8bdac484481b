# SPDX-License-Identifier: MIT
"""Graphs as edge lists in CSV: one edge per row, in the dialects in common use, with the columns of `EDGE_FIELDS`.

An edge list is all that CSV is read and written for. What belongs to nodes (functions, biases, inputs, outputs, nodes
without edges) goes into .json; here it is refused, in both directions. Columns are converted whole, a few hundred
rows at a time.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError, cut, shown
from freewire.files.columns import FOR_NODES, Options, are_ids, signs
from freewire.files.csv_layout import Layout, find_layout
from freewire.files.csv_plain import PlainEdges, read_plain
from freewire.files.csv_rows import MAX_CELL, MAX_ROW, CsvFile
from freewire.files.edge_tables import Nodes, edge_data
from freewire.files.names import integers, printable, texts
from freewire.graph import ACTIVATIONS, Graph
from freewire.graph import arguments as read
from freewire.graph.arguments import IntArray
from freewire.graph.data import GraphData
from freewire.graph.field_types import Field
from freewire.graph.fields import ACTIVATION

#: Rows converted at a time: so few objects are alive at once that Python's garbage collector hardly looks at them.
CHUNK = 512
#: The most cells of them.
CELLS = 2**15

_FLAGS = {"0": False, "false": False, "1": True, "true": True}


# ---------------------------------------------------------------------------------- reading


def read_csv(
    path: str,
    data: bytes,
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
    nodes: Nodes | None = None,
    **options: Any,
) -> GraphData:
    """Read a file's bytes; see `freewire.files.read_graph`. ``path`` is named in errors.

    Args:
        path: The file, for errors.
        data: Its bytes.
        inputs: As in `freewire.files.read_graph`, like all arguments below.
        outputs: Node names.
        nodes: A table of nodes.
        **options: Those of `Options`.
    """
    file = CsvFile(path, data)
    layout = find_layout(file, Options(**options))
    names, src, dst, fields = read_plain(file, layout) or _read_rows(file, layout)
    if layout.roles.sign_of_weight and "weight" in fields:
        fields["sign"] = signs(fields["weight"])
    return edge_data(path, names, src, dst, fields, inputs, outputs, nodes, layout.end_names)


def _read_rows(file: CsvFile, layout: Layout) -> PlainEdges:
    """The edges of any file."""
    roles = layout.roles
    ids = bool(layout.names) and are_ids(layout.end_names)
    ends = _Ends()
    columns: dict[str, list[NDArray[Any]]] = {field.name: [] for field, _ in roles.fields}
    for chunk in _chunks(file, layout):
        sources, targets, *others = chunk.columns
        for what, cells in (("source", sources), ("target", targets)):
            if "" in cells:
                chunk.refuse(cells.index(""), f"a {what} node", "an empty cell", FOR_NODES)
            if not printable("".join(cells)):
                k = next(k for k, cell in enumerate(cells) if not printable(cell))
                remedy = "Rename the node; .json holds any name."
                chunk.refuse(k, "node names without control characters", shown(cells[k]), remedy)
        ends.extend(sources, targets)
        if ids and ends.index is not None:
            _refuse_long_ids(chunk, sources, targets)
        for (field, column), cells in zip(roles.fields, others, strict=False):
            columns[field.name].append(_read_cells(chunk, field, cells, layout.names[column] if layout.names else None))
        for (_, words), cells in zip(roles.undirected, others[len(roles.fields) :], strict=True):
            if words & {*map(str.lower, cells)}:
                k = next(k for k, cell in enumerate(cells) if cell.lower() in words)
                remedy = "Give each edge one direction, or remove the column if it means something else."
                chunk.refuse(k, "directed edges", shown(cells[k]), remedy, GraphError)
    if layout.only_numbers and ends.index is not None:
        file.line = file.skip + 1
        got = "one above both numbers and other names"
        file.refuse("a first row that is clearly a header or an edge", got, "Pass header=True or header=False.")
    names, src, dst = ends.numbered()
    fields = {name: np.concatenate(parts) for name, parts in columns.items() if parts}
    return PlainEdges(names, src, dst, fields)


def _refuse_long_ids(chunk: _Chunk, *ends: list[str]) -> None:
    """Refuse integers beyond 64 bits in columns of ids: with them, all ids would become texts."""
    for cells in ends:
        for k, cell in enumerate(cells):
            digits = cell.removeprefix("-")
            if digits.isdecimal() and digits.isascii() and not -(2**63) <= int(cell[:40]) < 2**63:
                chunk.refuse(k, "ids of 64 bits, below 2**63", shown(cell), "Rename the node.")


class _Chunk:
    """Some rows of a file: the columns that are read, without surrounding spaces, and the line of each row."""

    def __init__(self, file: CsvFile, layout: Layout, rows: list[list[str]], lines: array[int]) -> None:
        self.file = file
        self.lines = lines
        if {*map(len, rows)} != {layout.width}:
            k = next(k for k, row in enumerate(rows) if len(row) != layout.width)
            self.refuse(k, f"{layout.width} cells as in the first line", str(len(rows[k])))
        self.columns = [[row[k].strip() for row in rows] for k in layout.order]

    def refuse(
        self, row: int, expected: str, got: str, remedy: str = "Correct it.", error: type[Exception] | None = None
    ) -> None:
        """Raise about one of the rows."""
        self.file.line = self.lines[row]
        self.file.refuse(expected, got, remedy, *([error] if error else []))


def _chunks(file: CsvFile, layout: Layout) -> Iterator[_Chunk]:
    size = max(1, min(CHUNK, CELLS // layout.width))
    rows: list[list[str]] = []
    lines = array("q")
    found = file.rows(layout.delimiter)
    for _ in range(layout.first):
        next(found)
    for row in found:
        rows.append(row)
        lines.append(file.line)
        if len(rows) == size:
            yield _Chunk(file, layout, rows, lines)
            rows, lines = [], array("q")
    if rows:
        yield _Chunk(file, layout, rows, lines)


class _Ends:
    """Both ends of all edges: numbers while all are integers, indices of texts from the first that is not.

    Attributes:
        index: Index of each text; None while all are integers.
    """

    def __init__(self) -> None:
        self.parts: list[IntArray] = []  # [2, rows], of numbers or indices
        self.index: dict[str, int] | None = None

    def extend(self, *ends: list[str]) -> None:
        if self.index is None:
            numbers = integers(list(chain(*ends)))
            if numbers is not None:
                self.parts.append(numbers.reshape(2, -1))
                return
            self.index = {}
            self.parts = [self.indices(*(map(str, end.tolist()) for end in part)) for part in self.parts]
        self.parts.append(self.indices(*ends))

    def indices(self, *ends: Iterable[str]) -> IntArray:
        """Number texts by first occurrence, each edge's source first."""
        assert self.index is not None
        index = self.index
        pairs = list(chain.from_iterable(zip(*ends, strict=True)))
        for name in pairs:
            if name not in index:
                index[name] = len(index)
        return np.fromiter(map(index.__getitem__, pairs), np.int64, len(pairs)).reshape(-1, 2).T

    def numbered(self) -> tuple[Sequence[Hashable], IntArray, IntArray]:
        """Names, source and destination indices: nodes by number if all are integers, else by first occurrence."""
        names = None if self.index is None else tuple(self.index)
        self.index = None  # by far the largest
        src, dst = (np.concatenate([np.zeros(0, np.int64), *(part[k] for part in self.parts)]) for k in (0, 1))
        self.parts = []
        if names is not None:
            return names, src, dst
        if len(src) and min(src.min(), dst.min()) >= 0 and max(src.max(), dst.max()) < 8 * len(src):  # no sorting
            seen = np.zeros(max(src.max(), dst.max()) + 1, np.bool_)
            seen[src] = seen[dst] = True
            found = np.flatnonzero(seen)
            if len(found) < len(seen):
                place = np.cumsum(seen) - 1
                src, dst = place[src], place[dst]
        else:
            found, where = np.unique(np.concatenate([src, dst]), return_inverse=True)
            src, dst = np.split(where, 2)
        numbered = not len(found) or (found[0] == 0 and found[-1] == len(found) - 1)
        return range(len(found)) if numbered else tuple(found.tolist()), src, dst


def _read_cells(chunk: _Chunk, field: Field, cells: list[str], column: str | None) -> NDArray[Any]:
    """A chunk of a column, by name, as the field's values; an empty cell is a missing one."""
    # Tables of whole numbers with gaps come out of pandas as floats, so "1.0" is a sign.
    convert: Callable[[str], Any] = _FLAGS.__getitem__ if field.dtype is np.bool_ else read.as_number
    values = field.empty(len(cells))
    if "" not in cells:
        try:  # all at once
            found = np.fromiter(map(convert, map(str.lower, cells)), np.float64, len(cells))
        except (KeyError, ValueError):
            pass  # the loop below finds the cell
        else:
            if field.legal(found).all():
                return found.astype(field.dtype)
    for k, cell in enumerate(cells):
        try:
            if cell:
                values[k] = field.parse(convert(cell.lower()))
        except (KeyError, ValueError, OverflowError):
            remedy = f"Correct it or rename column {cut(column, 40)}."
            if column is None:
                remedy = f"There is no header, so the third column is the {field.name}. Pass source= and target=."
            chunk.refuse(k, f"{field.expected} as {field.name}", shown(cell), remedy)
    return values


# ---------------------------------------------------------------------------------- writing


def write_csv(graph: Graph, file: IO[bytes]) -> None:
    """Write a graph's edges in the caller's order; GraphError if they do not determine the graph."""
    names = texts(graph.nodes)
    edge_index = graph.edge_index[:, graph.edge_position]
    if more := _beyond_edges(graph, names, edge_index):
        raise GraphError(
            f"graph: expected one that a plain edge list determines, got {more}. Write .json (or .graphml), which "
            "keeps them."
        )
    stored = graph.to_data().stored()
    columns = [(field, values[graph.edge_position]) for field, values in stored if field.element == "edge"]
    if long := [name for name in names if len(name) > MAX_CELL]:
        raise _too_long("node names", MAX_CELL, long[0])
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    # A reader takes a line that begins with # for a comment, unless it begins with a quote.
    commented = any(name[0] == "#" for name in names)
    writer = csv.writer(_Rows(text), lineterminator="\n", quoting=csv.QUOTE_ALL if commented else csv.QUOTE_MINIMAL)
    writer.writerow(["source", "target", *(field.name for field, _ in columns)])
    for begin in range(0, graph.num_edges, CHUNK):
        part = slice(begin, begin + CHUNK)
        ends = (map(names.__getitem__, end.tolist()) for end in edge_index[:, part])
        writer.writerows(zip(*ends, *(_cells(field, values[part]) for field, values in columns), strict=True))
    text.detach()  # flushes, and leaves the file open


class _Rows:
    """A text file of rows that a reader accepts."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.text = text

    def write(self, row: str) -> int:
        if len(row) > MAX_ROW:
            raise _too_long("rows", MAX_ROW, row)
        return self.text.write(row)


def _too_long(what: str, most: int, text: str) -> GraphError:
    return GraphError(
        f"graph: expected {what} of at most {most:,} characters in .csv, got {len(text):,}: {shown(text)}. Write .json."
    )


def _cells(field: Field, values: NDArray[Any]) -> list[Any]:
    """Cells that read back exactly, since csv writes every digit of a float; empty where there is no value."""
    cells = field.to_list(values)  # csv writes None as an empty cell
    return ["true" if cell else cell for cell in cells] if field.dtype is np.bool_ else cells


def _beyond_edges(graph: Graph, names: list[str], edge_index: IntArray) -> str:
    """What a reader could not restore from these edges, in words; empty if it would restore an equal graph."""
    src, dst = edge_index
    activation = np.full(graph.num_nodes, ACTIVATIONS.index("relu"), np.uint8)
    activation[graph.output_index] = activation[graph.input_index] = ACTIVATIONS.index("linear")
    if not np.array_equal(graph.activation, activation):
        return "activations other than relu (linear at outputs)"
    for field, values in graph.to_data().stored():
        usual = field is ACTIVATION or (field.default is not None and (values == field.default).all())
        if field.element == "node" and not usual:
            return f"nodes with their own {field.name}"
    occurring, first = np.unique(edge_index.T.ravel(), return_index=True)
    if len(occurring) < graph.num_nodes:
        return "nodes without edges"
    for what, ends, edge_end in (("inputs", graph.input_index, dst), ("outputs", graph.output_index, src)):
        degree = np.bincount(edge_end, minlength=graph.num_nodes)
        if not np.array_equal(ends, np.flatnonzero(degree == 0)):
            return f"{what} that are not the nodes of {'in' if what == 'inputs' else 'out'}-degree 0, in order"
    numbers = integers(names)
    order = first if numbers is None else numbers
    if not (order[1:] > order[:-1]).all():  # not np.diff, which overflows
        return "nodes in an order that a reader would not restore"
    return ""
