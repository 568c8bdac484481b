# SPDX-License-Identifier: MIT
"""Read handwritten digits with a freely wired network: a first tour of freewire, run by `make demo`.

The data are scikit-learn's 1,797 scanned digits of 8x8 pixels. The command prints two tables and writes a picture of
the wiring, one of the training curves, and the trained network to the output folder.

The network has no layers. Its 300 hidden neurons form a ring, each joined to its 4 nearest neighbours; then three edges
in four are rewired at random, which gives a small world (Watts and Strogatz 1998; as the wiring of a network: Xie et
al. 2019). Each neuron also reads 24 random pixels. The first table compares it with two ordinary dense networks trained
by the same loop, one with as many parameters and one with as many hidden neurons. The second compares the time of the
same wiring with that of two ways to run it without freewire (`other_ways`).

The settings below were chosen by cross-validation inside the training part of seed 0; the test digits were not used.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from handwritten import Digits, load_digits
from other_ways import compare, table
from pictures import draw_curves, draw_wiring
from progress import Progress
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import freewire as fw

PIXELS, HIDDEN, CLASSES = 64, 300, 10
EPOCHS, BATCH = 60, 32
LEARNING_RATE = 1e-2  # the maximum of a schedule that rises and then falls over the epochs
SMOOTHING = 0.1  # label smoothing: the share of each label that is spread over all classes
NOISE = 0.1  # standard deviation of the noise on each training pixel, where full ink is 1


class History(NamedTuple):
    """A training run: the loss and the test accuracy of each epoch, and the median time of a step in ms."""

    loss: list[float]
    accuracy: list[float]
    step_ms: float


def build(seed: int) -> fw.Network:
    """Draw a random wiring and build the network, an ``nn.Module`` like any other."""
    dag = fw.generators.watts_strogatz_dag(HIDDEN, k=4, p=0.75, seed=seed)
    graph = fw.generators.attach_io(dag, PIXELS, CLASSES, fan_in=24, every_node=True, activation="gelu", seed=seed)
    torch.manual_seed(seed)
    return fw.Network(graph)


def build_mlp(hidden: int, seed: int) -> nn.Module:
    """A network with one dense hidden layer, for comparison."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(PIXELS, hidden), nn.GELU(), nn.Linear(hidden, CLASSES))


def train(model: nn.Module, data: Digits, seed: int, epochs: int = EPOCHS, name: str = "training") -> History:
    """Train with Adam in the usual way; nothing here depends on the kind of network."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * (len(data.train_x) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.2)
    losses, accuracies, times = [], [], []
    with Progress(name, epochs, "epoch") as progress:
        for _ in range(epochs):
            total = 0.0
            for batch in torch.randperm(len(data.train_x)).split(BATCH):
                x, y = data.train_x[batch], data.train_y[batch]
                x = x + NOISE * torch.randn_like(x)
                start = time.perf_counter()
                loss = cross_entropy(model(x), y, label_smoothing=SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                times.append(time.perf_counter() - start)
                schedule.step()
                total += loss.item() * len(x)
            losses.append(total / len(data.train_x))
            accuracies.append(evaluate(model, data.test_x, data.test_y))
            progress.update(loss=f"{losses[-1]:.3f}", test=f"{accuracies[-1]:.1%}")
    return History(losses, accuracies, 1e3 * statistics.median(times))


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of digits that are classified correctly."""
    return (model(x).argmax(dim=-1) == y).float().mean().item()


def main(argv: Sequence[str] | None = None) -> None:
    """Train the three networks, print the tables, write the pictures and the network."""
    parser = argparse.ArgumentParser(description="Train a freely wired network on handwritten digits.")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the split, the wiring, the weights and the batches (0)"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the training digits ({EPOCHS})")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pictures and the network (demo)")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error(f"--epochs: expected at least 1, got {options.epochs}.")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # batches of 32 are too small to divide among threads

    data = load_digits(options.seed)
    net = build(options.seed)
    parameters = count_parameters(net)
    equal_parameters = round((parameters - CLASSES) / (PIXELS + 1 + CLASSES))
    models = {
        f"freewire, {HIDDEN} neurons": net,
        f"dense, equal parameters ({equal_parameters} neurons)": build_mlp(equal_parameters, options.seed),
        f"dense, equal neurons ({HIDDEN})": build_mlp(HIDDEN, options.seed),
    }
    print(f"{len(data.train_x):,} digits to train on, {len(data.test_x)} to test. The wiring:\n{net.graph}")

    histories = {name: train(model, data, options.seed, options.epochs, name) for name, model in models.items()}
    print(f"\n{'':38} test accuracy  parameters  ms per step")
    for name, model in models.items():
        accuracy = evaluate(model, data.test_x, data.test_y)
        print(f"{name:38} {accuracy:13.1%} {count_parameters(model):11,} {histories[name].step_ms:11.2f}")

    print(
        f"\nOne batch of {BATCH} through the same wiring, run in other ways (times relative to freewire in brackets):"
    )
    print(table(compare(net, data.train_x[:BATCH])))

    surest = net(data.test_x).softmax(dim=-1).amax(dim=-1).argmax()
    draw_wiring(net, data.test_x[surest], options.out / "wiring.png")
    draw_curves(histories, options.out / "training.png")
    fw.save(net, options.out / "digits.safetensors")
    loaded = fw.load(options.out / "digits.safetensors")
    if not torch.equal(loaded(data.test_x), net(data.test_x)):
        raise RuntimeError("digits.safetensors: expected the predictions of the saved network, got different ones.")
    print(f"\nWritten to {options.out}/: wiring.png, training.png, and the network as digits.safetensors")


def count_parameters(model: nn.Module) -> int:
    """The number of weights and biases."""
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
