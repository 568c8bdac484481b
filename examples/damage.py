# SPDX-License-Identifier: MIT
"""What is a neuron worth, and what a wire? Damage a randomly wired network, everywhere, one place at a time.

Enters: scikit-learn's 1,797 scanned digits, enlarged to 64x64 pixels. Leaves: a table on the screen, and in the output
folder a picture and every measurement in a file.

A small RandWire (Xie et al. 2019) learns to read the digits: three stages, each 16 separable convolutions wired as a
small world of its own. Then it is damaged as its inventors did, without training it again: each of its 48 nodes is
taken out in turn, then each of its 96 wires, and each time all test digits are read. In the paper, a node that many
others hear is missed more, and a wire to a node that hears many others is missed less.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sklearn.datasets
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from tqdm import tqdm

import freewire as fw

CLASSES, SIDE = 10, 64  # side of the enlarged digits in pixels; the network halves it five times
NODES, CHANNELS = 16, 16  # of a stage; of the first stage, and twice and four times as many
EPOCHS, BATCH = 12, 32
LEARNING_RATE = 1e-2  # the highest; it rises from there and falls to it over the epochs
QUICK = 32  # digits that are left of both parts with --quick


class Digits(NamedTuple):
    """Images ``[n, 1, 64, 64]`` float32 from 0 (paper) to 1 (ink), and the digits they show, ``[n]`` int64."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_digits(seed: int) -> Digits:
    """Split the digits 80 to 20, each class alike, and enlarge them."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    small = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    large = interpolate(small, size=(SIDE, SIDE), mode="bilinear")
    train, test = train_test_split(torch.arange(len(y)), test_size=0.2, stratify=y, random_state=seed)
    y = torch.tensor(y)
    return Digits(large[train], y[train], large[test], y[test])


def build(seed: int) -> fw.models.RandWire:
    """Draw the three wirings and make the network."""
    torch.manual_seed(seed)
    dags = [fw.generators.watts_strogatz_dag(NODES, k=4, p=0.75, seed=3 * seed + stage) for stage in range(3)]
    return fw.models.RandWire(dags, CHANNELS, "small", seed=seed, num_classes=CLASSES, in_channels=1)


def train(model: nn.Module, data: Digits, seed: int, epochs: int = EPOCHS) -> None:
    """Train with Adam in the usual way."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * -(-len(data.train_x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    progress = tqdm(total=steps, desc="training", unit="step")
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train_x)).split(BATCH):
            loss = cross_entropy(model(data.train_x[batch]), data.train_y[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            progress.update()
    progress.close()


def study(model: nn.Module, data: Digits) -> fw.studies.Damage:
    """Read all test digits with every damaged network."""
    loader = list(zip(data.test_x.split(BATCH), data.test_y.split(BATCH), strict=True))
    with tqdm(desc="damaging", unit="run") as bar:

        def progress(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return fw.studies.damage(model, loader, progress=progress)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, damage, print the table, write the picture and the measurements."""
    parser = argparse.ArgumentParser(description="Take out every node and every wire of a trained RandWire, in turn.")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the wiring, the weights and the batches")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the training digits ({EPOCHS})")
    parser.add_argument("--quick", action="store_true", help="few digits: shows that it runs, not what it says")
    parser.add_argument(
        "--out", type=Path, default=Path("demo/damage"), help="folder for what is written (demo/damage)"
    )
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error(f"--epochs: expected at least 1, got {options.epochs}.")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the images are too small to share: threads would mostly wait for each other

    data = load_digits(options.seed)
    if options.quick:
        data = Digits(*(part[:QUICK] for part in data))
    model = build(options.seed)
    train(model, data, options.seed, options.epochs)
    result = study(model, data)
    print(result)

    figure = result.plot()
    figure.suptitle(f"A RandWire that reads {result.baseline:.1%} of {result.count:.0f} digits, damaged")
    figure.savefig(options.out / "damage.png", dpi=130)
    (options.out / "damage.json").write_text(json.dumps(result.to_dict(), indent=1) + "\n")
    print(f"\nWritten to {options.out}/: damage.png, and every measurement as damage.json")


if __name__ == "__main__":
    main()
