# SPDX-License-Identifier: MIT
"""Null models of a wiring: random graphs that share some of its statistics, to tell what the wiring itself contributes.

`freewire.studies.exchanges` makes those that keep degrees; here are the arguments, the order that edges follow, and the
graphs that keep no degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice, repeat

import numpy as np

from freewire.errors import GraphError, shown
from freewire.generators.draws import Draws, count
from freewire.graph import Graph
from freewire.graph.arguments import IntArray
from freewire.graph.data import GraphData
from freewire.graph.fields import EDGE_FIELDS
from freewire.studies.exchanges import exchanged

__all__ = ["null_models"]


def null_models(graph: Graph, kind: str, n: int, seed: int | None = None) -> list[Graph]:
    """Draw random graphs with the nodes of a graph and as many edges.

    Nodes keep their names, functions, biases and leaks, and inputs and outputs their order. Edges go forward in the
    order of the nodes' levels in ``graph``, so no graph has a cycle; in a recurrent graph that holds for edges without
    delay, and those with one may close cycles and join a node to itself. An edge that is drawn never repeats another
    one, whatever the delays.

    Args:
        graph: The graph.
        kind: What else stays as it is.

            - ``"degree"``: the number of in-edges and of out-edges of every node. Edges exchange their sources, in
              rounds of random pairs, until as many edges of ``graph`` are left as in any such graph, and then on:
              every one without parallel edges that can be reached is equally probable. A dense or narrow graph has few
              relatives of the same degrees, so much of it stays.
            - ``"level"``: the same, and the level of every node. Edges exchange their sources only with edges from the
              same level, so layers of which each reads all of the one before stay as they are. Levels of a recurrent
              graph are those of its edges without delay.
            - ``"erdos_renyi"``: nothing. Edges are drawn uniformly among all pairs that go forward and do not end at an
              input; of a recurrent graph, those with a delay among all pairs that do not end at an input.
        n: How many graphs, at least 0. Of the first two kinds the first takes three times as long as a further one.
        seed: An integer for the same graphs every time, None for new ones each time.

    Returns:
        ``n`` graphs. In those of the first two kinds an edge's weight, delay and constraints stay with the node that it
        leads to: an edge from an input may so exchange its delay of 0 for that of an edge from another node. In the
        third they are dealt out at random.

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
    number, data = count("n", n, 0, "number of graphs"), graph.to_data()
    drawn = _KINDS[kind](graph, _ranks(graph), Draws(seed))
    return [Graph.from_data(_with_edges(data, *edges)) for edges in islice(drawn, number)]


def _ranks(graph: Graph) -> IntArray:
    """Each node's place in the order of levels; inputs come first."""
    is_input = np.zeros(len(graph.nodes), bool)
    is_input[graph.input_index] = True
    rank = np.empty(len(graph.nodes), np.int64)
    rank[np.lexsort((~is_input, graph.level))] = np.arange(len(rank))
    return rank


Edges = tuple[IntArray, IntArray, IntArray]  # sources, destinations, and whose fields each edge has


def _drawn(graph: Graph, rank: IntArray, draws: Draws) -> Edges:
    """Edges without delay among all pairs that go forward, then edges with one among all other pairs."""
    by_rank = np.argsort(rank)
    is_input = np.zeros(len(rank), bool)
    is_input[graph.input_index] = True
    readers = by_rank[~is_input[by_rank]]
    before = np.cumsum(rank[readers])  # pairs that end at a reader or at one before it
    pairs = int(before[-1]) if len(before) else 0
    is_instant = np.ones(graph.num_edges, bool) if graph.delay is None else graph.delay == 0
    instant = int(np.count_nonzero(is_instant))
    _check_pairs(instant, pairs, "that an edge can go forward between")
    pair = draws.distinct(np.array([pairs]), instant)
    reader = np.searchsorted(before, pair, "right")
    source = rank[readers[reader]] - (before[reader] - pair)
    if instant < graph.num_edges:
        taken = np.sort(reader * len(rank) + source)
        others = len(readers) * len(rank) - instant
        _check_pairs(graph.num_edges - instant, others, "that is left for an edge with a delay")
        pair = draws.distinct(np.array([others]), graph.num_edges - instant)
        pair += np.searchsorted(taken - np.arange(instant), pair, "right")  # pairs that are taken are skipped
        reader = np.concatenate((reader, pair // len(rank)))
        source = np.concatenate((source, pair % len(rank)))
    fields_of = np.argsort(draws.uniform(graph.num_edges))
    fields_of = np.concatenate((fields_of[is_instant[fields_of]], fields_of[~is_instant[fields_of]]))
    return by_rank[source], readers[reader], fields_of


def _check_pairs(edges: int, pairs: int, which: str) -> None:
    if edges > pairs:
        raise GraphError(
            f"graph: expected at most {pairs:,} edges, one for each pair of nodes {which}, got {edges:,}. It has "
            "parallel edges; use kind='degree'."
        )


def _with_edges(data: GraphData, src: IntArray, dst: IntArray, fields_of: IntArray) -> GraphData:
    fields = dict(data.fields)
    for field in EDGE_FIELDS:
        values = fields.get(field.name)
        if values is not None:
            fields[field.name] = values[fields_of]
    return replace(data, src=src, dst=dst, fields=fields)


def _exchanged(graph: Graph, rank: IntArray, draws: Draws, same_level: bool) -> Iterator[Edges]:
    for src in exchanged(graph, rank, draws, same_level):
        yield src, graph.edge_index[1], np.arange(len(src))


#: Kind -> graphs of it without end.
_KINDS: dict[str, Callable[[Graph, IntArray, Draws], Iterator[Edges]]] = {
    "degree": lambda graph, rank, draws: _exchanged(graph, rank, draws, same_level=False),
    "level": lambda graph, rank, draws: _exchanged(graph, rank, draws, same_level=True),
    "erdos_renyi": lambda graph, rank, draws: (_drawn(graph, rank, draws) for _ in repeat(None)),
}
