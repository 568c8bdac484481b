# SPDX-License-Identifier: MIT
"""The picture of `freewire.pictures.figure` as SVG text, without matplotlib: what a notebook shows of a network.

In: what `freewire.pictures.drawing` prepares. Out: one self-contained ``<svg>`` element of less than 500 kB, whatever
the size of the graph. It has a white background, so that it can be read in dark notebooks too.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from freewire.graph.arguments import FloatArray
from freewire.pictures.colours import DENSITY, DIVERGING, INK, NEUTRAL, diverging, hex_colours
from freewire.pictures.curves import bezier
from freewire.pictures.drawing import KINDS, LEGEND_ORDER, Matrix, Wiring, prepare
from freewire.pictures.labels import label
from freewire.pictures.subject import subject

__all__ = ["svg"]

BESIDE, ABOVE, BELOW = 70.0, 44.0, 24.0  # margins in pixels
LINE = 14.0  # pixels from one line of text to the next
LETTERS = 0.16  # of text per pixel
SIDE = 480.0  # of a matrix
TITLES = 500  # nodes whose names a pointer over them shows, at most
KEY = 120.0  # length of a key of colours
KEY_STEPS = 24
DARK = 32  # different colours of a matrix


def svg(net_or_graph: Any) -> str:
    """Draw a wiring as SVG; see `freewire.plot` for what is shown.

    Args:
        net_or_graph: A `Graph`, or a module with one.

    Raises:
        GraphError: It is neither, or has no values (on the meta device).

    Example:
        >>> import freewire as fw
        >>> svg(fw.generators.mlp([2, 1]))[:40]
        '<svg xmlns="http://www.w3.org/2000/svg" '
    """
    drawing = prepare(subject(net_or_graph))
    return _matrix(drawing) if isinstance(drawing, Matrix) else _wiring(drawing)


def _wiring(drawing: Wiring) -> str:
    position = drawing.position if len(drawing.position) else np.zeros((1, 2))
    reached = np.concatenate((position, bezier(drawing.curves, 8).reshape(-1, 2)))
    low, high = reached.min(axis=0), reached.max(axis=0)
    nearest = np.diff(np.unique(np.round(position[:, 0], 6))).min(initial=1.0)
    level = 110 if nearest == 1 else 220  # pixels from level to level
    inner = np.clip((level * drawing.graph.depth, 30 * (high[1] - low[1])), (260, 60), (900, 480))
    scale = inner / np.maximum(high - low, 1)
    offset = np.array([BESIDE, ABOVE]) + (inner - scale * (high - low)) / 2 - scale * low
    radius = round(float(np.clip(0.38 * min(scale[1], scale[0] * nearest), 1.5, 8)), 1)

    keys = []
    if drawing.edge_value is not None and np.nan_to_num(drawing.edge_value).any():
        keys.append(("weight", DIVERGING, -drawing.edge_limit, drawing.edge_limit))
    if drawing.node_value is not None and np.nan_to_num(drawing.node_value).any():
        keys.append((drawing.node_what, DIVERGING, -drawing.node_limit, drawing.node_limit))
    body = [
        *_edges(drawing, drawing.curves * scale + offset),
        *_nodes(drawing, drawing.position * scale + offset, radius),
        *_legend([kind for kind in LEGEND_ORDER if (drawing.kind == kind).any()]),
    ]
    return _page(body, float(inner[0] + 2 * BESIDE), float(inner[1] + ABOVE + BELOW), drawing.note, keys)


def _edges(drawing: Wiring, curves: FloatArray) -> Iterator[str]:
    """A path per run of edges of one colour: in the order of the drawing, the strongest last."""
    if drawing.edge_value is None:
        colours = [NEUTRAL] * len(curves)
    else:
        colours = diverging(drawing.edge_value, drawing.edge_limit, 32)
    widths = np.round(drawing.line_widths(), 1).tolist()
    lines = [
        "M{:.1f} {:.1f}C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}".format(*points)
        for points in curves.reshape(len(curves), 8).tolist()
    ]
    yield f'<g fill="none" stroke-linecap="round" opacity="{drawing.opacity():g}">'
    for (colour, width), run in groupby(zip(colours, widths, lines, strict=True), key=lambda edge: edge[:2]):
        yield f'<path stroke="{colour}" stroke-width="{width}" d="{"".join(line for _, _, line in run)}"/>'
    yield "</g>"


def _nodes(drawing: Wiring, position: FloatArray, radius: float) -> Iterator[str]:
    if drawing.node_value is None:
        colours = [NEUTRAL] * len(position)
    else:
        colours = diverging(drawing.node_value, drawing.node_limit)
    titled = len(position) <= TITLES
    yield f'<g stroke="{INK}" stroke-width="{0.3 if radius < 3 else 0.8}">'
    for i, ((x, y), colour, kind) in enumerate(zip(position.tolist(), colours, drawing.kind.tolist(), strict=True)):
        shape = _shape(kind, x, y, radius)
        text = f"{KINDS[kind]} {label(drawing.graph.nodes[i], 60)}"
        if drawing.node_value is not None and not np.isnan(drawing.node_value[i]):
            text += f", {drawing.node_what} {drawing.node_value[i]:.4g}"
        title = f"<title>{_escaped(text)}</title>" if titled else ""
        yield f'<path fill="{colour}" d="{shape}">{title}</path>' if title else f'<path fill="{colour}" d="{shape}"/>'
    yield "</g>"
    for name, (x, y), kind in zip(drawing.labels, position.tolist(), drawing.kind.tolist(), strict=True):
        if name is not None:
            beside = radius + 4
            dx, dy, anchor = {1: (-beside, 4, "end"), 2: (beside, 4, "start")}.get(kind, (0, -beside, "middle"))
            yield _text(name, x + dx, y + dy, anchor, halo=True)


def _shape(kind: int, x: float, y: float, r: float) -> str:
    """A path: a circle, a square, a diamond, or a cross, as `KINDS` has them."""
    if kind == 0:
        return f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0"
    if kind == 1:
        side = 1.8 * r
        return f"M{x - side / 2:.1f} {y - side / 2:.1f}h{side:.1f}v{side:.1f}h{-side:.1f}z"
    if kind == 2:
        d = 1.25 * r
        return f"M{x - d:.1f} {y:.1f}l{d:.1f} {-d:.1f}l{d:.1f} {d:.1f}l{-d:.1f} {d:.1f}z"
    a = 0.7 * r
    steps = f"h{a:.1f}v{-a:.1f}h{a:.1f}v{a:.1f}h{a:.1f}v{a:.1f}h{-a:.1f}v{a:.1f}h{-a:.1f}v{-a:.1f}h{-a:.1f}z"
    return f"M{x - 1.5 * a:.1f} {y - a / 2:.1f}{steps}"


def _legend(kinds: Sequence[int]) -> Iterator[str]:
    x = 14.0
    for kind in kinds:
        yield f'<path fill="white" stroke="{INK}" stroke-width="0.8" d="{_shape(kind, x, 13, 4.5)}"/>'
        yield _text(KINDS[kind], x + 9, 17, "start")
        x += 24 + len(KINDS[kind]) / LETTERS


def _matrix(drawing: Matrix) -> str:
    """The matrix, a path per colour; lines between the levels where they are few; a strip of the nodes' numbers."""
    size = len(drawing.cells)
    filled = np.isfinite(drawing.cells)
    low, high = drawing.colour_range()
    position = np.log(np.maximum(drawing.cells, low) / low) / np.log(high / low) if low > 0 else drawing.cells / high
    rows, columns = np.nonzero(filled)
    colours = hex_colours(position[filled], DENSITY, DARK)
    paths: dict[str, list[str]] = defaultdict(list)
    for row, column, colour in zip(rows.tolist(), columns.tolist(), colours, strict=True):
        paths[colour].append(f"M{column} {row}h1v1h-1z")
    step = SIDE / size
    body = [f'<g transform="translate({BESIDE} {ABOVE}) scale({step:.4f})" shape-rendering="crispEdges">']
    body += [f'<path fill="{colour}" d="{"".join(cells)}"/>' for colour, cells in paths.items()]
    if drawing.node_value is not None:
        for row, colour in enumerate(diverging(drawing.node_value, drawing.node_limit)):
            body.append(
                f'<path fill="{colour}" d="M{-0.06 * size:.1f} {row}h{0.036 * size:.1f}v1h{-0.036 * size:.1f}z"/>'
            )
    lines = "".join(f"M{at:.2f} 0V{size}M0 {at:.2f}H{size}" for at in drawing.boundaries())
    frame = f"M0 0H{size}V{size}H0z{lines}"
    body.append(f'<path fill="none" stroke="{NEUTRAL}" stroke-width="{0.4 / step:.2f}" d="{frame}"/></g>')
    for level, at in drawing.ticks():
        body.append(_text(f"{level:,}", BESIDE + at * step, ABOVE + SIDE + LINE, "middle"))
        body.append(_text(f"{level:,}", BESIDE - 0.07 * SIDE, ABOVE + at * step + 4, "end"))
    body.append(_text("from level (row) to level (column)", BESIDE, ABOVE - 10, "start"))
    keys: list[tuple[str, Sequence[str], float, float]] = [(drawing.cells_what, DENSITY, low, high)]
    if drawing.node_value is not None and np.nan_to_num(drawing.node_value).any():
        keys.append((drawing.node_what, DIVERGING, -drawing.node_limit, drawing.node_limit))
    return _page(body, SIDE + 2 * BESIDE, SIDE + ABOVE + BELOW, drawing.note, keys)


