# SPDX-License-Identifier: MIT
"""The three random graph models: what all generators guarantee, and exact distributions on small graphs."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from freewire import generators
from tests.support.messages import assert_refused
from tests.support.promises import Seeded, assert_fits


class Dag(Seeded):
    def test_a_plain_sorted_digraph(self, case):
        dag = self.make(case[0], 3)
        assert type(dag) is nx.DiGraph
        assert list(dag.edges) == sorted(dag.edges)
        assert not any(data for _, data in dag.nodes(data=True))
        assert not any(data for _, _, data in dag.edges(data=True))

    def test_connected(self, case):
        assert all(nx.is_weakly_connected(self.make(case[0], seed)) for seed in range(20))


class TestErdosRenyi(Dag):
    function = staticmethod(generators.erdos_renyi_dag)
    cases = (
        ((32, 0.2), 32, 99, "76f1a48e1c8dfff5"),
        ((300, 0.05), 300, 2258, "2a4d49eea3049724"),
    )


class TestBarabasiAlbert(Dag):
    function = staticmethod(generators.barabasi_albert_dag)
    cases = (
        ((32, 5), 32, 5 * 27, "a5a3d6df2e995e3e"),
        ((32, 7), 32, 7 * 25, "8cfa65835b0a1eff"),
        ((200, 1), 200, 199, "31bd9376a76e1c96"),
    )


class TestWattsStrogatz(Dag):
    function = staticmethod(generators.watts_strogatz_dag)
    cases = (
        ((32, 4, 0.75), 32, 64, "0e3d54fa0c742878"),
        ((32, 2, 1.0), 32, 32, "932026664d89bfde"),
        ((101, 8, 0.25), 101, 404, "5d28948b5e4587b1"),
    )


def connected_chance(n, p):
    """Probability that a graph of Erdos and Renyi is connected, by Gilbert's recurrence."""
    chance = [0.0, 1.0]
    for m in range(2, n + 1):
        parts = (math.comb(m - 1, k - 1) * chance[k] * (1 - p) ** (k * (m - k)) for k in range(1, m))
        chance.append(1 - sum(parts))
    return chance[n]


def barabasi_albert_chances(n, m):
    """Every graph and its probability: m distinct earlier nodes, one after another, each drawn by degree."""
    chances = {tuple((v, m) for v in range(m)): 1.0}
    for node in range(m + 1, n):
        grown = Counter()
        for edges, chance in chances.items():
            degree = Counter(end for edge in edges for end in edge)
            sets = Counter({frozenset(): 1.0})
            for _ in range(m):
                longer = Counter()
                for chosen, part in sets.items():
                    open_ = [v for v in range(node) if v not in chosen]
                    total = sum(degree[v] for v in open_)
                    for v in open_:
                        longer[chosen | {v}] += part * degree[v] / total
                sets = longer
            for chosen, part in sets.items():
                grown[edges + tuple((v, node) for v in sorted(chosen))] += chance * part
        chances = grown
    return {frozenset(edges): chance for edges, chance in chances.items()}


