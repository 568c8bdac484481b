# SPDX-License-Identifier: MIT
"""The picture of a search: progress, species, and the value against clustering and path length of the wirings.

Lines of a log come in, a matplotlib figure goes out; nothing uses matplotlib's global state.

References:
    You, Leskovec, He, Xie: Graph structure of neural networks, ICML 2020, for the plane of clustering and path length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from freewire.errors import InputError
from freewire.graph.arguments import FloatArray, IntArray
from freewire.search.picture_style import DARK, MUTED, VALUES, Groups, ValueRange, cycled, new_figure, plain
from freewire.search.recorded_trials import Line, best_so_far, rank_correlation, ranked, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_report"]

_BINNED = 400  # from so many wirings on, the plane shows means of bins
_FITTED = 10  # the fewest wirings that a polynomial is fitted to
_LABELS = {"clustering": "clustering coefficient", "path_length": "average path length (edges)"}
_BLUE, _ORANGE = "#0072b2", "#d55e00"


def draw_report(lines: Sequence[Line], measures: Mapping[int, Mapping[str, float]], by: str | None) -> Figure:
    """Draw a search.

    Args:
        lines: Lines of its log, in order of trials.
        measures: Numbers that describe wirings, by trial and name.
        by: The parameter that colours the dots, if any.

    Raises:
        InputError: No trial has finished, or ``by`` has too many values, or none.
        BuildError: matplotlib is not installed.
    """
    finished = ranked(lines)
    if not finished:
        raise InputError("log: expected a trial that has finished, got none. Draw the search later.")
    groups, values = Groups.of(lines, by), ValueRange.of(values_of(finished))
    wired = [line for line in finished if set(_LABELS) <= set(measures.get(line["trial"], ()))]
    with_generations = all(isinstance(line.get("generation"), int) for line in lines)
    with_species = with_generations and all(isinstance(line.get("species"), int) for line in lines)
    rows = ["PPPSSS" if with_species else "PPPPPP", *(["MMCCLL"] if wired else [])]
    figure = new_figure(13 if wired or with_species else 9, 4.4 * len(rows))
    axes = figure.subplot_mosaic("\n".join(rows))
    if with_generations:
        _generations(axes["P"], lines)  # whose middle halves have no outliers
    else:
        _trials(axes["P"], lines, groups)
        values.limit(axes["P"], values_of(finished))
    if with_species:
        _species(axes["S"], lines)
    if wired:
        _plane(figure, axes["M"], wired, measures, values)
        for panel, name in (("C", "clustering"), ("L", "path_length")):
            _against(axes[panel], wired, measures, name, groups)
            values.limit(axes[panel], values_of(wired))
    if by is not None:
        handles, labels = axes["P"].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _trials(axes: Axes, lines: Sequence[Line], groups: Groups) -> None:
    """The value of each trial, and the best so far."""
    trials, values = np.array([line["trial"] for line in lines]), values_of(lines)
    _dots(axes, lines, trials, values, groups)
    pruned = [line for line in lines if line["status"] == "pruned" and line["value"] is not None]
    if pruned:
        x, y = [line["trial"] for line in pruned], [line["value"] for line in pruned]
        axes.scatter(x, y, s=20, facecolors="none", edgecolors=MUTED, label="pruned")
    axes.plot(trials, best_so_far(values), color=DARK, drawstyle="steps-post", linewidth=1.5, label="best so far")
    lost = [line["trial"] for line in lines if line["value"] is None]
    if lost:  # at the lower edge, as they have no value
        shift = axes.get_xaxis_transform()
        axes.plot(lost, [0.02] * len(lost), "x", color=_ORANGE, transform=shift, label="failed", clip_on=False)
    axes.set(title="trials", xlabel="trial", ylabel="value")
    if groups.by is None:
        axes.legend(frameon=False, loc="lower right")
    plain(axes)


def _generations(axes: Axes, lines: Sequence[Line]) -> None:
    """The best, the middle half and the median of each generation, and the best so far."""
    generations, members = _by_generation(lines)
    values = values_of(lines)
    shown = [values[each][~np.isnan(values[each])] for each in members]
    best = np.array([each.max() if len(each) else np.nan for each in shown])
    quartiles = np.array([np.quantile(each, (0.25, 0.5, 0.75)) if len(each) else [np.nan] * 3 for each in shown]).T
    low, middle, high = quartiles
    axes.fill_between(generations, low, high, color=_BLUE, alpha=0.2, linewidth=0, label="middle half")
    axes.plot(generations, middle, color=_BLUE, label="median")
    axes.plot(generations, best, ".", color=_ORANGE, label="best of the generation")
    axes.plot(generations, best_so_far(best), color=DARK, drawstyle="steps-post", label="best so far")
    axes.set(title="generations", xlabel="generation", ylabel="value")
    axes.legend(frameon=False, loc="lower right")
    plain(axes)


def _species(axes: Axes, lines: Sequence[Line]) -> None:
    """The size of each species, one upon the other, in order of their first appearance."""
    generations, members = _by_generation(lines)
    numbers = list(dict.fromkeys(line["species"] for line in lines))
    place = {number: i for i, number in enumerate(numbers)}
    sizes = np.zeros((len(numbers), len(generations)))
    for i, each in enumerate(members):
        for member in each.tolist():
            sizes[place[lines[member]["species"]], i] += 1
    axes.stackplot(generations, sizes, colors=cycled(len(numbers)), edgecolor="white", linewidth=0.4)
    alive = (sizes > 0).sum(axis=0)
    title = f"species: {len(numbers)} in all, {alive[-1]} in the last generation"
    axes.set(title=title, xlabel="generation", ylabel="members", ylim=(0, None))
    axes.margins(x=0)
    plain(axes)


def _by_generation(lines: Sequence[Line]) -> tuple[IntArray, list[IntArray]]:
    """The generations, ascending, and the places of the lines of each."""
    generation = np.array([line["generation"] for line in lines])
    found = np.unique(generation)
    return found, [np.flatnonzero(generation == each) for each in found]


def _plane(
    figure: Figure, axes: Axes, lines: Sequence[Line], measures: Mapping[int, Mapping[str, float]], shown: ValueRange
) -> None:
    """The value, as a colour, by clustering and path length."""
    x, y = (_numbers(lines, measures, name) for name in _LABELS)
    values = values_of(lines)
    colours: dict[str, Any] = {"cmap": VALUES, "vmin": shown.low, "vmax": shown.high}
    _stretch(axes, "y", y)
    dots: Any
    if len(lines) < _BINNED:
        order = np.argsort(values, kind="stable")  # the best on top
        dots = axes.scatter(x[order], y[order], s=40, c=values[order], edgecolors="white", linewidths=0.5, **colours)
        title = "value by clustering and path length"
    else:
        scale: Any = axes.get_yscale()
        dots = axes.hexbin(x, y, values, reduce_C_function=np.mean, gridsize=18, yscale=scale, linewidths=0, **colours)
        title = "mean value by clustering and path length"
        _stretch(axes, "y", y)  # hexbin has set its own ticks
    best = lines[0]
    axes.plot(*(measures[best["trial"]][name] for name in _LABELS), "*", color=_ORANGE, markersize=13, label="best")
    axes.legend(frameon=False)
    figure.colorbar(dots, ax=axes, label="value", extend="min" if (values < shown.low).any() else "neither")
    axes.set(title=f"{title} ({len(lines):,})", xlabel=_LABELS["clustering"], ylabel=_LABELS["path_length"])
    plain(axes)


def _against(
    axes: Axes,
    lines: Sequence[Line],
    measures: Mapping[int, Mapping[str, float]],
    name: str,
    groups: Groups,
) -> None:
    """The value against one number of the wiring, with a polynomial of second degree."""
    x, values = _numbers(lines, measures, name), values_of(lines)
    if name == "path_length":
        _stretch(axes, "x", x)
    _dots(axes, lines, x, values, groups)
    scale = np.log if axes.get_xscale() == "log" else np.asarray
    if len(np.unique(x)) >= _FITTED:
        at = np.linspace(x.min(), x.max(), 200)
        fit = np.polynomial.Polynomial.fit(scale(x), values, 2)
        axes.plot(at, fit(scale(at)), color=MUTED, linewidth=1.5, zorder=1)
    correlation = rank_correlation(x, values)
    text = "" if np.isnan(correlation) else f"rank correlation {correlation:+.2f}"
    axes.set(title=text, xlabel=_LABELS[name], ylabel="value")
    plain(axes)


def _dots(axes: Axes, lines: Sequence[Line], x: FloatArray | IntArray, values: FloatArray, groups: Groups) -> None:
    """A dot per trial, coloured by its group."""
    for label, colour, marker, where in groups.parts(lines):
        axes.scatter(
            x[where], values[where], s=34, color=colour, marker=marker, alpha=0.75, linewidths=0.5, edgecolors="white",
            label=label, zorder=2,
        )  # fmt: skip


def _numbers(lines: Sequence[Line], measures: Mapping[int, Mapping[str, float]], name: str) -> FloatArray:
    return np.array([measures[line["trial"]][name] for line in lines], np.float64)


def _stretch(axes: Axes, side: str, values: FloatArray) -> None:
    """A logarithmic axis where numbers differ by more than a factor of three: rings have very long paths."""
    if values.min() <= 0 or values.max() < 3 * values.min():
        return
    from matplotlib.ticker import FormatStrFormatter, LogLocator

    getattr(axes, f"set_{side}scale")("log")
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(LogLocator(subs=()))
