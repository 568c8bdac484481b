# SPDX-License-Identifier: MIT
"""`neuron_level_densenet`: a chain of neurons, each of which reads everything before it."""

from __future__ import annotations

from freewire.graph import Graph, Node
from freewire.graph.arguments import check_whole

__all__ = ["neuron_level_densenet"]


def neuron_level_densenet(input_size: int, hidden_size: int, output_size: int, activation: str) -> Graph:
    """Make a graph in which every hidden neuron reads all inputs and all hidden neurons before it.

    The idea is that of DenseNet (Huang et al. 2017), with a neuron in place of each layer: the graph is as deep as it
    has hidden neurons. For large ones `freewire.generators.densenet` makes the same wiring from arrays.

    Args:
        input_size: Number of inputs, at least 1.
        hidden_size: Number of hidden neurons, at least 1.
        output_size: Number of outputs, at least 1; they are linear, and read all inputs and all hidden neurons.
        activation: That of the hidden neurons.

    Returns:
        A graph of Nodes.

    Raises:
        GraphError: A size is no whole number of at least 1, or the activation is unknown.

    Example:
        >>> import freewire as fw
        >>> fw.neuron_level_densenet(2, 5, 1, "relu")
        Graph(8 nodes, 2 inputs, 1 outputs, 27 edges, depth 6)
    """
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("output_size", output_size)):
        check_whole(name, size, 1, "It is a number of neurons.")
    inputs = [Node() for _ in range(input_size)]
    hidden: list[Node] = []
    for _ in range(hidden_size):
        hidden.append(Node(inputs + hidden, activation=activation))
    return Graph.from_nodes(inputs, hidden, [Node(inputs + hidden) for _ in range(output_size)])
