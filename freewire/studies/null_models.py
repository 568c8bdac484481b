# SPDX-License-Identifier: MIT
"""Null models of a wiring: random graphs that share some of its statistics, to tell what the wiring itself contributes.

References:
    Maslov, Sneppen: Specificity and stability in topology of protein networks, Science 296, 2002 (exchanges that keep
    degrees).
    Goñi, Corominas-Murtra, Solé, Rodríguez-Caso: Exploring the randomness of directed acyclic networks, Physical
    Review E 82, 2010 (the same without cycles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError, shown
from freewire.generators.draws import Draws, count
from freewire.graph import Graph
from freewire.graph.arguments import IntArray
from freewire.graph.data import GraphData
from freewire.graph.fields import EDGE_FIELDS

__all__ = ["null_models"]

_ROUNDS = 20  # in each of which an edge may exchange its source with one other


def null_models(graph: Graph, kind: str, n: int, seed: int | None = None) -> list[Graph]:
    """Draw random graphs with the nodes of a graph and as many edges.

    Nodes keep their names, functions and biases, and inputs and outputs their order. No graph has a cycle: edges go
    forward in the order of the nodes' levels in ``graph``. An edge that is drawn never repeats another one.

    Args:
        graph: The graph.
        kind: What else stays as it is.

            - ``"degree"``: the number of in-edges and of out-edges of every node. Pairs of edges exchange their
              sources, in 20 rounds of random pairs; a pair that could is left alone with probability one half, without
              which only every second arrangement could come out.
            - ``"level"``: the same, and the level of every node. Edges exchange their sources only with edges from the
              same level.
            - ``"erdos_renyi"``: nothing. Edges are drawn uniformly among all pairs that go forward and do not end at an
              input.
        n: How many graphs, at least 0.
        seed: An integer for the same graphs every time, None for new ones each time.

    Returns:
        ``n`` graphs. In those of the first two kinds an edge's weight and constraints stay with the node that it leads
        to; in the third they are dealt out at random.

    Raises:
        GraphError: An unknown kind, an argument out of range, or for ``"erdos_renyi"`` more edges than pairs, which
            parallel edges make possible.

    Example:
        >>> import freewire as fw
        >>> graph = fw.generators.random_graph(4, 20, 2, 3, seed=0)
        >>> null = fw.studies.null_models(graph, "degree", 1, seed=0)[0]
        >>> null.num_edges, fw.metrics.summary(null).fan_in == fw.metrics.summary(graph).fan_in
        (66, True)
    """
    if not isinstance(graph, Graph):
        raise GraphError(f"graph: expected a Graph, got {type(graph).__name__}. Convert it with Graph.from_networkx.")
    if kind not in _KINDS:
        kinds = ", ".join(map(repr, _KINDS))
        raise GraphError(f"kind: expected one of {kinds}, got {shown(kind)}. Pass the name of what should stay.")
    draws, data = Draws(seed), graph.to_data()
    rank = _ranks(graph)
    drawn = (_KINDS[kind](graph, rank, draws) for _ in range(count("n", n, 0, "number of graphs")))
    return [Graph.from_data(_with_edges(data, *edges)) for edges in drawn]


def _ranks(graph: Graph) -> IntArray:
    """Each node's place in the order of levels; inputs come first."""
    is_input = np.zeros(len(graph.nodes), bool)
    is_input[graph.input_index] = True
    rank = np.empty(len(graph.nodes), np.int64)
    rank[np.lexsort((~is_input, graph.level))] = np.arange(len(rank))
    return rank


Edges = tuple[IntArray, IntArray, IntArray]  # sources, destinations, and whose fields each edge has


def _exchanged(graph: Graph, rank: IntArray, draws: Draws, same_level: bool) -> Edges:
    src, dst = graph.edge_index[0].copy(), graph.edge_index[1]
    nodes = np.int64(len(rank))
    for _ in range(_ROUNDS):
        order = np.argsort(draws.uniform(len(src)))
        if same_level:  # neighbours are then of one level, but for the last of a level with an odd number
            order = order[np.argsort(graph.level[src[order]], kind="stable")]
        first, second = order[0 : len(order) // 2 * 2 : 2], order[1::2]
        crossed = np.concatenate((src[second] * nodes + dst[first], src[first] * nodes + dst[second]))
        fits = (rank[src[second]] < rank[dst[first]]) & (rank[src[first]] < rank[dst[second]])
        if same_level:
            fits &= graph.level[src[first]] == graph.level[src[second]]
        is_new = ~_contains(np.sort(src * nodes + dst), crossed)
        alone = np.zeros(len(crossed), bool)
        alone[np.unique(crossed, return_index=True)[1]] = True
        fits &= (is_new & alone).reshape(2, -1).all(0)
        fits &= draws.uniform(len(fits)) < 0.5
        one, other = first[fits], second[fits]
        src[one], src[other] = src[other], src[one]
    return src, dst, np.arange(len(src))


def _contains(ordered: IntArray, keys: IntArray) -> NDArray[np.bool_]:
    at = np.minimum(np.searchsorted(ordered, keys), max(len(ordered) - 1, 0))
    return ordered[at] == keys if len(ordered) else np.zeros(len(keys), bool)


def _drawn(graph: Graph, rank: IntArray, draws: Draws) -> Edges:
    by_rank = np.argsort(rank)
    is_input = np.zeros(len(rank), bool)
    is_input[graph.input_index] = True
    readers = by_rank[~is_input[by_rank]]
    before = np.cumsum(rank[readers])  # pairs that end at a reader or at one before it
    pairs = int(before[-1]) if len(before) else 0
    if graph.num_edges > pairs:
        raise GraphError(
            f"graph: expected at most {pairs:,} edges, one for each pair of nodes that an edge can go forward between, "
            f"got {graph.num_edges:,}. It has parallel edges; use kind='degree'."
        )
    pair = draws.distinct(np.array([pairs]), graph.num_edges)
    reader = np.searchsorted(before, pair, "right")
    source = pair - (before[reader] - rank[readers[reader]])
    return by_rank[source], readers[reader], np.argsort(draws.uniform(len(pair)))


def _with_edges(data: GraphData, src: IntArray, dst: IntArray, fields_of: IntArray) -> GraphData:
    fields = dict(data.fields)
    for field in EDGE_FIELDS:
        values = fields.get(field.name)
        if values is not None:
            fields[field.name] = values[fields_of]
    return replace(data, src=src, dst=dst, fields=fields)


_KINDS: dict[str, Callable[[Graph, IntArray, Draws], Edges]] = {
    "degree": lambda graph, rank, draws: _exchanged(graph, rank, draws, same_level=False),
    "level": lambda graph, rank, draws: _exchanged(graph, rank, draws, same_level=True),
    "erdos_renyi": _drawn,
}
