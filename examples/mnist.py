# SPDX-License-Identifier: MIT
"""Handwritten digits with a random wiring and what Keras users expect: validation, early stopping, checkpoints.

No neuron is declared by hand here: a generator draws the wiring, in which each hidden neuron reads a few earlier ones
wherever they are, and `fw.Model` trains it. A share of the training images is set aside to notice when the network
begins to learn them by heart; the best epoch is kept in a file, which is read back and tested. ``examples/digits.py``
does the same work with a training loop of its own. It runs on MNIST where its files are on the disk, and on
scikit-learn's digits otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import handwritten
import torch

import freewire as fw
from freewire.keras import EarlyStopping, ModelCheckpoint


def build(num_pixels: int, hidden: int, fan_in: int, seed: int) -> fw.Model:
    """Draw a wiring and its weights."""
    graph = fw.generators.random_graph(num_pixels, hidden, 10, fan_in=fan_in, activation="gelu", seed=seed)
    torch.manual_seed(seed)
    return fw.Model(graph)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and test the best epoch."""
    parser = argparse.ArgumentParser(description="Read handwritten digits with a randomly wired network.")
    parser.add_argument("--hidden", type=int, default=500, help="hidden neurons (500)")
    parser.add_argument("--fan-in", type=int, default=50, help="earlier neurons or pixels that each neuron reads (50)")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the training images, at most (100)")
    parser.add_argument("--patience", type=int, default=8, help="epochs without progress that end the training (8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the wiring, the weights and the batches (0)")
    parser.add_argument("--out", type=Path, default=Path("demo/mnist"), help="folder of the network (demo/mnist)")
    handwritten.add_argument(parser)
    options = parser.parse_args(argv)
    if min(options.hidden, options.fan_in, options.epochs, options.patience) < 1:
        parser.error("--hidden, --fan-in, --epochs, --patience: expected at least 1.")
    options.out.mkdir(parents=True, exist_ok=True)

    data, name = handwritten.load(options.data)
    model = build(data.train_x.shape[1], options.hidden, options.fan_in, options.seed)
    print(f"{name}: {len(data.train_x):,} images to train on, {len(data.test_x):,} to test. The wiring:")
    print(f"{model.graph}, {model.count_params():,} parameters")
    model.compile("adam", "crossentropy", metrics=["accuracy"])  # of linear outputs: torch's cross_entropy
    best = options.out / "best.safetensors"
    stopping = EarlyStopping("val_loss", patience=options.patience)
    model.fit(
        data.train_x,
        data.train_y,
        epochs=options.epochs,
        validation_split=0.1,
        callbacks=[stopping, ModelCheckpoint(best, save_best_only=True)],
    )
    net = fw.load(best)
    with torch.no_grad():
        accuracy = (net(data.test_x).argmax(dim=1) == data.test_y).float().mean().item()
    print(f"epoch {stopping.best_epoch + 1} was best: {accuracy:.1%} of the test images. Written to {best}")


if __name__ == "__main__":
    main()
