# SPDX-License-Identifier: MIT
"""``python -m tests.support.page_picture`` draws docs/img/page.png: a page of fw.to_html, in a headless Chromium.

A freely wired network learns scikit-learn's digits; the page shows it with a node selected, and the pointer over one
of the node's readers.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import PIL.Image
import sklearn.datasets
import torch
from torch.nn.functional import cross_entropy

import freewire as fw
from freewire.files import replacing
from tests.support.chromium import Chromium, Page
from tests.support.native import ROOT

SELECTED = 91
SIZE = (1200, 660)
STEPS = 300


def train() -> fw.Network:
    """A network that tells digits apart, with its last gradients."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    net = fw.Network(fw.generators.random_graph(64, 160, 10, 8, activation="tanh", seed=1))
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


def point_at(page: Page, node: int) -> tuple[float, float]:
    """Where the node is in the window, once nothing moves."""
    time.sleep(0.5)
    page.wait("document.getElementById('stage').ariaBusy === 'false'")
    return page.evaluate(f"freewire.position({node})")


def main() -> None:
    torch.manual_seed(0)
    net = train()
    source, target = net.graph.edge_index
    with tempfile.TemporaryDirectory() as folder, Chromium() as browser:
        file = fw.to_html(net, Path(folder) / "net.html", title="A network that reads digits")
        page = browser.open(Path(file), *SIZE, prefers_color_scheme="light")
        page.click(*point_at(page, SELECTED))
        page.click_on("#fit")
        page.mouse("Moved", *point_at(page, target[source == SELECTED].max()))
        time.sleep(0.5)
        image = PIL.Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = ROOT / "docs" / "img" / "page.png"
    with replacing(path) as out:
        image.quantize(256, kmeans=4, dither=PIL.Image.Dither.NONE).save(out, "PNG", optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
