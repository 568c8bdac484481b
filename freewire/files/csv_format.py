# SPDX-License-Identifier: MIT
"""Graphs as edge lists in CSV: anybody's, and our own, which carry everything a `Graph` holds.

Enters: the bytes of a file, or a `Graph`. Leaves: what `Graph._build` takes, or rows. Columns are converted whole,
some ten thousand rows at a time; only rows that declare nodes are looked at one by one.

A row is an edge. A row whose target is empty declares a node and may carry what a node has: ``activation``,
``aggregation``, ``bias``, and ``input`` and ``output``, its place among those ("false": it is none).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from freewire.errors import FileFormatError
from freewire.files.text import integers, texts
from freewire.graph import arguments as read
from freewire.graph.arguments import ACTIVATIONS, AGGREGATIONS, UNSET, IntArray

if TYPE_CHECKING:
    from freewire.graph import Graph

#: How others head the two columns of an edge: networkx and Gephi, numpy users, neuPrint, FlyWire, MICrONS.
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
EDGE_COLUMNS = ("weight", "sign", "frozen")
NODE_COLUMNS = ("activation", "aggregation", "bias", "input", "output")
#: Rows converted at a time: so few lists are alive at once that Python's garbage collector hardly looks at them.
CHUNK = 512

# Tables of whole numbers with gaps come out of pandas as floats.
_SIGNS = {"": 0, "0": 0, "0.0": 0, "1": 1, "+1": 1, "1.0": 1, "-1": -1, "-1.0": -1}
_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}


class _Node(NamedTuple):
    row: int
    name: str
    cells: dict[str, str]


# ---------------------------------------------------------------------------------- reading


def read_csv(
    path: str, data: bytes, inputs: Iterable[Hashable] | None, outputs: Iterable[Hashable] | None
) -> dict[str, Any]:
    """The arguments of `Graph._build` but the default activations; see `freewire.files.formats.read_graph`."""
    table = _Table(path, data)
    nodes: list[_Node] = []
    ends = (_Ends(), _Ends())
    columns: dict[str, list[Any]] = {name: [] for name in EDGE_COLUMNS if name in table.places}
    for begin, cells in table.chunks():
        if "" in cells[0]:
            table.refuse(begin + cells[0].index(""), "a node name as source", "an empty cell")
        edge_rows, cells = _without_nodes(table, begin, cells, nodes)
        for end, column in zip(ends, cells, strict=False):
            end.extend(column)
        for name, place in table.places.items():
            if name in columns:
                columns[name].append(_column(table, name, edge_rows, cells[place]))
            elif name in NODE_COLUMNS and any(cells[place]):
                row, text = next((r, text) for r, text in zip(edge_rows, cells[place], strict=True) if text)
                table.refuse(row, f"no {name} on an edge", repr(text), "Rename that column.")
    return _arguments(table, nodes, ends, columns, inputs, outputs)


class _Table:
    """A file's cells, chunk by chunk, and where a row stands when it is wrong."""

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
                f"{first.strip()[:60]!r}. Write source and target of an edge on each line."
            )
        self.width = len(head[0])
        self.has_header = _is_header(head)
        #: Where each column that has a meaning stands; source and target come first in what `chunks` gives.
        self.order = [0, 1, 2][: self.width]
        self.places = {"weight": 2} if self.width > 2 else {}
        if self.has_header:
            self._place([cell.strip().casefold() for cell in head[0]])

    def _place(self, header: list[str]) -> None:
        ends = next((pair for pair in ENDS if set(pair) <= set(header)), None)
        # A table written by pandas begins with its index, a column without a name.
        first = 1 if not header[0] and self.width > 2 else 0
        self.order = [first, first + 1] if ends is None else [header.index(end) for end in ends]
        self.places = {}
        for name in (*EDGE_COLUMNS, *NODE_COLUMNS):
            columns = [k for k, cell in enumerate(header) if cell == name and k not in self.order[:2]]
            if len(columns) > 1:
                self.refuse(-1, f"one column {name}", str(len(columns)), "Rename the others.")
            if columns:
                self.places[name] = len(self.order)
                self.order.append(columns[0])

    def _rows(self, size: int, skip: int = 0) -> Iterator[list[list[str]]]:
        """Rows that are not empty, but the first ``skip``, so many at a time."""
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
        """(number of the first row, the columns of `order` without outer spaces) of each chunk."""
        begin = 0
        for chunk in self._rows(CHUNK, skip=int(self.has_header)):
            if {*map(len, chunk)} != {self.width}:
                k = next(k for k, row in enumerate(chunk) if len(row) != self.width)
                self.refuse(begin + k, f"{self.width} cells as in the first line", str(len(chunk[k])))
            columns: list[Sequence[str]] = list(zip(*chunk, strict=True))
            yield begin, [list(map(str.strip, columns[k])) for k in self.order]
            begin += len(chunk)

    def refuse(self, row: int, expected: str, got: str, remedy: str = "Correct it.") -> NoReturn:
        """Raise about a row, counted from 0 after the header."""
        number = row + self.has_header
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter, skipinitialspace=True)
        # The lines before it: a row may take several lines, or none of its own after an empty one.
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
    except csv.Error:  # reading the rows says it again, with the line
        return 0


