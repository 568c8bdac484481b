# SPDX-License-Identifier: MIT
"""`to_dot`: a wiring in graphviz's language DOT, and by graphviz, where it is installed, as SVG, PDF or PNG.

Nodes are called n0, n1, ... in node order; their names are labels, so that no name can be taken for DOT.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Hashable
from typing import Any

import numpy as np

from freewire.errors import BuildError, InputError, cut, shown
from freewire.files import replacing
from freewire.files.paths import path_name
from freewire.graph import Graph
from freewire.graph.arguments import FloatArray
from freewire.pictures.colours import INK, NEUTRAL, diverging, limit
from freewire.pictures.labels import label
from freewire.pictures.subject import Subject, subject

__all__ = ["to_dot"]

TEXT, RENDERED = (".dot", ".gv"), (".svg", ".pdf", ".png")
SHAPES = {(False, False): "ellipse", (True, False): "box", (False, True): "diamond", (True, True): "octagon"}
NAME = 60  # letters of a name
MOST_LABELS = 30  # edges whose weights are written beside them
MOST_CROSSED = 10_000  # levels that all edges cross together: each is a node to graphviz, which takes 20 s for so many
SECONDS = 120  # before graphviz is stopped


def to_dot(net_or_graph: Any, path: str | bytes | os.PathLike[str] | None = None) -> str:
    """Write a wiring in DOT, from left to right with a rank per level.

    Edges are coloured by weight and nodes by bias, blue below 0 and red above; inputs are boxes and outputs diamonds.

    Args:
        net_or_graph: A `freewire.Graph`, a `freewire.Network`, or another module with a graph.
        path: A file to write too. Its suffix decides what: ``.dot`` or ``.gv`` the text; ``.svg``, ``.pdf`` or
            ``.png`` a picture by graphviz's program ``dot``, which lays out small graphs only.

    Returns:
        The text. Nodes are called ``n0``, ``n1``, ... in node order, and have their names as labels.

    Raises:
        GraphError: ``net_or_graph`` is neither, or has no values (on the meta device).
        InputError: Another suffix; too many edges for graphviz, or so many that it takes longer than two minutes.
        BuildError: graphviz is not installed, or cannot write this format.

    Example:
        >>> import freewire as fw
        >>> print(fw.to_dot(fw.generators.mlp([1, 1])))
        digraph freewire {
        ...
        n0 -> n1 [color="#9aa3b2"]
        }
    """
    suffix = None if path is None else os.path.splitext(path_name(path))[1].lower()
    if suffix not in (None, *TEXT, *RENDERED):
        raise InputError(
            f"path: expected a suffix of {', '.join((*TEXT, *RENDERED))}, got {shown(suffix)}. "
            "Choose one, or run graphviz on a .dot file for another format."
        )
    drawn = subject(net_or_graph)
    crossed = int(np.diff(drawn.graph.level[drawn.graph.edge_index], axis=0).sum())
    if suffix in RENDERED and crossed > MOST_CROSSED:
        raise InputError(
            f"path: expected edges that cross at most {MOST_CROSSED} levels together for a {suffix} picture, which "
            f"graphviz lays out slowly, got {crossed}. Use fw.plot or fw.to_html, or write a .dot file."
        )
    text = _text(drawn)
    if path is not None:
        content = text.encode() if suffix in TEXT else _rendered(text, str(suffix)[1:])
        with replacing(path) as file:
            file.write(content)
    return text


def _text(drawn: Subject) -> str:
    graph = drawn.graph
    lines = [
        "digraph freewire {",
        "rankdir=LR; nodesep=0.15; ranksep=0.9; outputorder=edgesfirst",
        f'node [style=filled, fillcolor="{NEUTRAL}", color="{INK}", fontname="Helvetica", fontsize=10, '
        "width=0.3, height=0.3, margin=0.05]",
        f'edge [color="{NEUTRAL}", arrowsize=0.5, fontname="Helvetica", fontsize=8]',
        *_nodes(graph, drawn.bias),
    ]
    order = np.argsort(graph.level, kind="stable")
    for level in np.split(order, np.cumsum(np.bincount(graph.level, minlength=1))[:-1]):
        if len(level) > 1:
            lines.append(f"{{rank=same; {'; '.join(f'n{i}' for i in level.tolist())}}}")
    return "\n".join([*lines, *_edges(graph, drawn.weight), "}"]) + "\n"


def _nodes(graph: Graph, bias: FloatArray | None) -> list[str]:
    inputs, outputs = set(graph.input_index.tolist()), set(graph.output_index.tolist())
    colours = None if bias is None else diverging(bias, limit(bias))
    lines = []
    for i, name in enumerate(graph.nodes):
        parts = [f'label="{escaped(name)}"', f"shape={SHAPES[i in inputs, i in outputs]}"]
        if bias is not None and colours is not None:
            parts.append(f'fillcolor="{colours[i]}"')
            if bias[i] == bias[i]:
                parts.append(f'tooltip="bias {bias[i]:.4g}"')
        lines.append(f"n{i} [{', '.join(parts)}]")
    return lines


def _edges(graph: Graph, weight: FloatArray | None) -> list[str]:
    pairs = graph.edge_index.T.tolist()
    if weight is None:
        return [f'n{u} -> n{v} [color="{NEUTRAL}"]' for u, v in pairs]
    end = limit(weight)
    colours = diverging(weight, end)
    widths = (0.6 + 1.4 * np.clip(np.nan_to_num(np.abs(weight / end)), 0, 1)).tolist()
    what = "label" if len(pairs) <= MOST_LABELS else "tooltip"
    return [
        f'n{u} -> n{v} [color="{colour}", penwidth={width:.2f}' + (f', {what}="{w:.3g}"]' if w == w else "]")
        for (u, v), colour, width, w in zip(pairs, colours, widths, weight.tolist(), strict=True)
    ]


def escaped(name: Hashable) -> str:
    r"""A name as the inside of a quoted label. Graphviz reads backslashes and HTML's entities there.

    Example:
        >>> escaped('a "b" \\N &lt;')
        'a \\"b\\" \\\\N &amp;lt;'
    """
    return label(name, NAME).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _rendered(text: str, kind: str) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise BuildError(
            "graphviz: expected its program dot, got none on PATH. Install it (apt install graphviz, or brew install "
            "graphviz), write a .dot file, or use fw.plot."
        )
    try:
        done = subprocess.run([program, f"-T{kind}"], input=text.encode(), capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"path: expected a graph that graphviz lays out within {SECONDS} seconds, got one that takes longer. Use "
            "fw.plot or fw.to_html, or write a .dot file."
        ) from None
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip()
        raise BuildError(
            f"graphviz: expected a {kind} picture, got exit status {done.returncode} ({cut(said)}). Write a .dot file "
            "and run another program on it, or use fw.plot."
        )
    return done.stdout
