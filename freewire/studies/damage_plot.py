# SPDX-License-Identifier: MIT
"""The paper's two plots of a damage study, drawn with matplotlib: accuracy drop by degree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PERCENT", "Panel", "draw_panels"]

PERCENT = 100  # percentage points in a fraction


class Panel(NamedTuple):
    """One plot.

    Attributes:
        drops: Degree, ascending -> the accuracy drops of the networks of that degree, fractions.
        title: What was removed from the networks.
        degree: Which degree it is.
        colour: Colour of the dots.
    """

    drops: dict[int, list[float]]
    title: str
    degree: str
    colour: str


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """Draw plots side by side.

    Args:
        panels: The plots. Without any, the figure is empty.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * max(1, len(panels)), 4.2), layout="constrained")
    for axes, panel in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0] if panels else (), panels, strict=True
    ):
        _draw(axes, panel.drops, panel.colour)
        axes.set(title=panel.title, xlabel=panel.degree, ylabel="accuracy drop (percentage points)")
        axes.tick_params(labelleft=True)
    return figure


def _draw(axes: Axes, drops: dict[int, list[float]], colour: str) -> None:
    """One plot: a box per degree, and behind it a dot per damaged network."""
    from matplotlib.ticker import FixedLocator

    points = [[PERCENT * drop for drop in each] for each in drops.values()]
    degrees = list(drops)
    axes.boxplot(
        points,
        positions=degrees,
        widths=0.6,
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": "none", "edgecolor": "#3b4656"},
        whiskerprops={"color": "#8d9bb0"},
        capprops={"color": "#8d9bb0"},
        medianprops={"color": "#3b4656", "linewidth": 2},
        meanprops={"marker": "D", "markersize": 6, "markerfacecolor": "white", "markeredgecolor": "#10151e"},
        zorder=3,
    )
    for degree, each in zip(degrees, points, strict=True):
        aside = [
            degree + 0.25 * (2 * ((i * 0.618034) % 1) - 1) for i in range(len(each))
        ]  # or dots would hide each other
        axes.scatter(aside, each, s=18, color=colour, alpha=0.6, linewidths=0, zorder=2)
    axes.set_yscale("symlog", linthresh=1, linscale=0.8)
    ticks = (0.5, 1, 2, 5, 10, 20, 50, 100)
    axes.yaxis.set_major_locator(FixedLocator([0, *ticks, *(-tick for tick in ticks)]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.axhline(0, color="#8d9bb0", linewidth=0.8, zorder=1)
    axes.set_xticks(range(min(degrees), max(degrees) + 1))
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
