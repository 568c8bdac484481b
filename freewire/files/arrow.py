# SPDX-License-Identifier: MIT
"""Tables in Parquet and Feather files, read by the optional package pyarrow, column by column, as arrays.

No Python object is made per row. A file is data of anybody's: its bounds are checked before columns are decoded, and
Feather's, whose buffers are read as they are, once more afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from freewire.errors import BuildError, FileFormatError, cut, shown
from freewire.files.compression import ALWAYS_ALLOWED, MAX_RATIO
from freewire.graph.arguments import IntArray
from freewire.graph.field_types import Field

#: Name of each format, and the bytes that its files begin with.
_BEGINNINGS = {"Parquet": b"PAR1", "Feather": b"ARROW1", "Feather of version 1": b"FEA1"}
#: By suffix.
_FORMATS = {".parquet": "Parquet", ".feather": "Feather"}
#: Bytes that a row takes at least once it is read.
_ROW = 16
#: Rows converted at a time.
_PART = 2**18


def pyarrow() -> Any:
    """The package, which is optional.

    Raises:
        BuildError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise BuildError(
            "pyarrow: expected it to be installed, which reads .parquet and .feather, got no such package. Run: pip "
            "install 'freewire[tables]'."
        ) from None
    return pyarrow


class ArrowTable:
    """An open file's columns, each read when it is asked for.

    Args:
        path: Its path, for errors; the suffix names the format.
        file: The file, which can seek.

    Attributes:
        names: Of the columns.
        num_rows: How many rows there are.

    Raises:
        BuildError: pyarrow is not installed.
        FileFormatError: It is a file of another format, or damaged, or decompresses to very many rows.
    """

    def __init__(self, path: str, file: IO[bytes]) -> None:
        self.path = path
        self.arrow = pyarrow()
        self.file = file
        self.format = _FORMATS[os.path.splitext(path.lower())[1]]
        beginning = file.read(8)
        found = next((name for name, first in _BEGINNINGS.items() if beginning.startswith(first)), None)
        if found != self.format:
            remedy = "Check the file." if found is None else "Rename it."
            if found == "Feather of version 1":
                remedy = "Write it once more: pyarrow.feather.write_feather writes version 2."
            raise FileFormatError(f"{path}: expected {self.format}, got {found or 'something else'}. {remedy}")
        file.seek(0)
        with self.errors():
            if self.format == "Parquet":
                self.parquet = self.arrow.parquet.ParquetFile(file)
                self.schema, self.num_rows = self.parquet.schema_arrow, self.parquet.metadata.num_rows
            else:
                self.schema = self.arrow.ipc.open_file(file).schema
                self.num_rows = self._count_rows()
            self.names: list[str] = self.schema.names
        twice = next((name for k, name in enumerate(self.names) if name in self.names[:k]), None)
        if twice is not None and self.format == "Parquet":  # whose columns are read by name
            self.refuse("columns of different names", f"{shown(twice)} twice", "Rename one of them.")
        size = file.seek(0, os.SEEK_END)
        if self.num_rows * _ROW > max(ALWAYS_ALLOWED, MAX_RATIO * size):
            most = max(ALWAYS_ALLOWED, MAX_RATIO * size) // _ROW
            self.refuse(f"at most {most:,} rows in {size:,} bytes", f"{self.num_rows:,}", "Write it uncompressed.")

    # ------------------------------------------------------------------ errors

    def refuse(self, expected: str, got: str, remedy: str, row: int | None = None) -> NoReturn:
        """Raise about the file, or one of its rows, from 0."""
        where = "" if row is None else f", row {row}"
        raise FileFormatError(f"{self.path}{where}: expected {expected}, got {got}. {remedy}")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise `FileFormatError` for a file that pyarrow finds damaged."""
        try:
            yield
        except FileFormatError:
            raise
        except (self.arrow.ArrowException, OSError, ValueError) as error:
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
                raise
            self.refuse(
                f"a whole {self.format} file",
                f"one that pyarrow cannot read ({cut(' '.join(str(error).split()))})",
                "It is damaged, cut short, or has a type of column that pyarrow does not know.",
            )

    # ------------------------------------------------------------------ columns

    def _count_rows(self) -> int:
        """Rows of a Feather file, of which no column is read."""
        reader = self._feather([])
        return sum(reader.get_batch(k).num_rows for k in range(reader.num_record_batches))

    def _feather(self, columns: list[int]) -> Any:
        self.file.seek(0)
        options = self.arrow.ipc.IpcReadOptions(included_fields=columns)
        return self.arrow.ipc.open_file(self.file, options=options)

    def column(self, k: int) -> Any:
        """Column ``k``, a ChunkedArray; of a dictionary's, the values."""
        with self.errors():
            if self.format == "Parquet":
                table = self.parquet.read(columns=[self.names[k]], use_pandas_metadata=False)
                column = table.column(table.schema.get_field_index(self.names[k]))
            else:
                column = self._feather([k]).read_all().column(0)
                column.validate(full=True)
            if self.arrow.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
        if len(column) != self.num_rows:
            got = f"{len(column):,} in column {cut(shown(self.names[k]), 60)}"
            self.refuse(f"{self.num_rows:,} rows", got, "The file is damaged.")
        return column

    @staticmethod
    def _parts(column: Any) -> Iterator[Any]:
        """A column's arrays, so small that little more than what is made of them is alive at once."""
        for chunk in column.chunks:
            for first in range(0, len(chunk), _PART):
                yield chunk.slice(first, _PART)

    def _type(self, k: int) -> Any:
        found = self.schema.field(k).type
        return found.value_type if self.arrow.types.is_dictionary(found) else found

    def is_integer(self, k: int) -> bool:
        """Whether a column holds integers of at most 64 bits."""
        return self.arrow.types.is_integer(self._type(k))

    def is_number(self, k: int) -> bool:
        """Whether a column holds integers or floats."""
        return self.is_integer(k) or self.arrow.types.is_floating(self._type(k))

    def is_text(self, k: int) -> bool:
        """Whether a column holds text."""
        types = self.arrow.types
        views = getattr(types, "is_string_view", lambda _: False)
        return any(is_text(self._type(k)) for is_text in (types.is_string, types.is_large_string, views))

    def values(self, k: int) -> list[Any]:
        """The values of a short column, None where there is none."""
        column = self.column(k)
        with self.errors():
            return column.to_pylist()

    # ------------------------------------------------------------------ nodes

    def coded(self, k: int, what: str) -> tuple[Any, list[NDArray[Any]]]:
        """A column of node names as different names and, chunk by chunk, indices into them.

        Args:
            k: The column.
            what: What it holds, for errors.

        Returns:
            The names by first occurrence, int64 ``[n]`` or a list of texts; and arrays of indices.
        """
        column, pc = self._named(k, what), self.arrow.compute
        with self.errors():
            column = pc.dictionary_encode(column)
            chunks = column.chunks
            codes = [chunk.indices.to_numpy() for chunk in chunks]
            names = chunks[-1].dictionary if chunks else self.arrow.array([], self._type(k))
            if self.is_integer(k):
                return names.to_numpy().astype(np.int64), codes
            texts = names.to_pylist()
        if "" in texts:
            self.refuse(f"a name as {what}", "an empty text", "Name the node.", self._row(k, ""))
        return texts, codes

    def nodes(self, k: int) -> Sequence[Hashable]:
        """A column of a table of nodes."""
        column = self._named(k, "name")
        with self.errors():
            names = column.to_pylist()
        if "" in names:
            self.refuse("a name", "an empty text", "Name the node.", names.index(""))
        return names

    def check_named(self, k: int, what: str) -> None:
        """Refuse a column of a type that cannot hold node names; ``what`` it should hold is for the error."""
        if not self.is_integer(k) and not self.is_text(k):
            remedy = "Write it as int64"
            if self.is_number(k):
                remedy += ", since a float does not hold every id of 64 bits"
            expected = f"integers of 64 bits or text as {what}"
            self.refuse(expected, f"column {cut(shown(self.names[k]), 60)} of {cut(self._type(k), 60)}", f"{remedy}.")

    def _named(self, k: int, what: str) -> Any:
        """A column of node names: text, or integers below 2**63, without gaps."""
        self.check_named(k, what)
        column, pc = self.column(k), self.arrow.compute
        if column.null_count:
            with self.errors():
                row = pc.index(pc.is_null(column), True).as_py()
            self.refuse(f"a node as {what}", "an empty cell", "Name the node, or remove the row.", row)
        if self._type(k) == self.arrow.uint64():
            with self.errors():
                most = pc.max(column).as_py()
                if most is not None and most >= 2**63:
                    row = pc.index(column, self.arrow.scalar(most, column.type)).as_py()
                    self.refuse(f"ids below 2**63 as {what}", str(most), "Rename the node.", row)
        return column

    def _row(self, k: int, value: Any) -> int | None:
        """The first row of a value, from 0."""
        column = self.column(k)
        with self.errors():
            row: int = self.arrow.compute.index(column, self.arrow.scalar(value, column.type)).as_py()
        return None if row < 0 else row

    # ------------------------------------------------------------------ fields

    def field(self, entry: Field, k: int) -> NDArray[Any]:
        """A column as the values ``[rows]`` of an edge field; empty cells have none."""
        types, kind = self.arrow.types, self._type(k)
        allowed = types.is_boolean(kind) if entry.dtype is np.bool_ else types.is_floating(kind)
        if not allowed and not types.is_integer(kind):
            got = f"column {cut(shown(self.names[k]), 60)} of {cut(kind, 60)}"
            self.refuse(f"{entry.expected} as {entry.name}", got, "Write it as another type.")
        column, pc = self.column(k), self.arrow.compute
        with self.errors():
            values = np.empty(len(column), entry.dtype)
            begin = 0
            for chunk in self._parts(column):
                part = pc.fill_null(chunk, False if types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False)
                legal = entry.legal(part)
                if not legal.all():
                    row = int(np.flatnonzero(~legal)[0])
                    remedy = f"Correct it or rename column {cut(self.names[k], 40)}."
                    self.refuse(f"{entry.expected} as {entry.name}", str(part[row]), remedy, begin + row)
                values[begin : begin + len(part)] = part
                if chunk.null_count:
                    missing = chunk.is_null().to_numpy(zero_copy_only=False)
                    values[begin : begin + len(part)][missing] = entry.missing
                begin += len(part)
        return values


def sorted_names(found: Sequence[IntArray]) -> tuple[Sequence[Hashable], list[IntArray]]:
    """All integers that several arrays of names hold, in order, and the place of each array's names among them."""
    numbers = np.unique(np.concatenate(found))
    is_range = not len(numbers) or (numbers[0] == 0 and numbers[-1] == len(numbers) - 1)
    names: Sequence[Hashable] = range(len(numbers)) if is_range else tuple(numbers.tolist())
    return names, [np.searchsorted(numbers, each) for each in found]


def numbered(parts: Sequence[NDArray[Any]], place: IntArray) -> IntArray:
    """``place`` of all indices of ``parts``, one array after the other, int64."""
    found = np.empty(sum(map(len, parts)), np.int64)
    begin = 0
    for whole in parts:
        for first in range(0, len(whole), _PART):
            part = whole[first : first + _PART]
            np.take(place, part, out=found[begin : begin + len(part)], mode="clip")  # clip: not buffered
            begin += len(part)
    return found
