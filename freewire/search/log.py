# SPDX-License-Identifier: MIT
"""The log of a search: a file of JSON lines that only grows, from which a search continues.

The first line is a header, and each other line a trial, in the order in which they finished. The lines of a batch are
written by one call of the system and are on the disk before the search goes on. A process that is killed while it
writes leaves an incomplete last line or an incomplete last batch, which is dropped at the next start; its trials run
again. Any other damage raises.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import filelock

from freewire.errors import InputError
from freewire.files.atomic import replacing
from freewire.files.partial import BINARY, no_folder
from freewire.files.paths import path_name
from freewire.search.log_format import LogText, check_header, is_torn_header

__all__ = ["Log", "Recorded", "read_log"]


class Recorded(NamedTuple):
    """What a log holds.

    Attributes:
        header: ``strategy``, its ``settings``, ``seed``, ``batch`` and the ``version`` of freewire.
        lines: A dictionary for each trial, in the order in which they finished.
    """

    header: dict[str, Any]
    lines: list[dict[str, Any]]


class Log:
    """A search's trials, in memory and in a file. Use it in a ``with``.

    Args:
        path: The file, created if it does not exist. Beside it a lock file, ``path`` with ``.lock`` appended, keeps
            other searches from writing to it; the system releases the lock of a process that ends for any reason.
        header: What `freewire.search.log_format.header_of` returns; the file's must be the same, but for the version.

    Attributes:
        path: The file, from the root on: an objective may change the folder of the process.
        lines: The trials' lines by number, of whole batches only.

    Raises:
        InputError: The file belongs to another search, or another process is writing to it.
        FileFormatError: The file is not a log, or damaged elsewhere than at its end.
        OSError: The file cannot be opened; `FileNotFoundError` if its folder does not exist.
    """

    def __init__(self, path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
        given = path_name(path)
        if not os.path.isdir(os.path.dirname(given) or os.curdir):
            raise no_folder(os.path.dirname(given))
        self.path = os.path.join(os.getcwd(), given)  # not os.path.abspath: ".." in a linked folder is another one
        # filelock's fallback, a lock by the file's existence, would outlive a killed process.
        self._lock = filelock.FileLock(f"{self.path}.lock", fallback_to_soft=False)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(
                f"{self.path}: expected a log that is not in use, got one that another search is writing to. Wait for "
                "it to finish, or choose another log."
            ) from None
        self._file = -1
        try:
            self.lines = {line["trial"]: line for line in self._open(header)}
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Log:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file and release the lock."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._lock.release()

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        """Add the lines of a whole batch, and write them to the disk.

        Raises:
            OSError: The disk is full, or another error of the system; nothing is added then.
        """
        text = self._write(lines)
        # As a search that continues will read them: a strategy must not be told a tuple here and a list there.
        self.lines.update((line["trial"], line) for line in map(json.loads, text.splitlines()))

    def _open(self, header: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Open the file for appending, and return the trials that it holds."""
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            data = b""
        kept, lines = b"", list[dict[str, Any]]()
        if not is_torn_header(data):
            text = LogText(self.path, data)
            check_header(self.path, text.header, header)
            kept, lines = text.kept, text.lines
        if not data.startswith(kept):  # somebody has removed lines of a batch
            with replacing(self.path) as new:
                new.write(kept)
        if not kept:
            kept = (json.dumps(dict(header), allow_nan=False) + "\n").encode()
            with replacing(self.path) as new:  # so that `read_log` finds either no file or a whole header
                new.write(kept)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | BINARY)
        os.ftruncate(self._file, len(kept))
        return lines

    def _write(self, lines: Sequence[dict[str, Any]]) -> bytes:
        text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode()
        end = os.fstat(self._file).st_size
        if os.write(self._file, text) < len(text):
            os.ftruncate(self._file, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        os.fsync(self._file)
        return text


def read_log(path: str | os.PathLike[str]) -> Recorded:
    """Read the log of a search, also of one that is running: the file is there once it holds a whole header.

    Args:
        path: The file.

    Returns:
        Its header and its lines. An incomplete last line or batch is ignored.

    Raises:
        FileFormatError: It is not a log, such as an empty file, or damaged elsewhere than at its end.
        OSError: The file cannot be read; `FileNotFoundError` if there is none yet.

    Example:
        >>> import os, tempfile
        >>> from freewire.search import RandomSearch, run
        >>> path = os.path.join(tempfile.mkdtemp(), "search.jsonl")
        >>> _ = run(lambda params: params["n"], RandomSearch({"n": (1, 6)}), 3, log=path, workers=0, progress=False)
        >>> header, lines = read_log(path)
        >>> header["strategy"], [line["trial"] for line in lines]
        ('RandomSearch', [0, 1, 2])
    """
    name = path_name(path)
    with open(name, "rb") as file:
        text = LogText(name, file.read())
    return Recorded(text.header, text.lines)
