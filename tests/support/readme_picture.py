# SPDX-License-Identifier: MIT
"""``python -m tests.support.readme_picture`` draws docs/img/plot.png: fw.plot of a small trained network.

A freely wired network of 14 hidden neurons learns to tell Fisher's irises apart; the picture shows what it computes
for one of them.
"""

from __future__ import annotations

import networkx as nx
import sklearn.datasets
import torch
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy

import freewire as fw
from freewire.files import replacing
from tests.support.native import ROOT

FLOWER = 100  # the first virginica
STEPS = 400
HIDDEN, SEED = 14, 1494  # a wiring whose outputs are on one level, and which has no idle neuron


def train() -> tuple[fw.Network, torch.Tensor, float]:
    """The network, standardised measurements ``[150, 4]``, and its accuracy on them."""
    iris = sklearn.datasets.load_iris()
    x, y = torch.tensor(iris.data, dtype=torch.float32), torch.tensor(iris.target)
    x = (x - x.mean(0)) / x.std(0)
    wiring = fw.generators.random_graph(4, HIDDEN, 3, fan_in=3, activation="tanh", seed=SEED)
    names = [name.removesuffix(" (cm)") for name in iris.feature_names] + [f"h{i}" for i in range(HIDDEN)]
    names = dict(enumerate([*names, *iris.target_names.tolist()]))
    net = fw.Network(fw.Graph.from_networkx(nx.relabel_nodes(wiring.to_networkx(), names)))
    optimizer = torch.optim.Adam(net.parameters(), 0.02, weight_decay=0.001)
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()
    return net, x, (net(x).argmax(1) == y).float().mean().item()


def main() -> None:
    torch.manual_seed(0)
    net, x, accuracy = train()
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    fw.plot(net, values=net.activations(x[FLOWER]), ax=figure.add_subplot())
    path = ROOT / "docs" / "img" / "plot.png"
    with replacing(path) as file:
        figure.savefig(file, dpi=90, pil_kwargs={"optimize": True})
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB; {accuracy:.1%} of the irises are classified correctly")


if __name__ == "__main__":
    main()
