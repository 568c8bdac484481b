# SPDX-License-Identifier: MIT
"""A fast way through large CSV files of plain integers and numbers, where pyarrow is installed.

`freewire.files.csv_format` decides what a file means and reads any. Here only those are read of which it would make the
same arrays: no quotes, no texts as names, no cells that are refused. All others are left to it, and so are errors.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from freewire.errors import BuildError
from freewire.files.arrow import numbered, pyarrow, sorted_names
from freewire.files.csv_layout import Layout
from freewire.files.csv_rows import MAX_CELL, CsvFile
from freewire.graph.arguments import IntArray
from freewire.graph.field_types import Field

#: Smaller files, in bytes, are not worth importing pyarrow for.
LEAST = 2**24
#: Bytes that are parsed at a time.
_BLOCK = 2**21


class PlainEdges(NamedTuple):
    """The edges of a file, as `freewire.files.edge_tables.edge_data` has them."""

    names: Sequence[Hashable]
    src: IntArray
    dst: IntArray
    fields: dict[str, NDArray[Any]]


class _NotPlainError(Exception):
    """The file is left to the other reader."""


def read_plain(file: CsvFile, layout: Layout) -> PlainEdges | None:
    """Read the edges of a file if it is large and plain, else None.

    Args:
        file: The file, with its layout found.
        layout: What its cells mean.
    """
    roles = layout.roles
    if len(file.data) < LEAST or roles.undirected or any(field.dtype is np.bool_ for field, _ in roles.fields):
        return None
    begin = _begin(file, layout)
    if begin is None or not _is_plain(file.data, begin):
        return None
    try:
        arrow = pyarrow()
    except BuildError:
        return None
    try:
        return _Reader(arrow, file, layout, begin).read()
    except (_NotPlainError, arrow.ArrowException) as error:
        if isinstance(error, MemoryError):
            raise
        return None


def _begin(file: CsvFile, layout: Layout) -> int | None:
    """Where the first edge begins, in bytes, if that is certain."""
    begin = 0
    for _ in range(file.skip):
        begin = file.data.find(b"\n", begin) + 1
    if layout.first:
        end = file.data.find(b"\n", begin) + 1
        if not end or file.data.count(b'"', begin, end) % 2 or file.data.find(b"\r", begin, end - 2) >= 0:
            return None  # a row that does not end with its line
        begin = end
    elif not begin and file.data.startswith(b"\xef\xbb\xbf"):
        begin = 3
    return begin


def _is_plain(data: bytes, begin: int) -> bool:
    """Whether rows are lines: no quotes, comments, other breaks, or lines of a length that is refused."""
    body = memoryview(data)[begin:]
    if data.find(b'"', begin) >= 0 or data.find(b"\0", begin) >= 0 or data.find(b"\n#", max(0, begin - 1)) >= 0:
        return False
    if data[begin : begin + 1] == b"#":
        return False
    if data.find(b"\r", begin) >= 0 and data.count(b"\r", begin) != data.count(b"\r\n", begin):
        return False
    if not all(bytes(body[k : k + _BLOCK]).isascii() for k in range(0, len(body), _BLOCK)):
        return False
    while len(data) - begin > MAX_CELL:
        end = data.rfind(b"\n", begin, begin + MAX_CELL)
        if end < 0:
            return False
        begin = end + 1
    return True


class _Reader:
    """Reads the columns of a plain file as texts, some rows at a time, and converts them."""

    def __init__(self, arrow: Any, file: CsvFile, layout: Layout, begin: int) -> None:
        import pyarrow.csv

        self.arrow = arrow
        self.pc = arrow.compute
        self.layout = layout
        columns = [str(k) for k in range(layout.width)]
        read = [str(k) for k in layout.order]
        self.rows = pyarrow.csv.open_csv(
            arrow.BufferReader(arrow.py_buffer(memoryview(file.data)[begin:])),
            arrow.csv.ReadOptions(column_names=columns, block_size=_BLOCK),
            arrow.csv.ParseOptions(delimiter=layout.delimiter, quote_char=False, double_quote=False),
            arrow.csv.ConvertOptions(
                column_types=dict.fromkeys(read, arrow.string()), include_columns=list(dict.fromkeys(read))
            ),
        )

    def read(self) -> PlainEdges:
        """All rows; `_NotPlainError` or an error of pyarrow's where the other reader has to read them."""
        roles = self.layout.roles
        ends: tuple[list[Any], list[Any]] = ([], [])
        fields: dict[str, list[NDArray[Any]]] = {field.name: [] for field, _ in roles.fields}
        for batch in self.rows:
            for parts, k in zip(ends, roles.ends, strict=True):
                parts.append(self.integers(batch.column(str(k))))
            for field, k in roles.fields:
                fields[field.name].append(self.numbers(field, batch.column(str(k))))
        if not ends[0]:
            raise _NotPlainError
        found, codes = [], []
        for parts in ends:
            chunks = self.pc.dictionary_encode(self.arrow.chunked_array(parts)).chunks
            parts.clear()
            found.append(chunks[-1].dictionary.to_numpy())
            codes.append([chunk.indices.to_numpy() for chunk in chunks])
            del chunks
            self.arrow.default_memory_pool().release_unused()
        names, places = sorted_names(found)
        src, dst = (numbered(parts, place) for parts, place in zip(codes, places, strict=True))
        return PlainEdges(names, src, dst, {name: np.concatenate(parts) for name, parts in fields.items()})

    def integers(self, cells: Any) -> Any:
        """Cells as integers of 64 bits, which must be written as Python writes them."""
        numbers = cells.cast(self.arrow.int64())
        if not numbers.cast(self.arrow.string()).equals(cells):
            raise _NotPlainError
        return numbers

    def numbers(self, field: Field, cells: Any) -> NDArray[Any]:
        """Cells as values of a field; an empty one has none."""
        empty = self.pc.equal(cells, "")
        has_empty = self.pc.any(empty).as_py()
        if has_empty:
            cells = self.pc.if_else(empty, "0", cells)
        numbers = cells.cast(self.arrow.float64()).to_numpy()
        if not np.isfinite(numbers).all() or not field.legal(numbers).all():
            raise _NotPlainError
        values = numbers.astype(field.dtype)
        if has_empty:
            values[empty.to_numpy(zero_copy_only=False)] = field.missing
        return values
