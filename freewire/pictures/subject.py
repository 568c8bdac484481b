# SPDX-License-Identifier: MIT
"""`Subject`: what a picture shows, read from a graph or from any module that has one.

Modules are recognised by their attributes, so that pictures of plain graphs work, and import, without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from freewire.errors import GraphError
from freewire.graph import Graph
from freewire.graph.arguments import FloatArray, as_array

__all__ = ["Subject", "subject"]


@dataclass(frozen=True)
class Subject:
    """A wiring with the numbers that a picture shows.

    Attributes:
        graph: The wiring.
        weight: Weights ``[E]`` in canonical order, NaN where an edge has none; None: no edge has one.
        bias: Biases ``[N]`` in node order, NaN where a node has none (inputs have none); None: no node has one.
        weight_grad: Gradients of the weights ``[E]``; None before a backward pass, and for graphs. A tied edge has that
            of its group's scale, and a frozen one 0.
        bias_grad: Gradients of the biases ``[N]``, NaN at inputs; None as above.
    """

    graph: Graph
    weight: FloatArray | None = None
    bias: FloatArray | None = None
    weight_grad: FloatArray | None = None
    bias_grad: FloatArray | None = None


def subject(net_or_graph: Any) -> Subject:
    """Read what is to be drawn.

    Args:
        net_or_graph: A `Graph`, whose stored weights and biases are shown, or those that a Model wrote to its Nodes; or
            a module with an attribute ``graph`` and parameters ``weight [E]`` and ``bias``, such as a
            `freewire.Network`.

    Raises:
        GraphError: It is neither, or its parameters have no values (on the meta device).
    """
    if isinstance(net_or_graph, Graph):
        return Subject(net_or_graph, *net_or_graph.written_values())
    graph = getattr(net_or_graph, "graph", None)
    if not isinstance(graph, Graph):
        raise GraphError(
            f"net_or_graph: expected a Graph or a module with an attribute graph, got {type(net_or_graph).__name__}. "
            "Convert it with Graph.from_networkx, or pass a Network."
        )
    weight, bias = getattr(net_or_graph, "weight", None), getattr(net_or_graph, "bias", None)
    of_edges = getattr(net_or_graph, "edge_gradient", None)  # where the weights are not a parameter, .grad is None
    weight_grad = getattr(weight, "grad", None) if of_edges is None else of_edges()
    return Subject(
        graph,
        _numbers(weight, "weight"),
        _of_nodes(graph, _numbers(bias, "bias")),
        _numbers(weight_grad, "weight.grad"),
        _of_nodes(graph, _numbers(getattr(bias, "grad", None), "bias.grad")),
    )


def _numbers(values: Any, what: str) -> FloatArray | None:
    return None if values is None else as_array(values, what).astype(np.float64)


def _of_nodes(graph: Graph, computed: FloatArray | None) -> FloatArray | None:
    """Values of the computed nodes as values of all nodes, NaN at inputs."""
    if computed is None:
        return None
    values = np.full(graph.num_nodes, np.nan)
    values[graph.computed_index] = computed
    return values
