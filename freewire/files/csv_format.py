# SPDX-License-Identifier: MIT
"""Graphs as edge lists in CSV: one edge per row, in the dialects in common use, with the columns of `EDGE_FIELDS`.

An edge list is all that CSV is read and written for. What belongs to nodes (functions, biases, inputs, outputs, nodes
without edges) goes into .json; here it is refused, in both directions. Columns are converted whole, a few hundred
rows at a time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from freewire.errors import FileFormatError, GraphError
from freewire.files.names import integers, texts
from freewire.graph import ACTIVATIONS, Graph
from freewire.graph import arguments as read
from freewire.graph.arguments import IntArray
from freewire.graph.data import GraphData
from freewire.graph.fields import ACTIVATION, EDGE_FIELDS, NODE_FIELDS, Field

#: Common headers of the two columns of an edge: networkx and Gephi, numpy users, neuPrint, FlyWire, MICrONS.
ENDS = (
    ("source", "target"),
    ("src", "dst"),
    ("pre", "post"),
    ("from", "to"),
    ("presynaptic", "postsynaptic"),
    ("bodyid_pre", "bodyid_post"),
    ("pre_root_id", "post_root_id"),
    ("pre_pt_root_id", "post_pt_root_id"),
)
#: Rows converted at a time: so few objects are alive at once that Python's garbage collector hardly looks at them.
CHUNK = 512

_FLAGS = {"0": False, "false": False, "1": True, "true": True}
_REMEDY = "Node attributes and nodes without edges are read from .json."


# ---------------------------------------------------------------------------------- reading


def read_csv(
    path: str, data: bytes, inputs: Iterable[Hashable] | None, outputs: Iterable[Hashable] | None
) -> GraphData:
    """Read a file's bytes; see `freewire.files.read_graph`. ``path`` is named in errors."""
    table = _Table(path, data)
    ends = (_Ends(), _Ends())
    columns: dict[str, list[NDArray[Any]]] = {field.name: [] for field in table.fields}
    for begin, (sources, targets, *values) in table.chunks():
        if "" in sources:
            table.refuse(begin + sources.index(""), "a source node", "an empty cell", _REMEDY)
        if "" in targets:
            table.refuse(begin + targets.index(""), "a target node", "an empty cell", _REMEDY)
        ends[0].extend(sources)
        ends[1].extend(targets)
        for field, cells in zip(table.fields, values, strict=True):
            columns[field.name].append(_read_cells(table, field, begin, cells))
    names, src, dst = _numbered(*ends)
    index = {} if inputs is None and outputs is None else {name: i for i, name in enumerate(names)}
    return GraphData(
        names=names,
        src=src,
        dst=dst,
        inputs=None if inputs is None else read.lookup(inputs, names, index, "inputs"),
        outputs=None if outputs is None else read.lookup(outputs, names, index, "outputs"),
        fields={name: np.concatenate(parts) for name, parts in columns.items() if parts},
    )


class _Table:
    """A file's cells, chunk by chunk, and the line of a row for errors.

    Attributes:
        fields: The edge fields that have a column, in the order in which `chunks` gives them.
    """

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        try:
            self.text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise FileFormatError(
                f"{path}, line {line}: expected UTF-8 text, got the byte 0x{data[error.start]:02x}. "
                "Save the file as UTF-8."
            ) from None
        first = next((line for line in io.StringIO(self.text, newline="") if line.strip()), "")
        self.delimiter = max(",;\t", key=lambda delimiter: _cell_count(first, delimiter))
        head = next(self._rows(2), [])
        if not head or len(head[0]) < 2:
            raise FileFormatError(
                f"{path}, line 1: expected two columns or more with a comma, semicolon or tab between them, got "
                f"{first.strip()[:60]!r}. Write the source and target of one edge on each line."
            )
        self.width = len(head[0])
        self.has_header = _is_header(head)
        # The columns that are read: source, target, then fields.
        self._order = [0, 1, 2][: self.width]
        self.fields = [field for field in EDGE_FIELDS if field.name == "weight"][: self.width - 2]
        if self.has_header:
            self._place([cell.strip().casefold() for cell in head[0]])

    def _place(self, header: list[str]) -> None:
        """Find the columns by their names."""
        ends = next((pair for pair in ENDS if set(pair) <= set(header)), None)
        # A table written by pandas begins with its index, a column without a name.
        first = 1 if not header[0] and self.width > 2 else 0
        self._order = [first, first + 1] if ends is None else [header.index(end) for end in ends]
        self.fields = []
        named = {k: cell for k, cell in enumerate(header) if k not in self._order}
        for field in EDGE_FIELDS:
            columns = [k for k, cell in named.items() if cell == field.name]
            if len(columns) > 1:
                self.refuse(-1, f"one column {field.name}", str(len(columns)), "Rename the others.")
            if columns:
                self.fields.append(field)
                self._order += columns
        for field in NODE_FIELDS:
            if field.name in named.values():
                self.refuse(-1, "columns of edges", f"a column {field.name}", f"Rename that column. {_REMEDY}")

    def _rows(self, size: int, skip: int = 0) -> Iterator[list[list[str]]]:
        """Non-empty rows after the first ``skip``, in lists of ``size``."""
        # strict: else a quote that is never closed swallows the rest of the file.
        reader = csv.reader(
            io.StringIO(self.text, newline=""), delimiter=self.delimiter, strict=True, skipinitialspace=True
        )
        try:
            rows = islice(filter(None, reader), skip, None)
            while chunk := list(islice(rows, size)):
                yield chunk
        except csv.Error as error:
            raise FileFormatError(
                f"{self.path}, line {reader.line_num}: expected cells with a {self.delimiter!r} between them, got "
                f"something else ({error}). Correct the quotes there; the file may be cut short."
            ) from None

    def chunks(self) -> Iterator[tuple[int, list[list[str]]]]:
        """Number of the first row, and the columns that are read, without surrounding spaces, of each chunk."""
        begin = 0
        for chunk in self._rows(CHUNK, skip=int(self.has_header)):
            if {*map(len, chunk)} != {self.width}:
                k = next(k for k, row in enumerate(chunk) if len(row) != self.width)
                self.refuse(begin + k, f"{self.width} cells as in the first line", str(len(chunk[k])))
            columns: list[Sequence[str]] = list(zip(*chunk, strict=True))
            yield begin, [list(map(str.strip, columns[k])) for k in self._order]
            begin += len(chunk)

    def refuse(self, row: int, expected: str, got: str, remedy: str = "Correct it.") -> NoReturn:
        """Raise about a row, counted from 0 after the header."""
        number = row + self.has_header
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter, skipinitialspace=True)
        # Count lines before it: a row may take several lines, and empty lines are not rows.
        line = 1
        for cells in reader:
            if cells:
                if not number:
                    break
                number -= 1
            line = reader.line_num + 1
        raise FileFormatError(f"{self.path}, line {line}: expected {expected}, got {got}. {remedy}")