def _is_header(head: list[list[str]]) -> bool:
    """Whether the first row names columns: by known names, or since it has no number and numbers stand below."""
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


def _without_nodes(
    table: _Table, begin: int, cells: list[list[str]], nodes: list[_Node]
) -> tuple[Sequence[int], list[list[str]]]:
    """(row numbers, columns) of the edges; the nodes that the other rows declare go to ``nodes``."""
    rows = range(begin, begin + len(cells[0]))
    if "" not in cells[1]:
        return rows, cells
    for k, row in enumerate(rows):
        if cells[1][k]:
            continue
        for name in EDGE_COLUMNS:
            if name in table.places and cells[table.places[name]][k]:
                table.refuse(row, "a target, since there is a " + name, "an empty cell")
        found = {name: cells[table.places[name]][k] for name in NODE_COLUMNS if name in table.places}
        nodes.append(_Node(row, cells[0][k], found))
    edges = [k for k, target in enumerate(cells[1]) if target]
    return [rows[k] for k in edges], [[column[k] for k in edges] for column in cells]


class _Ends:
    """One end of each edge: numbers while all are integers, texts from the first that is none."""

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


def _column(table: _Table, name: str, rows: Sequence[int], cells: Sequence[str]) -> Any:
    """An edge column as numbers."""
    if name == "weight":
        return _floats(table, name, rows, cells)
    known: dict[str, Any] = _SIGNS if name == "sign" else _FLAGS
    found = [known.get(cell.lower()) for cell in cells]
    if None in found:
        k = found.index(None)
        expected = "-1, 0 or 1" if name == "sign" else "true or false"
        table.refuse(rows[k], f"{expected} as {name}", repr(cells[k]), f"Correct it or rename column {name}.")
    return np.array(found, np.int8 if name == "sign" else np.bool_)


def _floats(table: _Table, name: str, rows: Sequence[int], cells: Sequence[str]) -> Any:
    """Numbers, NaN where a cell is empty."""
    try:
        found = np.fromiter(
            map(float, cells if "" not in cells else (c or "nan" for c in cells)), np.float64, len(cells)
        )
    except ValueError:
        found = np.full(len(cells), np.nan)
    for k in np.flatnonzero(np.isnan(found)).tolist() if any(cells) else ():
        if cells[k] and (not _is_number(cells[k]) or math.isnan(float(cells[k]))):
            table.refuse(rows[k], f"a number as {name}", repr(cells[k]), f"Correct it or rename column {name}.")
    return found


def _arguments(
    table: _Table,
    nodes: list[_Node],
    ends: tuple[_Ends, _Ends],
    columns: dict[str, list[Any]],
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
) -> dict[str, Any]:
    seen: dict[str, int] = {}
    for node in nodes:
        if seen.setdefault(node.name, node.row) != node.row:
            table.refuse(node.row, "each node declared once", f"{node.name!r} again")
    names, src, dst = _numbered([node.name for node in nodes], ends)
    # Declared nodes stand first, so row k of `nodes` is node k.
    codes = np.full((2, len(names)), UNSET, np.uint8)
    for codes_of, name, known in zip(codes, NODE_COLUMNS, (ACTIVATIONS, AGGREGATIONS), strict=False):
        for k, node in enumerate(nodes):
            if text := node.cells.get(name):
                if text not in known:
                    table.refuse(node.row, f"one of {', '.join(known)} as {name}", repr(text))
                codes_of[k] = known.index(text)
    bias = np.full(len(names), np.nan)
    bias[: len(nodes)] = _floats(
        table, "bias", [node.row for node in nodes], [node.cells.get("bias", "") for node in nodes]
    )
    index = {} if inputs is None and outputs is None else {name: i for i, name in enumerate(names)}
    found = {
        name: _marked(table, nodes, name[:-1]) if given is None else read.lookup(given, names, index, name)
        for name, given in (("inputs", inputs), ("outputs", outputs))
    }
    return dict(
        names=names,
        src=src,
        dst=dst,
        **found,
        activation=codes[0],
        aggregation=codes[1],
        bias=bias,
        **{name: np.concatenate(parts) for name, parts in columns.items() if parts},
    )


