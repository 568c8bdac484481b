# SPDX-License-Identifier: MIT
"""Graph files compressed by gzip: reading within a bound of memory, and writing the same bytes for the same graph."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from freewire.errors import FileFormatError, cut

#: A file may decompress to this many times its size. GraphML of equal weights reaches 30, and a bomb 1,000.
MAX_RATIO = 100
#: Bytes that any file may decompress to, at any ratio.
ALWAYS_ALLOWED = 16 * 2**20
#: Bytes that no file may exceed: 1 GiB. Reading takes a multiple of it.
MAX_SIZE = 2**30

_CHUNK = 2**20


def decompress(path: str, data: bytes) -> bytes:
    """Decompress all members of a gzip file.

    Args:
        path: Its path, for errors.
        data: Its bytes.

    Raises:
        FileFormatError: It is damaged or cut short, or decompresses to more than min(`MAX_SIZE`,
            max(`ALWAYS_ALLOWED`, `MAX_RATIO` times its size)) bytes. Little more memory than that is ever used.
    """
    limit = min(MAX_SIZE, max(ALWAYS_ALLOWED, MAX_RATIO * len(data)))
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
    """Compress what is written to the yielded file into ``file``, without a time or a name, so that bytes repeat."""
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as inner:
        yield cast("IO[bytes]", inner)
