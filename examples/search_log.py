# SPDX-License-Identifier: MIT
"""The log of a wiring search: a file of JSON lines, from which an interrupted search continues.

The first line is a header with the settings, and each other line is one result. A result is written to the disk before
the search waits for the next. A process that is killed while it writes leaves an incomplete last line, which is dropped
at the next start; any other damage raises.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

import freewire as fw

FORMAT = "freewire wiring search, 1"


class Log:
    """A search's results, in memory and in a file. Close it, or use it in a ``with``.

    Args:
        path: The file, created if it does not exist. Beside it a lock file, ``path`` with ``.lock`` appended, keeps
            other processes from writing to it.
        settings: Plain values by name, which must equal those in the file.

    Attributes:
        results: The results by (trial, repeat).

    Raises:
        InputError: The file has other settings, or another search is writing to it.
        FileFormatError: The file is not a log, or damaged elsewhere than at its end.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.results: dict[tuple[int, int], dict[str, Any]] = {}
        # filelock's fallback, a lock by the file's existence, would outlive a killed process.
        self._lock = filelock.FileLock(f"{path}.lock", fallback_to_soft=False)
        self._acquire()
        self._file = path.open("a+b")
        try:
            self._read({"log": FORMAT, "settings": dict(settings)})
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Log:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file and release the lock."""
        self._file.close()
        self._lock.release()

    def append(self, result: dict[str, Any]) -> None:
        """Add a result and write it to the disk.

        Args:
            result: Plain values by name, including ``trial`` and ``repeat``.
        """
        self._write(result)
        self.results[result["trial"], result["repeat"]] = result

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _acquire(self) -> None:
        """Lock the log until it is closed or the process ends for any reason."""
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise fw.InputError(
                f"{self.path}: expected a log that is not in use, got one that another search is writing to. Wait for "
                "it to finish, or choose another folder."
            ) from None

    def _read(self, header: dict[str, Any]) -> None:
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        if not whole:
            if not json.dumps(header).encode().startswith(text):
                raise self._not_a_log(text)
            self._file.truncate(0)
            self._write(header)
            return
        first, *lines = whole.splitlines()
        self._check_header(first, header)
        for number, line in enumerate(lines, start=2):
            result = _parsed(line)
            if not {"trial", "repeat"} <= result.keys() or not {"validation", "failed"} & result.keys():
                raise fw.FileFormatError(
                    f"{self.path}: expected a trial's result in line {number}, got {_shown(line)}. Remove that line; "
                    "its trial will then run again."
                )
            key = result["trial"], result["repeat"]
            if key in self.results:
                raise fw.FileFormatError(
                    f"{self.path}: expected one line per trial, got trial {key[0]}, repeat {key[1]}, twice, the second "
                    f"time in line {number}. Remove one of the two."
                )
            self.results[key] = result
        self._file.truncate(len(whole))

    def _check_header(self, first: bytes, header: dict[str, Any]) -> None:
        found = _parsed(first)
        if found.get("log") != FORMAT or not isinstance(found.get("settings"), dict):
            raise self._not_a_log(first)
        started, wanted = found["settings"], header["settings"]
        names = [name for name in {**started, **wanted} if started.get(name) != wanted.get(name)]
        if names:
            expected, got = (
                ", ".join(f"{name} {settings.get(name)}" for name in names) for settings in (started, wanted)
            )
            raise fw.InputError(
                f"{self.path}: expected the settings that this search was started with, {expected}, got {got}. "
                "Continue with the former, or choose another folder."
            )

    def _not_a_log(self, text: bytes) -> fw.FileFormatError:
        return fw.FileFormatError(
            f"{self.path}: expected the log of a wiring search, got a file that begins with {_shown(text)}. Choose "
            "another folder."
        )


def _parsed(line: bytes) -> dict[str, Any]:
    """The JSON object in the line; an empty one if there is none."""
    try:
        value = json.loads(line)
    except ValueError:  # neither JSON nor UTF-8
        return {}
    return value if isinstance(value, dict) else {}


def _shown(line: bytes) -> str:
    return repr(line[:40].decode(errors="replace"))
