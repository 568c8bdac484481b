# SPDX-License-Identifier: MIT
"""Does it help that every neuron reads all before it? A neuron-level densenet against dense layers, on digits.

In the densenet each hidden neuron is a layer of its own: it reads all pixels and all earlier hidden neurons. It is
compared with ordinary dense networks (MLPs) of as many parameters: one with a single hidden layer, and one as deep as
the densenet, whose layers are then narrow. All are the same module with another wiring, trained in the same way from
several seeds. The fourth row is the single hidden layer made of torch's own layers, to compare the time.

The data are scikit-learn's 1,797 digits of 8x8 pixels, with another split for each seed. The table shows means and
standard deviations over seeds, and of the seeds' median times per step the least.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from handwritten import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import freewire as fw

PIXELS, CLASSES = 64, 10
BATCH, LEARNING_RATE = 64, 3e-3


def equal_width(parameters: int, layers: int) -> int:
    """The width of an MLP with so many hidden layers whose parameters are closest in number."""

    def count(width: int) -> int:
        return width * (PIXELS + 1) + (layers - 1) * width * (width + 1) + CLASSES * (width + 1)

    return min(range(1, 2 + parameters // PIXELS), key=lambda width: abs(count(width) - parameters))


def contestants(hidden: int) -> dict[str, Callable[[], nn.Module]]:
    """The networks by name, each a function that makes one with new weights."""
    dense = fw.neuron_level_densenet(PIXELS, hidden, CLASSES, "relu")
    parameters = dense.num_edges + hidden + CLASSES
    wide, narrow = equal_width(parameters, 1), equal_width(parameters, hidden)
    shallow = fw.generators.mlp([PIXELS, wide, CLASSES])
    deep = fw.generators.mlp([PIXELS, *[narrow] * hidden, CLASSES])
    return {
        f"densenet, {hidden} neurons": lambda: fw.Network(dense),
        f"MLP, one layer of {wide}": lambda: fw.Network(shallow),
        f"MLP, {hidden} layers of {narrow}": lambda: fw.Network(deep),
        f"torch's layers, one of {wide}": lambda: nn.Sequential(
            nn.Linear(PIXELS, wide), nn.ReLU(), nn.Linear(wide, CLASSES)
        ),
    }


def trial(make: Callable[[], nn.Module], seed: int, epochs: int) -> tuple[float, float, int]:
    """Train one network; return its test accuracy, the median time of a step in ms, and its number of parameters."""
    train_x, train_y, test_x, test_y = load_digits(seed)
    torch.manual_seed(seed)
    net = make()
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    times = []
    for _ in range(epochs):
        for batch in torch.randperm(len(train_x)).split(BATCH):
            begin = time.perf_counter()
            loss = cross_entropy(net(train_x[batch]), train_y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            times.append(time.perf_counter() - begin)
    with torch.no_grad():
        accuracy = (net(test_x).argmax(dim=1) == test_y).float().mean().item()
    return accuracy, 1e3 * statistics.median(times), sum(p.numel() for p in net.parameters())


def main(argv: Sequence[str] | None = None) -> None:
    """Train all networks from all seeds, in turns, and print the table."""
    parser = argparse.ArgumentParser(description="Compare a neuron-level densenet with dense layers, on digits.")
    parser.add_argument("--hidden", type=int, default=32, help="hidden neurons of the densenet, and its depth (32)")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training digits (40)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (5)")
    options = parser.parse_args(argv)
    if min(options.hidden, options.epochs, options.seeds) < 1:
        parser.error("--hidden, --epochs, --seeds: expected at least 1.")
    torch.set_num_threads(1)  # the networks are too small to divide among threads

    networks = contestants(options.hidden)
    results: dict[str, list[tuple[float, float, int]]] = {name: [] for name in networks}
    for seed in range(options.seeds):  # in turns, so that whatever else the machine does disturbs all alike
        for name, make in networks.items():
            results[name].append(trial(make, seed, options.epochs))
    print(f"{'':26} test accuracy      parameters  ms per step")
    for name, trials in results.items():
        accuracies, times, counts = zip(*trials, strict=True)
        spread = f"+- {statistics.stdev(accuracies):.1%}" if len(accuracies) > 1 else ""
        print(f"{name:26} {statistics.mean(accuracies):8.1%} {spread:9} {counts[0]:11,} {min(times):12.2f}")


if __name__ == "__main__":
    main()
