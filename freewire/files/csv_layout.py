# SPDX-License-Identifier: MIT
"""What the cells of a CSV file mean: the delimiter, whether the first row is a header, and which columns are read.

`find_layout` decides from the first rows and the caller's arguments; `freewire.files.read_graph` states the rule. What
could be read in two ways raises a `FileFormatError` that says which, and which argument decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from freewire.errors import cut, shown
from freewire.files.columns import ENDS, Columns, Options, Roles, pairs, plain, positions
from freewire.files.csv_rows import CsvFile
from freewire.files.names import integers
from freewire.graph.arguments import as_number
from freewire.graph.fields import EDGE_FIELDS

#: The most columns of a table; a matrix of edges has more.
MAX_COLUMNS = 1000

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_DECLARED = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_CHOICE = "Pass header=True or header=False."


@dataclass
class Layout:
    """How a file's cells are read.

    Attributes:
        delimiter: The character between cells.
        width: Number of columns.
        header: Whether the columns have names.
        first: How many rows are names: 1 if the first row is, else 0.
        names: Of the columns; empty where they have none.
        roles: The columns that are read.
        only_numbers: The first row is a header only if all names below are integers.
    """

    delimiter: str
    width: int
    header: bool = False
    first: int = 0
    names: list[str] = field(default_factory=list)
    roles: Roles = field(default_factory=lambda: Roles([0, 1]))
    only_numbers: bool = False

    @property
    def order(self) -> list[int]:
        """Columns that are read: source, target, those of fields, those that may say that an edge has no direction."""
        roles = self.roles
        return [*roles.ends, *(k for _, k in roles.fields), *(k for k, _ in roles.undirected)]

    @property
    def end_names(self) -> list[str]:
        """The names of the columns of source and target; empty where they have none."""
        return [self.names[k] for k in self.roles.ends] if self.names else []


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
        self.columns = Columns(file.path, self.names, options, file.refuse, self.is_numeric)
        self.layout = Layout(delimiter, len(self.names))
        self.find_columns()
        self.layout.first = int(self.layout.header and self.rows is self.tables[delimiter])
        if not above_is_header and not self.layout.header:
            self.refuse_comments(lines, range(bool(declared), first))

    def refuse_comments(self, lines: list[str], numbers: range) -> None:
        """Refuse comments at the top that could be edges: of as many cells as rows have, and above names of nodes."""
        if integers([self.names[k] for k in self.layout.roles.ends]) is not None:
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
        named = all(isinstance(end, str) and positions(row, end) for end in ends)
        return named or bool(pairs([plain(name) for name in row]))

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
        columns, header = self.columns, self.options.header
        found = pairs(columns.plain) if header is not False else []
        if self.options.named() or (self.options.source is None and found):
            header = True
        ends = columns.given_ends()
        if ends is not None:
            self.layout.header = self.is_header(ends) if header is None else header
        elif found:
            self.layout.header = True
            ends = self.known(found)
        else:
            if header is None:
                self.refuse_matrix()
            self.layout.header = self.is_header([0, 1]) if header is None else header
            ends = columns.other_ends(self.is_index) if self.layout.header else self.without_header()
        if self.layout.header:
            self.layout.names = self.names
            self.layout.roles = columns.roles(ends)
        else:
            self.layout.roles = self.roles_without_header(ends)

    def known(self, found: list[tuple[str, str]]) -> list[int]:
        """The ends by known names, unless these could be names of nodes."""
        ends = self.columns.known_ends(found)
        # The header that write_csv writes is one above any names.
        if found[0] != ENDS[0] and self.options.header is None:
            below = {row[k].casefold() for row in self.rows[1:] for k in ends if k < len(row)}
            if any(self.names[k].casefold() in below for k in ends):
                self.refuse_row()
        return ends

    def is_index(self) -> bool:
        """Whether the first column holds integers."""
        return integers([row[0] for row in self.rows[1:] if row]) is not None

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, as far as the first rows tell."""
        cells = [row[column] for row in self.rows[1:] if column < len(row) and row[column]]
        return bool(cells) and all(map(_is_number, cells))

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
            self.columns.refuse_ends("source, target and perhaps weight where there is no header", [], got)
        return [0, 1]

    def roles_without_header(self, ends: list[int]) -> Roles:
        """The columns of the caller's numbers, and a third column as the weight."""
        roles = Roles(ends)
        given = {"weight": self.options.weight, "sign": self.options.sign}
        if given["weight"] is None and self.layout.width == 3 and ends == [0, 1] and given["sign"] != 2:
            given["weight"] = 2
        for entry in EDGE_FIELDS:
            column = given.get(entry.name)
            if column is not None and column is not False:
                self.columns.add(roles, entry, self.columns.given(entry.name, column))
        return roles

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


def _is_number(text: str) -> bool:
    try:
        as_number(text)
    except ValueError:
        return False
    return True
