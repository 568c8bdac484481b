# SPDX-License-Identifier: MIT
"""Null models: what each kind keeps, that it changes the rest, and that nothing is favoured."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

import freewire as fw
from freewire.studies import exchanges, null_models
from tests.support.graphs import CASES

KINDS = ("degree", "level", "erdos_renyi")
GRAPH = fw.generators.random_graph(8, 200, 5, 6, seed=0)


def pairs(graph: fw.Graph) -> set[tuple[int, int]]:
    return set(zip(*graph.edge_index.tolist(), strict=True))


def degrees(graph: fw.Graph) -> tuple[list[int], list[int]]:
    src, dst = graph.edge_index
    return np.bincount(src, minlength=len(graph.nodes)).tolist(), np.bincount(dst, minlength=len(graph.nodes)).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_what_every_kind_keeps(kind: str) -> None:
    for null in null_models(GRAPH, kind, 3, seed=1):
        assert (null.nodes, null.inputs, null.outputs) == (GRAPH.nodes, GRAPH.inputs, GRAPH.outputs)
        assert null.num_edges == GRAPH.num_edges == len(pairs(null))
        assert (null.activation == GRAPH.activation).all()
        shared = len(pairs(null) & pairs(GRAPH)) / null.num_edges
        assert shared < (0.5 if kind == "level" else 0.2)


def test_degree_keeps_degrees_and_not_levels() -> None:
    null = null_models(GRAPH, "degree", 1, seed=0)[0]
    assert degrees(null) == degrees(GRAPH)
    assert (null.level != GRAPH.level).any()


def test_level_keeps_degrees_and_levels() -> None:
    null = null_models(GRAPH, "level", 1, seed=0)[0]
    assert degrees(null) == degrees(GRAPH)
    assert (null.level == GRAPH.level).all()
    src, dst = GRAPH.edge_index
    found = Counter(zip(null.level[null.edge_index[0]].tolist(), null.edge_index[1].tolist(), strict=True))
    assert found == Counter(zip(GRAPH.level[src].tolist(), dst.tolist(), strict=True))


def test_erdos_renyi_draws_every_pair_alike() -> None:
    """Five nodes: 2 inputs, 3 others; 9 pairs go forward, of which 4 are drawn."""
    graph = fw.Graph.from_edges([0, 1, 2, 3], [2, 3, 3, 4], inputs=[0, 1])
    found = Counter(pair for null in null_models(graph, "erdos_renyi", 2000, seed=0) for pair in pairs(null))
    assert set(found) == {(u, v) for v in (2, 3, 4) for u in range(v)}
    assert all(abs(times - 2000 * 4 / 9) < 4 * np.sqrt(2000 * 4 / 9 * 5 / 9) for times in found.values())


@pytest.mark.slow
def test_exchanges_reach_every_graph() -> None:
    """Three readers of one input each, from three inputs: all six assignments, equally often."""
    graph = fw.Graph.from_edges([0, 1, 2], [3, 4, 5])
    for kind in ("degree", "level"):
        found = Counter(tuple(null.edge_index[0]) for null in null_models(graph, kind, 600, seed=0))
        assert len(found) == 6
        assert all(abs(times - 100) < 4 * np.sqrt(100) for times in found.values())


def test_exchanges_favour_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph whose edges collide and cannot all go everywhere: every graph of its degrees, equally often."""
    monkeypatch.setattr(exchanges, "_MOST", 160)  # 10 rounds per graph, which are enough here
    src, dst = [0, 0, 1, 1, 2, 3], [2, 4, 3, 5, 4, 5]
    graph = fw.Graph.from_edges(src, dst, inputs=[0, 1])
    rank = graph.level
    possible = set()
    for sources in set(itertools.permutations(src)):
        edges = frozenset(zip(sources, dst, strict=True))
        if len(edges) == 6 and all(rank[u] < rank[v] or (rank[u] == rank[v] and u < v) for u, v in edges):
            possible.add(edges)
    count = 60 * len(possible)
    found = Counter(frozenset(pairs(null)) for null in null_models(graph, "degree", count, seed=1))
    assert set(found) == possible
    assert len(possible) >= 5
    excess = sum((times - 60) ** 2 / 60 for times in found.values())  # chi-squared
    assert excess < len(possible) + 4 * np.sqrt(2 * len(possible))


