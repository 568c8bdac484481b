# SPDX-License-Identifier: MIT
"""The picture of a `Diagnostics`: curves of the whole network above, and maps of level by step below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from freewire.errors import BuildError, InputError, shown
from freewire.files.paths import path_name
from freewire.studies.diagnostics_log import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["picture_path", "plot_diagnostics"]

#: Kinds of picture files, which matplotlib writes without other packages.
PICTURES = (".png", ".svg", ".pdf")

_DARK, _MUTED, _BLUE, _ORANGE = "#3b4656", "#8d9bb0", "#2e86ab", "#e4572e"
_SIZE = (17.0, 7.6)  # inches
_LENGTHS = (-2.0, 3.0)  # of the axis of step lengths; longer ones are drawn at its end
_LEVELS_ON_AXIS = 12  # up to so many, each has its number on the axis


def plot_diagnostics(records: Sequence[Record], figure: Figure | None = None) -> Figure:
    """Draw measurements of a training: loss, step length, noise, units and, per level, gradients, updates and units.

    Args:
        records: ``diagnostics.records``, or what `read_diagnostics` returns, of one network.
        figure: A matplotlib figure to clear and draw on. None: a new one that belongs to no window.

    Raises:
        InputError: There are no records, or they are of networks of different levels.
        BuildError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BuildError(
            "matplotlib: expected it to be installed, got no such package. Install it: pip install freewire[viz]."
        ) from None
    if not records:
        raise InputError("records: expected at least one record, got none. Measure something first.")
    levels = records[0]["levels"]["level"]
    if any(record["levels"]["level"] != levels for record in records):
        raise InputError("records: expected those of one network, got several with different levels. Draw each alone.")
    figure = figure or Figure(figsize=_SIZE, layout="constrained")
    figure.clear()
    curves, maps = figure.subplots(2, 4)
    steps = _column(records, "step")
    _loss(curves[0], records, steps)
    _step_length(curves[1], records, steps)
    _noise(curves[2], records, steps)
    _units(curves[3], records, steps)
    for axes, name, title, is_share in (
        (maps[0], "gradient_norm", "gradient norm", False),
        (maps[1], "update_ratio", "update-to-weight ratio", False),
        (maps[2], "dead", "dead units, share of the level", True),
        (maps[3], "saturated", "saturated units, share of the level", True),
    ):
        _map(figure, axes, records, steps, name, title, is_share)
    for axes in curves:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("step")
    return figure


