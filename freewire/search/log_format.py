# SPDX-License-Identifier: MIT
"""What the text of a search's log says: its header, its trials, and what in it is damaged.

In: bytes of a file of JSON lines, of which nothing is trusted. Out: dictionaries, or an error that names the line.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from freewire.errors import FileFormatError, InputError, cut, shown
from freewire.graph.arguments import whole
from freewire.version import __version__

__all__ = ["STATUSES", "LogText", "check_header", "header_of", "is_torn_header", "same"]

FORMAT = 1
#: How a trial may have ended.
STATUSES = ("finished", "failed", "pruned", "timeout", "killed")
_KEY = "freewire_search"
_BEGINNING = f'{{"{_KEY}": '.encode()


def header_of(strategy: str, settings: Mapping[str, Any], seed: int, batch: int) -> dict[str, Any]:
    """The header of a search's log.

    Args:
        strategy: The name of the strategy's class.
        settings: The strategy's settings.
        seed: The seed of the search.
        batch: Trials per batch.

    Raises:
        InputError: The settings are no JSON.
    """
    try:
        plain = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"strategy: expected settings that JSON can hold, got others ({cut(error)}). Correct what its settings() "
            "returns."
        ) from None
    return {_KEY: FORMAT, "version": __version__, "strategy": strategy, "settings": plain, "seed": seed, "batch": batch}


def check_header(path: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise unless two headers are of one search; they may be of two versions.

    Args:
        path: The log, for the message.
        found: The log's header.
        wanted: The header that this search would write.

    Raises:
        InputError: The strategies, the seeds or settings differ, if only in the order of a space's parameters, on which
            draws depend; all that differ are named.
    """
    pairs = [(found, wanted, name) for name in ("strategy", "seed", "batch")]
    if found.get("strategy") == wanted["strategy"]:  # or there is no use in comparing settings
        names = dict.fromkeys([*wanted["settings"], *found["settings"]])
        pairs = [(found["settings"], wanted["settings"], name) for name in names] + pairs
    every = [(name, one.get(name), other.get(name)) for one, other, name in pairs]
    differing = [(name, one, other) for name, one, other in every if json.dumps(one) != json.dumps(other)]
    if differing:
        expected = ", ".join(_said(name, other, one) for name, one, other in differing)
        got = ", ".join(_said(name, one, other) for name, one, other in differing)
        raise InputError(
            f"{path}: expected the log of a search with {expected}, got one with {got}. Continue that search with its "
            "own settings, or choose another log."
        )


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same but for the order of names; 1, 1.0 and True are equal in Python only."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _said(name: str, value: Any, other: Any) -> str:
    """A setting for a message; only the order of its names if it differs from another one in nothing else."""
    if isinstance(value, dict) and same(value, other) and list(value) != list(other):
        return f"{name} in the order {cut(', '.join(value))}"
    return f"{name} {shown(value)}"


def is_torn_header(data: bytes) -> bool:
    """Whether a file holds nothing but the beginning of a header, or nothing at all."""
    return b"\n" not in data and (data.startswith(_BEGINNING) or _BEGINNING.startswith(data))


class LogText:
    """The text of a log.

    Args:
        path: Its file, for messages.
        data: The text. What follows the last line end is ignored, and so are rows of white space after the first.

    Attributes:
        header: The first line.
        lines: The trials of whole batches, in the order of the file.
        kept: The text of these, with the header.

    Raises:
        FileFormatError: It is not the log of a search, or a line is not a trial.
    """

    def __init__(self, path: str, data: bytes) -> None:
        first, *rows = data[: data.rfind(b"\n") + 1].splitlines(keepends=True) or [b""]
        self.header = _parsed(first)
        batch = whole(self.header.get("batch"))
        if self.header.get(_KEY) != FORMAT or not batch or not isinstance(self.header.get("settings"), dict):
            got = f"a file that begins with {_text(first or data)}" if data else "an empty file"
            raise FileFormatError(f"{path}: expected the log of a search, got {got}. Choose another file.")
        lines = list[dict[str, Any]]()
        seen = set[int]()
        numbered = [(number, row) for number, row in enumerate(rows, start=2) if row.strip()]  # editors add blank ones
        for number, row in numbered:
            line = _parsed(row)
            if not _is_trial(line):
                raise FileFormatError(
                    f"{path}: expected a trial in line {number}, got {_text(row)}. Remove that line; its trial will "
                    "then run again."
                )
            if line["trial"] in seen:
                raise FileFormatError(
                    f"{path}: expected one line per trial, got trial {line['trial']} twice, the second time in line "
                    f"{number}. Remove one of the two."
                )
            seen.add(line["trial"])
            lines.append(line)
        count = Counter(trial // batch for trial in seen)
        there = [count[line["trial"] // batch] == batch for line in lines]
        self.lines = [line for line, keep in zip(lines, there, strict=True) if keep]
        self.kept = b"".join([first, *(row for (_, row), keep in zip(numbered, there, strict=True) if keep)])


def _is_trial(line: Mapping[str, Any]) -> bool:
    trial, value, seconds, status = (line.get(name) for name in ("trial", "value", "seconds", "status"))
    return (
        isinstance(trial, int)
        and not isinstance(trial, bool)
        and trial >= 0
        and status in STATUSES
        and ("params" in line or "genome" in line)
        and _is_number(seconds)
        and (_is_number(value) or (value is None and status != "finished"))
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _parsed(row: bytes) -> dict[str, Any]:
    """The JSON object in a row; an empty one if there is none."""
    try:
        value = json.loads(row)
    except (ValueError, RecursionError):  # neither JSON nor UTF-8; brackets nested too deeply
        return {}
    return value if isinstance(value, dict) else {}


def _text(row: bytes) -> str:
    return shown(row[:40].decode(errors="replace"))
