# SPDX-License-Identifier: MIT
"""Arrays in a safetensors file: 8 bytes with the length of the header, the header in JSON, the arrays' bytes.

The package safetensors maps a file into memory, where a file that another program shortens meanwhile kills the process
with SIGBUS; and it writes to a file name only, which is of no use for pipes, and reports a full disk without ``errno``.
So files are read and written here, straight from and into the arrays' memory. What it checks in a header is checked
here too; the tests compare the two.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freewire.errors import shown

__all__ = ["Header", "read_header", "read_tensors", "write_tensors"]

_TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
}
#: By the names that torch and numpy have for them.
_CODES = {str(dtype).removeprefix("torch."): code for code, dtype in _TYPES.items()}
#: Integers of the same size: numpy has no bfloat16.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_MAX_HEADER = 100_000_000  # bytes, of the format


class _Entry(NamedTuple):
    """One array: its type and shape, and where its bytes begin and end after the header."""

    dtype: torch.dtype
    shape: list[int]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file holds.

    Attributes:
        metadata: Text by key.
        entries: Each array, by name.
        begin: Where the first array begins, in bytes from the beginning of the file.
    """

    metadata: dict[str, str]
    entries: dict[str, _Entry]
    begin: int


def write_tensors(file: IO[bytes], tensors: Mapping[str, Tensor | NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write arrays; those that are contiguous on the CPU are not copied.

    Args:
        file: A binary file.
        tensors: Tensors on any device and numpy arrays, by name.
        metadata: Text by key.

    Raises:
        OSError: The disk is full, or another error of the system.
    """
    arrays = {name: _integers(array) for name, array in tensors.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    # Wide types first, so that every array is aligned.
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        shape = list(tensors[name].shape)
        header[name] = {"dtype": _code(tensors[name]), "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        if arrays[name].size:  # no memoryview of an empty array can be cast
            file.write(arrays[name].data.cast("B"))


def _code(array: Tensor | NDArray[Any]) -> str:
    return _CODES[str(array.dtype).removeprefix("torch.") if isinstance(array, Tensor) else array.dtype.name]


def _integers(array: Tensor | NDArray[Any]) -> NDArray[Any]:
    """The bits of an array as little-endian integers, contiguous."""
    if isinstance(array, Tensor):
        array = array.detach().cpu().contiguous().view(_INTEGERS[array.element_size()]).numpy()
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def read_header(file: IO[bytes]) -> Header:
    """Read a file's header, and check that its arrays fill the rest of the file without gaps and overlaps.

    Args:
        file: A binary file that can seek.

    Raises:
        ValueError: It is no whole safetensors file.
        RecursionError: Its header is nested too deeply.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = _read(file, 8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > size - 8:
        raise ValueError("the header is cut short")
    if length > _MAX_HEADER:
        raise ValueError(f"a header of {length} bytes is too large")
    text = _read(file, length)
    if len(text) < length or not text.startswith(b"{"):
        raise ValueError("the header is cut short or not an object in JSON")
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata is not text by name")
    entries = {name: _entry(name, entry, size) for name, entry in header.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise ValueError(f"{shown(name)} begins at byte {entry.begin}, but the array before it ends at {end}")
        end = entry.end
    if end != size - 8 - length:
        raise ValueError(f"the arrays take {end} bytes of {size - 8 - length}")
    return Header(metadata, entries, 8 + length)


def read_tensors(file: IO[bytes], header: Header, names: Collection[str]) -> dict[str, Tensor]:
    """Read those of the named arrays that a file has, each into memory of its own on the CPU.

    Raises:
        ValueError: The file has become shorter since its header was read.
    """
    tensors = {}
    for name, entry in header.entries.items():
        if name in names:
            tensors[name] = tensor = torch.empty(entry.shape, dtype=entry.dtype)
            array = tensor.view(_INTEGERS[entry.dtype.itemsize]).numpy()
            if array.size:
                file.seek(header.begin + entry.begin)
                _fill(file, array.data.cast("B"))
            if sys.byteorder == "big":
                array.byteswap(inplace=True)
    return tensors


def _entry(name: str, entry: Any, size: int) -> _Entry:
    """One entry of a header, checked; ``size`` is that of the file."""
    if not isinstance(entry, dict) or not entry.keys() >= {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{shown(name)} is not described by its dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _TYPES:
        raise ValueError(f"{shown(name)} is of the unknown type {shown(code)}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"the shape or the offsets of {shown(name)} are not lists of whole numbers")
    dtype = _TYPES[code]
    length, limit = dtype.itemsize, 2**62 if 0 in shape else size
    for dimension in filter(None, shape):
        length *= dimension
        if length > limit:  # at once: the product of many numbers takes long
            raise ValueError(f"{shown(name)} is larger than the file")
    if 0 in shape:
        length = 0
    if offsets[1] - offsets[0] != length:
        raise ValueError(f"{shown(name)} of {length} bytes is stored in {shown(offsets[1] - offsets[0])}")
    return _Entry(dtype, shape, *offsets)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("the header has a name twice")
    return result


def _read(file: IO[bytes], length: int) -> bytes:
    """Read ``length`` bytes, or fewer at the end of the file; an unbuffered file may return them in parts."""
    parts = []
    while length and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _fill(file: Any, view: memoryview) -> None:
    while view:
        count = file.readinto(view)
        if not count:
            raise ValueError("it was cut short while it was read")
        view = view[count:]
