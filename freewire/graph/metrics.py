# SPDX-License-Identifier: MIT
"""Statistics of a `Graph`: to see at a glance, and to plot accuracy against.

`summary` is linear in nodes and edges; the two statistics of small-world networks are networkx's and are not.

References:
    Watts, Strogatz: Collective dynamics of 'small-world' networks, Nature 393, 1998.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError
from freewire.graph.fields import ACTIVATIONS, AGGREGATIONS
from freewire.graph.graph import Graph

__all__ = ["Spread", "Summary", "clustering", "path_length", "summary"]


@dataclass(frozen=True)
class Spread:
    """Minimum, mean, median and maximum of a count over some nodes; all 0 without nodes."""

    min: int
    mean: float
    median: float
    max: int

    def __str__(self) -> str:
        return f"{self.min:,} to {self.max:,}, mean {self.mean:,.4g}, median {self.median:,.6g}"


@dataclass(frozen=True)
class Summary:
    """Statistics of a graph; ``dataclasses.asdict`` converts them to plain values, which ``json`` can write.

    Attributes:
        nodes: Number of nodes, inputs included.
        inputs: Number of inputs.
        outputs: Number of outputs; any node may be one, even an input.
        computed: Number of nodes that are not inputs.
        edges: Number of edges, parallel ones counted one by one.
        parallel_edges: Number of edges beyond the first from one node to another: ``edges`` minus the connected pairs.
        depth: Number of edges on the longest path.
        level_width_mean: Mean number of nodes per level, ``nodes / (depth + 1)``; a node's level is `Graph.level`.
        level_width_max: Number of nodes of the widest level.
        fan_in: Number of in-edges of each computed node.
        fan_out: Number of out-edges of each node.
        output_level: `Graph.level` of each output: number of edges on the longest path that ends at it. That path
            starts at an input or at another node without in-edges.
        density: Connected pairs over the pairs that an acyclic graph of these inputs can connect. An input has no
            in-edges, and of two computed nodes only one can have a path to the other, so I inputs and C computed nodes
            have ``I C + C (C - 1) / 2`` such pairs. 0 if there are none.
        skip_edges: Share of edges from level l to level l + 2 or higher; 0 without edges.
        dead: Number of nodes from which no path leads to an output; an output reaches itself.
        unreachable: Number of nodes to which no path leads from an input; an input reaches itself.
        activations: Number of computed nodes with each activation that occurs.
        aggregations: Number of computed nodes with each aggregation that occurs.
        stored_weights: Share of edges that store a weight; 0 without edges.
    """

    nodes: int
    inputs: int
    outputs: int
    computed: int
    edges: int
    parallel_edges: int
    depth: int
    level_width_mean: float
    level_width_max: int
    fan_in: Spread
    fan_out: Spread
    output_level: Spread
    density: float
    skip_edges: float
    dead: int
    unreachable: int
    activations: dict[str, int]
    aggregations: dict[str, int]
    stored_weights: float

    def __str__(self) -> str:
        def counted(counts: dict[str, int]) -> str:
            return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"

        lines = {
            "nodes": f"{self.nodes:,} ({self.inputs:,} inputs, {self.computed:,} computed, {self.outputs:,} outputs)",
            "edges": f"{self.edges:,} ({self.parallel_edges:,} parallel)",
            "depth": f"{self.depth:,}",
            "level width": f"at most {self.level_width_max:,}, mean {self.level_width_mean:,.4g}",
            "fan-in": str(self.fan_in),
            "fan-out": str(self.fan_out),
            "level of an output": str(self.output_level),
            "density": f"{self.density:.4g}",
            "edges that skip levels": f"{self.skip_edges:.1%}",
            "reaching no output": f"{self.dead:,}",
            "unreachable from inputs": f"{self.unreachable:,}",
            "activations": counted(self.activations),
            "aggregations": counted(self.aggregations),
            "stored weights": f"{self.stored_weights:.1%}",
        }
        return "\n".join(f"{name:<23} {text}" for name, text in lines.items())


def summary(g: Graph) -> Summary:
    """Compute the statistics of a graph; time is linear in nodes and edges.

    Args:
        g: The graph.

    Raises:
        GraphError: ``g`` is not a `Graph`.

    Example:
        >>> import freewire as fw
        >>> print(fw.metrics.summary(fw.generators.mlp([4, 3, 2])))
        nodes                   9 (4 inputs, 5 computed, 2 outputs)
        edges                   18 (0 parallel)
        depth                   2
        level width             at most 4, mean 3
        fan-in                  3 to 4, mean 3.6, median 4
        fan-out                 0 to 3, mean 2, median 2
        level of an output      2 to 2, mean 2, median 2
        density                 0.6
        edges that skip levels  0.0%
        reaching no output      0
        unreachable from inputs 0
        activations             linear 2, relu 3
        aggregations            sum 5
        stored weights          0.0%
    """
    _check(g)
    (src, dst), computed = g.edge_index, g.computed_index
    inputs = len(g.input_index)
    # Edges of one pair are neighbours in canonical order.
    parallel = int(((np.diff(src) == 0) & (np.diff(dst) == 0)).sum())
    possible = inputs * len(computed) + len(computed) * (len(computed) - 1) // 2
    widths = np.bincount(g.level)
    return Summary(
        nodes=g.num_nodes,
        inputs=inputs,
        outputs=len(g.output_index),
        computed=len(computed),
        edges=g.num_edges,
        parallel_edges=parallel,
        depth=g.depth,
        level_width_mean=g.num_nodes / len(widths),
        level_width_max=int(widths.max()),
        fan_in=_spread(np.bincount(dst, minlength=g.num_nodes)[computed]),
        fan_out=_spread(np.bincount(src, minlength=g.num_nodes)),
        output_level=_spread(g.level[g.output_index]),
        density=(g.num_edges - parallel) / possible if possible else 0.0,
        skip_edges=_share(g.level[dst] - g.level[src] > 1),
        dead=int((~g.reaches_output).sum()),
        unreachable=int((~g.reachable_from_input).sum()),
        activations=_counts(g.activation[computed], ACTIVATIONS),
        aggregations=_counts(g.aggregation[computed], AGGREGATIONS),
        stored_weights=0.0 if g.weight is None else _share(~np.isnan(g.weight)),
    )


def clustering(g: Graph) -> float:
    """Mean clustering coefficient (Watts and Strogatz 1998) of the graph without directions and parallel edges.

    A node's coefficient is the share of pairs of its neighbours that are connected, 0 with fewer than two neighbours.
    networkx computes it in time quadratic in a node's degree, so it is meant for graphs of a few thousand nodes.

    Args:
        g: The graph.

    Raises:
        GraphError: ``g`` is not a `Graph`.

    Example:
        >>> import freewire as fw
        >>> fw.metrics.clustering(fw.Graph.from_edges([0, 0, 1], [1, 2, 2]))
        1.0
    """
    return float(nx.average_clustering(_undirected(g)))


def path_length(g: Graph) -> float:
    """Mean shortest path, in edges, of the graph without directions, over all pairs of nodes that a path connects.

    Watts and Strogatz's (1998) characteristic path length, for graphs that need not be connected. networkx computes it
    in time proportional to nodes times edges, so it is meant for graphs of a few thousand nodes.

    Args:
        g: The graph.

    Returns:
        The mean, NaN if no two nodes are connected.

    Raises:
        GraphError: ``g`` is not a `Graph`.

    Example:
        >>> import freewire as fw
        >>> fw.metrics.path_length(fw.Graph.from_edges([0, 1], [1, 2]))
        1.3333333333333333
    """
    total = pairs = 0
    for _, lengths in nx.all_pairs_shortest_path_length(_undirected(g)):
        total += sum(lengths.values())
        pairs += len(lengths) - 1  # without the node itself
    return total / pairs if pairs else math.nan


def _check(g: Any) -> None:
    if not isinstance(g, Graph):
        remedy = (
            "Use Graph.from_networkx first." if isinstance(g, nx.Graph) else "A Network has one as its attribute graph."
        )
        raise GraphError(f"g: expected a freewire Graph, got {type(g).__name__}. {remedy}")


def _undirected(g: Graph) -> nx.Graph:
    _check(g)
    G = nx.empty_graph(g.num_nodes)  # noqa: N806
    G.add_edges_from(g.edge_index.T.tolist())
    return G


def _spread(counts: NDArray[np.int64]) -> Spread:
    if not len(counts):
        return Spread(0, 0.0, 0.0, 0)
    return Spread(int(counts.min()), float(counts.mean()), float(np.median(counts)), int(counts.max()))


def _share(which: NDArray[np.bool_]) -> float:
    return float(which.mean()) if len(which) else 0.0


def _counts(codes: NDArray[np.uint8], names: tuple[str, ...]) -> dict[str, int]:
    counts = np.bincount(codes, minlength=len(names)).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count}
