# SPDX-License-Identifier: MIT
"""Networks whose pages the tests open, and what they read from a page.

Where nodes are is read from the page's ``freewire.position``; what it shows, from its text and its canvases' pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import networkx as nx
import numpy as np
import torch

import freewire as fw
from tests.support.chromium import Page

#: Whether nothing moves and everything is painted.
SETTLED = "document.getElementById('stage').ariaBusy === 'false'"
#: Opaque pixels of the edges that are seen; 0 before any.
INK = """(() => {
  const seen = [...document.querySelectorAll('canvas.edges')].find(canvas => canvas.style.visibility === 'visible');
  const bytes = seen.getContext('2d').getImageData(0, 0, seen.width, seen.height).data;
  return bytes.filter((byte, i) => i % 4 === 3 && byte).length;
})()"""
#: Opacity, from 0 to 255, of the nodes' canvas at a point of the window; through a copy, which may be read often.
OPACITY = """((x, y) => {
  const nodes = document.getElementById('nodes'), box = nodes.getBoundingClientRect(), copy = new OffscreenCanvas(1, 1);
  const context = copy.getContext('2d', {willReadFrequently: true});
  context.drawImage(nodes, box.left - x, box.top - y);
  return context.getImageData(0, 0, 1, 1).data[3];
})"""

NAMES = ("left", "right", "a", "b", "c", "out")
EDGES = {
    ("left", "a"): (0.5, 0.125),
    ("right", "a"): (-2.0, 0.0),
    ("left", "b"): (0.25, -3.5),
    ("right", "c"): (1e-7, 1.0),
    ("a", "out"): (1.5, 2.0),
    ("b", "out"): (-0.75, math.nan),
    ("c", "out"): (math.inf, 0.5),
    ("left", "out"): (0.0625, 0.25),
}


def small_network() -> fw.Network:
    """Six nodes and eight edges with chosen weights and gradients, one of each not finite."""
    G = nx.DiGraph()
    G.add_nodes_from(NAMES)
    G.add_edges_from(EDGES)
    g = fw.Graph.from_networkx(G, activation="tanh")
    net = fw.Network(g)
    ends = [(g.nodes[u], g.nodes[v]) for u, v in g.edge_index.T.tolist()]
    with torch.no_grad():
        net.weight[:] = torch.tensor([EDGES[end][0] for end in ends])
        net.bias[:] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    net.weight.grad = torch.tensor([EDGES[end][1] for end in ends])
    net.bias.grad = torch.tensor([1.0, -2.0, 3.0, -4.0])
    return net


def large_network() -> fw.Graph:
    """5,000 nodes in 12 layers, and 50,000 edges from each of the two layers before."""
    draw, sizes = np.random.default_rng(0), [200, *[475] * 10, 50]
    first = np.cumsum([0, *sizes])
    layer = np.repeat(np.arange(12), sizes)
    target = draw.integers(200, 5000, 50_000)
    low = first[np.maximum(layer[target] - 2, 0)]
    source = low + (draw.random(50_000) * (first[layer[target]] - low)).astype(np.int64)
    return fw.Graph.from_edges(source, target, num_nodes=5000, weight=draw.normal(size=50_000))


Opened = Callable[..., Page]


def at(page: Page, name: str) -> tuple[float, float]:
    """Where a node of the small network is, in pixels of the window."""
    x, y = page.evaluate(f"freewire.position({NAMES.index(name)})")
    return x, y


def rows(page: Page, section: str) -> list[list[str]]:
    """The table of inputs or readers in the panel, without its head."""
    cells = "[...r.cells].map(c => c.innerText)"
    return page.evaluate(f"[...document.querySelectorAll('#{section} tr')].slice(1).map(r => {cells})")


def facts(page: Page, selector: str) -> dict[str, str]:
    text = page.text(f"{selector} dl, dl{selector}").replace("\n\n", "\n").split("\n")
    return dict(zip(text[::2], text[1::2], strict=True))


def opacity(page: Page, name: str) -> int:
    """Of the pixel at a node's centre, from 0 to 255."""
    return page.evaluate(f"{OPACITY}({', '.join(map(str, at(page, name)))})")


def settle(page: Page) -> None:
    """Wait for what an input has begun: two frames, and then until nothing moves."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait(SETTLED)
