# SPDX-License-Identifier: MIT
"""random_graph, mlp and densenet: what all generators guarantee, distributions, edges and roles."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import networkx as nx
import numpy as np
import pytest
from scipy import stats

from freewire import generators
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from tests.support.messages import assert_refused
from tests.support.promises import Promises, Seeded, assert_fits, edges_of, sources_of


class TestRandomGraph(Seeded):
    function = staticmethod(generators.random_graph)
    cases = (
        ((10, 20, 5, 3), 35, 75, "c0f1aea5db09afa3"),
        ((3, 200, 4, 20), 207, 4080 - sum(range(1, 18)), "0cb5d68b4bd8c463"),
        ((2, 30_000, 2, 5), 30_004, 5 * 30_002 - 3 - 2 - 1, "0c24ddb4d76ec6bb"),
    )


class TestMlp(Promises):
    function = staticmethod(generators.mlp)
    seeded = False
    cases = (
        (([4, 5, 3],), 12, 35, "0a4417b3de27426b"),
        (([2, 1],), 3, 2, "f4d03f0bee0ca7c1"),
        (([784, 512, 512, 10],), 1818, 668_672, "883bf664041aed9d"),
    )


class TestDensenet(Promises):
    function = staticmethod(generators.densenet)
    seeded = False
    cases = (
        ((4, 5, 3), 12, 4 + 5 + 6 + 7 + 8 + 3 * 9, "c8b14ea7ebce9864"),
        ((3, 0, 2), 5, 6, "438e15b0410b71bd"),
        ((784, 100, 10), 894, 78_400 + 4950 + 8840, "813940a4cfa9ab04"),
    )


class TestRandomGraphModel:
    def test_every_node_draws_every_set_equally(self):
        seen = [Counter() for _ in range(6)]
        for seed in range(3000):
            sources = sources_of(generators.random_graph(2, 3, 1, 2, seed=seed))
            assert sources[:2] == [[], []]
            for node in range(2, 6):
                seen[node][tuple(sources[node])] += 1
            seen[0][tuple(map(tuple, sources[3:]))] += 1
        sets = {node: list(combinations(range(node), 2)) for node in range(2, 6)}
        assert set(seen[2]) == {(0, 1)}
        for node in range(3, 6):
            assert_fits(seen[node], dict.fromkeys(sets[node], 1 / len(sets[node])))
        jointly = [(a, b, c) for a in sets[3] for b in sets[4] for c in sets[5]]
        assert_fits(seen[0], dict.fromkeys(jointly, 1 / len(jointly)))

    def test_uniform_over_many_sources(self):
        graph = generators.random_graph(500, 0, 20_000, 5, seed=0)
        counts = np.bincount(graph.edge_index[0], minlength=500)[:500]
        shrink = (1 - 5 / 500) * 500 / 499  # a node's draws exclude each other
        assert 1e-4 < stats.chi2.sf(((counts - 200) ** 2 / 200).sum() / shrink, 499) < 1 - 1e-4

    def test_distance_to_the_source_is_uniform(self):
        graph = generators.random_graph(1000, 20_000, 1, 4, seed=0)
        src, dst = graph.edge_index[:, graph.edge_index[1] < 21_000]
        assert stats.kstest((src + 0.5) / dst, "uniform").pvalue > 1e-3

    @pytest.mark.parametrize("fan_in", [1, 2, 7, 100, 10**12])
    def test_fan_in_is_the_argument_or_all_earlier_nodes(self, fan_in):
        sources = sources_of(generators.random_graph(3, 40, 6, fan_in, seed=0))
        available = [0] * 3 + list(range(3, 43)) + [43] * 6
        for nodes, most in zip(sources, available, strict=True):
            assert len(nodes) == len(set(nodes)) == min(fan_in, most)
            assert all(u < most for u in nodes)

    def test_a_huge_fan_in_is_a_densenet(self):
        full, dense = generators.random_graph(3, 9, 4, 99, seed=0), generators.densenet(3, 9, 4)
        np.testing.assert_array_equal(full.edge_index, dense.edge_index)

    @pytest.mark.parametrize(("num_hidden", "fan_in"), [(100_000, 10), (1500, 1000)])
    def test_large(self, num_hidden, fan_in):
        graph = generators.random_graph(20, num_hidden, 10, fan_in, seed=0)
        src, dst = edges_of(graph)
        assert (src < np.minimum(dst, 20 + num_hidden)).all()
        assert (np.diff(dst * graph.num_nodes + src) > 0).all()  # sorted, none twice
        available = np.minimum(np.arange(20, graph.num_nodes), 20 + num_hidden)
        np.testing.assert_array_equal(np.bincount(dst)[20:], np.minimum(fan_in, available))


class TestRoles:
    """Names, activations, inputs and outputs of the generators that return a `Graph`."""

    @pytest.mark.parametrize(
        ("make", "arguments"),
        [
            (generators.random_graph, (3, 5, 2, 2)),
            (generators.densenet, (3, 5, 2)),
            (generators.mlp, ([3, 5, 2],)),
            (generators.attach_io, (nx.DiGraph([(i, i + 1) for i in range(4)]), 3, 2)),
        ],
    )
    def test_roles(self, make, arguments):
        for given, (hidden, output) in (
            ({}, ("relu", "linear")),
            ({"activation": "sin", "output_activation": "tanh"}, ("sin", "tanh")),
        ):
            graph = make(*arguments, **given)
            assert list(graph.nodes) == list(range(10))
            assert graph.inputs == (0, 1, 2)
            assert graph.outputs == (8, 9)
            names = [ACTIVATIONS[code] for code in graph.activation]
            assert names == ["linear"] * 3 + [hidden] * 5 + [output] * 2
            assert {AGGREGATIONS[code] for code in graph.aggregation} == {"sum"}
            assert graph.weight is None
            assert graph.bias is None
        for argument in ("activation", "output_activation"):
            wrong = {argument: "rectify"}
            assert_refused(lambda w=wrong: make(*arguments, **w), f"{argument}: expected one of .*'rectify'")


class TestLayers:
    def test_mlp_edges(self):
        layers = [range(0, 3), range(3, 7), range(7, 8), range(8, 10)]
        expected = [(u, v) for a, b in pairwise(layers) for v in b for u in a]
        assert edges_of(generators.mlp((3, 4, 1, 2))).T.tolist() == list(map(list, expected))

    def test_mlp_takes_numpy_sizes(self):
        assert generators.mlp(np.array([3, 4, 2])).num_edges == 20

    def test_densenet_edges(self):
        sources = sources_of(generators.densenet(2, 3, 2))
        assert sources == [[], [], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.random_graph(0, 5, 1, 2), r"num_inputs: expected a whole number of at least 1, got 0\. "),
        (lambda g: g.random_graph(2, -1, 1, 2), r"num_hidden: expected a whole number of at least 0, got -1\. "),
        (lambda g: g.random_graph(2, 5, 0, 2), r"num_outputs: expected a whole number of at least 1, got 0\. "),
        (lambda g: g.random_graph(2, 5, 1, 0), r"fan_in: expected a whole number of at least 1, got 0\. "),
        (lambda g: g.densenet(0, 5, 1), r"num_inputs: expected a whole number of at least 1, got 0\. "),
        (
            lambda g: g.mlp([5]),
            r"sizes: expected a list of at least two layer sizes, got \[5\]\. List the sizes",
        ),
        (lambda g: g.mlp(5), r"sizes: expected a list of at least two layer sizes, got 5\. "),
        (lambda g: g.mlp("55"), r"sizes: expected a list of at least two layer sizes, got '55'\. "),
        (
            lambda g: g.mlp([5, 0, 1]),
            r"sizes: expected a whole number of at least 1, got 0\. Pass the number of nodes in",
        ),
    ],
)
def test_errors(call, message):
    assert_refused(lambda: call(generators), message)
