# SPDX-License-Identifier: MIT
"""The log of `Diagnostics`: a file of JSON lines, one per measurement, written so that a kill loses at most a line.

JSON has no numbers that are not finite, so these are the strings "NaN", "Infinity" and "-Infinity", which
`read_diagnostics`, and ``float`` of any language, turn back into numbers. What was not measured is null.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

from freewire.errors import FileFormatError, InputError, shown
from freewire.files.paths import path_name

__all__ = ["Log", "Record", "read_diagnostics"]

#: One measurement; the docstring of `Diagnostics` lists the names.
Record = dict[str, Any]


class Log:
    """Appends records to a file. Every record is one system call, so other processes can read along.

    Args:
        path: The file. A new one is created; records are appended to a log of an earlier run, whose last line is
            removed if it is incomplete.

    Raises:
        InputError: The folder does not exist, ``path`` is a folder, or the file is no log of diagnostics.
        OSError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name = path_name(path)
        folder = os.path.dirname(name) or os.curdir
        if not os.path.isdir(folder):
            raise InputError(
                f"log: expected a file in an existing folder, got {shown(name)}. Create the folder: os.makedirs(...)."
            )
        if os.path.isdir(name):
            raise InputError(f"log: expected a file, got {shown(name)}, which is a folder. Name a file in it.")
        if os.path.isfile(name):
            _remove_incomplete_line(name)
        self._file = open(name, "ab", buffering=0)  # noqa: SIM115 (it is open as long as the diagnostics are)

    def write(self, record: Record) -> None:
        """Append a record."""
        try:
            line = json.dumps(record, allow_nan=False)
        except ValueError:
            line = json.dumps(_spelled(record))
        self._file.write(line.encode() + b"\n")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()


def read_diagnostics(path: str | os.PathLike[str]) -> list[Record]:
    r"""Read the log of a `Diagnostics`, while it is written or afterwards.

    Args:
        path: The file. Several runs may have been appended to it; an incomplete last line is skipped.

    Returns:
        The records in the order of the file, as they were in ``diagnostics.records``.

    Raises:
        FileFormatError: A line is no record.
        OSError: The file cannot be read.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "log.jsonl")
        >>> with open(path, "w") as file:
        ...     _ = file.write('{"step": 0, "loss": "NaN", "levels": {}}\n{"step": 10, "lo')
        >>> read_diagnostics(path)
        [{'step': 0, 'loss': nan, 'levels': {}}]
    """
    name = path_name(path)
    with open(name, "rb") as file:
        *lines, _ = file.read().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        record = _parsed(line)
        if record is None:
            raise FileFormatError(
                f"path: expected a log of diagnostics, got {shown(name)}, whose line {number} is no record. Pass the "
                "file that Diagnostics(log=...) wrote."
            )
        records.append(record)
    return records


def _remove_incomplete_line(name: str) -> None:
    """Remove what a killed process left behind the last whole line; raise for a file of other content."""
    with open(name, "r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        first = content[: content.find(b"\n") + 1]
        is_log = _parsed(first) is not None if first else b'{"step": '.startswith(content[:9])
        if not is_log:
            raise InputError(
                f"log: expected a new file or a log of diagnostics, got {shown(name)}, which has other content. "
                "Choose another name."
            )
        file.truncate(whole)


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    is_record = isinstance(record, dict) and {"step", "loss", "levels"} <= record.keys()
    return _numbers(record) if is_record else None


def _spelled(value: Any) -> Any:
    """The value with strings for numbers that are not finite."""
    if isinstance(value, dict):
        return {name: _spelled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _numbers(value: Any) -> Any:
    """The value with numbers for such strings."""
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
