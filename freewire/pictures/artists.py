# SPDX-License-Identifier: MIT
"""Drawing what `freewire.pictures.drawing` prepares into the Axes of a matplotlib figure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from freewire.graph.arguments import FloatArray
from freewire.pictures.colours import DENSITY, DIVERGING, NEUTRAL
from freewire.pictures.curves import bezier
from freewire.pictures.drawing import KINDS, LEGEND_ORDER, MANY_EDGES, Matrix, Wiring

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SMALL", "draw_matrix", "draw_wiring"]

SMALL = 8  # points of text
LETTERS = 14  # of such text per inch
LINE = 0.15  # inches per line of it
LEGEND = 0.25  # inches that the legend is high; it is within the axes, above which a caller may write a title
SHAPES = ("o", "s", "D", "P")  # of each of KINDS
POINTS_PER_INCH = 72
TICKS = 20  # levels that are labelled, at most


def draw_wiring(axes: Axes, drawing: Wiring) -> None:
    """Nodes and curves, a colour bar for either where there are numbers, and a legend of the nodes' shapes."""
    from matplotlib.collections import LineCollection

    ink = axes.xaxis.label.get_color()
    points = bezier(drawing.curves, 16 if len(drawing.edges) > MANY_EDGES else 32)
    lines = LineCollection(
        list(points), zorder=1, capstyle="round", linewidths=drawing.line_widths(), alpha=drawing.opacity()
    )
    if drawing.edge_value is None:
        lines.set(colors=NEUTRAL)
    else:
        _colour(lines, drawing.edge_value, drawing.edge_limit)
        _bar(axes, drawing.edge_value, drawing.edge_limit, "weight")
    axes.add_collection(lines, autolim=False)

    if drawing.node_value is not None:
        _bar(axes, drawing.node_value, drawing.node_limit, drawing.node_what)
    _limits(axes, drawing, points)  # with the room that the colour bars leave, and before what depends on it
    size = _node_size(axes, drawing.position)
    for kind in np.unique(drawing.kind).tolist():
        members = drawing.kind == kind
        x, y = drawing.position[members].T
        marks = axes.scatter(
            x,
            y,
            s=size**2,
            marker=SHAPES[kind],
            facecolors=NEUTRAL,
            edgecolors=ink,
            linewidths=0.3 if size < 6 else 0.8,
            zorder=3,
        )
        if drawing.node_value is not None:
            _colour(marks, drawing.node_value[members], drawing.node_limit)
    _write_labels(axes, drawing, size)
    _legend(axes, drawing, ink)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _colour(collection: Any, values: FloatArray, limit: float) -> None:
    from matplotlib.colors import Normalize

    collection.set(
        array=np.ma.masked_invalid(_ends(values, limit)), cmap=_map(DIVERGING), norm=Normalize(-limit, limit)
    )


def _ends(values: FloatArray, limit: float) -> FloatArray:
    """The values, infinities as the colours' ends."""
    return np.where(np.isinf(values), np.sign(values) * 2 * limit, values)


def _map(codes: tuple[str, ...], bad: str = NEUTRAL) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("freewire", codes).with_extremes(bad=bad)


