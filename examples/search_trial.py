# SPDX-License-Identifier: MIT
"""One trial of the wiring search: a small network with a random wiring, trained and tested on handwritten digits.

`run_trial` is the search's objective: it reads the settings of the training, the parameters of a wiring and a seed, and
returns plain values, which become a part of the trial's line in the log. A trial depends on nothing else, neither on
other trials nor on the worker.

Candidates differ only in their wiring: all have the same number of nodes, each a 3x3 separable convolution with the
same number of channels and pixels, so their costs differ only by the edges, with one weight each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import sklearn.datasets
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import freewire as fw

FAMILIES = ("ER", "BA", "WS")
#: What a search draws. The seed belongs to it, so that parameters determine a wiring, and its offspring inherits it.
SPACE = {"family": list(FAMILIES), "density": (0.0, 1.0), "rewiring": (0.0, 1.0), "graph_seed": (0, 2**32 - 1)}
P_OF_ER = 0.12, 0.4  # sparser graphs of 32 nodes are rarely connected
M_OF_BA = 1, 2, 3, 4, 5, 6, 7
K_OF_WS = 2, 4, 6, 8
SIZE, STRIDE, CLASSES = 8, 2, 10  # the images have 8x8 pixels, the graph's nodes 4x4
VALIDATION = 600  # digits to rank candidates by; those used neither here nor in training are for the test
BATCH = 50
LEARNING_RATE = 1e-2  # the maximum of a schedule that rises and then falls over the epochs


@dataclass(frozen=True)
class Settings:
    """What a trial's result depends on besides its parameters and its seed.

    Attributes:
        split: Seed of the split of the digits.
        epochs: Number of passes over the training digits.
        nodes: Number of nodes of every wiring.
        channels: Number of channels of every node.
        train: Number of digits to train on; few, so that the candidates differ in accuracy.
        torch: Version of torch, since another may change the last bits.
        freewire: Version of freewire, the same.
    """

    split: int = 0
    epochs: int = 12
    nodes: int = 32
    channels: int = 16
    train: int = 600
    torch: str = torch.__version__
    freewire: str = fw.__version__


class Digits(NamedTuple):
    """Images ``[n, 1, 8, 8]`` float32 from 0 (paper) to 1 (ink), and the digits they show, ``[n]`` int64."""

    x: Tensor
    y: Tensor


def generator(params: Mapping[str, Any]) -> fw.models.ER | fw.models.BA | fw.models.WS:
    """The generator of random graphs that parameters of `SPACE` describe.

    Families have the density in common, from their sparsest graphs (0) to their densest (1). Only Watts-Strogatz graphs
    are rewired.
    """
    density = params["density"]
    if params["family"] == "ER":
        low, high = P_OF_ER
        return fw.models.ER(low + density * (high - low))
    if params["family"] == "BA":
        return fw.models.BA(_choice(M_OF_BA, density))
    return fw.models.WS(_choice(K_OF_WS, density), params["rewiring"])


def _choice(values: tuple[int, ...], place: float) -> int:
    return values[min(int(place * len(values)), len(values) - 1)]


def wiring_name(params: Mapping[str, Any]) -> str:
    """The generator as text, such as ``WS(k=4, p=0.75)``."""
    made = generator(params)
    return f"{params['family']}({', '.join(f'{name}={value:.3g}' for name, value in vars(made).items())})"


@lru_cache(maxsize=1)
def load_digits(settings: Settings) -> tuple[Digits, Digits, Digits]:
    """Disjoint sets of digits for training, validation and test, with the same share of each class."""
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, SIZE, SIZE), torch.tensor(labels)
    first, test = train_test_split(
        np.arange(len(y)), train_size=settings.train + VALIDATION, stratify=y, random_state=settings.split
    )
    train, validation = train_test_split(
        first, train_size=settings.train, stratify=y[first], random_state=settings.split
    )
    return Digits(x[train], y[train]), Digits(x[validation], y[validation]), Digits(x[test], y[test])


def build(dag: nx.DiGraph, channels: int) -> nn.Sequential:
    """Build a network of a convolution, the graph, the mean over the image, and a linear layer.

    The convolution before the graph gives the nodes that read the input the same number of channels as the others.
    """
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        fw.models.GraphStage(dag, channels, channels, stride=STRIDE),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, CLASSES),
    )


def multiply_adds(graph: fw.Graph, channels: int) -> int:
    """Count the multiply-adds for one image: convolutions, edges and the linear layer, not batch norms and means."""
    pixels = (SIZE // STRIDE) ** 2
    node = pixels * channels * (9 + channels)
    return SIZE**2 * 9 * channels + graph.num_nodes * node + graph.num_edges * pixels * channels + channels * CLASSES


def train(net: nn.Module, digits: Digits, epochs: int, after_epoch: Callable[[int], None] = lambda epoch: None) -> None:
    """Train with Adam in the usual way; batches come from torch's default generator.

    Args:
        net: The network.
        digits: The training digits.
        epochs: Number of passes over them.
        after_epoch: Called with the number of each epoch, from 0, at its end.

    Raises:
        FloatingPointError: The loss is no longer finite.
    """
    optimizer = torch.optim.Adam(net.parameters())
    steps = epochs * math.ceil(len(digits.y) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        for batch in torch.randperm(len(digits.y)).split(BATCH):
            loss = cross_entropy(net(digits.x[batch]), digits.y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"loss: expected a finite number, got {loss.item()} in epoch {epoch}.")
        after_epoch(epoch)


@torch.no_grad()
def measure(net: nn.Module, digits: Digits) -> tuple[float, float]:
    """The accuracy and the loss."""
    net.eval()
    result = net(digits.x)
    return (result.argmax(dim=-1) == digits.y).float().mean().item(), cross_entropy(result, digits.y).item()


def run_trial(settings: Settings, params: Mapping[str, Any], seed: int, test: bool = False) -> dict[str, Any]:
    """Train the wiring that parameters describe and measure it.

    Args:
        settings: The settings of the training.
        params: A value for each name of `SPACE`.
        seed: Seed of weights and batches.
        test: Whether the network is measured on the test digits too.

    Returns:
        What the log holds besides the parameters: ``value``, which is the accuracy on the validation digits, and more.
    """
    torch.set_num_threads(1)  # or the last bits would depend on the number of workers, which share the cores
    training, validation, unseen = load_digits(settings)
    dag = generator(params)(settings.nodes, params["graph_seed"])
    torch.manual_seed(seed)
    net = build(dag, settings.channels)
    graph: fw.Graph = net[2].graph
    train(net, training, settings.epochs)
    accuracy, loss = measure(net, validation)
    return {
        "value": accuracy,
        "wiring": wiring_name(params),
        "graph": {
            "edges": graph.num_edges,
            "depth": graph.depth,
            "clustering": fw.metrics.clustering(graph),
            "path_length": fw.metrics.path_length(graph),
        },
        "weights": sum(parameter.numel() for parameter in net.parameters()),
        "multiply_adds": multiply_adds(graph, settings.channels),
        "validation_loss": loss,
        **({"test": measure(net, unseen)[0]} if test else {}),
    }
