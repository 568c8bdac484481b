# SPDX-License-Identifier: MIT
"""The rows of a CSV file, read a few at a time, so that no file takes many times its size in memory.

Python's csv module does the parsing. Here are its bounds (the length of a row, in characters), the lines that are not
rows (``sep=;`` and comments at the top), and the line that each row begins at, for errors.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import NoReturn

from freewire.errors import FileFormatError, cut, shown

#: The most characters of one row.
MAX_ROW = 2**18
#: The most characters of one cell: the default of Python's csv module, which only a whole process can change.
MAX_CELL = 2**17
#: The first rows, from which the layout is found: at most so many lines and characters.
SAMPLE_LINES, SAMPLE_SIZE = 100, 2**18


class CsvFile:
    """A file's bytes as lines and rows.

    Attributes:
        line: Number of the line at which the row that was read last begins, from 1.
        skip: How many lines at the top are not rows.
        whole: Whether `head` returned all lines.
    """

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.data = data
        self.line = 1
        self.skip = 0
        self.whole = False
        self._number = 0  # of the line that was read last
        self._size = 0  # characters of the row that is being read

    def lines(self) -> Iterator[str]:
        """All lines after the first ``skip``, with their ends."""
        self._number = self._size = 0
        file = io.TextIOWrapper(io.BytesIO(self.data), "utf-8-sig", newline="")
        try:
            for line in file:
                self._number += 1
                if self._number <= self.skip:
                    continue
                if line[0] == "#" and not self._size:
                    self.line = self._number
                    remedy = "Remove the line if it is a comment; put quotes around the name if it is one."
                    self.refuse("an edge", "a line that begins with #, which could be a comment or a name", remedy)
                self._size += len(line)
                if self._size > MAX_ROW:
                    self.line = self._number
                    self.refuse(
                        f"rows of at most {MAX_ROW:,} characters", "a longer one", "Write one edge on each line."
                    )
                yield line
        except UnicodeDecodeError:
            self._refuse_bytes()

    def rows(self, delimiter: str) -> Iterator[list[str]]:
        """The cells of each row that has any."""
        # strict: else a quote that is never closed swallows the rest of the file.
        reader = csv.reader(self.lines(), delimiter=delimiter, strict=True, skipinitialspace=True)
        self.line = self.skip + 1
        try:
            for row in reader:
                if row:
                    yield row
                self.line, self._size = self._number + 1, 0
        except csv.Error as error:
            self.line = self._number
            self.refuse(
                f"cells with a {shown(delimiter)} between them",
                f"something else ({cut(error)})",
                "Correct the quotes there; the file may be cut short.",
            )

    def head(self) -> list[str]:
        """The first lines."""
        file = io.TextIOWrapper(io.BytesIO(self.data), "utf-8-sig", newline="")
        found: list[str] = []
        size = 0
        try:
            for line in islice(file, SAMPLE_LINES):
                size += len(line)
                if found and size > SAMPLE_SIZE:
                    return found
                found.append(line[: MAX_ROW + 1])
            self.whole = not file.readline(1)
        except UnicodeDecodeError:
            self._refuse_bytes()
        return found

    def sample(self, lines: list[str], delimiter: str) -> list[list[str]]:
        """The rows of lines at the top, without surrounding spaces; the last has no cells if it cannot be parsed."""
        reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
        rows: list[list[str]] = []
        try:
            for row in reader:
                if row:
                    rows.append([cell.strip() for cell in row])
        except csv.Error:  # raised again, with its line, when rows are read; or the row ends further below
            if self.whole:
                rows.append([])
        return rows

    def refuse(
        self, expected: str, got: str, remedy: str = "Correct it.", error: type[Exception] = FileFormatError
    ) -> NoReturn:
        """Raise about the row at ``line``."""
        raise error(f"{self.path}, line {self.line}: expected {expected}, got {got}. {remedy}")

    def _refuse_bytes(self) -> NoReturn:
        try:
            self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = self.data.count(b"\n", 0, error.start) + 1
            raise FileFormatError(
                f"{self.path}, line {line}: expected UTF-8 text, got the byte 0x{self.data[error.start]:02x}. "
                "Save the file as UTF-8."
            ) from None
        raise AssertionError("decoded at once, but not in parts")
