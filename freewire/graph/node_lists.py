# SPDX-License-Identifier: MIT
"""`NodeLists`: the three lists of Nodes that a graph was made of, checked and as arrays, with what Models learnt.

In come lists of Nodes; out go the graph's `GraphData`, and the arrays of weights, biases and gradients that Nodes and
Edges read. Errors name a Node by its place in the lists, such as hidden[3]. Time and memory are linear.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError, shown
from freewire.graph.arguments import NAMES_SHOWN, FloatArray, IntArray
from freewire.graph.data import GraphData
from freewire.graph.fields import ACTIVATION
from freewire.graph.nodes import NODE_ACTIVATIONS, Edge, Node, check_activation, list_nodes

__all__ = ["Claim", "NodeLists"]


class NodeLists:
    """The Nodes and Edges of one graph, which must not change any more.

    Making one checks the lists and changes no Node; `adopt` then binds the Nodes to it.

    Args:
        inputs: Nodes that read nothing, in the order of the features.
        hidden: Nodes in any order.
        outputs: Nodes in the order of the results, but for those with an ``output_index``.

    Attributes:
        inputs, hidden, outputs: The lists.
        nodes: All of them, in this order.
        starts: What each of them reads, which later changes of ``Node.inputs`` do not change.
        softmax: Which of the graph's outputs are softmax, bool, in their order.
        weight, weight_grad: What a Model has written, ``[E]`` in the order of `edges`; None before.
        bias, bias_grad: Likewise, ``[N]`` in the order of ``nodes``, 0 at inputs.

    Raises:
        GraphError: See `Graph.from_nodes`; cycles are found later.
    """

    weight: FloatArray | None = None
    weight_grad: FloatArray | None = None
    bias: FloatArray | None = None
    bias_grad: FloatArray | None = None
    _claim: weakref.ref[Claim] | None = None

    def __init__(
        self, inputs: Node | Iterable[Node], hidden: Node | Iterable[Node], outputs: Node | Iterable[Node]
    ) -> None:
        self.inputs = list_nodes(inputs, "inputs")
        self.hidden = list_nodes(hidden, "hidden")
        self.outputs = list_nodes(outputs, "outputs")
        self.nodes = (*self.inputs, *self.hidden, *self.outputs)
        self._check_each_node_once()
        self._check_kinds()
        self._output_order = self._order_of_outputs()
        self.softmax = np.array([self.outputs[i].activation == "softmax" for i in self._output_order], np.bool_)
        self.starts = [
            tuple(node.inputs if node._in_edges is None else (edge.start for edge in node._in_edges))
            for node in self.nodes
        ]
        self._degree = np.fromiter(map(len, self.starts), np.int64, len(self.nodes))
        self._first_edge = np.cumsum(self._degree) - self._degree  # of each node, in `edges`

    @cached_property
    def edges(self) -> list[Edge]:
        """All Edges, by the Node where they end."""
        return list(chain.from_iterable(node.in_edges for node in self.nodes))

    def edge_number(self, edge: Edge) -> int:
        """The place of an Edge in `edges`."""
        return int(self._first_edge[edge.end._index]) + edge._place

    # ------------------------------------------------------------------ places

    def place(self, index: int) -> str:
        """Where a Node is in the lists, such as hidden[3]."""
        for name, nodes in (("inputs", self.inputs), ("hidden", self.hidden)):
            if index < len(nodes):
                return f"{name}[{index}]"
            index -= len(nodes)
        return f"outputs[{index}]"

    def is_output(self, index: int) -> bool:
        """Whether a Node is in the list of outputs."""
        return index >= len(self.nodes) - len(self.outputs)

    # ------------------------------------------------------------------ checks

    def _check_each_node_once(self) -> None:
        if len(set(self.nodes)) < len(self.nodes):
            first: dict[Node, int] = {}
            for i, node in enumerate(self.nodes):
                if node in first:
                    raise GraphError(
                        f"{self.place(i)}: expected each Node in one list, once, got the Node that is "
                        f"{self.place(first[node])} already. Remove it from one place."
                    )
                first[node] = i
        for i, node in enumerate(self.nodes):
            if node._lists is not None and node._lists.is_claimed():
                raise GraphError(
                    f"{self.place(i)}: expected a Node of no other Graph, got one of a Graph that still exists. Make "
                    "new Nodes; or delete that Graph and its Models first (del g, m)."
                )

    def _check_kinds(self) -> None:
        """Inputs read nothing and are linear; all others read something; only outputs are softmax or numbered."""
        for i, node in enumerate(self.inputs):
            if node.inputs:
                raise GraphError(
                    f"inputs[{i}]: expected a Node that reads nothing, got one that reads {len(node.inputs)}. List "
                    "it in hidden or outputs."
                )
            if node.activation != "linear":
                raise GraphError(
                    f"inputs[{i}]: expected activation 'linear', since an input's value is the feature itself, got "
                    f"{shown(node.activation)}. Remove it."
                )
        for what, nodes in (("hidden", self.hidden), ("outputs", self.outputs)):
            for i, node in enumerate(nodes):
                if not node.inputs:
                    raise GraphError(
                        f"{what}[{i}]: expected a Node that reads others, got one that reads nothing. Pass it the "
                        "Nodes that it reads, or list it in inputs."
                    )
                check_activation(node.activation)
        for i, node in enumerate((*self.inputs, *self.hidden)):
            if node.output_index >= 0:
                raise GraphError(
                    f"{self.place(i)}: expected a Node without output_index, got {node.output_index}. List it in "
                    "outputs, or remove its output_index."
                )
        for i, node in enumerate(self.hidden):
            if node.activation == "softmax":
                raise GraphError(
                    f"hidden[{i}]: expected another activation, got softmax, which is for outputs. It makes "
                    "probabilities of all outputs that have it."
                )

    def _order_of_outputs(self) -> list[int]:
        """Places in the list of outputs, in the order of the results."""
        given: dict[int, int] = {}  # by output_index
        for i, node in enumerate(self.outputs):
            k = node.output_index
            if k >= 0 and given.setdefault(k, i) != i:
                raise GraphError(
                    f"outputs[{i}]: expected an output_index of its own, got {k}, as outputs[{given[k]}] has. Count "
                    "from 0, each once."
                )
        if len(given) == len(self.outputs):
            return [given[k] for k in sorted(given)]
        if given and max(given) >= len(self.outputs):
            k = max(given)
            raise GraphError(
                f"outputs[{given[k]}]: expected an output_index below {len(self.outputs)}, the number of outputs, as "
                f"some have none, got {k}. Count from 0, or number all of them."
            )
        others = (i for i, node in enumerate(self.outputs) if node.output_index < 0)
        return [given[k] if k in given else next(others) for k in range(len(self.outputs))]

    # ------------------------------------------------------------------ arrays

    def data(self) -> GraphData:
        """The graph in arrays, its nodes named by their places in the lists.

        Raises:
            GraphError: A Node reads one that is in no list, or an output.
        """
        index = {node: i for i, node in enumerate(self.nodes)}
        starts = list(chain.from_iterable(self.starts))
        dst = np.repeat(np.arange(len(self.nodes)), self._degree)
        try:
            src = np.fromiter(map(index.__getitem__, starts), np.int64, len(starts))
        except KeyError:
            e = next(e for e, node in enumerate(starts) if node not in index)
            raise GraphError(
                f"{self.place(int(dst[e]))}: expected a Node that reads Nodes of the three lists, got one that reads a "
                "Node that is in none of them. List that Node too."
            ) from None
        first_output = len(self.inputs) + len(self.hidden)
        fed = np.flatnonzero((src >= first_output) & (src != dst))  # an edge to itself is reported as a cycle
        if len(fed):
            reader, output = self.place(int(dst[fed[0]])), self.place(int(src[fed[0]]))
            raise GraphError(
                f"{output}: expected an output that no Node reads, got one that {reader} reads. Let it read a hidden "
                "Node instead; or list this one in hidden, and add an output that reads it."
            )
        codes = {name: ACTIVATION.parse(plain) for name, plain in NODE_ACTIVATIONS.items()}
        return GraphData(
            names=_Places(self),
            src=src,
            dst=dst,
            inputs=np.arange(len(self.inputs)),
            outputs=first_output + np.array(self._output_order, np.int64),
            fields={
                "activation": np.array([codes[node.activation] for node in self.nodes], np.uint8),
                "bias": _stored([node._bias for node in self.nodes]),
                "weight": self._stored_weights(len(starts)),
            },
        )

    def _stored_weights(self, num_edges: int) -> FloatArray | None:
        """Start values in the order of `edges`, NaN where there is none; None if there is none at all."""
        weights = np.full(num_edges, np.nan)
        for node, first in zip(self.nodes, self._first_edge.tolist(), strict=True):
            for place, edge in enumerate(node._in_edges or ()):
                if edge._weight is not None:
                    weights[first + place] = edge._weight
        return None if np.isnan(weights).all() else weights

    def check_unchanged(self) -> None:
        """Raise `GraphError` where lists of a Node were changed by hand and do not fit together."""
        for i, node in enumerate(self.nodes):
            if node._in_edges is None:
                continue
            made = [(edge.start, edge.end, edge._place) for edge in node._in_edges]
            if made != [(start, node, place) for place, start in enumerate(node.inputs)]:
                raise GraphError(
                    f"{self.place(i)}: expected in_edges from its inputs to itself, as they were made, got others. "
                    "Wire a Node when it is made: Node(inputs)."
                )

    def check_steps(self, level: IntArray) -> None:
        """Raise `GraphError` for Nodes of one ``op_id`` on different levels."""
        steps: dict[Hashable, int] = {}
        for i, node in enumerate(self.nodes):
            if node.op_id == "any" or level[i] == level[steps.setdefault(node.op_id, i)]:
                continue
            levels = level.tolist()
            others = [j for j, other in enumerate(self.nodes) if other.op_id == node.op_id]
            named = ", ".join(f"{self.place(j)} in step {levels[j]}" for j in others[:NAMES_SHOWN])
            more = f", ... ({len(others) - NAMES_SHOWN} more)" if len(others) > NAMES_SHOWN else ""
            raise GraphError(
                f"op_id: expected Nodes of {shown(node.op_id)} that can be computed in the same step, got "
                f"{named}{more}. Give those of other steps another op_id."
            )

    # ------------------------------------------------------------------ what Nodes and Edges show

    def adopt(self) -> None:
        """Bind the Nodes to these lists."""
        for i, node in enumerate(self.nodes):
            node._lists = self
            node._index = i

    def is_claimed(self) -> bool:
        """Whether a Graph of these Nodes exists."""
        return self._claim is not None and self._claim() is not None

    # ------------------------------------------------------------------ pickling

    def __reduce__(self) -> tuple[Any, ...]:
        """As arrays and plain lists: nothing follows edges from Node to Node."""
        state = {
            "counts": (len(self.inputs), len(self.hidden)),
            "nodes": [(node.activation, node.output_index, node.op_id, node._bias) for node in self.nodes],
            "degrees": self._degree.tolist(),
            "starts": np.array([start._index for start in chain.from_iterable(self.starts)], np.int64),
            "start_weights": self._stored_weights(int(self._degree.sum())),
            "written": {name: self.__dict__.get(name) for name in ("weight", "weight_grad", "bias", "bias_grad")},
        }
        return _unpickled, (state,)


def _unpickled(state: dict[str, Any]) -> NodeLists:
    """New Nodes in new lists; see `NodeLists.__reduce__`."""
    nodes = [Node() for _ in state["nodes"]]
    starts = iter(state["starts"].tolist())
    for node, degree, values in zip(nodes, state["degrees"], state["nodes"], strict=True):
        node.activation, node.output_index, node.op_id, node._bias = values
        node.inputs = [nodes[next(starts)] for _ in range(degree)]
        for start in node.inputs:
            start._readers.append(node)
    a, b = np.cumsum(state["counts"]).tolist()
    lists = NodeLists(nodes[:a], nodes[a:b], nodes[b:])
    if state["start_weights"] is not None:
        for edge, weight in zip(lists.edges, state["start_weights"].tolist(), strict=True):
            edge._weight = None if weight != weight else weight
    lists.adopt()
    lists.__dict__.update(state["written"])
    return lists


class Claim:
    """A Graph's claim to its Nodes, which its copies share: while it exists, no other Graph is made of them.

    Nodes and their lists refer to each other and outlive the Graph, so that they keep what was learnt. What only Graphs
    have is gone as soon as the last of them is.
    """

    def __init__(self, lists: NodeLists) -> None:
        self.lists = lists
        lists._claim = weakref.ref(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Claim, (self.lists,)


class _Place(str):
    """A name that errors show without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class _Places(Sequence[Hashable]):
    """The names of a graph's nodes until it is made: their places in the lists, for errors."""

    def __init__(self, lists: NodeLists) -> None:
        self._lists = lists

    def __len__(self) -> int:
        return len(self._lists.nodes)

    def __getitem__(self, i: Any) -> Any:
        if i >= len(self):
            raise IndexError(i)
        return _Place(self._lists.place(i))


def _stored(values: list[float | None]) -> NDArray[np.float64] | None:
    """Start values as an array, NaN where there is none; None if there is none at all."""
    if not any(value is not None for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)