def _numbered(declared: list[str], ends: tuple[_Ends, _Ends]) -> tuple[Sequence[Hashable], IntArray, IntArray]:
    """(names, src, dst): declared nodes first, then the others, by size if integers, else as they first occur."""
    numbers = integers(declared)
    if numbers is not None and all(kind.texts is None for kind in ends):
        given = [numbers, *(kind.as_numbers() for kind in ends)]
        found, where = np.unique(np.concatenate(given), return_inverse=True)
        rank = np.full(len(found), -1, np.int64)
        rank[where[: len(declared)]] = np.arange(len(declared))
        rank[rank < 0] = np.arange(len(declared), len(found))
        names = np.empty_like(found)
        names[rank] = found
        src, dst = np.split(rank[where[len(declared) :]], 2)
        exact = range(len(names)) if np.array_equal(names, np.arange(len(names))) else tuple(names.tolist())
        return exact, src, dst
    sources, targets = (kind.as_texts() for kind in ends)
    met = dict.fromkeys(chain(declared, chain.from_iterable(zip(sources, targets, strict=True))))
    index = {name: i for i, name in enumerate(met)}
    src, dst = (np.fromiter(map(index.__getitem__, kind), np.int64, len(kind)) for kind in (sources, targets))
    return tuple(index), src, dst


def _marked(table: _Table, nodes: list[_Node], mark: str) -> IntArray | None:
    """Nodes by their place in column ``mark``; None where no node has one."""
    places = []
    for k, node in enumerate(nodes):
        if text := node.cells.get(mark):
            place = integers([text])
            if place is None and text.lower() not in ("true", "false"):
                table.refuse(node.row, f"a place, true or false as {mark}", repr(text))
            places.append((_FLAGS[text.lower()] if place is None else int(place[0]), k, place is not None))
    if not places:
        return None
    return np.array([k for place, k, exact in sorted(places) if exact or place], np.int64)


# ---------------------------------------------------------------------------------- writing


def write_csv(graph: Graph, file: IO[str]) -> None:
    """Write a graph's rows; nodes are declared only where their edges alone would not bring them back."""
    names = texts(graph.nodes)
    declare = not _plain(graph, names)
    edge_columns = [name for name in EDGE_COLUMNS if getattr(graph, name) is not None]
    node_columns: dict[str, list[Any]] = _node_columns(graph) if declare else {}
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["source", "target", *edge_columns, *node_columns])
    if declare:
        writer.writerows(zip(names, *[repeat("")] * (1 + len(edge_columns)), *node_columns.values(), strict=False))
    show: dict[str, Callable[[Any], list[Any]]] = {
        "weight": _cells,
        "sign": lambda part: [value or "" for value in part.tolist()],
        "frozen": lambda part: ["true" if value else "" for value in part.tolist()],
    }
    for begin in range(0, graph.num_edges, CHUNK):
        part = slice(begin, begin + CHUNK)
        src, dst = (map(names.__getitem__, end.tolist()) for end in graph.edge_index[:, part])
        values = [show[name](getattr(graph, name)[part]) for name in edge_columns]
        writer.writerows(zip(src, dst, *values, *[repeat("")] * len(node_columns), strict=False))


def _cells(numbers: Any) -> list[Any]:
    """Numbers, an empty cell for NaN; csv writes a float so that it reads back exactly."""
    values: list[Any] = numbers.tolist()
    return ["" if value != value else value for value in values] if np.isnan(numbers).any() else values


def _node_columns(graph: Graph) -> dict[str, list[Any]]:
    empty: list[Any] = [""] * graph.num_nodes
    columns = {"activation": list(empty)}
    if graph.aggregation.any():
        columns["aggregation"] = list(empty)
    known = {"activation": ACTIVATIONS, "aggregation": AGGREGATIONS}
    for name, column in columns.items():
        codes = getattr(graph, name).tolist()
        for i in graph.computed_index.tolist():
            column[i] = known[name][codes[i]]
    if graph.bias is not None:
        columns["bias"] = _cells(graph.bias)
    for name, ends in (("input", graph.input_index), ("output", graph.output_index)):
        columns[name] = list(empty) if len(ends) else ["false"] * graph.num_nodes
        for place, i in enumerate(ends.tolist()):
            columns[name][i] = place
    return columns


def _plain(graph: Graph, names: list[str]) -> bool:
    """Whether the edges alone bring the graph back: its nodes in their order, its inputs, its outputs, all defaults."""
    src, dst = graph.edge_index
    usual = np.full(graph.num_nodes, ACTIVATIONS.index("relu"), np.uint8)
    usual[graph.output_index] = usual[graph.input_index] = ACTIVATIONS.index("linear")
    degrees = [np.bincount(end, minlength=graph.num_nodes) for end in (dst, src)]
    met, first = np.unique(graph.edge_index.T.ravel(), return_index=True)
    numbers = integers(names)
    ordered = np.diff(first) > 0 if numbers is None else np.diff(numbers) > 0
    return bool(
        graph.bias is None
        and not graph.aggregation.any()
        and np.array_equal(graph.activation, usual)
        and len(met) == graph.num_nodes
        and ordered.all()
        and np.array_equal(graph.input_index, np.flatnonzero(degrees[0] == 0))
        and np.array_equal(graph.output_index, np.flatnonzero(degrees[1] == 0))
    )
