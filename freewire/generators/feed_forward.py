# SPDX-License-Identifier: MIT
"""Feed-forward wirings: random ones of a fixed fan-in, multilayer perceptrons, dense networks of single neurons.

References:
    Huang, Liu, van der Maaten, Weinberger: Densely connected convolutional networks, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from freewire.errors import GraphError, shown
from freewire.generators.draws import Draws, Integers, count, ranges
from freewire.graph import Graph
from freewire.graph.arguments import MAX_NODES, check_ordered

__all__ = ["densenet", "mlp", "random_graph"]


def random_graph(
    num_inputs: int,
    num_hidden: int,
    num_outputs: int,
    fan_in: int,
    activation: str = "relu",
    output_activation: str = "linear",
    seed: int | None = None,
) -> Graph:
    """Connect each hidden and output node to ``fan_in`` distinct earlier nodes, drawn uniformly.

    Hidden nodes read inputs and earlier hidden nodes; outputs read inputs and hidden nodes; nothing reads an output. A
    node with fewer than ``fan_in`` nodes before it reads them all. No loop over nodes.

    Args:
        num_inputs: Number of inputs I, at least 1; they are nodes 0 to I-1.
        num_hidden: Number of hidden nodes H, at least 0; they are nodes I to I+H-1.
        num_outputs: Number of outputs, at least 1; they are the last nodes.
        fan_in: Number of in-edges of each node, at least 1.
        activation: Activation of the hidden nodes.
        output_activation: Activation of the outputs.
        seed: An integer for the same graph every time, None for a new one each time.

    Returns:
        A graph whose edges go from the smaller to the larger number.

    Raises:
        GraphError: An argument out of range.

    Example:
        >>> import freewire as fw
        >>> g = fw.generators.random_graph(num_inputs=3, num_hidden=4, num_outputs=2, fan_in=2, seed=0)
        >>> g.num_nodes, g.num_edges
        (9, 12)
    """
    earlier = _earlier(num_inputs, num_hidden, num_outputs)
    fan_in = min(count("fan_in", fan_in, 1, "number of in-edges of each node", most=None), MAX_NODES)
    src = Draws(seed).distinct(earlier, fan_in)
    return _feed_forward(src, np.minimum(earlier, fan_in), num_inputs, num_outputs, activation, output_activation)


def mlp(sizes: Sequence[int], activation: str = "relu", output_activation: str = "linear") -> Graph:
    """Connect each node to all nodes of the layer before: a multilayer perceptron.

    Args:
        sizes: Number of nodes of each layer, from the inputs to the outputs; at least two layers, none empty.
        activation: Activation of the hidden layers.
        output_activation: Activation of the last layer.

    Returns:
        A graph numbered layer by layer, whose edges go from the smaller to the larger number.

    Raises:
        GraphError: Fewer than two layers, or an empty one.

    Example:
        >>> import freewire as fw
        >>> g = fw.generators.mlp([784, 512, 512, 10])
        >>> g.num_edges, g.depth
        (668672, 3)
    """
    check_ordered(sizes, "sizes")
    if isinstance(sizes, str) or not hasattr(sizes, "__len__") or len(sizes) < 2:
        raise GraphError(
            f"sizes: expected a list of at least two layer sizes, got {shown(sizes)}. "
            "List the sizes of inputs, hidden layers and outputs, as in [784, 512, 10]."
        )
    layers = np.array([count("sizes", size, 1, "number of nodes in each layer") for size in sizes], np.int64)
    ends = np.cumsum(layers)
    # For each computed node: the size of the layer that it reads, and that layer's first node.
    fan_in = np.repeat(layers[:-1], layers[1:])
    first = np.repeat((ends - layers)[:-1], layers[1:])
    src = np.repeat(first, fan_in) + ranges(fan_in)
    return _feed_forward(src, fan_in, int(layers[0]), int(layers[-1]), activation, output_activation)


def densenet(
    num_inputs: int,
    num_hidden: int,
    num_outputs: int,
    activation: str = "relu",
    output_activation: str = "linear",
) -> Graph:
    """Connect every node to all nodes before it: DenseNet (Huang et al. 2017) with single neurons as layers.

    Hidden nodes read all inputs and all earlier hidden nodes; outputs read all inputs and all hidden nodes.

    Args:
        num_inputs: Number of inputs I, at least 1; they are nodes 0 to I-1.
        num_hidden: Number of hidden nodes H, at least 0; they are nodes I to I+H-1.
        num_outputs: Number of outputs, at least 1; they are the last nodes.
        activation: Activation of the hidden nodes.
        output_activation: Activation of the outputs.

    Returns:
        A graph whose edges go from the smaller to the larger number.

    Raises:
        GraphError: An argument out of range.

    Example:
        >>> import freewire as fw
        >>> g = fw.generators.densenet(num_inputs=2, num_hidden=3, num_outputs=1)
        >>> g.num_edges, g.depth
        (14, 4)
    """
    earlier = _earlier(num_inputs, num_hidden, num_outputs)
    return _feed_forward(ranges(earlier), earlier, num_inputs, num_outputs, activation, output_activation)


def _earlier(num_inputs: int, num_hidden: int, num_outputs: int) -> Integers:
    """How many nodes each hidden and output node may read, int64 ``[H + O]``: always the first ones."""
    num_inputs = count("num_inputs", num_inputs, 1, "number of inputs")
    num_hidden = count("num_hidden", num_hidden, 0, "number of hidden nodes")
    num_outputs = count("num_outputs", num_outputs, 1, "number of outputs")
    first_output = num_inputs + num_hidden
    return np.minimum(np.arange(num_inputs, first_output + num_outputs, dtype=np.int64), first_output)


def _feed_forward(
    src: Integers,
    fan_in: Integers,
    num_inputs: int,
    num_outputs: int,
    activation: str,
    output_activation: str,
) -> Graph:
    """Make a graph of inputs and then nodes of fan-in ``fan_in [H + O]``, whose sources are ``src`` in order."""
    num_nodes = num_inputs + len(fan_in)
    return Graph.from_edges(
        src,
        np.repeat(np.arange(num_inputs, num_nodes, dtype=np.int64), fan_in),
        num_nodes=num_nodes,
        inputs=range(num_inputs),
        outputs=range(num_nodes - num_outputs, num_nodes),
        activation=activation,
        output_activation=output_activation,
    )
