# SPDX-License-Identifier: MIT
"""Handwritten digits in the style of the 2019 library: 260 neurons, some of them wired at random.

200 selu neurons read all pixels; 50 more each read 100 of the 200, drawn with replacement, so that some are read twice;
10 softmax outputs read all 250. It runs on MNIST where its files are on the disk, and on scikit-learn's digits
otherwise.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from freewire import Graph, Model, Node

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of handwritten.py
import handwritten


def build(num_pixels: int) -> Graph:
    """Declare the neurons."""
    inputs = [Node() for _ in range(num_pixels)]
    hidden = [Node(inputs, activation="selu") for _ in range(200)]
    mixed = [Node(random.choices(hidden, k=100), activation="selu") for _ in range(50)]
    outputs = [Node(hidden + mixed, activation="softmax") for _ in range(10)]
    return Graph(inputs, hidden + mixed, outputs)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print how many test images are read."""
    parser = argparse.ArgumentParser(description="Read handwritten digits, in the style of the 2019 library.")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training images (10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the wiring, the weights and the batches (0)")
    handwritten.add_argument(parser)
    options = parser.parse_args(argv)
    random.seed(options.seed)
    torch.manual_seed(options.seed)

    data, name = handwritten.load(options.data)
    print(f"{name}: {len(data.train_x):,} images to train on, {len(data.test_x):,} to test")
    m = Model(build(data.train_x.shape[1]), initialization="he")
    m.compile("adam", "crossentropy", metrics=["accuracy"])
    m.fit(data.train_x, data.train_y, epochs=options.epochs, batch_size=128)
    correct = (m.predict(data.test_x).argmax(dim=1) == data.test_y).sum().item()
    print(f"Final accuracy: {correct:,} of {len(data.test_y):,} test images ({correct / len(data.test_y):.1%})")


if __name__ == "__main__":
    main()