def test_parallel_edges_are_moved_apart() -> None:
    graph = fw.Graph.from_edges([0, 0, 0, 1, 2, 3], [4, 4, 5, 5, 6, 7], outputs=[4, 5, 6, 7])
    for kind in ("degree", "level"):
        for null in null_models(graph, kind, 5, seed=0):
            assert len(pairs(null)) == 6
            assert degrees(null) == degrees(graph)


def test_short_edges_are_exchanged_too() -> None:
    """Each node reads five near ones: of two edges at random, hardly ever can two exchange their sources."""
    edges = [(u, u + step) for u in range(2000) for step in (1, 2, 3, 5, 7)]
    src, dst = np.array([(u, v) for u, v in edges if v < 2000]).T
    graph = fw.Graph.from_edges(src, dst)
    null = null_models(graph, "degree", 1, seed=0)[0]
    assert degrees(null) == degrees(graph)
    assert len(pairs(null) & pairs(graph)) < 0.75 * graph.num_edges  # in the long run 0.71
    small_world = fw.Graph.from_networkx(fw.generators.watts_strogatz_dag(300, 8, 0.1, seed=0))
    null = null_models(small_world, "degree", 1, seed=0)[0]
    assert len(pairs(null) & pairs(small_world)) < 0.3 * small_world.num_edges


def test_values_stay_with_the_node_that_an_edge_leads_to() -> None:
    weight = np.arange(GRAPH.num_edges, dtype=float)
    graph = GRAPH.with_values(weight=weight)
    for kind in ("degree", "level"):
        null = null_models(graph, kind, 1, seed=0)[0]
        assert null.weight is not None
        where = np.argsort(null.weight)
        assert (null.edge_index[1][where] == graph.edge_index[1]).all()
    null = null_models(graph, "erdos_renyi", 1, seed=0)[0]
    assert null.weight is not None
    assert sorted(null.weight) == weight.tolist()
    assert (np.diff(null.weight) < 0).any()


def test_seeds() -> None:
    def edges(seed: int | None) -> list[list[int]]:
        return [null.edge_index.ravel().tolist() for null in null_models(GRAPH, "degree", 2, seed=seed)]

    assert edges(3) == edges(3)
    assert edges(3)[0] != edges(3)[1]
    assert edges(3) != edges(4)
    assert edges(None) != edges(None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_any_graph(name: str, kind: str) -> None:
    graph = CASES[name]
    if kind == "erdos_renyi" and len(pairs(graph)) < graph.num_edges:
        return
    null = null_models(graph, kind, 1, seed=0)[0]
    assert null.num_edges == graph.num_edges
    assert len(pairs(null)) >= len(pairs(graph))
    if kind != "erdos_renyi":
        assert degrees(null) == degrees(graph)


@pytest.mark.slow
def test_a_million_edges() -> None:
    graph = fw.generators.random_graph(1000, 99_000, 10, 10, seed=0)
    start = time.process_time()
    null = null_models(graph, "level", 1, seed=0)[0]
    assert (null.level == graph.level).all()
    assert time.process_time() - start < 30


class TestRefused:
    def test_kind(self) -> None:
        with pytest.raises(
            fw.GraphError, match=r"^kind: expected one of 'degree', 'level', 'erdos_renyi', got 'random'\. Pass"
        ):
            null_models(GRAPH, "random", 1)

    def test_graph(self) -> None:
        not_a_graph: Any = 3
        with pytest.raises(fw.GraphError, match=r"^graph: expected a Graph, got int\. Convert it"):
            null_models(not_a_graph, "degree", 1)

    @pytest.mark.parametrize("n", [-1, 1.5, "two"])
    def test_number(self, n: Any) -> None:
        with pytest.raises(fw.GraphError, match=r"^n: expected "):
            null_models(GRAPH, "degree", n)

    def test_more_edges_than_pairs(self) -> None:
        graph = fw.Graph.from_edges([0, 0], [1, 1])
        with pytest.raises(fw.GraphError, match=r"^graph: expected at most 1 edges, one for each pair .* got 2\."):
            null_models(graph, "erdos_renyi", 1)
