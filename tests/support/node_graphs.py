# SPDX-License-Identifier: MIT
"""Small graphs of Nodes, as programs of the 2019 library made them."""

from __future__ import annotations

from freewire import Graph, Node

__all__ = ["SAMPLES", "TARGETS", "classifier", "xor"]

SAMPLES = [[0, 0], [1, 0], [0, 1], [1, 1]]
TARGETS = [0, 1, 1, 0]


def xor(activation: str = "sigmoid", output_activation: str = "sigmoid") -> Graph:
    """Two inputs, five hidden Nodes, one output."""
    inputs = [Node(), Node()]
    hidden = [Node(inputs, activation=activation) for _ in range(5)]
    return Graph(inputs, hidden, [Node(hidden, activation=output_activation)])


def classifier(classes: int = 3, activation: str = "softmax") -> Graph:
    """Two inputs, four hidden Nodes, an output per class."""
    inputs = [Node(), Node()]
    hidden = [Node(inputs, activation="tanh") for _ in range(4)]
    return Graph(inputs, hidden, [Node(hidden + inputs, activation=activation) for _ in range(classes)])
