# SPDX-License-Identifier: MIT
"""Exchanges of sources between edges, which change a graph at random and keep the degrees of its nodes.

In: a graph, each node's place in an order that edges without delay follow, a stream of draws. Out: other sources for
its edges. Two edges u -> v and s -> t become s -> v and u -> t, many times over; no Python loop over edges.

References:
    Maslov, Sneppen: Specificity and stability in topology of protein networks, Science 296, 2002 (exchanges that keep
    degrees).
    Goñi, Corominas-Murtra, Solé, Rodríguez-Caso: Exploring the randomness of directed acyclic networks, Physical
    Review E 82, 2010 (the same without cycles).
    Milo, Kashtan, Itzkovitz, Newman, Alon: On the uniform generation of random graphs with prescribed degree sequences,
    arXiv:cond-mat/0312028, 2003 (how many exchanges it takes).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from freewire.generators.draws import Draws
from freewire.graph import Graph
from freewire.graph.arguments import IntArray

__all__ = ["exchanged"]

_FIRST, _MOST = 10, 640  # rounds before the first comparison, and at most
_FEW = 100_000  # edges; of fewer, as many times more rounds come first, as chance moves the share of few edges more
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: Fibonacci hashing
_STILL = 0.01  # a share of edges; where fewer of the first ones are lost, exchanging has led as far as it leads


def exchanged(graph: Graph, rank: IntArray, draws: Draws, same_level: bool) -> Iterator[IntArray]:
    """Sources of a graph's edges after many exchanges, and after many more, without end.

    Rounds go on until in their second half less than a hundredth of the edges, besides what chance explains, were
    replaced by others that the graph had not: 20 rounds at least, 80 for small graphs, and 640 at most. How many it
    takes depends on the wiring. A random graph takes 40. A lattice takes hundreds: its edges are short, and two can
    exchange sources only where the stretches between their ends overlap.

    The arrangement at which that ends is no fair draw, as it was looked at. Half as many rounds, which were enough to
    lose the graph's edges, lead from it to the first that is yielded, and from each to the next.

    Args:
        graph: The graph.
        rank: Each node's place in an order in which every edge without delay goes forward ``[N]``.
        draws: The stream.
        same_level: Whether edges exchange sources only with edges from the same level.

    Yields:
        Sources ``[E]``; destinations stay those of the graph.
    """
    src, one_round = graph.edge_index[0].copy(), _Round(graph, rank, draws, same_level)
    half = one_round.until_lost(src)
    while True:
        for number in range(half):
            one_round(src, number)
        yield src.copy()


class _Round:
    """One round of exchanges, with what all rounds need.

    Edges whose sources are in one group are paired at random. A pair is straight, u -> v and s -> t, or crossed, s -> v
    and u -> t. Where it could be both it is made one of the two with probability one half. Whether it could depends on
    the four possible edges of this pair and of the others, not on which of them there are, and pairing depends on how
    many edges start in each group, which no exchange changes. Thus a round is as probable as its reverse, and in the
    long run every graph without parallel edges that exchanges can reach is equally probable. (Parallel edges are moved
    apart and never made.)
    """

    def __init__(self, graph: Graph, rank: IntArray, draws: Draws, same_level: bool) -> None:
        self.level = graph.level if same_level else None
        self.rank, self.draws, self.dst = rank, draws, graph.edge_index[1]
        self.nodes = np.int64(len(rank))
        self.span = np.abs(rank[self.dst] - rank[graph.edge_index[0]])
        self.free = _may_go_back(graph)
        self.has_parallel = len(_repeated(graph.edge_index[0] * self.nodes + self.dst)) > 0

    def until_lost(self, src: IntArray) -> int:
        """Change the sources ``[E]`` until hardly any more edges are lost; half the number of rounds it took."""
        if len(src) < 2:
            return 0
        before, left, half = np.sort(src * self.nodes + self.dst), 1.0, 0
        compared = int(np.clip(_FIRST * _FEW // len(src), _FIRST, _MOST // 16))
        for number in range(_MOST):
            if number == compared:
                share = float(_contains(before, src * self.nodes + self.dst).mean())
                if half and left - share < _STILL + 2 * np.sqrt(share / len(src)):
                    return half
                left, half, compared = share, number, 2 * number
            self(src, number)
        return _MOST // 2

    def _groups(self, number: int) -> IntArray:
        """A group for each node ``[N]``: its level, or a stretch of the order, whose width differs from round to round.

        Widths are that of the whole order; twice the length of some edge of the graph, since short edges exchange
        sources only with near ones; and of any scale, since edges become longer or shorter.
        """
        if self.level is not None:
            return self.level
        if number % 3 == 0:
            return np.zeros_like(self.rank)
        if number % 3 == 1:
            width = max(1, 2 * int(self.span[self.draws.one_below(len(self.span))]))
        else:
            width = self.draws.one_below(2 ** (1 + self.draws.one_below(int(self.nodes).bit_length()))) + 1
        return (self.rank + self.draws.one_below(width)) // width

    def __call__(self, src: IntArray, number: int) -> None:
        """Change the sources ``[E]`` in place; ``number`` is that of the round."""
        rank, nodes = self.rank, self.nodes
        pairs = np.stack(_pairs(self._groups(number)[src], self.draws))
        u, v = src[pairs], self.dst[pairs]  # of the first edge of each pair, and of the second
        fits = ((rank[u[::-1]] < rank[v]) | self.free[pairs]).all(0)
        pairs, u, v = pairs[:, fits], u[:, fits], v[:, fits]
        crossed = u[::-1] * nodes + v
        shared = _repeated(np.concatenate((src * nodes + self.dst, crossed.ravel())))
        if self.has_parallel and crossed.size:
            shared = shared[_contains(np.sort(crossed.ravel()), shared)]
        chosen = self.draws.uniform(pairs.shape[1]) < 0.5
        if len(shared):
            chosen &= ~(_contains(shared, crossed) | _contains(shared, u * nodes + v)).any(0)
        src[pairs[:, chosen]] = u[::-1, chosen]


def _may_go_back(graph: Graph) -> NDArray[np.bool_]:
    """Which edges may end at a node that is not after their source in the order ``[E]``.

    Those with a delay, since a delay stays at its place in the destination, as weights do. Without delays none may.
    """
    return np.zeros(graph.num_edges, bool) if graph.delay is None else graph.delay > 0


def _pairs(group: IntArray, draws: Draws) -> tuple[IntArray, IntArray]:
    """Pair elements of the same group ``[E]`` at random; of an odd number of them, one has no partner."""
    order = np.argsort(draws.uniform(len(group)))
    group = group[order]
    if group.any():
        by_group = np.argsort(group.astype(np.uint16) if group.max() < 2**16 else group, kind="stable")
        order, group = order[by_group], group[by_group]  # numpy sorts 16 bits in linear time
    place = np.arange(len(group))
    begins = np.concatenate(([True], group[1:] != group[:-1]))
    at = np.flatnonzero((place - np.maximum.accumulate(np.where(begins, place, 0))) % 2)
    return order[at - 1], order[at]


def _repeated(keys: IntArray) -> IntArray:
    """The values that occur more than once, ascending."""
    ordered = np.sort(keys)
    return _distinct(ordered[1:][ordered[1:] == ordered[:-1]])


def _distinct(ordered: IntArray) -> IntArray:
    """Ascending values, each once; several times as fast as ``np.unique``, which hashes."""
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def _contains(ordered: IntArray, keys: IntArray) -> NDArray[np.bool_]:
    """Which keys, of any shape, are among some ascending values, at least one."""
    bits = max(8, len(ordered).bit_length() + 4)

    def places(values: IntArray) -> NDArray[np.uint64]:
        """Where each is in a table, which rules out most keys before they are looked up exactly."""
        return (values.view(np.uint64) * _MIX) >> np.uint64(64 - bits)

    table = np.zeros(1 << bits, bool)
    table[places(ordered)] = True
    found = table[places(keys)]
    likely = keys[found]
    found[found] = ordered[np.minimum(np.searchsorted(ordered, likely), len(ordered) - 1)] == likely
    return found
