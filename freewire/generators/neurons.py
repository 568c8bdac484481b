# SPDX-License-Identifier: MIT
"""Wirings made to order: the random graphs of RandWire, random sparse networks, layered and dense ones.

Enters: sizes, probabilities, a seed. Leaves: a networkx ``DiGraph`` from the ``*_dag`` functions (an inside
without inputs and outputs, as a RandWire stage uses it), a `Graph` from the others. One seed gives one graph,
whatever the platform and the versions of numpy and networkx: all draws come from `freewire.generators.draws`.

References:
    Huang, Liu, van der Maaten, Weinberger: Densely connected convolutional networks, 2017. Xie, Kirillov,
    Girshick, He: Exploring randomly wired neural networks for image recognition, 2019. `freewire.generators.dags` names
    the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np

from freewire.errors import GraphError
from freewire.generators.draws import Draws, Integers, count, ranges
from freewire.graph import Graph
from freewire.graph.arguments import UNSET
from freewire.graph.networkx_conversion import check_dag

__all__ = ["attach_io", "densenet", "mlp", "random_graph"]


def attach_io(
    dag: nx.DiGraph,
    num_inputs: int,
    num_outputs: int,
    fan_in: int | None = None,
    every_node: bool = False,
    activation: str = "relu",
    output_activation: str = "linear",
    seed: int | None = None,
) -> Graph:
    """Give an inner graph inputs and outputs, as a stage of Xie et al. (2019) has them.

    Nodes of in-degree 0 hear the inputs; nodes of out-degree 0 feed all outputs (a graph with few of those, a
    Watts-Strogatz one of small p for instance, lets all it computes through a few neurons). With I inputs and n inner
    nodes, the inputs become nodes 0 to I-1, the inner nodes I to I+n-1 in the order of ``dag.nodes``, the
    outputs follow.

    Args:
        dag: A ``DiGraph`` or ``MultiDiGraph``, any node names. Node attributes ``activation``,
            ``aggregation`` and ``bias``, edge attributes ``weight``, ``sign`` and ``frozen`` are kept, and
            win over the arguments.
        num_inputs: At least 1.
        num_outputs: At least 1.
        fan_in: So many distinct inputs are drawn for each node that hears them; None: all.
        every_node: All inner nodes hear inputs, not only those of in-degree 0.
        activation: Of the inner nodes.
        output_activation: Of the outputs.
        seed: Of the draws of ``fan_in``; an integer for the same graph every time, None for a new one.

    Returns:
        A graph of I + n + ``num_outputs`` nodes. In the caller's order of edges (see `Graph.edge_position`)
        come those from the inputs, then the inner ones in the order of ``dag.edges``, then those to the
        outputs.

    Raises:
        GraphError: No directed graph, an empty one, a cycle (named), an argument out of range, or an
            attribute that `Graph.from_networkx` refuses.

    Example:
        >>> import networkx as nx, freewire as fw
        >>> g = fw.generators.attach_io(nx.DiGraph([("a", "b"), ("a", "c")]), num_inputs=2, num_outputs=1)
        >>> g.edge_index[:, g.edge_position].tolist()
        [[0, 1, 2, 2, 3, 4], [2, 2, 3, 4, 5, 5]]
    """
    check_dag(dag)
    num_inputs = count("num_inputs", num_inputs, 1, "number of inputs")
    num_outputs = count("num_outputs", num_outputs, 1, "number of outputs")
    if fan_in is not None and count("fan_in", fan_in, 1, "number of inputs a node hears") > num_inputs:
        raise GraphError(
            f"fan_in: expected at most num_inputs={num_inputs}, got {fan_in}. "
            "Lower it, or leave it out to hear all inputs."
        )
    draws = Draws(seed)

    # Read as a graph of its own first, so that errors name the caller's nodes. No inputs, so that every node is
    # computed; all outputs, so that those which `Graph.to_networkx` may have recorded in it count for nothing.
    inner = Graph.from_networkx(dag, inputs=[], outputs=list(dag), activation=activation, output_activation=activation)
    src, dst = inner.edge_index[:, inner.edge_position]
    nodes = np.arange(inner.num_nodes, dtype=np.int64)
    hearing = nodes if every_node else nodes[np.bincount(dst, minlength=len(nodes)) == 0]
    feeding = nodes[np.bincount(src, minlength=len(nodes)) == 0]
    heard = num_inputs if fan_in is None else int(fan_in)
    inner_end = num_inputs + len(nodes)
    num_nodes = inner_end + num_outputs

    def per_node(values: Any, missing: Any) -> Any:
        return None if values is None else np.pad(values, (num_inputs, num_outputs), constant_values=missing)

    def per_edge(values: Any, missing: Any) -> Any:
        if values is None:
            return None
        around = (len(hearing) * heard, len(feeding) * num_outputs)
        return np.pad(values[inner.edge_position], around, constant_values=missing)

    # Not from_edges: there a weight is given for every edge or for none.
    return Graph._build(
        range(num_nodes),
        np.concatenate(
            [
                draws.distinct(np.full(len(hearing), num_inputs, np.int64), heard),
                src + num_inputs,
                np.tile(feeding + num_inputs, num_outputs),
            ]
        ),
        np.concatenate(
            [
                np.repeat(hearing + num_inputs, heard),
                dst + num_inputs,
                np.repeat(np.arange(inner_end, num_nodes, dtype=np.int64), len(feeding)),
            ]
        ),
        inputs=np.arange(num_inputs, dtype=np.int64),
        outputs=np.arange(inner_end, num_nodes, dtype=np.int64),
        default_activation=(activation, output_activation),
        activation=per_node(inner.activation, UNSET),
        aggregation=per_node(inner.aggregation, UNSET),
        weight=per_edge(inner.weight, np.nan),
        bias=per_node(inner.bias, np.nan),
        sign=per_edge(inner.sign, 0),
        frozen=per_edge(inner.frozen, False),
    )


def random_graph(
    num_inputs: int,
    num_hidden: int,
    num_outputs: int,
    fan_in: int,
    activation: str = "relu",
    output_activation: str = "linear",
    seed: int | None = None,
) -> Graph:
    """Let each hidden and output node hear ``fan_in`` distinct earlier nodes, drawn uniformly.

    Hidden nodes hear inputs and earlier hidden nodes, outputs hear inputs and any hidden node, nothing hears
    an output. A node with fewer than ``fan_in`` nodes before it hears them all. No loop over nodes.

    Args:
        num_inputs: Nodes 0 to I-1, at least 1.
        num_hidden: Nodes I to I+H-1, at least 0.
        num_outputs: The last nodes, at least 1.
        fan_in: At least 1.
        activation: Of the hidden nodes.
        output_activation: Of the outputs.
        seed: An integer for the same graph every time, None for a new one.

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
    fan_in = count("fan_in", fan_in, 1, "number of nodes that each node hears")
    src = Draws(seed).distinct(earlier, fan_in)
    return _feed_forward(src, np.minimum(earlier, fan_in), num_inputs, num_outputs, activation, output_activation)


