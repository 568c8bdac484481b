# SPDX-License-Identifier: MIT
"""XOR in the style of the 2019 library: neurons declared one by one, a Model trained as in Keras.

Two inputs, five sigmoid neurons, one sigmoid output; plain gradient descent, one sample at a time. That is slow, but
it is the library's first example, with its settings. Of 400 random starts about two in three have learnt
XOR after the 10,000 epochs, and the others are on the way. ``examples/xor.py`` solves it with two neurons.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from freewire import Graph, Model, Node, visualize

DATA = [[0, 0], [1, 0], [0, 1], [1, 1]]
TARGET = [0, 1, 1, 0]


def build() -> Graph:
    """Declare the neurons: a Node names what it reads, and one that reads nothing is an input."""
    inputs = [Node(), Node()]
    hidden = [Node(inputs, activation="sigmoid") for _ in range(5)]
    output = Node(hidden, activation="sigmoid")
    return Graph(inputs, hidden, [output])


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the four answers, draw the network if asked to."""
    parser = argparse.ArgumentParser(description="Learn XOR neuron by neuron, in the style of the 2019 library.")
    parser.add_argument("--epochs", type=int, default=10_000, help="passes over the four samples (10,000)")
    parser.add_argument("--seed", type=int, default=4, help="seed of the weights and of the order of samples (4)")
    parser.add_argument("--draw", action="store_true", help="write a picture of the trained network to renders/")
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # one sample is too little to divide among threads

    m = Model(build())
    m.compile(optimizer="sgd", loss="mse")
    m.fit(DATA, TARGET, epochs=options.epochs, batch_size=1)
    for (a, b), target in zip(DATA, TARGET, strict=True):
        print(f"{a} xor {b}: {m([a, b]).item():.3f} (should be {target})")
    if options.draw:
        visualize(m.graph, title="xor")


if __name__ == "__main__":
    main()