def _page(
    body: Sequence[str], width: float, height: float, note: str, keys: Sequence[tuple[str, Sequence[str], float, float]]
) -> str:
    """The whole element: the picture, below it a key per map of colours, and the note."""
    parts = []
    for what, colours, low, high in keys:
        parts.append(_text(what, width / 2, height + LINE, "middle"))
        height += 2 * LINE
        parts.append(_text(f"{low:.3g}", width / 2 - KEY / 2 - 6, height, "end"))
        for i, colour in enumerate(hex_colours(np.linspace(0, 1, KEY_STEPS), colours)):
            x, wide = width / 2 + KEY * (i / KEY_STEPS - 0.5), KEY / KEY_STEPS + 0.3
            parts.append(f'<path fill="{colour}" d="M{x:.1f} {height - 9:.1f}h{wide:.1f}v9h{-wide:.1f}z"/>')
        parts.append(_text(f"{high:.3g}", width / 2 + KEY / 2 + 6, height, "start"))
    for line in textwrap.wrap(note, int(width * LETTERS)):
        height += LINE
        parts.append(_text(line, width / 2, height, "middle"))
    height += LINE
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="11" fill="{INK}">',
            '<rect width="100%" height="100%" fill="white"/>',
            *body,
            *parts,
            "</svg>",
        )
    )


def _text(text: str, x: float, y: float, anchor: str, halo: bool = False) -> str:
    outline = ' stroke="white" stroke-width="3" paint-order="stroke"' if halo else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{outline}>{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """Text between two tags. `label` has removed the characters that XML does not allow."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