def mlp(sizes: Sequence[int], activation: str = "relu", output_activation: str = "linear") -> Graph:
    """Wire layers one after another, each node to all of the layer before: a multilayer perceptron.

    Args:
        sizes: Nodes of each layer, from the inputs to the outputs; at least two layers of at least 1.
        activation: Of the hidden layers.
        output_activation: Of the last layer.

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
    if isinstance(sizes, str) or not hasattr(sizes, "__len__") or len(sizes) < 2:
        raise GraphError(
            f"sizes: expected a list of at least two layer sizes, got {sizes!r}. "
            "Name the inputs, any hidden layers and the outputs, as in [784, 512, 10]."
        )
    layers = np.array([count("sizes", size, 1, "number of nodes in each layer") for size in sizes], np.int64)
    ends = np.cumsum(layers)
    # Of each computed node: the size of the layer that it hears, and that layer's first node.
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
    """Let every node hear all nodes before it: DenseNet (Huang et al. 2017) with single neurons for layers.

    Hidden nodes hear all inputs and all earlier hidden nodes, outputs hear all inputs and all hidden nodes.

    Args:
        num_inputs: Nodes 0 to I-1, at least 1.
        num_hidden: Nodes I to I+H-1, at least 0.
        num_outputs: The last nodes, at least 1.
        activation: Of the hidden nodes.
        output_activation: Of the outputs.

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
    """How many nodes each hidden and output node may hear, int64 [H + O]: always nodes 0 to that number."""
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
    """A graph of inputs and then nodes with so many in-edges each, the last of them the outputs."""
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
