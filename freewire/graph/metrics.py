# SPDX-License-Identifier: MIT
"""What a wiring looks like in numbers: to see at a glance, and to plot accuracy against.

Enters: a `Graph`. Leaves: a `Summary`, or a number. `summary` is linear in nodes and edges; the two statistics of
small-world networks are networkx's and are not.

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
from freewire.graph.arguments import ACTIVATIONS, AGGREGATIONS
from freewire.graph.graph import Graph

__all__ = ["Spread", "Summary", "clustering", "path_length", "summary"]


@dataclass(frozen=True)
class Spread:
    """How a count is spread over some nodes; all 0 where there is no such node."""

    min: int
    mean: float
    median: float
    max: int

    def __str__(self) -> str:
        return f"{self.min:,} to {self.max:,}, mean {self.mean:,.4g}, median {self.median:,.6g}"


@dataclass(frozen=True)
class Summary:
    """What `summary` found; ``dataclasses.asdict`` makes plain values of it, and ``json`` takes those.

    Attributes:
        nodes: All, inputs included.
        inputs: Nodes that are features.
        outputs: Nodes that are results; any node may be one, an input too.
        computed: Nodes that are no inputs.
        edges: All, parallel ones counted one by one.
        parallel_edges: Edges beyond the first from one node to another: by so many ``edges`` exceed the joined pairs.
        depth: Edges on the longest path.
        level_width_mean: Nodes a level, ``nodes / (depth + 1)``; a node's level is `Graph.level`.
        level_width_max: Nodes of the widest level.
        fan_in: In-edges of each computed node.
        fan_out: Out-edges of each node.
        output_level: `Graph.level` of each output: edges on the longest path that ends at it. It starts at an input,
            but for outputs behind nodes that hear nothing, where it may start at one of those.
        density: Joined pairs over those that an acyclic graph of these inputs can join. An input hears nothing, and
            of two computed nodes one can hear the other, so I inputs and C computed nodes have ``I C + C (C - 1) / 2``
            such pairs. 0 where that is 0.
        skip_edges: Share of edges that jump a level, from level l to l + 2 or further; 0 without edges.
        dead: Nodes from which no path leads to an output; an output reaches itself.
        deaf: Nodes to which no path leads from an input; an input hears itself.
        activations: Computed nodes of each activation that occurs.
        aggregations: Computed nodes of each aggregation that occurs.
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
    deaf: int
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
            "hearing no input": f"{self.deaf:,}",
            "activations": counted(self.activations),
            "aggregations": counted(self.aggregations),
            "stored weights": f"{self.stored_weights:.1%}",
        }
        return "\n".join(f"{name:<23} {text}" for name, text in lines.items())


def summary(g: Graph) -> Summary:
    """What a researcher asks of a wiring first; time is linear in nodes and edges.

    Args:
        g: The wiring.

    Raises:
        GraphError: No `Graph`.

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
        hearing no input        0
        activations             linear 2, relu 3
        aggregations            sum 5
        stored weights          0.0%
    """
    _check(g)
    (src, dst), computed = g.edge_index, g.computed_index
    inputs = len(g.input_index)
    # Edges of one pair stand side by side in canonical order.
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
        deaf=int((~g.hears_input).sum()),
        activations=_counts(g.activation[computed], ACTIVATIONS),
        aggregations=_counts(g.aggregation[computed], AGGREGATIONS),
        stored_weights=0.0 if g.weight is None else _share(~np.isnan(g.weight)),
    )


def clustering(g: Graph) -> float:
    """Mean clustering coefficient (Watts and Strogatz 1998) of the graph without directions and parallel edges.

    A node's coefficient is the share of pairs of its neighbours that are neighbours too, 0 with fewer than two. It is
    networkx's and not linear: a node costs the square of its degree, so meant for graphs of some thousand nodes.

    Args:
        g: The wiring.

    Raises:
        GraphError: No `Graph`.

    Example:
        >>> import freewire as fw
        >>> fw.metrics.clustering(fw.Graph.from_edges([0, 0, 1], [1, 2, 2]))
        1.0
    """
    return float(nx.average_clustering(_undirected(g)))


def path_length(g: Graph) -> float:
    """Mean shortest path, in edges, of the graph without directions, over all pairs of nodes that a path joins.

    Watts and Strogatz's (1998) characteristic path length, for graphs that need not be connected. It is networkx's and
    not linear: nodes times edges, so meant for graphs of some thousand nodes.

    Args:
        g: The wiring.

    Returns:
        The mean, NaN where no two nodes are joined.

    Raises:
        GraphError: No `Graph`.

    Example:
        >>> import freewire as fw
        >>> fw.metrics.path_length(fw.Graph.from_edges([0, 1], [1, 2]))
        1.3333333333333333
    """
    total = pairs = 0
    for _, lengths in nx.all_pairs_shortest_path_length(_undirected(g)):
        total += sum(lengths.values())
        pairs += len(lengths) - 1  # but the node itself
    return total / pairs if pairs else math.nan


def _check(g: Any) -> None:
    if not isinstance(g, Graph):
        remedy = "Use Graph.from_networkx first." if isinstance(g, nx.Graph) else "A Network's is its attribute graph."
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
