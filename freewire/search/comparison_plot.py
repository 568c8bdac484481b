# SPDX-License-Identifier: MIT
"""The picture of several searches: the best so far, parallel coordinates, and the value against each parameter.

Reports come in, a matplotlib figure goes out; nothing uses matplotlib's global state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from freewire.errors import InputError
from freewire.graph.arguments import FloatArray
from freewire.search.comparison_columns import Column, columns_of
from freewire.search.picture_style import COLOURS, DARK, MARKERS, MUTED, ValueRange, new_figure, plain
from freewire.search.recorded_trials import Line, best_so_far, values_of
from freewire.search.search_report import SearchReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_comparison"]

_IN_A_ROW = 4  # panels of parameters
_BEST = 5  # trials of each search that parallel coordinates show in full colour
_LINES = 500  # trials of each search that they show at all


def draw_comparison(reports: Mapping[str, SearchReport]) -> Figure:
    """Draw searches.

    Args:
        reports: The report of each log, by the log's name.

    Raises:
        InputError: No trial has finished.
        BuildError: matplotlib is not installed.
    """
    everything = [line for each in reports.values() for line in each.ranked]
    if not everything:
        raise InputError("logs: expected a trial that has finished, got none. Draw the searches later.")
    columns, total = columns_of(reports)
    values = ValueRange.of(values_of(everything))
    rows = math.ceil(len(columns) / _IN_A_ROW)
    figure = new_figure(14, 4 + (4 if columns else 0) + 3.2 * rows)
    parts: Any = figure.subfigures(3, 1, height_ratios=[4, 4 if columns else 0.01, max(0.01, 3.2 * rows)])
    progress, spread = parts[0].subplots(1, 2)
    _progress(progress, reports)
    _spread(spread, reports)
    values.limit(spread, values_of(everything))
    if columns:
        _parallel(parts[1].subplots(), reports, columns, total, values)
        panels = parts[2].subplots(rows, _IN_A_ROW, squeeze=False, sharey=True).ravel().tolist()
        for axes, column in zip(panels, columns, strict=False):
            values.limit(axes, _against(axes, reports, column))
        for axes in panels[len(columns) :]:
            axes.set_axis_off()
        for axes in panels[::_IN_A_ROW]:
            axes.set_ylabel("value")
    return figure


def _looks(reports: Mapping[str, SearchReport]) -> list[tuple[str, SearchReport, str, str]]:
    """The name, the report, the colour and the marker of each search."""
    return list(zip(reports, reports.values(), COLOURS, MARKERS, strict=False))


def _progress(axes: Axes, reports: Mapping[str, SearchReport]) -> None:
    """The best so far by the number of trials."""
    for name, each, colour, _ in _looks(reports):
        values = best_so_far(values_of(each.lines))
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, drawstyle="steps-post", label=name)
    axes.set(title="best so far", xlabel="trials", ylabel="value")
    axes.legend(frameon=False, loc="lower right")
    plain(axes)


def _spread(axes: Axes, reports: Mapping[str, SearchReport]) -> None:
    """The values of all trials, with medians and middle halves."""
    for i, (_, each, colour, marker) in enumerate(_looks(reports)):
        values = values_of(each.ranked)
        if not len(values):
            continue
        axes.scatter(i + _aside(len(values)), values, s=16, color=colour, marker=marker, alpha=0.5, linewidths=0)
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        axes.vlines(i, low, high, color=DARK, linewidth=5, alpha=0.6)
        axes.plot([i - 0.28, i + 0.28], [middle, middle], color=DARK, linewidth=2)
    axes.set_xticks(range(len(reports)), list(reports))
    axes.set(title="values, their medians and middle halves", ylabel="value", xlim=(-0.6, len(reports) - 0.4))
    plain(axes)
    axes.grid(False, axis="x")


def _aside(count: int) -> FloatArray:
    """Places beside each other, or dots would hide one another."""
    return np.asarray(0.4 * (np.arange(count) * 0.618034 % 1 - 0.5), np.float64)


def _parallel(
    axes: Axes, reports: Mapping[str, SearchReport], columns: Sequence[Column], total: int, values: ValueRange
) -> None:
    """A line per trial, from one axis to the next."""
    from matplotlib.collections import LineCollection

    result = Column("value", (), values.low, values.high)
    full = [*columns, result]
    for name, each, colour, _ in _looks(reports):
        lines = _some(each.ranked)
        if not lines:
            continue
        heights = [column.places([each.feature(line, column.name) for line in lines]) for column in columns]
        heights.append(result.places([max(values.low, line["value"]) for line in lines]))
        points = np.stack(heights, axis=1)  # [trials, axes]
        across = np.broadcast_to(np.arange(len(full), dtype=float), points.shape)
        segments = np.stack((across, points), axis=2)  # a NaN breaks a line
        best = segments[:_BEST]
        axes.add_collection(LineCollection(list(segments[_BEST:]), colors=colour, alpha=0.25, linewidths=0.8))
        axes.add_collection(LineCollection(list(best), colors=colour, linewidths=2, label=name, zorder=3))
    for x, column in enumerate(full):
        axes.axvline(x, color=MUTED, linewidth=1, zorder=1)
        for height, text in column.ticks():
            axes.annotate(
                text, (x, height), (4, 0), textcoords="offset points", va="center", fontsize="small", zorder=4,
                bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.4},
            )  # fmt: skip
    axes.set_xticks(range(len(full)), [column.name for column in full])
    axes.set(xlim=(-0.1, len(full) - 0.6), ylim=(-0.05, 1.05), yticks=[])
    axes.spines[:].set_visible(False)
    left_out = f"; {len(columns)} of {total} parameters" if total > len(columns) else ""
    axes.set_title(f"each line a trial, the best {_BEST} of each search in full colour{left_out}")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _some(lines: Sequence[Line]) -> list[Line]:
    """All of a few trials; of many the best, and others evenly spaced in the ranking."""
    if len(lines) <= _LINES:
        return list(lines)
    places = np.linspace(_BEST, len(lines) - 1, _LINES - _BEST).round().astype(int)
    return [*lines[:_BEST], *(lines[place] for place in places.tolist())]


def _against(axes: Axes, reports: Mapping[str, SearchReport], column: Column) -> FloatArray:
    """The value against one parameter; returns the values."""
    drawn = []
    for _, each, colour, marker in _looks(reports):
        x = column.positions([each.feature(line, column.name) for line in each.ranked])
        there = ~np.isnan(x)
        x, values = x[there], values_of(each.ranked)[there]
        drawn.append(values)
        if column.choices:
            x = x + _aside(len(x))
        axes.scatter(x, values, s=18, color=colour, marker=marker, alpha=0.6, linewidths=0.3, edgecolors="white")
    if column.choices:
        axes.set_xticks(range(len(column.choices)), column.choices)
    axes.set_xlabel(column.name)
    plain(axes)
    return np.concatenate(drawn)
