# SPDX-License-Identifier: MIT
"""The colours of the pictures: a diverging map for weights, biases and values, a sequential one for densities.

Both are lists of colours at equal distances, from which every writer makes its own: matplotlib a colour map, SVG and
DOT hexadecimal codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from freewire.graph.arguments import FloatArray

__all__ = ["DENSITY", "DIVERGING", "INK", "NEUTRAL", "diverging", "hex_colours", "limit"]

#: From the most negative value over 0 to the most positive one: blue, light grey, red.
DIVERGING = ("#1b4f9c", "#3f7fc4", "#86b4e0", "#d3d7de", "#f0a382", "#d9583f", "#a31a2b")
#: From little to much.
DENSITY = ("#e6edf6", "#a9c6e4", "#5f97cd", "#2c63a8", "#16305f")
NEUTRAL = "#9aa3b2"  # no weight, no value
INK = "#2b3442"  # outlines and text

PERCENTILE, MANY = 99, 100  # of more than MANY values the colours end at this percentile, or one outlier would fade all


def limit(values: FloatArray | None) -> float:
    """The absolute value where the colours end; 1 where there is none but 0, NaN and infinities."""
    size = np.zeros(0) if values is None else np.abs(values[np.isfinite(values) & (values != 0)])
    if not size.size:
        return 1.0
    end = np.percentile(size, PERCENTILE) if size.size > MANY else size.max()
    return float(np.clip(end, 1e-30, 1e30))  # beyond, axes and colour bars have no ticks


def hex_colours(share: FloatArray, colours: Sequence[str], steps: int = 64) -> list[str]:
    """Codes such as ``#1b4f9c``.

    Args:
        share: Where in the map each colour is, 0 to 1 ``[n]``; what is beyond has the colour of that end, and NaN is
            neutral.
        colours: `DIVERGING` or `DENSITY`.
        steps: How many different colours to use at most, and the neutral one.
    """
    anchors = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in colours])
    at = np.linspace(0, len(colours) - 1, steps)
    table = np.column_stack([np.interp(at, np.arange(len(colours)), channel) for channel in anchors.T])
    codes = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.rint(table).astype(int).tolist()] + [NEUTRAL]
    step = np.rint(np.clip(np.nan_to_num(share, nan=0.0), 0, 1) * (steps - 1)).astype(int)
    return [codes[i] for i in np.where(np.isnan(share), steps, step).tolist()]


def diverging(values: FloatArray, end: float, steps: int = 64) -> list[str]:
    """Codes of `DIVERGING` for numbers ``[n]``, whose colours end at -end and end; see `hex_colours`."""
    return hex_colours((values / end + 1) / 2, DIVERGING, steps)
