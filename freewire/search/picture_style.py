# SPDX-License-Identifier: MIT
"""What the pictures of searches have in common: colours, groups of trials, figures without a window, files.

Colours are those of Okabe and Ito, which the colour-blind can tell apart; numbers are shown by viridis.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from freewire.errors import BuildError, InputError, shown
from freewire.files.atomic import replacing
from freewire.files.paths import path_name
from freewire.graph.arguments import FloatArray
from freewire.search.recorded_trials import Line, as_text, params_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DARK",
    "MARKERS",
    "MUTED",
    "VALUES",
    "Groups",
    "ValueRange",
    "cycled",
    "new_figure",
    "plain",
    "save",
]

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DARK, MUTED = "#3b4656", "#8d9bb0"
#: The colour map of values.
VALUES = "viridis"

#: Kinds of picture files, which matplotlib writes without other packages.
_PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Groups:
    """Trials by the value of a parameter, each group with a colour and a marker of its own.

    Attributes:
        by: The parameter; None: all trials are one group.
        names: The values as text.
    """

    by: str | None
    names: tuple[str, ...]

    @classmethod
    def of(cls, lines: Sequence[Line], by: str | None) -> Groups:
        """The groups of a search.

        Raises:
            InputError: ``by`` is no parameter of the trials, or has too many values.
        """
        if by is None:
            return cls(None, ("trials",))
        found = {as_text(params_of(line)[by]) for line in lines if by in params_of(line)}
        if not 0 < len(found) <= len(COLOURS):
            got = f"{shown(by)} with {len(found)}" if found else f"{shown(by)}, which no trial has"
            raise InputError(
                f"by: expected a parameter with at most {len(COLOURS)} different values, got {got}. Choose another, "
                "or None."
            )
        return cls(by, tuple(sorted(found)))

    def parts(self, lines: Sequence[Line]) -> Iterator[tuple[str, str, str, NDArray[np.bool_]]]:
        """Each group's name, colour, marker, and which of the lines belong to it ``[n]``."""
        if self.by is None:
            yield self.names[0], COLOURS[0], MARKERS[0], np.ones(len(lines), bool)
            return
        keys = [as_text(params_of(line).get(self.by)) for line in lines]
        for name, colour, marker in zip(self.names, COLOURS, MARKERS, strict=False):
            yield name, colour, marker, np.array([key == name for key in keys], bool)


@dataclass(frozen=True)
class ValueRange:
    """The range of values that a picture shows: all but those far below the others, which would press them together.

    Attributes:
        low: The lowest value, or where some are far below the lower quartile, a bound that is three times as far below
            it as the upper quartile is above.
        high: The highest value.
    """

    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray) -> ValueRange:
        """The range of values ``[n]``, of which at least one is a number."""
        numbers = values[~np.isnan(values)]
        first, third = np.quantile(numbers, (0.25, 0.75))
        low = max(float(numbers.min()), float(first - 3 * (third - first)))
        if third == first:  # more than half are equal: there is no telling what is far
            low = float(numbers.min())
        return cls(low, float(numbers.max()))

    def limit(self, axes: Axes, values: FloatArray) -> None:
        """Set the range of the vertical axis, and say how many of the values that it shows are below."""
        margin = 0.05 * (self.high - self.low) or 0.5
        axes.set_ylim(self.low - margin, self.high + margin)
        below = int((values < self.low).sum())
        if below:
            text = f"{below:,} lower"
            axes.annotate(text, (0, 0), (4, 3), xycoords="axes fraction", textcoords="offset points", color=DARK)


def cycled(count: int) -> list[str]:
    """Colours of so many areas beside each other; they come again, but never side by side."""
    return [COLOURS[i % (len(COLOURS) - 1)] for i in range(count)]  # without black


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that pyplot does not know and a notebook shows.

    Raises:
        BuildError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BuildError(
            "matplotlib: expected it to be installed, got no such package. Run: pip install 'freewire[search]'."
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    vars(figure)["_repr_png_"] = partial(_png, figure)  # what IPython calls to show an object
    return figure


def plain(axes: Axes) -> None:
    """A light grid, and no lines above and at the right."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(draw: Callable[[], Figure], path: str | os.PathLike[str]) -> None:
    """Write a figure to a file; one that is there is replaced as a whole.

    Args:
        draw: Draws it, once the name has been checked.
        path: The file; its suffix says which kind.

    Raises:
        InputError: The suffix is not that of a picture.
        OSError: The file cannot be written.
    """
    name = path_name(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in _PICTURES:
        raise InputError(
            f"path: expected the name of a picture, such as 'search.png', got {shown(name)}. End it with one of "
            f"{', '.join(_PICTURES)}."
        )
    figure: Any = draw()
    with replacing(name) as file:
        figure.savefig(file, format=suffix[1:], dpi=130)


def _png(figure: Any) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
