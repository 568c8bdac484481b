# SPDX-License-Identifier: MIT
"""Sparse adjacency matrices as ``scipy.sparse.save_npz`` writes them, read with numpy alone and without pickle.

As in `Graph.from_adjacency`, ``A[u, v] != 0`` is an edge ``u -> v`` of that weight, and repeated entries are summed.
"""

from __future__ import annotations

import errno
import os
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from freewire.errors import FileFormatError, GraphError, cut, shown
from freewire.files.compression import ALWAYS_ALLOWED, MAX_RATIO
from freewire.files.edge_tables import Nodes, edge_data
from freewire.graph.arguments import MAX_NODES, IntArray
from freewire.graph.data import GraphData

Arrays = Mapping[str, NDArray[Any]]
#: Row and column of each stored entry, and its value.
Entries = tuple[IntArray, IntArray, NDArray[Any]]


def read_npz(
    path: str,
    file: IO[bytes],
    inputs: Iterable[Hashable] | None,
    outputs: Iterable[Hashable] | None,
    nodes: Nodes | None = None,
) -> GraphData:
    """Read an open file; see `freewire.files.read_graph`.

    Args:
        path: The file, for errors.
        file: The file, which can seek.
        inputs: As in `freewire.files.read_graph`, like all arguments below.
        outputs: Node names.
        nodes: Names of the rows and columns, in order. Default: 0 to N-1.
    """
    arrays = _load(path, file)
    if not {"format", "shape", "data"} <= arrays.keys() or arrays["format"].size != 1:
        _refuse(path, "arrays format, shape and data", f"arrays {', '.join(map(shown, sorted(arrays)[:10]))}")
    name = arrays["format"].item()
    name = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    if name not in _FORMATS:
        remedy = "Convert it with .tocsr() before saving."
        raise FileFormatError(
            f"{path}: expected a sparse format among {', '.join(_FORMATS)}, got {shown(name)}. {remedy}"
        )
    needed, entries = _FORMATS[name]
    if name == "coo" and "coords" in arrays and arrays["coords"].ndim == 2 and len(arrays["coords"]) == 2:
        arrays = {**arrays, "row": arrays["coords"][0], "col": arrays["coords"][1]}
    if missing := [each for each in needed if each not in arrays]:
        _refuse(path, f"arrays {', '.join(needed)} in format {name}", f"no {missing[0]}")
    size = _size(path, arrays["shape"])
    if nodes is not None and len(nodes.names) != size:
        raise GraphError(
            f"{path}: expected {size} nodes, one per row of the matrix, got {len(nodes.names)} of {nodes.origin}. "
            "List each row's node, in order."
        )
    row, col, weight = _weighted(path, *entries(path, arrays, size))
    names = range(size) if nodes is None else nodes.names
    return edge_data(
        path, names, row, col, {"weight": weight, **({} if nodes is None else nodes.fields)}, inputs, outputs
    )


def _load(path: str, file: IO[bytes]) -> dict[str, NDArray[Any]]:
    """All arrays of a file; FileFormatError if it is no .npz, is damaged, holds objects or is far larger inside."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        limit = max(ALWAYS_ALLOWED, MAX_RATIO * size)
        if total > limit:
            raise FileFormatError(
                f"{path}: expected a file that decompresses to at most {limit:,} bytes, got {total:,}. If it is to be "
                "trusted, write it with compressed=False."
            )
        file.seek(0)
        with np.load(file, allow_pickle=False) as loaded:
            return {name: np.asarray(loaded[name]) for name in loaded.files}
    except FileFormatError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        _refuse(path, "a whole .npz file", f"one that numpy cannot read ({cut(error)})")
    except (SyntaxError, TypeError, OverflowError) as error:  # numpy's of an array's header
        _refuse(path, "a whole .npz file", f"one that numpy cannot read ({cut(error)})")
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before the file's beginning
            raise
        _refuse(path, "a whole .npz file", "one that is damaged")


def _refuse(path: str, expected: str, got: str, remedy: str = "Write it with scipy.sparse.save_npz.") -> NoReturn:
    raise FileFormatError(f"{path}: expected {expected}, got {got}. {remedy}")


def _size(path: str, shape: NDArray[Any]) -> int:
    """The number of nodes."""
    found = shape.tolist() if shape.ndim == 1 and shape.dtype.kind in "iu" else None
    if found is None or len(found) != 2 or found[0] != found[1] or not 0 <= found[0] < MAX_NODES:
        got = cut(list(shape.shape) if found is None else found, 60)
        raise GraphError(
            f"{path}: expected a square matrix [N, N], got shape {got}. Give each node a row and a column."
        )
    return int(found[0])


def _indices(path: str, arrays: Arrays, name: str, most: int) -> IntArray:
    """An array of integers from 0 to ``most``."""
    array = arrays[name]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        _refuse(path, f"integers as {name}", f"{array.dtype} of shape {list(array.shape)}")
    if array.size and not (array.min() >= 0 and array.max() <= most):
        _refuse(path, f"numbers from 0 to {most} as {name}", str(array.min() if array.min() < 0 else array.max()))
    return array.astype(np.int64, copy=False)


def _lengths(path: str, *named: tuple[str, NDArray[Any]]) -> None:
    if len({len(array) if array.ndim else -1 for _, array in named}) != 1:
        lengths = ", ".join(f"{name} {list(array.shape)}" for name, array in named)
        _refuse(path, "arrays of one length", lengths)


def _coo(path: str, arrays: Arrays, size: int) -> Entries:
    row, col = (_indices(path, arrays, name, size - 1) for name in ("row", "col"))
    _lengths(path, ("row", row), ("col", col), ("data", arrays["data"]))
    return row, col, arrays["data"]


def _compressed(path: str, arrays: Arrays, size: int) -> Entries:
    """Entries row by row: each entry's row, its column, and its value."""
    indices, data = _indices(path, arrays, "indices", size - 1), arrays["data"]
    _lengths(path, ("indices", indices), ("data", data))
    return _rows(path, arrays, size, len(indices)), indices, data


