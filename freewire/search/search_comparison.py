# SPDX-License-Identifier: MIT
"""`compare`: several searches side by side, as text and as a picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from freewire.errors import InputError, shown
from freewire.search.comparison_plot import draw_comparison
from freewire.search.log import Recorded
from freewire.search.picture_style import COLOURS, save
from freewire.search.recorded_trials import Line, ranked
from freewire.search.search_report import SearchReport, duration, report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SearchComparison", "SearchRow", "compare"]

_NAME = 24  # characters of a log's name in tables


class SearchRow(NamedTuple):
    """What a comparison says of one search."""

    log: str
    strategy: str  #: Empty where the log is given as lines only.
    seed: int | None
    trials: int
    finished: int
    best: float | None  #: None, as the next two, if no trial has finished.
    trial: int | None  #: The number of the best trial.
    median: float | None
    best_of_first: float | None  #: The best of as many trials as the shortest search has.
    seconds: float  #: Of all trials together.


@dataclass(frozen=True)
class SearchComparison:
    """Several searches. ``print`` shows a row of each, and how their values correlate with parameters.

    Attributes:
        reports: A report of each log, by the log's name.
    """

    reports: Mapping[str, SearchReport] = field(repr=False)

    @property
    def rows(self) -> list[SearchRow]:
        """A row for each search; ``pandas.DataFrame(comparison.rows)`` is a table."""
        shortest = min(len(each.lines) for each in self.reports.values())
        rows = []
        for name, each in self.reports.items():
            first = ranked(each.lines[:shortest])
            rows.append(
                SearchRow(
                    name,
                    each.header.get("strategy", ""),
                    each.header.get("seed"),
                    len(each.lines),
                    len(each.ranked),
                    each.best["value"] if each.best else None,
                    each.best["trial"] if each.best else None,
                    each.median,
                    first[0]["value"] if first else None,
                    each.seconds,
                )
            )
        return rows

    def figure(self) -> Figure:
        """Draw the searches, each in a colour of its own.

        At the top the best so far, and the values of all trials; then parallel coordinates: a line is a trial, and
        crosses each axis at its parameter and the last one at its value, the best trials in full colour; then the
        value against each parameter. Numbers that describe wirings (`SearchReport.measures`) count as parameters.

        Returns:
            A matplotlib figure that belongs to no window; a notebook shows it.

        Raises:
            InputError: No trial has finished.
            BuildError: matplotlib is not installed.
        """
        return draw_comparison(self.reports)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write what `figure` draws to a file.

        Args:
            path: A name that ends with .png, .svg or .pdf.

        Raises:
            InputError: No trial has finished, or the name ends in another way.
            BuildError: matplotlib is not installed.
            OSError: The file cannot be written.
        """
        save(self.figure, path)

    def __str__(self) -> str:
        rows = self.rows
        shortest = min(row.trials for row in rows)
        header = ["log", "strategy", "seed", "trials", "finished", "best", "of trial", "median"]
        header += [f"best of first {shortest}", "work"]
        table = [header]
        for row in rows:
            numbers = [_text(value) for value in row[2:9]]
            table.append([_short(row.log), row.strategy or "-", *numbers, duration(row.seconds)])
        names = dict.fromkeys(name for each in self.reports.values() for name in each.correlations)
        text = _aligned(table, left=2)
        if names:
            logs = [_short(name) for name in self.reports]
            correlations = [
                [name, *(_signed(each.correlations.get(name)) for each in self.reports.values())] for name in names
            ]
            text += ["", *_aligned([["rank correlation with the value", *logs], *correlations], left=1)]
        return "\n".join(text)


def compare(
    logs: Sequence[str | os.PathLike[str] | Recorded | Sequence[Line]]
    | Mapping[str, str | os.PathLike[str] | Recorded | Sequence[Line]],
) -> SearchComparison:
    """Compare searches, also while they run.

    Values are comparable only where the objectives are the same.

    Args:
        logs: Up to 7 logs, each as for `report`; or a dictionary from names to logs. Without it, a log's name is that
            of its file, with as many folders as tell it from the others.

    Raises:
        InputError: ``logs`` is something else.
        FileFormatError: A file is not a log, or damaged elsewhere than at its end.
        OSError: A file cannot be read.

    Example:
        >>> import os, tempfile
        >>> from freewire.search import Evolution, RandomSearch, run
        >>> folder, space = tempfile.mkdtemp(), {"x": (0.0, 10.0)}
        >>> logs = [os.path.join(folder, name) for name in ("random.jsonl", "evolution.jsonl")]
        >>> for log, strategy in zip(logs, (RandomSearch(space), Evolution(space, population=10, lag=0))):
        ...     _ = run(lambda params: -params["x"], strategy, 40, log=log, workers=0, progress=False)
        >>> found = compare(logs)
        >>> [(row.log, row.trials) for row in found.rows], found.rows[1].best > found.rows[0].best
        ([('random', 40), ('evolution', 40)], True)
    """
    most = f"from 1 to {len(COLOURS)} logs"
    if isinstance(logs, Mapping):
        named: dict[str, Any] = {str(name): log for name, log in logs.items()}
    elif isinstance(logs, Iterable) and not isinstance(logs, str | bytes | Recorded):
        listed = list(logs)
        named = dict(zip(_names(listed), listed, strict=True))
    else:
        raise InputError(f"logs: expected a list of {most}, got {shown(logs)}. Pass [log], or use report(log).")
    if not 0 < len(named) <= len(COLOURS):
        raise InputError(f"logs: expected {most}, got {len(named)}. Choose some.")
    return SearchComparison({name: report(log) for name, log in named.items()})


def _names(logs: Sequence[Any]) -> list[str]:
    """A different name for each log: the end of its path, as long as it has to be."""
    parts = [
        Path(os.fsdecode(log)).with_suffix("").parts if isinstance(log, str | bytes | os.PathLike) else (f"log {i}",)
        for i, log in enumerate(logs)
    ]
    for length in range(1, max((len(each) for each in parts), default=1) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({i})" for i, name in enumerate(names)]  # a log twice


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"...{name[3 - _NAME :]}"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _aligned(table: Sequence[Sequence[str]], left: int) -> list[str]:
    """The lines of a table, whose first ``left`` columns are aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
