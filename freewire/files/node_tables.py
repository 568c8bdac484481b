# SPDX-License-Identifier: MIT
"""Tables of nodes, which may accompany a table of edges or a matrix: names in order, and node fields where given."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from freewire.errors import FileFormatError, GraphError, cut, shown
from freewire.files.arrow import ArrowTable
from freewire.files.columns import Refuse, listed, plain
from freewire.files.csv_rows import CsvFile
from freewire.files.edge_tables import Nodes
from freewire.files.names import check_hashes, encoded, integers, printable, repeated
from freewire.graph.arguments import as_number, check_ordered
from freewire.graph.field_types import Field
from freewire.graph.fields import NODE_FIELDS

#: Names of columns that hold node names, as `plain` makes them.
NAMES = (
    *(f"{what}{part}" for what in ("node", "neuron", "cell") for part in ("", "id", "name")),
    *("name", "id", "rootid", "ptrootid", "bodyid"),
)

_REMEDY = "Keep one of them, or pass the names as a list: nodes=[...]."


def read_node_names(given: Any) -> Nodes:
    """Read an argument ``nodes`` that is a list of names; GraphError if it is none, or has a name twice."""
    check_ordered(given, "nodes")
    if not isinstance(given, Iterable) or getattr(given, "ndim", 1) != 1:
        raise GraphError(
            f"nodes: expected the path of a table of nodes or a list of names, got {shown(given)}. Correct it."
        )
    names = tuple(name.item() if isinstance(name, np.generic) else name for name in given)
    try:
        encoded(names, GraphError)  # raises for names that no file can hold
    except TypeError:
        raise GraphError(f"nodes: expected names that can be hashed, got {shown(names)}. Use text.") from None
    twice = repeated(names)
    if twice is not None:
        raise GraphError(f"nodes: expected each name once, got {shown(twice)} twice. Rename one of the two.")
    return Nodes(names)


def read_csv_nodes(path: str, data: bytes) -> Nodes:
    """Read a table of nodes in CSV, with a header; see `freewire.files.read_graph`.

    Args:
        path: Its file, for errors.
        data: Its bytes.

    Raises:
        FileFormatError: No column of names or several; a cell that is no name or no value of its field; a name twice.
    """
    file = CsvFile(path, data)
    first = next(iter(file.head()), "")
    delimiter = max(",;\t", key=first.count)
    rows = file.rows(delimiter)
    header = [cell.strip() for cell in next(rows, [])]
    cells: list[list[str]] = []
    lines: list[int] = []
    for row in rows:
        if len(row) != len(header):
            file.refuse(f"{len(header)} cells as in the first line", str(len(row)))
        cells.append([cell.strip() for cell in row])
        lines.append(file.line)

    def refuse(expected: str, got: str, remedy: str, k: int | None = None) -> Any:
        file.line = 1 if k is None else lines[k]
        file.refuse(expected, got, remedy)

    def column(k: int) -> list[str]:
        return [row[k] for row in cells]

    def are_row_numbers(k: int) -> bool:
        numbers = integers(column(k))
        return numbers is not None and np.array_equal(numbers, np.arange(len(cells)))

    found, fields = _columns(header, refuse, are_row_numbers)
    names: Sequence[Hashable] = column(found)
    for k, name in enumerate(names):
        if not name:
            refuse("a node as name", "an empty cell", "Name the node, or remove the row.", k)
        if not printable(str(name)):
            refuse("a name without control characters", shown(name), "Rename the node; .parquet holds any name.", k)
    numbers = integers(column(found))
    if numbers is not None:
        names = numbers.tolist()
    values = {entry.name: _values(entry, [_parsed(entry, cell) for cell in column(k)], refuse) for entry, k in fields}
    return _checked(path, names, values)


def read_arrow_nodes(path: str, file: IO[bytes]) -> Nodes:
    """Read a table of nodes in one of Arrow's formats; as `read_csv_nodes`, whose arguments it has but for a file."""
    table = ArrowTable(path, file)

    def refuse(expected: str, got: str, remedy: str, k: int | None = None) -> Any:
        table.refuse(expected, got, remedy, k)

    def are_row_numbers(k: int) -> bool:
        values = table.column(k)
        return table.is_integer(k) and np.array_equal(values.to_numpy(), np.arange(len(values)))

    found, fields = _columns(table.names, refuse, are_row_numbers)
    names = table.nodes(found)
    values = {entry.name: _values(entry, table.values(k), refuse) for entry, k in fields}
    return _checked(path, names, values)


def _columns(header: Sequence[str], refuse: Refuse, are_row_numbers: Any) -> tuple[int, list[tuple[Field, int]]]:
    """The column of names, and those of fields."""
    typed = any(name.startswith(":") for name in header)  # neo4j writes name:type
    names = [name if name.startswith(":") else name.split(":")[0] if typed else name for name in header]
    found = [k for k, name in enumerate(names) if plain(name) == ":id"]
    found = found or [k for k, name in enumerate(names) if plain(name) in NAMES]
    if not found and names and names[0] in ("", "__index_level_0__") and not are_row_numbers(0):
        found = [0]  # pandas gives its index no name
    if len(found) != 1:
        got = listed([header[k] for k in found]) if found else listed(header)
        remedy = _REMEDY if found else "Call it name, or pass the names as a list: nodes=[...]."
        refuse("a header with one column of node names, such as name, id, root_id or bodyId", got, remedy)
    fields = []
    for entry in NODE_FIELDS:
        columns = [k for k, name in enumerate(names) if name.casefold() == entry.name]
        if len(columns) > 1:
            refuse(f"one column {entry.name}", str(len(columns)), "Rename the others.")
        fields += [(entry, k) for k in columns]
    return found[0], fields


def _parsed(entry: Field, cell: str) -> Any:
    """A cell of CSV as a number if the field holds numbers; None if it is empty."""
    if not cell:
        return None
    if entry.dtype is not np.float64:
        return cell
    try:
        return as_number(cell)
    except ValueError:
        return cell


def _values(entry: Field, cells: Sequence[Any], refuse: Any) -> NDArray[Any]:
    """The values of a field; None is a missing one."""
    values = entry.empty(len(cells))
    for k, cell in enumerate(cells):
        if cell is None:
            continue
        try:
            if isinstance(cell, str) and entry.dtype is np.float64:
                raise ValueError(cell)
            values[k] = entry.parse(cell)
        except (ValueError, TypeError, OverflowError):
            refuse(f"{entry.expected} as {entry.name}", shown(cell), "Correct it or rename the column.", k)
    return values


def _checked(path: str, names: Sequence[Hashable], fields: dict[str, NDArray[Any]]) -> Nodes:
    check_hashes(names, FileFormatError, cut(path))
    twice = repeated(names)
    if twice is not None:
        raise FileFormatError(f"{path}: expected each node once, got {shown(twice)} twice. Remove one of the two.")
    return Nodes(tuple(names), fields, path)
