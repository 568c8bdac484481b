# SPDX-License-Identifier: MIT
"""A picture of a small network in the style of the 2019 library, before and after it has weights.

A graph's weights and biases are 0 until a Model is made of it. The Model draws them and writes them to the Nodes and
Edges, so the same call then shows them; with a sample it shows what each neuron makes of that.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from freewire import Graph, Model, Node, visualize


def build() -> Graph:
    """Two inputs, three hidden neurons of which two read the first, one output."""
    inputs = [Node(), Node()]
    first = Node(inputs)
    second = Node([inputs[0], first])
    third = Node([inputs[1], first])
    output = Node([second, third])
    return Graph(inputs, [first, second, third], [output])


def main(argv: Sequence[str] | None = None) -> None:
    """Write three pictures to the folder renders."""
    parser = argparse.ArgumentParser(description="Draw a network before and after it has weights, into renders/.")
    parser.add_argument(
        "--initialization", default="he", help="how weights start: he, xavier, uniform or self_normalized (he)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (0)")
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)

    g = build()
    visualize(g, title="architecture")
    Model(g, initialization=options.initialization)
    visualize(g, title="architecture_and_weights")
    visualize(g, title="activations", inputs=[1.0, -1.0])


if __name__ == "__main__":
    main()
