# SPDX-License-Identifier: MIT
"""Graph files compressed by gzip: reading within a bound of memory, and writing the same bytes for the same graph."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from freewire.errors import FileFormatError, GraphError, cut

#: A file may decompress to this many times its size. GraphML of equal weights reaches 30, and a bomb 1,000.
MAX_RATIO = 100
#: Bytes that any file may decompress to, at any ratio.
ALWAYS_ALLOWED = 16 * 2**20
#: Bytes that no file may exceed: 1 GiB. Reading takes a multiple of it.
MAX_SIZE = 2**30

_CHUNK = 2**20
#: The first bytes of compressed files, by program.
_BEGINNINGS = {
    "gzip": (b"\x1f\x8b",),
    "bzip2": tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    "xz": (b"\xfd7zXZ\0",),
    "zip": (b"PK\x03\x04",),
    "zstd": (b"\x28\xb5\x2f\xfd",),
}


def refuse_compressed(path: str, data: bytes, is_compressed: bool) -> None:
    """Raise `FileFormatError` for a graph file that is compressed, although its name does not say so.

    Args:
        path: Its path, for errors.
        data: Its bytes, decompressed if its name ends in .gz.
        is_compressed: Whether its name ends in .gz.
    """
    program = _program(data)
    if program is None:
        return
    remedy = "Decompress it first."
    if program == "gzip" and not is_compressed:
        remedy = f"Name it {cut(os.path.basename(path), 80)}.gz."
    elif program == "zip":
        remedy = "Decompress it first, or export it as CSV if it is a spreadsheet."
    expected = "a graph compressed once, with gzip" if is_compressed else "data that is not compressed"
    raise FileFormatError(f"{path}: expected {expected}, got data compressed with {program}. {remedy}")


def _program(data: bytes) -> str | None:
    """The program that compressed a file, if its first bytes say so."""
    return next((program for program, beginnings in _BEGINNINGS.items() if data.startswith(beginnings)), None)


def allowed(size: int) -> int:
    """The most bytes that a gzip file of ``size`` bytes may decompress to."""
    return min(MAX_SIZE, max(ALWAYS_ALLOWED, MAX_RATIO * size))


def decompress(path: str, data: bytes) -> bytes:
    """Decompress all members of a gzip file.

    Args:
        path: Its path, for errors.
        data: Its bytes.

    Raises:
        FileFormatError: It is damaged or cut short, or decompresses to more bytes than are `allowed`. Little more
            memory than that is ever used.
    """
    if _program(data) not in ("gzip", None):
        refuse_compressed(path, data, True)
    limit = allowed(len(data))
    result = io.BytesIO()
    try:
        if not data:
            raise EOFError("it is empty")
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            while part := file.read(min(_CHUNK, limit + 1 - result.tell())):
                result.write(part)
                if result.tell() > limit:
                    raise FileFormatError(
                        f"{path}: expected a file that decompresses to at most {limit:,} bytes, got more. If it is to "
                        "be trusted, decompress it with gunzip and read the result."
                    )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileFormatError(
            f"{path}: expected a whole gzip file, got one that cannot be decompressed ({cut(error)}). "
            "It is cut short or damaged: compress it again."
        ) from None
    return result.getvalue()


@contextmanager
def compressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Compress what is written to the yielded file into ``file``, without a time or a name, so that bytes repeat.

    Raises:
        GraphError: `decompress` would refuse the file.
    """
    counted = _Counted(file)
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=cast("IO[bytes]", counted), mtime=0) as inner:
        yield cast("IO[bytes]", inner)
        size = inner.tell()
    if size > allowed(counted.size):
        raise GraphError(
            f"graph: expected a gzip file that decompresses to at most {allowed(counted.size):,} bytes, as read_graph "
            f"does, got {size:,}. Write it without .gz."
        )


class _Counted:
    """A file that counts the bytes written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
