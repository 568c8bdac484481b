# SPDX-License-Identifier: MIT
"""One trial of the wiring search: a small network with a random wiring, trained and tested on handwritten digits.

`run_trial` reads the settings of a search and the number of a trial, and returns a dictionary of plain values, which is
one line of the log. A trial depends on nothing else, neither on other trials nor on the worker, so a search can be
interrupted and divided among workers at any point.

Candidates differ only in their wiring: all have the same number of nodes, each a 3x3 separable convolution with the
same number of channels and pixels, so their costs differ only by the edges, with one weight each.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import connection
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
P_OF_ER = 0.12, 0.4  # sparser graphs of 32 nodes are rarely connected
M_OF_BA = 1, 2, 3, 4, 5, 6, 7
K_OF_WS = 2, 4, 6, 8
SIZE, STRIDE, CLASSES = 8, 2, 10  # the images have 8x8 pixels, the graph's nodes 4x4
VALIDATION = 600  # digits to rank candidates by; those used neither here nor in training are for the test
BATCH = 50
LEARNING_RATE = 1e-2  # the maximum of a schedule that rises and then falls over the epochs


@dataclass(frozen=True)
class Settings:
    """What a trial's result depends on besides its number, versions included, since they may change the last bits.

    Attributes:
        seed: Seed of the split of the digits, the wirings, the weights and the batches.
        epochs: Number of passes over the training digits.
        nodes: Number of nodes of every wiring.
        channels: Number of channels of every node.
        train: Number of digits to train on; few, so that the candidates differ in accuracy.
        torch: Version of torch.
        freewire: Version of freewire.
    """

    seed: int = 0
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


@dataclass(frozen=True)
class Candidate:
    """A family of random graphs, its parameters, and the seeds of the graph and of the weights."""

    family: str
    parameters: dict[str, float]
    graph_seed: int
    weight_seed: int

    def draw(self, nodes: int) -> nx.DiGraph:
        """Draw the wiring."""
        generator: Callable[[int, int], nx.DiGraph] = getattr(fw.models, self.family)(**self.parameters)
        return generator(nodes, self.graph_seed)


def candidate(seed: int, trial: int) -> Candidate:
    """Draw a trial's candidate. Families take turns, so each gets a third of the trials; the rest is random."""
    draws = np.random.default_rng([seed, trial])
    family = FAMILIES[trial % len(FAMILIES)]
    parameters: dict[str, float]
    if family == "ER":
        parameters = {"p": round(draws.uniform(*P_OF_ER), 3)}
    elif family == "BA":
        parameters = {"m": int(draws.choice(M_OF_BA))}
    else:
        parameters = {"k": int(draws.choice(K_OF_WS)), "p": round(draws.uniform(), 3)}
    graph_seed, weight_seed = draws.integers(2**32, size=2).tolist()
    return Candidate(family, parameters, graph_seed, weight_seed)


@lru_cache(maxsize=1)
def load_digits(settings: Settings) -> tuple[Digits, Digits, Digits]:
    """Disjoint sets of digits for training, validation and test, with the same share of each class."""
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, SIZE, SIZE), torch.tensor(labels)
    first, test = train_test_split(
        np.arange(len(y)), train_size=settings.train + VALIDATION, stratify=y, random_state=settings.seed
    )
    train, validation = train_test_split(
        first, train_size=settings.train, stratify=y[first], random_state=settings.seed
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


def train(net: nn.Module, digits: Digits, epochs: int) -> None:
    """Train with Adam in the usual way; batches come from torch's default generator.

    Raises:
        FloatingPointError: The loss is no longer finite.
    """
    optimizer = torch.optim.Adam(net.parameters())
    steps = epochs * math.ceil(len(digits.y) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    net.train()
    for epoch in range(epochs):
        for batch in torch.randperm(len(digits.y)).split(BATCH):
            loss = cross_entropy(net(digits.x[batch]), digits.y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"loss: expected a finite number, got {loss.item()} in epoch {epoch}.")


@torch.no_grad()
def measure(net: nn.Module, digits: Digits) -> tuple[float, float]:
    """The accuracy and the loss."""
    net.eval()
    result = net(digits.x)
    return (result.argmax(dim=-1) == digits.y).float().mean().item(), cross_entropy(result, digits.y).item()


def run_trial(settings: Settings, trial: int, repeat: int = 0) -> dict[str, Any]:
    """Train a trial's candidate and measure it.

    Args:
        settings: The settings of the search.
        trial: The number of the trial.
        repeat: 0 for the trial itself, measured on the validation digits. Above 0, the same wiring with other weights
            and batches, measured on the test digits too.

    Returns:
        Plain values by name, as the log holds them. A trial that fails has ``failed``, the error as text, instead of
        results, so that it does not end the search.
    """
    start = time.perf_counter()
    chosen = candidate(settings.seed, trial)
    line = {"trial": trial, "repeat": repeat, "family": chosen.family, "parameters": chosen.parameters}
    try:
        line |= _results(settings, chosen, repeat)
    except Exception as error:
        line["failed"] = f"{type(error).__name__}: {error}"[:500]
    return {**line, "seconds": round(time.perf_counter() - start, 2)}


def _results(settings: Settings, chosen: Candidate, repeat: int) -> dict[str, Any]:
    training, validation, test = load_digits(settings)
    dag = chosen.draw(settings.nodes)
    torch.manual_seed(chosen.weight_seed + repeat)
    net = build(dag, settings.channels)
    graph: fw.Graph = net[2].graph
    train(net, training, settings.epochs)
    accuracy, loss = measure(net, validation)
    return {
        "edges": graph.num_edges,
        "depth": graph.depth,
        "clustering": fw.metrics.clustering(graph),
        "path_length": fw.metrics.path_length(graph),
        "weights": sum(parameter.numel() for parameter in net.parameters()),
        "multiply_adds": multiply_adds(graph, settings.channels),
        "validation": accuracy,
        "validation_loss": loss,
        **({"test": measure(net, test)[0]} if repeat else {}),
    }


def start_worker(parent_pipe: connection.Connection) -> None:
    """Prepare a worker process: use one thread, and exit as soon as the parent has exited.

    A pool's workers wait for work on a pipe that they hold open themselves, so they would outlive a killed parent and
    go on training. The system closes the parent's end of ``parent_pipe`` however the parent exits.
    """
    torch.set_num_threads(1)  # the workers already use all cores

    def watch() -> None:
        connection.wait([parent_pipe])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
