# SPDX-License-Identifier: MIT
"""Inputs and outputs for an inner graph, such as the DAGs of `freewire.generators.dags`.

References:
    Xie, Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, 2019.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError, shown
from freewire.generators.draws import Draws, count
from freewire.graph import Graph
from freewire.graph.data import GraphData
from freewire.graph.field_types import Field
from freewire.graph.networkx_conversion import check_dag

__all__ = ["attach_io"]


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
    """Add inputs and outputs to an inner graph, as in a stage of Xie et al. (2019).

    Nodes of in-degree 0 read the inputs; nodes of out-degree 0 feed all outputs. A graph with few of the latter, for
    instance a Watts-Strogatz graph of small p, passes all that it computes through these few neurons. With I inputs
    and n inner nodes, the inputs become nodes 0 to I-1, the inner nodes become I to I+n-1 in the order of
    ``dag.nodes``, and the outputs follow.

    Args:
        dag: A ``DiGraph`` or ``MultiDiGraph`` with any node names. The attributes that `Graph.from_networkx` reads
            are kept and take precedence over the arguments.
        num_inputs: Number of inputs, at least 1.
        num_outputs: Number of outputs, at least 1.
        fan_in: Number of distinct inputs drawn for each node that reads inputs; None: all of them.
        every_node: Whether all inner nodes read inputs, not only those of in-degree 0.
        activation: Activation of the inner nodes.
        output_activation: Activation of the outputs.
        seed: Seed of the draws of ``fan_in``: an integer for the same graph every time, None for a new one each time.

    Returns:
        A graph of I + n + ``num_outputs`` nodes. In the caller's order of edges (see `Graph.edge_position`) the edges
        from the inputs come first, then the inner edges in the order of ``dag.edges``, then the edges to the outputs.

    Raises:
        GraphError: ``dag`` is not a directed graph, is empty or has a cycle (named); an argument is out of range; or
            `Graph.from_networkx` refuses an attribute.

    Example:
        >>> import networkx as nx, freewire as fw
        >>> g = fw.generators.attach_io(nx.DiGraph([("a", "b"), ("a", "c")]), num_inputs=2, num_outputs=1)
        >>> g.edge_index[:, g.edge_position].tolist()
        [[0, 1, 2, 2, 3, 4], [2, 2, 3, 4, 5, 5]]
    """
    check_dag(dag)
    num_inputs = count("num_inputs", num_inputs, 1, "number of inputs")
    num_outputs = count("num_outputs", num_outputs, 1, "number of outputs")
    if fan_in is not None and count("fan_in", fan_in, 1, "number of inputs per node") > num_inputs:
        raise GraphError(
            f"fan_in: expected at most num_inputs={shown(num_inputs)}, got {shown(fan_in)}. Lower it, or "
            "omit it to read all inputs."
        )
    draws = Draws(seed)

    # Read as a separate graph first, so that errors name the caller's nodes. It has no inputs, so that every node is
    # computed, and only outputs, so that inputs and outputs which `Graph.to_networkx` recorded in ``dag`` are ignored.
    inner = Graph.from_networkx(dag, inputs=[], outputs=list(dag), activation=activation, output_activation=activation)
    src, dst = inner.edge_index[:, inner.edge_position]
    nodes = np.arange(inner.num_nodes, dtype=np.int64)
    readers = nodes if every_node else nodes[np.bincount(dst, minlength=len(nodes)) == 0]
    feeding = nodes[np.bincount(src, minlength=len(nodes)) == 0]
    drawn = num_inputs if fan_in is None else int(fan_in)
    inner_end = num_inputs + len(nodes)
    num_nodes = inner_end + num_outputs

    def padded(field: Field, values: NDArray[Any]) -> NDArray[Any]:
        if field.element == "node":
            return np.pad(values, (num_inputs, num_outputs), constant_values=field.missing)
        around = (len(readers) * drawn, len(feeding) * num_outputs)
        return np.pad(values[inner.edge_position], around, constant_values=field.missing)

    return Graph.from_data(
        GraphData(
            names=range(num_nodes),
            src=np.concatenate(
                [
                    draws.distinct(np.full(len(readers), num_inputs, np.int64), drawn),
                    src + num_inputs,
                    np.tile(feeding + num_inputs, num_outputs),
                ]
            ),
            dst=np.concatenate(
                [
                    np.repeat(readers + num_inputs, drawn),
                    dst + num_inputs,
                    np.repeat(np.arange(inner_end, num_nodes, dtype=np.int64), len(feeding)),
                ]
            ),
            inputs=np.arange(num_inputs, dtype=np.int64),
            outputs=np.arange(inner_end, num_nodes, dtype=np.int64),
            fields={field.name: padded(field, values) for field, values in inner.to_data().stored()},
            default_activation=(activation, output_activation),
        )
    )
