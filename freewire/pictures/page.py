# SPDX-License-Identifier: MIT
"""`to_html`: a network or a graph as one interactive web page, which holds all that it shows and fetches nothing.

The page is put together from the files in the folder ``web``, the scripts in the order of `SCRIPTS`, and from the data:
one JSON object in a script element that browsers do not run. Numbers are in it as base64 of little-endian arrays. A
Content-Security-Policy permits this script and this style, by hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError, InputError, shown
from freewire.files.atomic import replacing
from freewire.files.paths import path_name
from freewire.graph import ACTIVATIONS, AGGREGATIONS, Graph
from freewire.pictures.labels import label
from freewire.pictures.layout import layered
from freewire.pictures.subject import Subject, subject

__all__ = ["to_html"]

MAX_NODES, MAX_EDGES = 50_000, 200_000  # with more, a browser takes seconds to draw the edges
MAX_NAME = 200  # characters of a name that the page keeps
SCRIPTS = tuple(
    f"{part}.js" for part in ("data", "colours", "view", "pick", "draw", "search", "panel", "options", "main")
)
#: Bits of a node's role in the page.
INPUT, OUTPUT, REACHES_NO_OUTPUT, UNREACHABLE = 1, 2, 4, 8


def to_html(net_or_graph: Any, path: str | bytes | os.PathLike[str], title: str | None = None) -> str:
    """Write an interactive page: pan, zoom, search a node, read weights and gradients, follow a node's edges.

    The page is one file that needs no network and works from the disk: 70 kB, at most 32 bytes per edge and 45 per
    node, and the nodes' names.

    Args:
        net_or_graph: A `Network`, shown with its weights, biases and (after a backward pass) their gradients; or a
            `Graph`, shown with the weights and biases that it stores. At most 200,000 edges and 50,000 nodes.
        path: The file to write, ``.html`` or ``.htm``; replaced as a whole or, after an error, not at all.
        title: The heading. Default: the class's name.

    Returns:
        The path, as text.

    Raises:
        GraphError: It is neither a network nor a graph, has too many nodes or edges, or has no values (on the meta
            device).
        InputError: ``path`` is not the name of an HTML file, or ``title`` is not text.
        FileNotFoundError: The folder does not exist.
        PermissionError: The file may not be written there.

    Example:
        >>> import os, tempfile
        >>> import freewire as fw
        >>> net = fw.Network(fw.generators.mlp([2, 5, 1]))
        >>> path = fw.to_html(net, os.path.join(tempfile.mkdtemp(), "net.html"), title="XOR")
        >>> os.path.basename(path)
        'net.html'
    """
    name = path_name(path)
    if not name.lower().endswith((".html", ".htm")):
        raise InputError(
            f"path: expected a name that ends in .html, got {shown(name)}. Browsers decide by the ending: rename it."
        )
    if title is not None and not isinstance(title, str):
        raise InputError(f"title: expected text, got {shown(title)}. Pass a str.")
    drawn = subject(net_or_graph)
    check_size(drawn.graph)
    heading = type(net_or_graph).__name__ if title is None else title
    page = render(drawn, heading, stored=isinstance(net_or_graph, Graph))
    with replacing(name) as file:
        file.write(page.encode())
    return name


def check_size(graph: Graph) -> None:
    """Refuse what a browser could not show smoothly."""
    for count, most, what in ((graph.num_edges, MAX_EDGES, "edges"), (graph.num_nodes, MAX_NODES, "nodes")):
        if count > most:
            raise GraphError(
                f"net_or_graph: expected at most {most:,} {what} in a page, got {count:,}. Draw it with freewire.plot, "
                "which shows large wirings as an adjacency picture, or write the page of a subgraph."
            )


def render(drawn: Subject, title: str, stored: bool) -> str:
    """The text of the page.

    Args:
        drawn: What it shows.
        title: Its heading, any text.
        stored: Whether the numbers are those that a graph stores, where NaN means none, and not a network's.
    """
    style = source("page.css")
    script = f'(() => {{\n"use strict";\n{"".join(map(source, SCRIPTS))}main();\n}})();\n'
    return Template(source("page.html")).substitute(
        title=html.escape(label(title, MAX_NAME)),
        style=style,
        style_hash=csp_hash(style),
        script=script,
        script_hash=csp_hash(script),
        data=embedded(page_data(drawn, stored)),
    )


def source(name: str) -> str:
    """A file of the folder ``web``, without the licence line: the page belongs to whoever writes it."""
    return files("freewire.pictures").joinpath("web", name).read_text("utf-8").partition("\n")[2]


def csp_hash(text: str) -> str:
    """The hash by which a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embedded(data: Any) -> str:
    """JSON in ASCII that can be put into a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(drawn: Subject, stored: bool) -> dict[str, Any]:
    """All that the page's script reads; ``web/data.js`` says what it makes of it."""
    graph = drawn.graph
    place = layered(graph)
    role = np.zeros(graph.num_nodes, np.uint8)
    role[graph.input_index] |= INPUT
    role[graph.output_index] |= OUTPUT
    role[~graph.reaches_output] |= REACHES_NO_OUTPUT
    role[~graph.reachable_from_input] |= UNREACHABLE
    arrays: dict[str, NDArray[Any] | None] = {
        "source": graph.edge_index[0].astype("<u4"),
        "target": graph.edge_index[1].astype("<u4"),
        "weight": floats(drawn.weight),
        "weightGrad": floats(drawn.weight_grad),
        "bias": floats(drawn.bias),
        "biasGrad": floats(drawn.bias_grad),
        "x": place[:, 0].astype("<f4"),
        "y": place[:, 1].astype("<f4"),
        "level": graph.level.astype("<u4"),
        "role": role,
        "activation": graph.activation,
        "aggregation": graph.aggregation,
    }
    return {
        "names": None
        if isinstance(graph.nodes, range)
        else [label(name, MAX_NAME) or "(empty)" for name in graph.nodes],
        "activations": ACTIVATIONS,
        "aggregations": AGGREGATIONS,
        "stored": stored,
        "arrays": {name: packed(values) for name, values in arrays.items() if values is not None},
    }


def floats(values: NDArray[np.float64] | None) -> NDArray[Any] | None:
    """The values as float32 where that changes none of them, else as float64."""
    if values is None:
        return None
    with np.errstate(over="ignore"):
        single = values.astype("<f4")
    return single if np.array_equal(single, values, equal_nan=True) else values.astype("<f8")


def packed(values: NDArray[Any]) -> dict[str, str]:
    """An array as JSON: ``{"f4": base64 of the little-endian values}``."""
    return {values.dtype.str[1:]: base64.b64encode(values.tobytes()).decode()}