def _cell_count(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:  # raised again, with its line, when rows are read
        return 0


def _is_header(head: list[list[str]]) -> bool:
    """Whether the first row names columns: by known names, or since it has no number and numbers are below it."""
    first, *below = [[cell.strip() for cell in row] for row in head]
    words = {cell.casefold() for cell in first}
    if any(set(pair) <= words for pair in ENDS):
        return True
    if not below or any(cell and _is_number(cell) for cell in first):
        return False
    return integers(below[0][:2]) is not None or any(cell and _is_number(cell) for cell in below[0][2:])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Ends:
    """One end of each edge: numbers while all are integers, text from the first that is not."""

    def __init__(self) -> None:
        self.numbers: list[IntArray] = []
        self.texts: list[str] | None = None

    def extend(self, cells: list[str]) -> None:
        array = integers(cells) if self.texts is None else None
        if array is not None:
            self.numbers.append(array)
        else:
            self.as_texts().extend(cells)

    def as_texts(self) -> list[str]:
        if self.texts is None:
            self.texts = [str(number) for part in self.numbers for number in part.tolist()]
        return self.texts

    def as_numbers(self) -> IntArray:
        return np.concatenate([np.zeros(0, np.int64), *self.numbers])


def _read_cells(table: _Table, field: Field, begin: int, cells: list[str]) -> NDArray[Any]:
    """A chunk of a column as the field's values; an empty cell is a missing one."""
    # Tables of whole numbers with gaps come out of pandas as floats, so "1.0" is a sign.
    convert: Callable[[str], Any] = _FLAGS.__getitem__ if field.dtype is np.bool_ else float
    if "" not in cells:
        try:  # all at once
            values = np.fromiter(map(convert, map(str.lower, cells)), np.float64, len(cells))
        except (KeyError, ValueError):
            pass  # the loop below finds the cell
        else:
            if field.legal(values).all():
                return values.astype(field.dtype)
    values = field.empty(len(cells))
    for k, cell in enumerate(cells):
        try:
            if cell:
                values[k] = field.parse(convert(cell.lower()))
        except (KeyError, ValueError, OverflowError):
            expected, remedy = f"{field.expected} as {field.name}", f"Correct it or rename column {field.name}."
            table.refuse(begin + k, expected, repr(cell), remedy)
    return values


def _numbered(sources: _Ends, targets: _Ends) -> tuple[Sequence[Hashable], IntArray, IntArray]:
    """Names, source and destination indices: nodes by number if all are integers, else by first occurrence."""
    if sources.texts is None and targets.texts is None:
        found, where = np.unique(np.concatenate([sources.as_numbers(), targets.as_numbers()]), return_inverse=True)
        numbered = np.array_equal(found, np.arange(len(found)))
        src, dst = np.split(where, 2)
        return range(len(found)) if numbered else tuple(found.tolist()), src, dst
    ends = sources.as_texts(), targets.as_texts()
    index = {name: i for i, name in enumerate(dict.fromkeys(chain.from_iterable(zip(*ends, strict=True))))}
    src, dst = (np.fromiter(map(index.__getitem__, end), np.int64, len(end)) for end in ends)
    return tuple(index), src, dst


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
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "target", *(field.name for field, _ in columns)])
    for begin in range(0, graph.num_edges, CHUNK):
        part = slice(begin, begin + CHUNK)
        ends = (map(names.__getitem__, end.tolist()) for end in edge_index[:, part])
        writer.writerows(zip(*ends, *(_cells(field, values[part]) for field, values in columns), strict=True))
    text.detach()  # flushes, and leaves the file open


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
