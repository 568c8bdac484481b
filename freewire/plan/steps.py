# SPDX-License-Identifier: MIT
"""One time step of a graph as a network without cycles, which is what plans are made of.

In a step a node reads others of the same step, and values of steps before. Those are inputs of the step, its
**states**: state ``(u, k)`` is the value of node u, k steps ago, so it is what state ``(u, k - 1)``, or for k = 1 the
node itself, was in the step before. A node with a leak becomes three: its new pre-activation m, the leaky one
``z = leak * m + (1 - leak) * (z of the step before)``, and its value ``activation(z)``.

A graph without delays has no states, and is its own step. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError
from freewire.graph import AGGREGATIONS, Graph
from freewire.graph.fields import ACTIVATION, DELAY

__all__ = ["Leaks", "StepGraph", "step_graph"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# Nodes of the step have 32-bit numbers.
_MAX_NODES = 2**31
_LAGS = DELAY.most + 1
_SUM = AGGREGATIONS.index("sum")


@dataclass(frozen=True, eq=False)
class Leaks:
    """Where the leaks of a recurrent network are among the weights of its step.

    The step's weights are those of the graph and, for K leaky nodes, ``[leak, 1 - leak]`` of each and then K ones. Its
    biases are those of the graph and a zero.
    """

    #: The leaky nodes, as entries of the bias, int64 [K], and the leak of each, float64 [K].
    bias_entry: IntArray
    leak: FloatArray
    #: For each of the step's weights its place in the list above, int64 [E + 3K]; None if they are in that order.
    weight_entry: IntArray | None


@dataclass(frozen=True, eq=False)
class StepGraph:
    """The nodes and edges of a step. n nodes, numbered apart from those of the graph; e edges; V states."""

    #: Edges by destination (level, number), int64 [2, e].
    edge_index: IntArray
    #: Edges on the longest path to each node from others of the same step, int64 [n]; no level is empty.
    level: IntArray
    #: The inputs, and after them the states, int64.
    inputs: IntArray
    #: Which nodes to compute, bool [n]; none of the inputs.
    keep: NDArray[np.bool_]
    #: Node of the graph, codes, and entry of the bias of each node, [n].
    node: IntArray
    activation: NDArray[np.uint8]
    aggregation: NDArray[np.uint8]
    bias_entry: IntArray
    #: The nodes whose values are results, int64.
    outputs: IntArray
    #: The node whose value each state is in the next step, int64 [V].
    state_source: IntArray
    #: What tells a state from the others of any step of the graph: ascending numbers, int64 [V].
    state_key: IntArray
    num_biases: int
    leaks: Leaks | None


def step_graph(graph: Graph, *, every_node: bool = False, learn_leak: bool = False) -> StepGraph:
    """The step of a graph.

    Args:
        graph: Any graph.
        every_node: Compute all nodes, and make each of them an output, in node order.
        learn_leak: Leaks are parameters, so that nodes with a stored leak of 1 are leaky too.

    Raises:
        GraphError: The step would have more nodes than 32-bit numbers count.
    """
    num_nodes = graph.num_nodes
    is_input = np.zeros(num_nodes, np.bool_)
    is_input[graph.input_index] = True
    keep = np.ones(num_nodes, np.bool_) if every_node else graph.reaches_output.copy()
    keep[is_input] = False
    outputs = np.arange(num_nodes) if every_node else graph.output_index
    bias_entry = np.cumsum(~is_input) - 1
    if graph.delay is None:
        return StepGraph(
            graph.edge_index,
            graph.level,
            graph.input_index,
            keep,
            np.arange(num_nodes),
            graph.activation,
            graph.aggregation,
            bias_entry,
            outputs,
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            len(graph.computed_index),
            None,
        )
    leaky = np.zeros(num_nodes, np.bool_)
    if graph.leak is not None:
        leaky = keep & (graph.leak <= 1 if learn_leak else graph.leak < 1)  # both are false for a NaN
    # Node v is 3v, and a leaky one 3v (m), 3v + 1 (z) and 3v + 2 (the value), so that edges keep their order.
    parts = 3 if leaky.any() else 1
    value = parts * np.arange(num_nodes) + np.where(leaky, 2, 0)
    src, dst = graph.edge_index
    first_state = parts * num_nodes
    delayed = _delayed(src, graph.delay, keep[dst], num_nodes)
    leaks = np.flatnonzero(leaky)
    num_states = len(delayed.node) + len(leaks)
    if first_state + num_states > _MAX_NODES:
        raise GraphError(
            f"delay: expected at most {_MAX_NODES} values to be kept from one step to the next, got "
            f"{first_state + num_states}. Shorten delays."
        )
    edges = np.stack((value[src], parts * dst))
    edges[0, delayed.edge] = first_state + delayed.state
    state_source = np.where(delayed.lag == 1, value[delayed.node], first_state + np.arange(len(delayed.node)) - 1)
    level = np.zeros(first_state + num_states, np.int64)
    # What reads a state comes on a later level than the state, as what reads an input does.
    reads_states = (graph.level[dst[keep[dst]]] == 0).any()
    first = 3 * graph.level + (reads_states & ~is_input)
    level[: parts * num_nodes : parts] = first
    for part in range(1, parts):
        level[3 * leaks + part] = first[leaks] + part
    activation = np.full(len(level), ACTIVATION.default, np.uint8)
    activation[value] = graph.activation
    aggregation = np.full(len(level), _SUM, np.uint8)
    aggregation[: parts * num_nodes : parts] = graph.aggregation
    num_biases = len(graph.computed_index) + bool(len(leaks))
    entry = np.full(len(level), num_biases - 1)
    entry[: parts * num_nodes : parts] = bias_entry
    keeps = np.zeros(len(level), np.bool_)
    keeps[: parts * num_nodes : parts] = keep
    node = np.concatenate((np.repeat(np.arange(num_nodes), parts), delayed.node, leaks))
    found = None
    if len(leaks):
        for part in (1, 2):
            keeps[3 * leaks + part] = True
        before = first_state + len(state_source) + np.arange(len(leaks))
        edges, weight_entry = _with_leaks(edges, level, leaks, before)
        state_source = np.concatenate((state_source, 3 * leaks + 1))
        found = Leaks(bias_entry[leaks], np.asarray(graph.leak)[leaks], weight_entry)
    _, level = np.unique(level, return_inverse=True)
    return StepGraph(
        edges,
        level.astype(np.int64),
        np.concatenate((parts * graph.input_index, first_state + np.arange(num_states))),
        keeps,
        node,
        activation,
        aggregation,
        entry,
        value[outputs],
        state_source,
        np.concatenate((delayed.node * _LAGS + delayed.lag, num_nodes * _LAGS + leaks)),
        num_biases,
        found,
    )


class _Delayed(NamedTuple):
    """The states that edges read, by (node, lag): the node and lag of each, and who reads which."""

    node: IntArray
    lag: IntArray
    #: Edges with a delay, and the state that each of them reads.
    edge: IntArray
    state: IntArray


def _delayed(src: IntArray, delay: IntArray, live: NDArray[np.bool_], num_nodes: int) -> _Delayed:
    edge = np.flatnonzero(live & (delay > 0))
    node, lag = src[edge], delay[edge]
    longest = np.zeros(num_nodes, np.int64)
    if lag.max(initial=0) <= 1:
        longest[node] = 1
    else:
        np.maximum.at(longest, node, lag)
    begin = np.cumsum(longest) - longest
    node_of_state = np.repeat(np.arange(num_nodes), longest)
    lag_of_state = np.arange(len(node_of_state)) - begin[node_of_state] + 1
    return _Delayed(node_of_state, lag_of_state, edge, begin[node] + lag - 1)


def _with_leaks(
    edges: IntArray, level: IntArray, leaks: IntArray, before: IntArray
) -> tuple[IntArray, IntArray | None]:
    """Add the edges of leaky nodes in their places; also `Leaks.weight_entry`.

    Args:
        edges: Int64 ``[2, E]``, by destination (level, number).
        level: Level of each node.
        leaks: The leaky nodes of the graph.
        before: For each of them the state that holds z of the step before.
    """
    more = np.stack(
        (
            np.concatenate((np.stack((3 * leaks, before), 1).ravel(), 3 * leaks + 1)),
            np.concatenate((np.repeat(3 * leaks + 1, 2), 3 * leaks + 2)),
        )
    )
    key, more_key = (level[dst] * len(level) + dst for dst in (edges[1], more[1]))
    order = np.argsort(more_key, kind="stable")
    place = np.searchsorted(key, more_key[order])
    num_edges = edges.shape[1]
    merged = np.insert(edges, place, more[:, order], axis=1)
    if (place == num_edges).all() and (np.diff(order) == 1).all():
        return merged, None
    return merged, np.insert(np.arange(num_edges), place, num_edges + order)
