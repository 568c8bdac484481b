# SPDX-License-Identifier: MIT
"""What the cells of a CSV file mean: the delimiter, whether the first row is a header, and which columns are read.

`find_layout` decides from the first rows and the caller's arguments; `freewire.files.read_graph` states the rule. What
could be read in two ways raises a `FileFormatError` that says which, and which argument decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from freewire.errors import FileFormatError, GraphError, cut, shown
from freewire.files.csv_rows import CsvFile
from freewire.files.names import integers
from freewire.graph.arguments import as_number, whole
from freewire.graph.field_types import Field
from freewire.graph.fields import EDGE_FIELDS, NODE_FIELDS, UNDIRECTED

#: Names of the two columns of an edge, as `_plain` makes them, from: networkx, Gephi, igraph, SNAP, neo4j, numpy users,
#: neuPrint, FlyWire, MICrONS and the tables of C. elegans.
ENDS = (
    *((f"source{what}", f"target{what}") for what in ("", "id", "node", "nodeid", "name")),
    *((f"src{what}", f"dst{what}") for what in ("", "id")),
    *((f"from{what}", f"to{what}") for what in ("", "id", "node", "nodeid", "name")),
    *((f"start{what}", f"end{what}") for what in ("", "id", "node", "nodeid")),
    *((f"pre{what}", f"post{what}") for what in ("", "id", "syn", "synaptic", "synapticid", "name", "cell", "cellid")),
    *((f"pre{what}", f"post{what}") for what in ("neuron", "neuronid", "synapticneuron", "rootid", "ptrootid")),
    *((f"{what}pre", f"{what}post") for what in ("id", "bodyid", "rootid")),
    *((f"node{one}", f"node{two}") for one, two in ("12", "ab")),
    *((f"neuron{one}", f"neuron{two}") for one, two in ("12", "ab")),
    ("source", "destination"),
    ("source", "dest"),
    ("src", "dest"),
    ("origin", "destination"),
    ("sender", "receiver"),
    ("u", "v"),
    (":startid", ":endid"),
)
#: Names of columns that do not say which end is which.
UNCLEAR = (("head", "tail"), ("parent", "child"), ("row", "col"), ("row", "column"), ("i", "j"))
#: The most columns of a table; a matrix of edges has more.
MAX_COLUMNS = 1000

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_DECLARED = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_CHOICE = "Pass header=True or header=False."
#: What the messages about nodes say.
FOR_NODES = "Node attributes and nodes without edges are read from .json."


@dataclass(frozen=True)
class Options:
    """The caller's arguments for CSV; see `freewire.files.read_graph`."""

    source: str | int | None = None
    target: str | int | None = None
    header: bool | None = None

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            given = getattr(self, name)
            if given is None:
                if self.source is not None or self.target is not None:
                    raise GraphError(
                        f"{name}: expected a column, as for the other end, got None. Pass both or neither."
                    )
                continue
            if not isinstance(given, str):
                number = whole(given)
                if number is None:
                    raise GraphError(f"{name}: expected a column's name or number, got {shown(given)}. Correct it.")
                if number < 0:
                    raise GraphError(f"{name}: expected a column's number from 0, got {shown(given)}. Correct it.")
                object.__setattr__(self, name, number)  # an int, also for numpy's integers
            if isinstance(given, str) and self.header is False:
                raise GraphError(
                    f"{name}: expected a column's number, since header=False, got {shown(given)}. Pass its number."
                )
        if self.header is not None and not isinstance(self.header, bool):
            raise GraphError(f"header: expected True, False or None, got {shown(self.header)}. Correct it.")


@dataclass
class Layout:
    """How a file's cells are read.

    Attributes:
        delimiter: The character between cells.
        width: Number of columns.
        header: Whether the columns have names.
        first: How many rows are names: 1 if the first row is, else 0.
        order: Columns that are read: source, target, those of ``fields``, those of ``undirected``.
        fields: The edge fields that have a column.
        undirected: For each column that may say that an edge has no direction, the cells that do, in lower case.
        only_numbers: The first row is a header only if all names below are integers.
    """

    delimiter: str
    width: int
    header: bool = False
    first: int = 0
    order: list[int] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    undirected: list[frozenset[str]] = field(default_factory=list)
    only_numbers: bool = False