def _rows(path: str, arrays: Arrays, size: int, entries: int) -> IntArray:
    pointers = _indices(path, arrays, "indptr", entries)
    if len(pointers) != size + 1 or pointers[0] != 0 or pointers[-1] != entries or (np.diff(pointers) < 0).any():
        _refuse(path, f"{size + 1} rising numbers from 0 to {entries} as indptr", "others")
    return np.repeat(np.arange(size), np.diff(pointers))


def _csc(path: str, arrays: Arrays, size: int) -> Entries:
    col, row, data = _compressed(path, arrays, size)
    return row, col, data


def _bsr(path: str, arrays: Arrays, size: int) -> Entries:
    """Entries of blocks ``[R, C]``, of which ``data`` holds one per entry of ``indices``."""
    data = arrays["data"]
    if data.ndim != 3 or 0 in data.shape[1:] or size % data.shape[1] or size % data.shape[2]:
        _refuse(path, "blocks [R, C] that divide the matrix as data", f"shape {list(data.shape)}")
    _, height, width = data.shape
    indices = _indices(path, arrays, "indices", size // width - 1)
    _lengths(path, ("indices", indices), ("data", data))
    row = _rows(path, arrays, size // height, len(indices))[:, None, None] * height + np.arange(height)[:, None]
    col = indices[:, None, None] * width + np.arange(width)
    row, col = np.broadcast_arrays(row, col)
    return row.ravel(), col.ravel(), data.ravel()


_FORMATS: dict[str, tuple[tuple[str, ...], Callable[[str, Arrays, int], Entries]]] = {
    "csr": (("indptr", "indices"), _compressed),
    "csc": (("indptr", "indices"), _csc),
    "coo": (("row", "col"), _coo),
    "bsr": (("indptr", "indices"), _bsr),
}


def _weighted(path: str, row: IntArray, col: IntArray, data: NDArray[Any]) -> Entries:
    """Edges row by row with weights as float64: repeated entries summed, zeros dropped."""
    if data.ndim != 1 or data.dtype.kind not in "biuf":
        _refuse(path, "numbers as data", f"{data.dtype} of shape {list(data.shape)}")
    place = row * MAX_NODES + col  # below 2**62
    if (place[1:] <= place[:-1]).any():
        order = np.argsort(place, kind="stable")
        place, data = place[order], data[order]
        first = np.flatnonzero(np.diff(place, prepend=-1))
        if len(first) < len(place):
            total = data.dtype if data.dtype == np.bool_ else None
            place, data = place[first], np.add.reduceat(data, first, dtype=total)
        row, col = place // MAX_NODES, place % MAX_NODES
    weight = data.astype(np.float64)
    if np.isnan(weight).any():
        k = int(np.flatnonzero(np.isnan(weight))[0])
        raise GraphError(
            f"{path}: expected numbers as weights, got nan at [{row[k]}, {col[k]}]. Correct it or remove it."
        )
    keep = weight != 0
    if not keep.all():
        row, col, weight = row[keep], col[keep], weight[keep]
    return row, col, weight
