# SPDX-License-Identifier: MIT
"""The log of a wiring search: JSON lines, so that a search goes on after whatever ended it.

Enters: the path, the settings, results. Leaves: a file of one header line and a line a result, and what it held before.
A result is in the file, on the disk, before the next is waited for. A process that is killed while it writes leaves a
last line without its end; that line is dropped. No other damage is: it raises.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import freewire as fw

FORMAT = "freewire wiring search, 1"


class Log:
    """A search's results, in memory and in a file. Close it, or use it in a ``with``.

    Args:
        path: The file; made if it is not there.
        settings: Plain values by name; those of the file must be the same.

    Attributes:
        results: (trial, repeat) -> result.

    Raises:
        InputError: The file is of another search's settings, or another search writes it right now.
        FileFormatError: It is no log, or damaged elsewhere than at its end.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.results: dict[tuple[int, int], dict[str, Any]] = {}
        self._file = path.open("a+b")
        try:
            self._lock()
            self._read({"log": FORMAT, "settings": dict(settings)})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Log:
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._file.close()

    def append(self, result: dict[str, Any]) -> None:
        """Add a result; on return it is on the disk.

        Args:
            result: Plain values, ``trial`` and ``repeat`` among them.
        """
        self._write(result)
        self.results[result["trial"], result["repeat"]] = result

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _lock(self) -> None:
        """Until the file is closed, or the process ends, however it ends."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise fw.InputError(
                f"{self.path}: expected a log that nobody writes, got one that another search is writing. Wait for its "
                "end, or choose another folder."
            ) from None

    def _read(self, header: dict[str, Any]) -> None:
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        if not whole:
            if not json.dumps(header).encode().startswith(text):
                raise self._no_log(text)
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
                    "its trial will run again."
                )
            key = result["trial"], result["repeat"]
            if key in self.results:
                raise fw.FileFormatError(
                    f"{self.path}: expected one line a trial, got trial {key[0]}, repeat {key[1]}, again in line "
                    f"{number}. Remove one of the two."
                )
            self.results[key] = result
        self._file.truncate(len(whole))

    def _check_header(self, first: bytes, header: dict[str, Any]) -> None:
        found = _parsed(first)
        if found.get("log") != FORMAT or not isinstance(found.get("settings"), dict):
            raise self._no_log(first)
        begun, wanted = found["settings"], header["settings"]
        names = [name for name in {**begun, **wanted} if begun.get(name) != wanted.get(name)]
        if names:
            expected, got = (
                ", ".join(f"{name} {settings.get(name)}" for name in names) for settings in (begun, wanted)
            )
            raise fw.InputError(
                f"{self.path}: expected the settings that this search was begun with, {expected}, got {got}. Go on "
                "with those, or choose another folder."
            )

    def _no_log(self, text: bytes) -> fw.FileFormatError:
        return fw.FileFormatError(
            f"{self.path}: expected the log of a wiring search, got a file that begins with {_shown(text)}. Choose "
            "another folder."
        )


def _parsed(line: bytes) -> dict[str, Any]:
    """The line's object; empty if it is none."""
    try:
        value = json.loads(line)
    except ValueError:  # no JSON, or no UTF-8
        return {}
    return value if isinstance(value, dict) else {}


def _shown(line: bytes) -> str:
    return repr(line[:40].decode(errors="replace"))