def _bar(axes: Axes, values: FloatArray, limit: float, what: str) -> None:
    """A colour bar from -limit to limit, with an arrow where values lie beyond; none if all are 0 or missing."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if not np.nan_to_num(values).any():
        return
    above, below = bool((values > limit).any()), bool((values < -limit).any())
    _place_bar(
        axes,
        ScalarMappable(Normalize(-limit, limit), _map(DIVERGING)),
        what,
        "both" if above and below else "max" if above else "min" if below else "neither",
    )


def _place_bar(axes: Axes, mappable: Any, what: str, extend: str = "neither") -> None:
    bar = axes.figure.colorbar(mappable, ax=axes, extend=extend, shrink=0.75, aspect=28, pad=0.02)
    bar.set_label(what, size=SMALL)
    bar.ax.tick_params(which="both", labelsize=SMALL - 1)
    bar.outline.set_visible(False)


def _node_size(axes: Axes, position: FloatArray) -> float:
    """Diameter of a node in points, so that nodes do not overlap where that is possible."""
    if not len(position):
        return 0.0
    columns = np.unique(np.round(position[:, 0], 6))
    nearest = np.array([np.diff(columns).min(initial=1.0), 1.0])
    return float(np.clip(0.75 * (nearest * _points_per_unit(axes)).min(), 2.2, 13))


def _points_per_unit(axes: Axes) -> FloatArray:
    """How long a unit of x and a unit of y are."""
    units = np.abs([np.diff(axes.get_xlim())[0], np.diff(axes.get_ylim())[0]])
    return np.array(_inches(axes)) * POINTS_PER_INCH / units


def _pitch(axes: Axes, position: FloatArray) -> float:
    """Points from the centre of a node to that of the one above it; infinite where no column has two."""
    if len(np.unique(np.round(position[:, 0], 6))) == len(position):
        return float("inf")
    return float(_points_per_unit(axes)[1])


def _write_labels(axes: Axes, drawing: Wiring, size: float) -> None:
    """Names: of inputs to the left, of outputs to the right, of others above, unless the next node is there."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground=axes.get_facecolor())]
    drawable = _Drawable(drawing.labels)
    crowded = _pitch(axes, drawing.position) < size + 2 + 0.75 * SMALL  # 0.75: of the text's size, capitals
    places = {0: (0, 1, "center", "bottom"), 1: (-1, 0, "right", "center"), 2: (1, 0, "left", "center")}
    for text, place, kind in zip(drawing.labels, drawing.position.tolist(), drawing.kind.tolist(), strict=True):
        if text is None:
            continue
        right, up, horizontal, vertical = places.get(kind, places[0])
        if up and crowded:
            continue
        corner = size * (0.5**0.5 if kind == 2 else 0.5)  # a diamond is a square on its corner
        axes.annotate(
            drawable(text),
            place,
            (right * (corner + 3), up * (size / 2 + 2)),
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            size=SMALL,
            path_effects=halo,
            zorder=4,
            parse_math=False,  # or a $ would begin a formula
            usetex=False,
        )


class _Drawable:
    """Text with what no font of matplotlib's settings can draw escaped: drawing it would warn, and show a box."""

    def __init__(self, texts: list[str | None]) -> None:
        from matplotlib import rcParams
        from matplotlib.font_manager import FontProperties, findfont, get_font

        self.known: set[int] = set()
        if all(text is None or text.isascii() for text in texts):
            return
        for family in rcParams["font.family"]:
            self.known |= set(get_font(findfont(FontProperties(family=[family]))).get_charmap())

    def __call__(self, text: str) -> str:
        return "".join(c if c.isascii() or ord(c) in self.known else c.encode("unicode_escape").decode() for c in text)


def _legend(axes: Axes, drawing: Wiring, ink: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=SHAPES[kind], linestyle="", color="white", markeredgecolor=ink, label=KINDS[kind])
        for kind in LEGEND_ORDER
        if (drawing.kind == kind).any()
    ]
    if handles:
        axes.legend(
            handles=handles,
            loc="upper left",
            ncols=len(handles),
            frameon=False,
            fontsize=SMALL,
            borderpad=0,
            borderaxespad=0.2,
            handletextpad=0.2,
        )


