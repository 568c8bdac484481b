# SPDX-License-Identifier: MIT
"""Paths from callers: what counts as one, opening a file that is to be read, and running out of memory there."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from freewire.errors import FreewireError, InputError, OutOfMemoryError, shown


def path_name(path: Any) -> str:
    """Convert a caller's path to text, as `os.fsdecode` does.

    Args:
        path: A str, bytes or `os.PathLike`. Bytes that are not UTF-8 become lone surrogates, as everywhere in Python.

    Raises:
        InputError: It is of another type, such as an open file or None, or no file can have that name.
    """
    try:
        name = os.fsdecode(path)
        os.fsencode(name)
    except TypeError:
        if hasattr(path, "read") or hasattr(path, "write"):
            got = "an open file"
            remedy = "Pass its name. For one in memory, use a file in a tempfile.TemporaryDirectory."
        else:
            got, remedy = type(path).__name__, "Pass the name of a file."
        raise InputError(f"path: expected a str, bytes or os.PathLike, got {got}. {remedy}") from None
    except UnicodeError:
        raise InputError(
            f"path: expected a name that the file system can store, got {shown(path)}. Rename the file."
        ) from None
    if not name or "\0" in name:
        expected = "a name without null characters" if name else "the name of a file"
        raise InputError(f"path: expected {expected}, got {shown(path)}. Name a file.")
    return name


def open_to_read(name: str, kind: str) -> IO[bytes]:
    """Open a regular file, unbuffered, or read a pipe to its end.

    Nothing is mapped into memory: another program may shorten the file at any time, and a process that then touches a
    map of it is killed.

    Args:
        name: Of the file.
        kind: What the caller expects, for messages: "graph file".

    Returns:
        A file at its beginning, which can seek.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: It is a folder.
        PermissionError: It may not be read.
        OSError: It is a device or a socket.
    """
    try:
        file = open(name, "rb", buffering=0)  # noqa: SIM115 (returned open)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            errno.ENOENT, f"path: expected a {kind}, got {shown(name)}, which is not a file. Check the path."
        ) from None
    except IsADirectoryError:
        raise IsADirectoryError(
            errno.EISDIR, f"path: expected a {kind}, got {shown(name)}, which is a folder. Name a file in it."
        ) from None
    except OSError as error:
        raise with_short_name(error, name) from None
    try:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode):
            return file
        with file:
            if stat.S_ISFIFO(mode):
                return io.BytesIO(file.readall())
        raise OSError(  # /dev/zero never ends
            errno.EINVAL, f"path: expected a {kind}, got {shown(name)}, which is a device. Copy its contents to a file."
        )
    except BaseException:
        file.close()
        raise


def with_short_name(error: OSError, name: str) -> OSError:
    """The system's error about a file; if the name is too long for a file, one that does not hold all of it."""
    if error.errno != errno.ENAMETOOLONG:
        return error
    return OSError(
        errno.ENAMETOOLONG, f"path: expected a name that the file system can store, got {shown(name)}. Shorten it."
    )


@contextmanager
def memory_for(name: str, needed: str) -> Iterator[None]:
    """Raise `OutOfMemoryError` where the block, which reads a file, runs out of memory.

    Args:
        name: Of the file.
        needed: How much it takes, in words.
    """
    try:
        yield
    except FreewireError:
        raise
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DefaultCPUAllocator" not in str(error):  # torch's error has no class
            raise
        raise OutOfMemoryError(f"{name}: expected memory of {needed}, got less. Use a larger machine.") from None
