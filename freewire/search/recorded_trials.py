# SPDX-License-Identifier: MIT
"""What reports and comparisons compute from a log: lines of trials come in, rankings, columns and correlations go out.

Nothing here draws or formats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from freewire.errors import InputError, shown
from freewire.graph.arguments import FloatArray
from freewire.search.log import Recorded, read_log
from freewire.search.log_format import STATUSES

__all__ = [
    "Line",
    "as_number",
    "as_text",
    "best_so_far",
    "load",
    "params_of",
    "rank_correlation",
    "ranked",
    "values_of",
]

#: A trial's line of the log.
Line: TypeAlias = Mapping[str, Any]


def load(log: Any, argument: str = "log") -> Recorded:
    """A log as a header and lines in order of trials.

    Args:
        log: The path of a log, what `read_log` returns, or some of its lines.
        argument: The name of the caller's argument, for messages.

    Returns:
        Both; the header is empty where only lines are given.

    Raises:
        InputError: It is something else.
        FileFormatError: The file is not a log, or damaged elsewhere than at its end.
        OSError: The file cannot be read.
    """
    if isinstance(log, Recorded):
        recorded = log
    elif isinstance(log, Iterable) and not isinstance(log, str | bytes | Mapping):
        recorded = Recorded({}, list(log))
        for line in recorded.lines:
            if not (isinstance(line, Mapping) and line.get("status") in STATUSES and "trial" in line):
                raise InputError(
                    f"{argument}: expected the path of a log or lines of one, got a list with {shown(line)}. Pass "
                    "fw.search.read_log(path).lines, or some of them."
                )
    else:
        recorded = read_log(log)
    return Recorded(recorded.header, sorted(recorded.lines, key=lambda line: line["trial"]))


def ranked(lines: Sequence[Line]) -> list[Line]:
    """The trials that have finished, best first; of equal ones the earlier is the better, as for `run`."""
    finished = [line for line in lines if line["status"] == "finished"]
    return sorted(finished, key=lambda line: (-line["value"], line["trial"]))


def values_of(lines: Sequence[Line]) -> FloatArray:
    """The values of trials that have finished, and NaN for others ``[n]``."""
    return np.array([line["value"] if line["status"] == "finished" else math.nan for line in lines], np.float64)


def best_so_far(values: FloatArray) -> FloatArray:
    """The highest of each value and those before it, NaN until there is one ``[n]``."""
    highest = np.fmax.accumulate(values) if len(values) else values
    return np.asarray(highest, np.float64)


def params_of(line: Line) -> Mapping[str, Any]:
    """The parameters of a trial; none where it has a genome."""
    params = line.get("params")
    return params if isinstance(params, Mapping) else {}


def as_number(value: Any) -> float | None:
    """A finite number of JSON as a float; None for all else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_text(value: Any, length: int = 24) -> str:
    """A parameter's value for a table or an axis, a float with four digits."""
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def rank_correlation(x: FloatArray, y: FloatArray) -> float:
    """Spearman's rank correlation, over the pairs of which both are numbers.

    Args:
        x: Numbers ``[n]``; NaN where there is none.
        y: The same ``[n]``.

    Returns:
        From -1 to 1; NaN if there are fewer than three pairs, or one side is constant.
    """
    both = ~(np.isnan(x) | np.isnan(y))
    a, b = _ranks(x[both]), _ranks(y[both])
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1 for the smallest value; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place], np.float64)