def find_layout(file: CsvFile, options: Options) -> Layout:
    """Decide how a file is read, and set ``file.skip``; FileFormatError where that is not certain."""
    return _Finder(file, options).layout


class _Finder:
    """The first rows of a file, and what they decide, step by step."""

    def __init__(self, file: CsvFile, options: Options) -> None:
        self.file = file
        self.options = options
        lines = file.head()
        declared = _DECLARED.fullmatch(lines[0]) if lines else None
        if declared and declared[1] not in _DELIMITERS:
            file.refuse("a comma, semicolon or tab as separator", shown(declared[1]), "Replace the separators.")
        starts = [k for k, line in enumerate(lines) if k >= bool(declared) and line.strip()[:1] not in ("", "#")]
        if declared and not starts and file.whole:
            got = shown(lines[0].strip())
            file.refuse(f"edges after the line {got}", "none", "Write the source and target of one edge on each line.")
        first = starts[0] if starts else 0
        file.skip, file.line = first, first + 1
        self.first_line = (lines or [""])[first]
        self.tables = {d: file.sample(lines[first:], d) for d in ([declared[1]] if declared else _DELIMITERS)}
        # A comment may hold the names of the columns, as in SNAP's edge lists.
        above = lines[first - 1].lstrip("#") if first > bool(declared) else ""
        self.above = {d: next(iter(file.sample([above], d)), []) for d in self.tables}
        delimiter = self.delimiter()
        self.rows = self.tables[delimiter]
        self.names = self.rows[0] if self.rows else []
        if len(self.names) < 2:
            next(file.rows(delimiter), None)  # raises if that row cannot be parsed
            file.line = first + 1
            file.refuse(
                "two columns or more with a comma, semicolon or tab between them",
                shown(self.first_line.strip()[:60]),
                "Write the source and target of one edge on each line.",
            )
        if len(self.names) > MAX_COLUMNS:
            remedy = "Write one edge on each line; a matrix is read by Graph.from_adjacency."
            file.refuse(f"at most {MAX_COLUMNS} columns", f"{len(self.names):,}", remedy)
        above_is_header = len(self.above[delimiter]) == len(self.names) and self.is_known(self.above[delimiter])
        if above_is_header and options.header is None and not self.is_known(self.names):
            self.rows = [self.above[delimiter], *self.rows]
            self.names = self.rows[0]
        self.plain = [_plain(name) for name in self.names]
        self.layout = Layout(delimiter, len(self.names))
        self.find_columns()
        self.layout.first = int(self.layout.header and self.rows is self.tables[delimiter])
        if not above_is_header and not self.layout.header:
            self.refuse_comments(lines, range(bool(declared), first))

    def refuse_comments(self, lines: list[str], numbers: range) -> None:
        """Refuse comments at the top that could be edges: of as many cells as rows have, and above names of nodes."""
        if integers([self.names[k] for k in self.layout.order[:2]]) is not None:
            return
        for k in numbers:
            if len(next(iter(self.file.sample([lines[k]], self.layout.delimiter)), [])) == self.layout.width:
                self.file.line = k + 1
                self.file.refuse(
                    "a comment or an edge",
                    "a line that begins with #, which could be either",
                    "Remove the line if it is a comment; put quotes around the name if it is one.",
                )

    # ------------------------------------------------------------------ the delimiter

    def is_known(self, row: list[str]) -> bool:
        """Whether a row holds known names of columns, or those of the caller."""
        ends = (self.options.source, self.options.target)
        named = all(isinstance(end, str) and _positions(row, end) for end in ends)
        return named or bool(_pairs([_plain(name) for name in row]))

    def delimiter(self) -> str:
        tables = {d: rows for d, rows in self.tables.items() if rows and len(rows[0]) > 1}
        for delimiter, rows in tables.items():
            if self.is_known(rows[0]) or (
                len(self.above[delimiter]) == len(rows[0]) and self.is_known(self.above[delimiter])
            ):
                return delimiter
        even = [d for d, rows in tables.items() if len({len(row) for row in rows}) == 1]
        if len(even) > 1:
            found = " or a ".join(_DELIMITERS[d] for d in even)
            self.file.refuse(
                "one character that separates cells",
                f"rows that a {found} could separate",
                f"Write 'sep={even[0]}' or 'sep={even[1]}' as the first line of the file.",
            )
        return even[0] if even else max(self.tables, key=lambda d: len(self.tables[d][0]) if self.tables[d] else 0)

    # ------------------------------------------------------------------ the header and the columns

    def find_columns(self) -> None:
        source, target, header = self.options.source, self.options.target, self.options.header
        pairs = _pairs(self.plain) if header is not False else []
        if isinstance(source, str) or isinstance(target, str) or (source is None and pairs):
            header = True
        if source is not None and target is not None:
            ends = [self.given("source", source), self.given("target", target)]
            if ends[0] == ends[1]:
                raise GraphError(f"target: expected another column than source, got {shown(target)}. Correct it.")
            self.layout.header = self.is_header(ends) if header is None else header
        elif pairs:
            self.layout.header = True
            ends = self.known(pairs)
        else:
            if header is None:
                self.refuse_matrix()
            self.layout.header = self.is_header([0, 1]) if header is None else header
            ends = self.unnamed() if self.layout.header else self.without_header()
        self.layout.order = ends
        if self.layout.header:
            self.name_columns()
        elif self.layout.width == 3 and ends == [0, 1]:
            self.layout.order = [0, 1, 2]
            self.layout.fields = [entry for entry in EDGE_FIELDS if entry.name == "weight"]

    def given(self, argument: str, column: str | int) -> int:
        """The number of a column of the caller's."""
        found = _positions(self.names, column) if isinstance(column, str) else [column]
        if len(found) == 1 and found[0] < self.layout.width:
            return found[0]
        if len(found) > 1:
            remedy = f"Correct {argument}=, or pass the column's number."
            self.file.refuse(f"one column of the name, the {argument}", f"{len(found)} columns {shown(column)}", remedy)
        got = shown(column) if isinstance(column, str) else f"number {shown(column)}"
        raise FileFormatError(
            f"{argument}: expected one of the {_listed(self.names)} of {self.file.path}, got {got}. Correct it."
        )

    def known(self, pairs: list[tuple[str, str]]) -> list[int]:
        """The ends by names that are known, unless several are."""
        found = [[k for k, name in enumerate(self.plain) if name == end] for end in pairs[0]]
        if len(pairs) > 1 or any(len(columns) > 1 for columns in found):
            columns = [
                name for name, plain in zip(self.names, self.plain, strict=True) if any(plain in p for p in pairs)
            ]
            self.refuse_columns("one column for each end of an edge", columns)
        if pairs[0] in UNCLEAR:
            self.refuse_columns("columns whose names say which end is which", self.names)
        ends = [columns[0] for columns in found]
        # The header that write_csv writes is one above any names.
        if pairs[0] != ENDS[0] and self.options.header is None:
            below = {row[k].casefold() for row in self.rows[1:] for k in ends if k < len(row)}
            if any(self.names[k].casefold() in below for k in ends):
                self.refuse_row()
        return ends

    def is_header(self, ends: list[int]) -> bool:
        """Whether the first row, of no known names, is a header; refused where that is not certain."""
        row, below = self.names, self.rows[1:]
        if not row[0] and len(row) > 2 and all(row[1:]) and not any(map(_is_number, row[1:])):
            return True  # pandas gives its row numbers no name
        if not all(row[k] for k in ends):
            return False
        if not {len(cells) for cells in below} <= {len(row)}:
            return False  # raised when rows are read
        columns = list(zip(*below, strict=True))
        numbered = bool(columns) and all(integers(columns[k]) is not None for k in ends)
        if integers([row[k] for k in ends]) is not None:
            return False
        if any(map(_is_number, row)):
            if numbered:  # a node of that name among numbers, or a column that is named by a number
                self.refuse_row()
            return False
        if numbered:
            self.layout.only_numbers = True
            return True
        if any(row[k] for k in range(2, len(row)) if k not in ends):  # not a weight
            return True
        self.refuse_row()

    def refuse_row(self) -> NoReturn:
        """Refuse a first row that could be a header or an edge."""
        first = ", ".join(cut(shown(name), 60) for name in self.names[:3])
        self.file.refuse("a first row that is clearly a header or an edge", f"{first}, which could be either", _CHOICE)

    def without_header(self) -> list[int]:
        if self.layout.width > 3:
            got = f"{self.layout.width} columns without names"
            self.refuse_columns("source, target and perhaps weight where there is no header", [], got)
        return [0, 1]

    def unnamed(self) -> list[int]:
        """The ends among columns of unknown names: the only two that are neither a field nor pandas' row numbers."""
        fields = {entry.name for entry in (*EDGE_FIELDS, *NODE_FIELDS)}
        ends = [k for k, name in enumerate(self.names) if name.casefold() not in fields]
        below = [row[0] for row in self.rows[1:] if row]
        if len(ends) == 3 and not self.names[0] and integers(below) is not None:
            ends = ends[1:]
        if len(ends) != 2:
            self.refuse_columns("two columns that are the ends of an edge", self.names)
        return ends

    def name_columns(self) -> None:
        """Find the columns of fields, by their names."""
        layout = self.layout
        typed = any(name.startswith(":") for name in self.plain)  # neo4j writes name:type
        names = [name.casefold().split(":")[0] if typed else name.casefold() for name in self.names]
        others = {k: name for k, name in enumerate(names) if k not in layout.order}
        for entry in EDGE_FIELDS:
            columns = [k for k, name in others.items() if name == entry.name]
            if len(columns) > 1:
                self.file.refuse(f"one column {entry.name}", str(len(columns)), "Rename the others.")
            if columns:
                layout.fields.append(entry)
                layout.order += columns
        for entry in NODE_FIELDS:
            if entry.name in others.values():
                self.file.refuse("columns of edges", f"a column {entry.name}", f"Rename that column. {FOR_NODES}")
        reversed_types = {"r", "rp"} if self.plain[layout.order[0]] == "neuron1" else set()  # R is the reverse of S
        for name, words in UNDIRECTED.items():
            for k in (k for k, other in others.items() if other == name):
                layout.undirected.append(words | reversed_types if name == "type" else words)
                layout.order.append(k)

    # ------------------------------------------------------------------ refusing

    def refuse_matrix(self) -> None:
        """Refuse a table whose first row and first column have the same names."""
        below = self.rows[1 : self.layout.width]
        firsts = [row[0] if row else None for row in below]
        if len(below) >= 2 and firsts == self.names[1 : len(below) + 1]:
            self.file.refuse(
                "an edge on each line",
                "a matrix, whose rows could be the sources or the targets",
                "Read it with numpy, and pass it to Graph.from_adjacency; or pass header= if it is not a matrix.",
            )

    def refuse_columns(self, expected: str, columns: Sequence[str], got: str = "") -> NoReturn:
        remedy = "Pass source= and target=, each a column's name or number."
        self.file.refuse(expected, got or _listed(columns), remedy)


def _plain(name: str) -> str:
    """A column's name without what programs write differently: case, separators, and neo4j's group of nodes."""
    return re.sub(r"[\s_.-]|\([^()]*\)$", "", name.casefold())


def _pairs(plain: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of known names of which both are there."""
    there = set(plain)
    known = [pair for pair in ENDS if there.issuperset(pair)]
    return known or [pair for pair in UNCLEAR if there.issuperset(pair)]


def _positions(names: Sequence[str], name: str) -> list[int]:
    """The columns of a name, or if there are none, those of the same name in other case."""
    name = name.strip()
    exact = [k for k, other in enumerate(names) if other == name]
    return exact or [k for k, other in enumerate(names) if other.casefold() == name.casefold()]


def _is_number(text: str) -> bool:
    try:
        as_number(text)
    except ValueError:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    return "columns " + cut(", ".join(cut(shown(name), 40) for name in names[:20]), 300)