def _column(records: Sequence[Record], name: str) -> NDArray[np.float64]:
    """A number of each record; NaN where it is missing or not finite."""
    values = np.array([np.nan if record[name] is None else record[name] for record in records], np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _loss(axes: Axes, records: Sequence[Record], steps: NDArray[np.float64]) -> None:
    before, after = _column(records, "loss"), _column(records, "loss_after")
    axes.plot(steps, before, color=_DARK, marker=".", label="before the step")
    axes.plot(steps, after, color=_ORANGE, linewidth=1, label="after it")
    lost = np.isnan(before)
    for step in steps[lost]:
        axes.axvline(step, color=_ORANGE, alpha=0.3, linewidth=2)
    positive = np.concatenate((before, after))
    positive = positive[~np.isnan(positive)]
    if positive.size and positive.min() > 0 and positive.max() > 100 * positive.min():
        axes.set_yscale("log")
    axes.set_title(f"loss of the batch{', not finite at the bars' if lost.any() else ''}")
    axes.legend(frameon=False, fontsize="small")


def _step_length(axes: Axes, records: Sequence[Record], steps: NDArray[np.float64]) -> None:
    lengths = _column(records, "step_length")
    axes.axhspan(1, _LENGTHS[1], color=_ORANGE, alpha=0.12, linewidth=0)
    for length, what in ((-1, "no step"), (0, "minimum"), (1, "as high as before")):
        axes.axhline(length, color=_MUTED, linewidth=0.8)
        axes.annotate(
            what, (1, length), (-3, 2), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
            fontsize="small", color=_DARK, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    axes.plot(steps, np.clip(lengths, *_LENGTHS), color=_BLUE, marker=".", linewidth=1)
    outside = (lengths < _LENGTHS[0]) | (lengths > _LENGTHS[1])
    axes.plot(steps[outside], np.clip(lengths[outside], *_LENGTHS), color=_ORANGE, marker="x", linestyle="none")
    axes.set_ylim(_LENGTHS[0] - 0.1, _LENGTHS[1] + 0.1)
    median = f", median {np.nanmedian(lengths):.2f}" if not np.isnan(lengths).all() else ""
    axes.set_title(f"normalised step length{median}")


def _noise(axes: Axes, records: Sequence[Record], steps: NDArray[np.float64]) -> None:
    scales = _column(records, "noise_scale")
    axes.plot(steps, _column(records, "samples"), color=_MUTED, label="batch size")
    axes.plot(steps, scales, color=_BLUE, marker=".", linewidth=1, label="noise scale")
    hidden = np.isnan(scales)
    if hidden.any():
        axes.plot(
            steps[hidden], np.full(hidden.sum(), 0.98), color=_ORANGE, marker="x", linestyle="none",
            transform=axes.get_xaxis_transform(), label="gradient hidden by noise",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set(title="gradient noise scale", ylabel="samples")
    axes.legend(frameon=False, fontsize="small")


def _units(axes: Axes, records: Sequence[Record], steps: NDArray[np.float64]) -> None:
    units = np.maximum(_column(records, "units"), 1)
    for name, colour in (("dead", _DARK), ("saturated", _ORANGE)):
        axes.plot(steps, 100 * _column(records, name) / units, color=colour, marker=".", label=name)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))  # all at 0 must not look like a change
    axes.set(title=f"units ({records[-1]['units']:,} in all)", ylabel="%")
    axes.legend(frameon=False, fontsize="small")


def _map(
    figure: Figure,
    axes: Axes,
    records: Sequence[Record],
    steps: NDArray[np.float64],
    name: str,
    title: str,
    is_share: bool,
) -> None:
    """A row per level, a column per record; grey where there is no number."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    levels = records[0]["levels"]["level"]
    values = np.array([record["levels"][name] for record in records], np.float64).T
    if is_share:
        units = np.array(records[0]["levels"]["units"], np.float64)
        values = np.divide(values, units[:, None], out=np.full_like(values, np.nan), where=units[:, None] > 0)
    shown = np.ma.masked_invalid(values)
    if not is_share:
        shown = np.ma.masked_less_equal(shown, 0)
    norm = Normalize(0, 1) if is_share else LogNorm() if shown.count() else Normalize(0, 1)
    axes.set_facecolor("#d5dae1")
    every = np.median(np.diff(steps)) if len(steps) > 1 else 1
    edges = np.append(steps - every / 2, steps[-1] + every / 2)
    if len(steps) > 1 and (np.diff(steps) <= 0).any():  # several runs in one log
        edges = np.arange(len(steps) + 1) - 0.5
    mesh = axes.pcolormesh(
        edges, np.arange(len(levels) + 1) - 0.5, shown, norm=norm, cmap=colormaps["viridis"], rasterized=True
    )
    figure.colorbar(mesh, ax=axes)
    if len(levels) <= _LEVELS_ON_AXIS:
        axes.set_yticks(range(len(levels)), levels)
    else:
        at = np.linspace(0, len(levels) - 1, 6).round().astype(int).tolist()
        axes.set_yticks(at, [levels[i] for i in at])
    axes.set(title=title, xlabel="step", ylabel="level")


def picture_path(figure: str | Path) -> Path:
    """The path of a live picture, checked before the training begins."""
    path = Path(path_name(figure))
    if not path.parent.is_dir():
        raise InputError(
            f"figure: expected a file in an existing folder, got {shown(str(figure))}. Create the folder: "
            "os.makedirs(...)."
        )
    if path.suffix not in PICTURES:
        raise InputError(
            f"figure: expected a picture's name, such as 'diagnostics.png', got {shown(str(figure))}. End it with one "
            f"of {', '.join(PICTURES)}."
        )
    return path
