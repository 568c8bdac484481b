# SPDX-License-Identifier: MIT
"""One trial of the wiring search: a drawn wiring, made a small network, trained and measured on handwritten digits.

Enters: the settings of a search and the number of a trial. Leaves: a dictionary of plain values, a line of the log. A
trial depends on these alone, on no other trial and on no worker, so that a search can be cut into pieces at will.

Candidates differ in their wiring and in nothing else: all have as many nodes, each a 3x3 separable convolution on as
many channels and pixels, so that their costs differ by those of their edges alone, a weight each.
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
P_OF_ER = 0.12, 0.4  # thinner graphs of 32 nodes are seldom connected
M_OF_BA = 1, 2, 3, 4, 5, 6, 7
K_OF_WS = 2, 4, 6, 8
SIZE, STRIDE, CLASSES = 8, 2, 10  # the images have 8x8 pixels; the graph's nodes see 4x4
VALIDATION = 600  # digits to choose by; what neither these nor training take is for the test
BATCH = 50
LEARNING_RATE = 1e-2  # the highest; it rises from there and falls to it over the epochs


@dataclass(frozen=True)
class Settings:
    """What a trial's result depends on beside its number. Versions are of them: others may give other last bits.

    Attributes:
        seed: Of the split of the digits, the wirings, the weights and the batches.
        epochs: Passes over the training digits.
        nodes: Of every wiring.
        channels: Of every node.
        train: Digits to train on. Few, so that the candidates have something to differ in.
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
    """Draw a trial's candidate. Families take turns, so that each gets a third; all else is random."""
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
    """Digits to train on, to choose by, and to test on: no digit in two of them, each class alike."""
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
    """Make a wiring a network: a convolution, the graph, the mean over the image, a linear layer.

    The convolution before the graph gives nodes that hear the input as many channels as the others hear.
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
    """Count those of one image: of convolutions, edges and the linear layer; not of batch norms and means."""
    seen = (SIZE // STRIDE) ** 2
    node = seen * channels * (9 + channels)
    return SIZE**2 * 9 * channels + graph.num_nodes * node + graph.num_edges * seen * channels + channels * CLASSES


def train(net: nn.Module, digits: Digits, epochs: int) -> None:
    """Train with Adam in the usual way; batches come from torch's generator.

    Raises:
        FloatingPointError: The loss is no number any more.
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
            raise FloatingPointError(f"loss: expected a number, got {loss.item()} in epoch {epoch}.")


@torch.no_grad()
def measure(net: nn.Module, digits: Digits) -> tuple[float, float]:
    """The share of digits read rightly, and the loss."""
    net.eval()
    result = net(digits.x)
    return (result.argmax(dim=-1) == digits.y).float().mean().item(), cross_entropy(result, digits.y).item()


def run_trial(settings: Settings, trial: int, repeat: int = 0) -> dict[str, Any]:
    """Train a trial's candidate and measure it.

    Args:
        settings: Of the search.
        trial: Its number.
        repeat: 0: the trial itself, measured on the validation digits. Above 0: the same wiring with other weights and
            batches, measured on the test digits too.

    Returns:
        Plain values, as the log keeps them. One that fails has ``failed``, what was raised, instead of results: nothing
        of a trial's own is to end a search.
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


def start_worker(leash: connection.Connection) -> None:
    """Prepare a process for trials: one thread, and an end as soon as nobody holds the leash's other end.

    A pool's workers wait for work from a pipe that they hold open themselves, so they would outlive a parent that is
    killed, and train on. The system closes the leash of any process that ends, however it ends.
    """
    torch.set_num_threads(1)  # the workers fill the processor; threads of theirs would wait for each other

    def watch() -> None:
        connection.wait([leash])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
