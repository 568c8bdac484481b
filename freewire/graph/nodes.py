# SPDX-License-Identifier: MIT
"""`Node` and `Edge`: a network declared neuron by neuron, as in the 2019 library.

A program makes Nodes, each of which names the Nodes that it reads, and passes them to `Graph.from_nodes`. From then on
they are the names of that graph's nodes, and show the weights, biases and gradients that a Model has written to it.
The numbers are not in them: `freewire.graph.node_lists.NodeLists` keeps them in arrays, so that a million weights are
written in one copy.

An Edge is made when a program first asks for it: of a million objects that nobody looks at, Python's garbage collector
would make most of the work. Nothing here follows edges from Node to Node, so a graph may be as deep as memory allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from freewire.errors import GraphError, shown
from freewire.graph.arguments import check_number, check_ordered, whole
from freewire.graph.fields import ACTIVATIONS

__all__ = ["NODE_ACTIVATIONS", "Edge", "Node"]

#: What a Node's activation may be -> the activation of the Graph. The Model normalises softmax outputs.
NODE_ACTIVATIONS = {**{name: name for name in ACTIVATIONS}, "leaky": "leaky_relu", "softmax": "linear"}


class Node:
    """One neuron: the Nodes that it reads, and its activation.

    Args:
        inputs: What it reads: one Node, or any ordered collection of them. The same Node twice makes two edges, each
            with a weight of its own. Nothing: the Node is an input of the network.
        output_index: Which of the network's outputs the Node is; -1: its place in the list of outputs.
        activation: A name: any activation of freewire, ``"leaky"`` (as leaky_relu), or ``"softmax"`` for outputs.
        op_id: Nodes of one ``op_id`` must be computed in the same step, or no Graph is made of them; ``"any"``: no
            condition.

    All arguments are attributes too. They are read when a Graph is made; changing them later changes nothing.
    A Node of a Graph can be pickled, and the whole graph with it; ``copy.deepcopy`` returns the Node itself, as it is
    a name in a graph that does not change.

    Raises:
        GraphError: ``inputs`` holds something else or has no order; an unknown activation; an ``output_index`` that
            is no whole number; an input of the network with an activation.

    Example:
        >>> import freewire as fw
        >>> x = [fw.Node(), fw.Node()]
        >>> h = fw.Node(x, activation="tanh")
        >>> len(h.in_edges), x[0].out_edges[0].end is h, h.bias
        (2, True, 0.0)
    """

    __slots__ = (
        "__weakref__",
        "_bias",
        "_in_edges",
        "_index",
        "_lists",
        "_out_edges",
        "_readers",
        "activation",
        "inputs",
        "op_id",
        "output_index",
    )

    def __init__(
        self,
        inputs: Node | Iterable[Node] = (),
        output_index: int = -1,
        activation: str = "linear",
        op_id: Any = "any",
    ) -> None:
        read = list_nodes(inputs, "inputs")  # a new list, which a caller's does not change
        place = whole(output_index)
        if place is None or place < -1:
            raise GraphError(
                f"output_index: expected the Node's place among the outputs from 0, or -1 for none, got "
                f"{shown(output_index)}. Activations are named: Node(inputs, activation='relu')."
            )
        check_activation(activation)
        if not read and activation != "linear":
            raise GraphError(
                f"activation: expected 'linear' for a Node that reads nothing, which is an input of the network, got "
                f"{shown(activation)}. Pass the Nodes that it reads."
            )
        try:
            hash(op_id)
        except TypeError:
            raise GraphError(f"op_id: expected a name, got {shown(op_id)}, which cannot be hashed. Use text.") from None
        self.inputs = read
        self.output_index = place
        self.activation = activation
        self.op_id = op_id
        self._in_edges: list[Edge] | None = None  # until somebody asks
        self._out_edges: list[Edge] | None = None
        self._readers: list[Node] = []  # the end of each out-edge
        self._bias: float | None = None  # the start value, if one was set
        self._lists: Any = None  # of the last Graph that it was in
        self._index = -1  # in the lists
        for start in read:
            start._readers.append(self)

    # ------------------------------------------------------------------ what it is

    @property
    def in_edges(self) -> list[Edge]:
        """The Edges that end here, in the order of ``inputs``."""
        if self._in_edges is None:
            starts = self.inputs if self._lists is None else self._lists.starts[self._index]
            self._in_edges = edges = [Edge(start, self) for start in starts]
            for place, edge in enumerate(edges):
                edge._place = place
                if edge.start._out_edges is None:
                    edge.start._out_edges = []
                edge.start._out_edges.append(edge)
        return self._in_edges

    @property
    def out_edges(self) -> list[Edge]:
        """The Edges that start here, in the order in which their readers were made."""
        if self._out_edges is None:
            self._out_edges = []
        if len(self._out_edges) < len(self._readers):
            for reader in self._readers:
                _ = reader.in_edges  # makes them
            made = {reader: i for i, reader in enumerate(self._readers)}
            self._out_edges.sort(key=lambda edge: made.get(edge.end, -1))
        return self._out_edges

    @property
    def is_input(self) -> bool:
        """Whether it reads nothing."""
        return not self.inputs

    @property
    def is_output(self) -> bool:
        """Whether it has an ``output_index``, or is in a Graph's list of outputs."""
        return self.output_index >= 0 or (self._lists is not None and self._lists.is_output(self._index))

    @property
    def is_hidden(self) -> bool:
        """Whether it is neither input nor output."""
        return not (self.is_input or self.is_output)

    # ------------------------------------------------------------------ what a Model has learnt

    @property
    def bias(self) -> float:
        """The bias in the Model that last wrote to the graph; before, the start value that was set, else 0.

        Set before a Graph is made, it is the value that every Model of that Graph starts from.
        """
        if self._lists is not None and self._lists.bias is not None:
            return float(self._lists.bias[self._index])
        return 0.0 if self._bias is None else self._bias

    @bias.setter
    def bias(self, value: float) -> None:
        self._bias = _start_value("bias", value, self)

    @property
    def grad(self) -> float:
        """The gradient of the bias, where that Model has one; else 0."""
        lists = self._lists
        return 0.0 if lists is None or lists.bias_grad is None else float(lists.bias_grad[self._index])

    # ------------------------------------------------------------------ copies and text

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Node:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _node, (_pickled_lists(self), self._index)

    def __repr__(self) -> str:
        if self._lists is not None:
            return f"<Node {self._lists.place(self._index)}>"
        return f"<Node: {self.activation} of {len(self.inputs)}>" if self.inputs else "<Node that reads nothing>"