def _limits(axes: Axes, drawing: Wiring, points: FloatArray) -> None:
    """Room for everything; y downwards, as `layered` has it; whole levels as ticks; and the note below."""
    position = drawing.position if len(drawing.position) else np.zeros((1, 2))
    reached = np.concatenate((position, points.reshape(-1, 2)))
    (left, top), (right, bottom) = reached.min(axis=0), reached.max(axis=0)
    width, height = _inches(axes)
    lines = _wrapped(drawing.note, width)
    # The room for text is a share of the axes, half of them at most; in their units, it is that of what remains.
    room = np.array([LEGEND, 0.1 + LINE * len(lines)]) / height
    above, below = room / max(1.0, 2 * room.sum())
    y_unit = (max(bottom - top, 1.0) + 1) / (1 - above - below)
    room = np.array([_longest(drawing, 0), _longest(drawing, drawing.graph.depth)]) / (LETTERS * width) + 0.02
    before, after = room / max(1.0, 2 * room.sum())
    x_unit = (right - left + 0.4) / (1 - before - after)
    axes.set_xlim(left - 0.2 - before * x_unit, right + 0.2 + after * x_unit)
    axes.set_ylim(bottom + 0.5 + below * y_unit, top - 0.5 - above * y_unit)
    axes.set_yticks([])
    levels = range(0, drawing.graph.depth + 1, 1 + drawing.graph.depth // TICKS)
    axes.set_xticks(levels, [f"{level:,}" for level in levels], size=SMALL)
    _write_note(axes, lines)


def _inches(axes: Axes) -> tuple[float, float]:
    box = axes.get_window_extent()
    return box.width / axes.figure.dpi, box.height / axes.figure.dpi


def _longest(drawing: Wiring, level: int) -> int:
    """Letters of the longest name beside a level."""
    beside = zip(drawing.labels, drawing.graph.level == level, strict=True)
    return max((len(text) for text, there in beside if text is not None and there), default=0)


def _wrapped(note: str, inches: float) -> list[str]:
    return textwrap.wrap(note, max(24, int(LETTERS * inches)))


def _write_note(axes: Axes, lines: list[str], left: float = 0.01) -> None:
    """What is shown, in the lower left corner: within the axes, so that no layout of the caller's cuts it off."""
    axes.text(
        left,
        0.02,
        "\n".join(lines),
        transform=axes.transAxes,
        size=SMALL,
        va="bottom",
        gid="freewire-note",
        bbox={"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 1.5},
        parse_math=False,
        usetex=False,
    )
    axes.set_xlabel("level", size=SMALL)


def draw_matrix(axes: Axes, drawing: Matrix) -> None:
    """The matrix with lines between the levels, colour bars, and a strip of the nodes' numbers to its left."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LogNorm, Normalize

    size = len(drawing.cells)
    low, high = drawing.colour_range()
    image = axes.imshow(
        np.ma.masked_invalid(drawing.cells),
        cmap=_map(DENSITY, bad="none"),
        norm=LogNorm(low, high, clip=True) if low > 0 else Normalize(0, high),
        extent=(0, size, size, 0),
        interpolation="nearest",
    )
    _place_bar(axes, image, drawing.cells_what, "both" if low > 0 else "neither")

    left = 0.0
    if drawing.node_value is not None and np.isfinite(drawing.node_value).any():
        left = -0.06 * size
        axes.imshow(
            np.ma.masked_invalid(drawing.node_value)[:, None],
            cmap=_map(DIVERGING),
            norm=Normalize(-drawing.node_limit, drawing.node_limit),
            extent=(left, 0.4 * left, size, 0),
            interpolation="nearest",
        )
        _bar(axes, drawing.node_value, drawing.node_limit, drawing.node_what)

    lines: list[Any] = []
    for at in drawing.boundaries():
        lines += [[(0, at), (size, at)], [(at, 0), (at, size)]]
    axes.add_collection(LineCollection(lines, colors=NEUTRAL, linewidths=0.5, alpha=0.7), autolim=False)
    ticks = [at for _, at in drawing.ticks()]
    names = [f"{level:,}" for level, _ in drawing.ticks()]
    axes.set(xlim=(left, size), ylim=(size, 0), aspect="equal")
    axes.set_xticks(ticks, names, size=SMALL)
    axes.set_yticks(ticks, names, size=SMALL)
    axes.set_ylabel("level of the source", size=SMALL)
    # Every edge is above the diagonal, so there is room below it.
    _write_note(axes, _wrapped(drawing.note, 0.45 * _inches(axes)[0]), left=0.08)
