# SPDX-License-Identifier: MIT
"""Tables of edges in tests: one content written in CSV, Parquet and Feather."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

import freewire as fw

#: An id of FlyWire, which float64 rounds to another.
ID = 720575940596125868
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".feather")
ARROW = (".parquet", ".feather")

Columns = Mapping[str, Sequence[Any]]


def write_table(path: Path, columns: Columns | pa.Table, **options: Any) -> Path:
    """Write columns in the format of the path's suffix; None is an empty cell."""
    if path.name.endswith((".csv", ".csv.gz")):
        assert not isinstance(columns, pa.Table)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        content = text.getvalue().encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path, **options)
    else:
        pa.feather.write_feather(table, path, **options)
    return path


def edges(g: fw.Graph) -> list[tuple[Any, Any]]:
    """Edges by name, in the file's order."""
    return [(g.nodes[u], g.nodes[v]) for u, v in g.edge_index[:, g.edge_position].T.tolist()]


def weights(g: fw.Graph) -> list[float] | None:
    """Weights in the file's order; None where no edge has one."""
    return None if g.weight is None else g.weight[g.edge_position].tolist()