class Edge:
    """From one Node to another, with a weight. Nodes make their Edges; one made by hand is in no graph.

    Args:
        start: The Node whose value is read.
        end: The Node that reads it.

    Example:
        >>> import freewire as fw
        >>> edge = fw.Node(fw.Node()).in_edges[0]
        >>> edge.weight, edge.grad
        (0.0, 0.0)
    """

    __slots__ = ("__weakref__", "_place", "_weight", "end", "start")

    def __init__(self, start: Node, end: Node) -> None:
        self.start = start
        self.end = end
        self._place = -1  # among the end's in_edges
        self._weight: float | None = None  # the start value, if one was set

    @property
    def weight(self) -> float:
        """The weight in the Model that last wrote to the graph; before, the start value that was set, else 0.

        Set before a Graph is made, it is the value that every Model of that Graph starts from.
        """
        lists = self._lists
        if lists is not None and lists.weight is not None:
            return float(lists.weight[lists.edge_number(self)])
        return 0.0 if self._weight is None else self._weight

    @weight.setter
    def weight(self, value: float) -> None:
        self._weight = _start_value("weight", value, self.end)

    @property
    def grad(self) -> float:
        """The gradient of the weight, where that Model has one; else 0."""
        lists = self._lists
        return 0.0 if lists is None or lists.weight_grad is None else float(lists.weight_grad[lists.edge_number(self)])

    @property
    def _lists(self) -> Any:
        return None if self._place < 0 else self.end._lists

    def __copy__(self) -> Edge:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Edge:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _edge, (_pickled_lists(self), self.end._index, self._place)

    def __repr__(self) -> str:
        return f"<Edge: {shown(self.start)} -> {shown(self.end)}>"


def list_nodes(given: Any, what: str) -> list[Node]:
    """The Nodes of argument ``what``, one Node or an ordered collection of them, as a new list."""
    if isinstance(given, Node):
        return [given]
    check_ordered(given, what)
    if not isinstance(given, Iterable):
        raise GraphError(f"{what}: expected a Node or a list of Nodes, got {shown(given)}. Put Nodes into a list.")
    nodes = list(given)
    for place, node in enumerate(nodes):
        if not isinstance(node, Node):
            remedy = "Join lists with +." if isinstance(node, list | tuple) else "Make it with fw.Node."
            raise GraphError(f"{what}[{place}]: expected a Node, got {shown(node)}. {remedy}")
    return nodes


def check_activation(name: Any) -> None:
    """Raise `GraphError` unless a Node can have the activation."""
    if not (isinstance(name, str) and name in NODE_ACTIVATIONS):
        names = ", ".join(NODE_ACTIVATIONS)
        raise GraphError(f"activation: expected one of {names}, got {shown(name)}. Choose one of those.")


def _start_value(name: str, value: Any, node: Node) -> float:
    """Check a start value of a Node's bias, or of the weight of an Edge that ends there."""
    if node._lists is not None and node._lists.is_claimed():
        raise GraphError(
            f"{name}: expected no new value, since a Graph was made of the Node, got {shown(value)}. Set it before the "
            f"Graph is made, use Graph.with_values, or change model.network.{name} of a Model."
        )
    number = check_number(name, value, "a number", "It is the value that a Model starts from.")
    node._lists = None  # what a graph that is gone has learnt is forgotten
    return number


def _pickled_lists(given: Node | Edge) -> Any:
    if given._lists is None:
        raise GraphError(
            f"{type(given).__name__}: expected one of a Graph, got one of none. Make a Graph first, and pickle that: "
            "it keeps its Nodes."
        )
    return given._lists


def _node(lists: Any, index: int) -> Any:
    return lists.nodes[index]


def _edge(lists: Any, index: int, place: int) -> Any:
    return lists.nodes[index].in_edges[place]
