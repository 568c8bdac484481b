# SPDX-License-Identifier: MIT
"""How much does a network depend on each node and each edge? Remove every one of them in turn.

The data are scikit-learn's 1,797 scanned digits, enlarged to 64x64 pixels. The command prints a table and writes a
picture and every measurement to the output folder.

A small RandWire (Xie et al. 2019) learns to read the digits: three stages of 16 separable convolutions, each stage
wired as a small world. Then, as in the paper and without retraining, each of its 48 nodes and then each of its 96 edges
is removed in turn, and the accuracy on all test digits is measured. In the paper, removing a node of high out-degree
costs more accuracy, and removing an edge into a node of high in-degree costs less.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sklearn.datasets
import torch
from progress import Progress
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

import freewire as fw
from freewire.files import replacing

CLASSES, SIDE = 10, 64  # side of the enlarged digits in pixels; the network halves it five times
NODES, CHANNELS = 16, 16  # nodes per stage; channels of the first stage (doubled twice)
EPOCHS, BATCH = 12, 32
LEARNING_RATE = 1e-2  # the maximum of a schedule that rises and then falls over the epochs
QUICK = 32  # digits in either part with --quick


class Digits(NamedTuple):
    """Images ``[n, 1, 64, 64]`` float32 from 0 (paper) to 1 (ink), and the digits they show, ``[n]`` int64."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_digits(seed: int) -> Digits:
    """Split the digits 80 to 20, with the same share of each class, and enlarge them."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    small = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    large = interpolate(small, size=(SIDE, SIDE), mode="bilinear")
    train, test = train_test_split(torch.arange(len(y)), test_size=0.2, stratify=y, random_state=seed)
    y = torch.tensor(y)
    return Digits(large[train], y[train], large[test], y[test])


def build(seed: int) -> fw.models.RandWire:
    """Draw the three wirings and build the network."""
    torch.manual_seed(seed)
    dags = [fw.generators.watts_strogatz_dag(NODES, k=4, p=0.75, seed=3 * seed + stage) for stage in range(3)]
    return fw.models.RandWire(dags, CHANNELS, "small", seed=seed, num_classes=CLASSES, in_channels=1)


def train(model: nn.Module, data: Digits, seed: int, epochs: int = EPOCHS) -> None:
    """Train with Adam in the usual way."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * -(-len(data.train_x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    with Progress("training", steps, "step") as progress:
        for _ in range(epochs):
            for batch in torch.randperm(len(data.train_x)).split(BATCH):
                loss = cross_entropy(model(data.train_x[batch]), data.train_y[batch], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update(loss=f"{loss.item():.3f}")


def study(model: nn.Module, data: Digits) -> fw.studies.Damage:
    """Measure the accuracy of every damaged network on all test digits."""
    loader = list(zip(data.test_x.split(BATCH), data.test_y.split(BATCH), strict=True))
    with Progress("damaging", None, "run") as progress:

        def show(done: int, total: int | None) -> None:
            progress.total = total
            progress.update(done - progress.done)

        return fw.studies.damage(model, loader, progress=show)


def main(argv: Sequence[str] | None = None) -> None:
    """Train and damage a network, print the table, write the picture and the measurements."""
    parser = argparse.ArgumentParser(description="Remove every node and every edge of a trained RandWire in turn.")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the split, the wiring, the weights and the batches (0)"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the training digits ({EPOCHS})")
    parser.add_argument("--quick", action="store_true", help="few digits, only to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("demo/damage"), help="folder of the results (demo/damage)")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error(f"--epochs: expected at least 1, got {options.epochs}.")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the images are too small to divide among threads

    data = load_digits(options.seed)
    if options.quick:
        data = Digits(*(part[:QUICK] for part in data))
    model = build(options.seed)
    train(model, data, options.seed, options.epochs)
    result = study(model, data)
    print(result)

    figure = result.plot()
    figure.suptitle(f"Damage to a RandWire that reads {result.baseline:.1%} of {result.count:.0f} digits")
    figure.savefig(options.out / "damage.png", dpi=130)
    with replacing(options.out / "damage.json") as file:
        file.write(json.dumps(result.to_dict(), indent=1).encode() + b"\n")
    print(f"\nWritten to {options.out}/: damage.png, and every measurement as damage.json")


if __name__ == "__main__":
    main()
