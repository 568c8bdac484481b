# SPDX-License-Identifier: MIT
"""A suite of tests that the test class of every generator inherits: seeds, sizes, directions and golden hashes."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from scipy import stats

from freewire.graph import Graph
from tests.support.messages import assert_refused


def edges_of(made):
    """Edges in the generator's own order, int64 [2, E]."""
    if isinstance(made, Graph):
        return made.edge_index[:, made.edge_position]
    return np.array(list(made.edges), np.int64).reshape(-1, 2).T


def sources_of(graph):
    """The sorted sources of each node's in-edges."""
    found = [[] for _ in graph.nodes]
    for u, v in graph.edge_index.T.tolist():
        found[v].append(u)
    return [sorted(sources) for sources in found]


def hash_of(made):
    return hashlib.sha256(np.ascontiguousarray(edges_of(made), "<i8").tobytes()).hexdigest()


def assert_fits(seen, chances):
    """Assert that the counts may be drawn from these probabilities; rare outcomes are pooled."""
    assert set(seen) <= set(chances)
    assert math.isclose(sum(chances.values()), 1)
    expected = np.array(list(chances.values())) * sum(seen.values())
    observed = np.array([seen[outcome] for outcome in chances])
    rare = expected < 5
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-4


class Promises:
    """Tests of any generator. A case is its arguments, and at seed 1 the numbers of nodes and edges and their hash."""

    cases: tuple
    function: staticmethod
    seeded = True

    def make(self, arguments, seed):
        return self.function(*arguments, seed=seed) if self.seeded else self.function(*arguments)

    def pytest_generate_tests(self, metafunc):
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases, ids=lambda case: str(case[0]))

    def test_golden(self, case):
        arguments, _, _, golden = case
        assert hash_of(self.make(arguments, 1))[:16] == golden

    def test_size(self, case):
        arguments, num_nodes, num_edges, _ = case
        made = self.make(arguments, 1)
        assert list(made.nodes) == list(range(num_nodes))
        assert edges_of(made).shape == (2, num_edges)

    def test_edges_ascend_and_are_distinct(self, case):
        for seed in (0, 1, 2) if self.seeded else (None,):
            src, dst = edges_of(self.make(case[0], seed))
            assert (src < dst).all()
            assert len(set(zip(src.tolist(), dst.tolist(), strict=True))) == len(src)

    def test_same_seed_same_graph(self, case):
        for seed in (0, 2**70):
            first, second = self.make(case[0], seed), self.make(case[0], seed)
            np.testing.assert_array_equal(edges_of(first), edges_of(second))


class Seeded(Promises):
    """Tests of generators with a seed."""

    def test_different_seeds_differ(self, case):
        assert len({hash_of(self.make(case[0], seed)) for seed in range(10)}) == 10

    def test_without_a_seed_graphs_differ(self, case):
        assert hash_of(self.make(case[0], None)) != hash_of(self.make(case[0], None))

    def test_the_global_generators_are_not_used(self, case):
        np.random.seed(0)
        before = np.random.get_state()[1].tolist()
        self.make(case[0], 0)
        assert np.random.get_state()[1].tolist() == before

    @pytest.mark.parametrize("seed", [-1, 1.0, "1", True, [1]])
    def test_bad_seed(self, seed):
        assert_refused(
            lambda: self.make(self.cases[0][0], seed),
            "seed: expected a whole number of at least 0, got .*or None for a new one",
        )