def watts_strogatz_chances(n, k, p):
    """Every graph and its probability. The order of loops matters: at (6, 4, 0.7) the other one moves 30% of it."""
    steps = [(d, u) for d in range(1, k // 2 + 1) for u in range(n)]
    chances = Counter({frozenset(frozenset((u, (u + d) % n)) for d, u in steps): 1.0})
    for d, u in steps:
        edge = frozenset((u, (u + d) % n))
        after = Counter()
        for edges, chance in chances.items():
            free = [w for w in range(n) if w != u and frozenset((u, w)) not in edges]
            after[edges] += chance * (1 - p if free else 1)
            for w in free:
                after[edges - {edge} | {frozenset((u, w))}] += chance * p / len(free)
        chances = after
    return {frozenset(tuple(sorted(edge)) for edge in edges): chance for edges, chance in chances.items()}


class TestErdosRenyiModel:
    def test_every_graph_of_four_nodes(self):
        pairs = list(combinations(range(4), 2))
        chances = {
            frozenset(edges): 0.3**size * 0.7 ** (6 - size) for size in range(7) for edges in combinations(pairs, size)
        }
        draws = (generators.erdos_renyi_dag(4, 0.3, seed, connected=False) for seed in range(4000))
        assert_fits(Counter(frozenset(dag.edges) for dag in draws), chances)

    def test_mean_number_of_edges(self):
        counts = [generators.erdos_renyi_dag(60, 0.2, s, connected=False).number_of_edges() for s in range(200)]
        pairs = 60 * 59 / 2
        assert abs(np.mean(counts) - 0.2 * pairs) < 4 * math.sqrt(0.2 * 0.8 * pairs / 200)

    def test_how_often_a_draw_is_connected(self):
        draws = (generators.erdos_renyi_dag(32, 0.12, seed, connected=False) for seed in range(1000))
        chance = connected_chance(32, 0.12)
        assert abs(sum(map(nx.is_weakly_connected, draws)) - 1000 * chance) < 4 * math.sqrt(
            1000 * chance * (1 - chance)
        )

    def test_a_disconnected_draw_is_drawn_again(self):
        loose = [s for s in range(50) if not nx.is_weakly_connected(generators.erdos_renyi_dag(20, 0.15, s, False))]
        assert len(loose) > 5
        for seed in loose:
            assert nx.is_weakly_connected(generators.erdos_renyi_dag(20, 0.15, seed))
            assert_refused(
                lambda s=seed: generators.erdos_renyi_dag(20, 0.15, s, tries=1),
                "connected: expected a connected graph within tries=1, got none",
            )

    def test_a_connected_draw_is_kept(self):
        free = generators.erdos_renyi_dag(32, 0.5, 0, connected=False)
        assert nx.is_weakly_connected(free)
        assert list(free.edges) == list(generators.erdos_renyi_dag(32, 0.5, 0, connected=True, tries=1).edges)

    def test_no_pair_and_every_pair(self):
        assert generators.erdos_renyi_dag(9, 0, connected=False).number_of_edges() == 0
        assert list(generators.erdos_renyi_dag(5, 1).edges) == list(combinations(range(5), 2))
        assert list(generators.erdos_renyi_dag(1, 0.5).nodes) == [0]

    def test_time_is_linear_in_edges_not_pairs(self):  # half of 10**10 pairs
        dag = generators.erdos_renyi_dag(100_000, 1e-6, seed=0, connected=False)
        mean = 100_000 * 99_999 / 2 * 1e-6
        assert abs(dag.number_of_edges() - mean) < 4 * math.sqrt(mean)


class TestBarabasiAlbertModel:
    @pytest.mark.parametrize(("n", "m"), [(5, 2), (6, 1), (5, 3)])
    def test_every_graph(self, n, m):
        draws = (generators.barabasi_albert_dag(n, m, seed) for seed in range(5000))
        assert_fits(Counter(frozenset(dag.edges) for dag in draws), barabasi_albert_chances(n, m))

    @pytest.mark.parametrize("m", [1, 5, 7])
    def test_the_first_m_nodes_are_the_sources(self, m):
        for seed in range(5):
            dag = generators.barabasi_albert_dag(32, m, seed)
            assert [dag.in_degree(v) for v in dag] == [0] * m + [m] * (32 - m)
            assert list(dag.predecessors(m)) == list(range(m))

    def test_early_nodes_become_hubs(self):
        dag = generators.barabasi_albert_dag(3000, 3, 0)
        degree = np.array([dag.degree(v) for v in dag])
        assert degree[:30].mean() > 10 * degree[-1000:].mean()

    def test_smallest(self):
        assert list(generators.barabasi_albert_dag(2, 1, 0).edges) == [(0, 1)]


class TestWattsStrogatzModel:
    @pytest.mark.parametrize(("n", "k", "p"), [(5, 2, 0.5), (6, 4, 0.7), (6, 2, 1.0)])
    def test_every_graph(self, n, k, p):
        draws = (generators.watts_strogatz_dag(n, k, p, seed, connected=False) for seed in range(6000))
        assert_fits(Counter(frozenset(dag.edges) for dag in draws), watts_strogatz_chances(n, k, p))

    def test_without_rewiring_it_is_the_ring(self):
        ring = {tuple(sorted((u, (u + d) % 11))) for d in (1, 2, 3) for u in range(11)}
        assert set(generators.watts_strogatz_dag(11, 6, 0, seed=0).edges) == ring

    def test_every_node_keeps_the_near_ends_of_its_edges(self):
        for seed in range(20):
            dag = generators.watts_strogatz_dag(40, 6, 1.0, seed, connected=False)
            assert min(degree for _, degree in dag.degree()) >= 3

    def test_a_complete_ring_has_nothing_to_rewire(self):
        assert list(generators.watts_strogatz_dag(5, 4, 1.0, seed=0).edges) == list(combinations(range(5), 2))

    def test_a_disconnected_draw_is_drawn_again(self):
        loose = [
            s for s in range(60) if not nx.is_weakly_connected(generators.watts_strogatz_dag(20, 2, 0.5, s, False))
        ]
        assert len(loose) > 5
        for seed in loose:
            assert nx.is_weakly_connected(generators.watts_strogatz_dag(20, 2, 0.5, seed))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda g: g.erdos_renyi_dag(0, 0.5),
            r"n: expected a whole number of at least 1, got 0\. Pass the number of nodes",
        ),
        (lambda g: g.erdos_renyi_dag(2.5, 0.5), r"n: expected a whole number of at least 1, got 2\.5\. "),
        (lambda g: g.erdos_renyi_dag(5, 1.5), r"p: expected a probability from 0 to 1, got 1\.5\. "),
        (lambda g: g.erdos_renyi_dag(5, -0.1), r"p: expected a probability from 0 to 1, got -0\.1\. "),
        (lambda g: g.erdos_renyi_dag(5, math.nan), r"p: expected a probability from 0 to 1, got nan\. "),
        (lambda g: g.erdos_renyi_dag(5, "half"), r"p: expected a probability from 0 to 1, got 'half'\. "),
        (
            lambda g: g.erdos_renyi_dag(5, 0.5, tries=0),
            r"tries: expected a whole number of at least 1, got 0\. ",
        ),
        (
            lambda g: g.erdos_renyi_dag(9, 0.01, seed=0, tries=3),
            r"connected: expected a connected graph within tries=3, got none for n=9, p=0\.01\. Ask for",
        ),
        (
            lambda g: g.watts_strogatz_dag(500, 2, 1.0, seed=0, tries=1),
            r"connected: expected a connected graph within tries=1, got none for n=500, k=2, p=1\.0\. ",
        ),
        (lambda g: g.barabasi_albert_dag(5, 0), r"m: expected a whole number of at least 1, got 0\. "),
        (
            lambda g: g.barabasi_albert_dag(5, 5),
            r"n: expected a whole number of at least 6, got 5\. .*above m=5\.",
        ),
        (lambda g: g.watts_strogatz_dag(9, 0, 0.5), r"k: expected a whole number of at least 2, got 0\. "),
        (lambda g: g.watts_strogatz_dag(9, 3, 0.5), r"k: expected an even number, got 3\. "),
        (
            lambda g: g.watts_strogatz_dag(4, 4, 0.5),
            r"n: expected a whole number of at least 5, got 4\. .*above k=4\.",
        ),
        (lambda g: g.erdos_renyi_dag(5, 10**400), r"p: expected a probability from 0 to 1, got 10+\.\.\.0+\. "),
        (lambda g: g.watts_strogatz_dag(9, 4, 2), r"p: expected a probability from 0 to 1, got 2\. "),
    ],
)
def test_errors(call, message):
    assert_refused(lambda: call(generators), message)
