# SPDX-License-Identifier: MIT
"""`report`: what a search has found, as text and as a picture, also while it runs."""

from __future__ import annotations

import math
import os
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from freewire.errors import cut
from freewire.graph import Graph
from freewire.graph.arguments import FloatArray
from freewire.search.graph_measures import graph_of, measures
from freewire.search.log import Recorded
from freewire.search.picture_style import save
from freewire.search.recorded_trials import (
    Line,
    as_number,
    as_text,
    load,
    params_of,
    rank_correlation,
    ranked,
    values_of,
)
from freewire.search.report_plot import draw_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SearchReport", "duration", "report"]

_TOP = 5  # trials that text shows
_WIDTH = 160  # characters of what it says of each
_CORRELATIONS = 12  # that text shows, the strongest


@dataclass(frozen=True)
class SearchReport:
    """What a search has found. ``print`` shows its counts, its best trials and rank correlations.

    Attributes:
        header: The log's header: ``strategy``, its ``settings``, ``seed``, ...; empty where the report is of lines.
        lines: The log's lines in order of trials.
    """

    header: Mapping[str, Any] = field(repr=False)
    lines: Sequence[Line] = field(repr=False)

    @cached_property
    def ranked(self) -> list[Line]:
        """Lines of the trials that have finished, best first; of equal ones the earlier is the better."""
        return ranked(self.lines)

    @property
    def best(self) -> Line | None:
        """The best trial's line; None if no trial has finished."""
        return self.ranked[0] if self.ranked else None

    @property
    def best_graph(self) -> Graph | None:
        """The best trial's network as a graph, if the search is one for graphs, as NEAT's is; else None."""
        return graph_of(self.ranked[0]) if self.ranked else None

    @property
    def median(self) -> float | None:
        """The median value of the trials that have finished; None without any."""
        return statistics.median(line["value"] for line in self.ranked) if self.ranked else None

    @property
    def counts(self) -> dict[str, int]:
        """How many trials ended in which way, by status."""
        return dict(Counter(line["status"] for line in self.lines))

    @property
    def seconds(self) -> float:
        """The time of all trials together, as if they had run one after the other."""
        return math.fsum(line["seconds"] for line in self.lines) / self.header.get("batch", 1)

    @cached_property
    def measures(self) -> dict[int, dict[str, float]]:
        """Numbers that describe wirings, such as ``clustering`` and ``path_length``: by trial, and then by name.

        They are what a line holds in its object ``graph``, or computed from its genome; of thousands of genomes some
        hundred are chosen.
        """
        return measures(self.lines)

    @cached_property
    def correlations(self) -> dict[str, float]:
        """Spearman's rank correlation of the value with each number that a trial has: parameters and `measures`.

        Numbers that are the same in all trials are omitted.
        """
        values = values_of(self.ranked)
        found = {name: rank_correlation(self._numbers(name), values) for name in self.features}
        return {name: number for name, number in found.items() if not math.isnan(number)}

    @cached_property
    def features(self) -> list[str]:
        """Names of what trials may differ in: parameters, then `measures`, in the order of their first appearance."""
        names = dict.fromkeys(name for line in self.ranked for name in params_of(line))
        return [*names, *dict.fromkeys(name for each in self.measures.values() for name in each if name not in names)]

    def feature(self, line: Line, name: str) -> Any:
        """A trial's parameter, or one of its `measures`; an ellipsis where it has neither."""
        return params_of(line).get(name, self.measures.get(line["trial"], {}).get(name, ...))

    def figure(self, by: str | None = None) -> Figure:
        """Draw the search.

        - The values of its trials, and the best so far; of a search by generations the best, the median and the middle
          half of each, and the size of each species.
        - Where wirings have a ``clustering`` and a ``path_length`` (see `measures`): the value in the plane of both, as
          You et al. (Graph structure of neural networks, ICML 2020) draw it, and against either, with a polynomial of
          second degree. Titles have Spearman's rank correlations.

        Args:
            by: A parameter with at most 7 different values, which colours the dots, such as the family of graphs.

        Returns:
            A matplotlib figure that belongs to no window; a notebook shows it.

        Raises:
            InputError: No trial has finished, or ``by`` is no such parameter.
            BuildError: matplotlib is not installed.
        """
        return draw_report(self.lines, self.measures, by)

    def plot(self, path: str | os.PathLike[str], by: str | None = None) -> None:
        """Write what `figure` draws to a file.

        Args:
            path: A name that ends with .png, .svg or .pdf.
            by: As for `figure`.

        Raises:
            InputError: As `figure`, or the name ends in another way.
            BuildError: matplotlib is not installed.
            OSError: The file cannot be written.
        """
        save(lambda: self.figure(by), path)

    def __str__(self) -> str:
        title = f"{self.header['strategy']}, seed {self.header['seed']}: " if self.header else ""
        ends = ", ".join(f"{count:,} {status}" for status, count in self.counts.items())
        plural = "" if len(self.lines) == 1 else "s"
        text = [f"{title}{len(self.lines):,} trial{plural} ({ends or 'none yet'}), {duration(self.seconds)} of work"]
        if self.best is not None and self.median is not None:
            text.append(
                f"best {self.best['value']:.6g} (trial {self.best['trial']}), median {self.median:.6g}, "
                f"worst {self.ranked[-1]['value']:.6g}"
            )
            text += ["", f"{'trial':>7}  {'value':>10}  {'seconds':>8}"]
            text += [
                f"{line['trial']:7}  {line['value']:10.6g}  {line['seconds']:8.2f}  {self._described(line)}"
                for line in self.ranked[:_TOP]
            ]
        text += self._correlation_lines()
        failed = next((line for line in self.lines if line.get("error")), None)
        if failed is not None:
            text += ["", f"first error, of trial {failed['trial']}: {cut(failed['error'].splitlines()[-1])}"]
        return "\n".join(text)

    def _described(self, line: Line) -> str:
        """What a line of text says of a trial: its parameters, its generation and species, numbers of its wiring."""
        said = {**params_of(line), **{name: line[name] for name in ("generation", "species") if name in line}}
        said |= {name: number for name, number in self.measures.get(line["trial"], {}).items() if name not in said}
        return cut(", ".join(f"{name} {as_text(value)}" for name, value in said.items()), _WIDTH)

    def _numbers(self, name: str) -> FloatArray:
        """A feature of the `ranked` trials, NaN where it is no number ``[n]``."""
        numbers = [as_number(self.feature(line, name)) for line in self.ranked]
        return np.array([math.nan if number is None else number for number in numbers], np.float64)

    def _correlation_lines(self) -> list[str]:
        strongest = sorted(self.correlations.items(), key=lambda pair: -abs(pair[1]))[:_CORRELATIONS]
        if not strongest:
            return []
        fewest = min(int((~np.isnan(self._numbers(name))).sum()) for name, _ in strongest)
        return [
            "",
            f"rank correlation with the value: {', '.join(f'{name} {number:+.2f}' for name, number in strongest)}",
            f"(by chance alone, each would stay within ±{1.96 / math.sqrt(fewest - 1):.2f} in 19 of 20 searches by "
            "random draws)",
        ]


def report(log: str | os.PathLike[str] | Recorded | Sequence[Line]) -> SearchReport:
    """Report what a search has found, also while it runs.

    Args:
        log: The path of its log, what `read_log` returns, or some lines of a log, such as those of one family.

    Raises:
        InputError: ``log`` is something else.
        FileFormatError: The file is not a log, or damaged elsewhere than at its end.
        OSError: The file cannot be read.

    Example:
        >>> import os, tempfile
        >>> from freewire.search import RandomSearch, run
        >>> path = os.path.join(tempfile.mkdtemp(), "search.jsonl")
        >>> space = {"x": (0.0, 10.0)}
        >>> _ = run(lambda params: -params["x"], RandomSearch(space), 20, log=path, workers=0, progress=False)
        >>> found = report(path)
        >>> found.best["value"] == max(line["value"] for line in found.lines), found.correlations
        (True, {'x': -1.0})
        >>> print(str(found).splitlines()[0].partition(",")[0])
        RandomSearch
    """
    header, lines = load(log)
    return SearchReport(header, tuple(lines))


def duration(seconds: float) -> str:
    """A time as text: ``3.2 s``, ``5 min 10 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
