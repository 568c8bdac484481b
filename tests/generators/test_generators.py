# SPDX-License-Identifier: MIT
"""Generators of whole networks: what they promise, what their nodes hear, and the attributes they carry."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, pairwise

import networkx as nx
import numpy as np
import pytest
from scipy import stats

from freewire import generators
from freewire.graph import ACTIVATIONS, AGGREGATIONS, Graph
from tests.support.messages import assert_refused
from tests.support.promises import Promises, Seeded, assert_fits, edges_of


class TestRandomGraph(Seeded):
    function = staticmethod(generators.random_graph)
    cases = (
        ((10, 20, 5, 3), 35, 75, "c0f1aea5db09afa3"),
        ((3, 200, 4, 20), 207, 4080 - sum(range(1, 18)), "0cb5d68b4bd8c463"),
        ((2, 30_000, 2, 5), 30_004, 5 * 30_002 - 3 - 2 - 1, "0c24ddb4d76ec6bb"),
    )


class TestAttachIO(Seeded):
    cases = (
        ((True, 7), 10 + 32 + 3, 7 * 32 + 64 + 4 * 3, "eb57723dbb6a6294"),
        ((False, 2), 10 + 32 + 3, 2 * 8 + 64 + 4 * 3, "2ff70db79bb5bd91"),
    )

    # The dag below has 8 sources and 4 sinks.
    @staticmethod
    def function(every_node, fan_in, seed):
        dag = generators.watts_strogatz_dag(32, 4, 0.75, seed=0)
        return generators.attach_io(dag, 10, 3, fan_in=fan_in, every_node=every_node, seed=seed)


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


# ---------------------------------------------------------------------- networks


def sources_of(graph):
    heard = [[] for _ in graph.nodes]
    for u, v in graph.edge_index.T.tolist():
        heard[v].append(u)
    return [sorted(sources) for sources in heard]


class TestRandomGraphModel:
    def test_every_node_draws_every_set_equally(self):
        seen = [Counter() for _ in range(6)]
        for seed in range(3000):
            heard = sources_of(generators.random_graph(2, 3, 1, 2, seed=seed))
            assert heard[:2] == [[], []]
            for node in range(2, 6):
                seen[node][tuple(heard[node])] += 1
            seen[0][tuple(map(tuple, heard[3:]))] += 1
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
    def test_fan_in_is_what_is_asked_or_all_there_is(self, fan_in):
        heard = sources_of(generators.random_graph(3, 40, 6, fan_in, seed=0))
        available = [0] * 3 + list(range(3, 43)) + [43] * 6
        for nodes, most in zip(heard, available, strict=True):
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
        heard = sources_of(generators.densenet(2, 3, 2))
        assert heard == [[], [], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


# ---------------------------------------------------------------------- attach_io


class TestAttach:
    @pytest.fixture
    def dag(self):
        """Names in no order: "d" <- "a" -> "b" -> "c" <- "e", and "z" on its own."""
        dag = nx.DiGraph()
        dag.add_nodes_from("dcbaez")
        dag.add_edges_from([("a", "d"), ("a", "b"), ("b", "c"), ("e", "c")])
        return dag

    def test_numbers_follow_the_order_of_nodes(self, dag):
        graph = generators.attach_io(dag, 2, 2)
        d, c, b, a, e, z = range(2, 8)
        assert graph.inputs == (0, 1)
        assert graph.outputs == (8, 9)
        inner = {(a, d), (a, b), (b, c), (e, c)}
        heard = {(i, v) for i in (0, 1) for v in (a, e, z)}
        fed = {(v, o) for v in (d, c, z) for o in (8, 9)}
        assert set(map(tuple, graph.edge_index.T.tolist())) == inner | heard | fed
        assert graph.num_edges == len(inner | heard | fed)

    def test_every_node_hears(self, dag):
        heard = sources_of(generators.attach_io(dag, 5, 1, every_node=True))
        assert all(heard[v][:5] == [0, 1, 2, 3, 4] for v in range(5, 11))

    def test_fan_in_draws_distinct_inputs(self, dag):
        for every_node, hearing in ((False, {8, 9, 10}), (True, set(range(5, 11)))):
            seen = Counter()
            for seed in range(500):
                heard = sources_of(generators.attach_io(dag, 5, 1, 2, every_node, seed=seed))
                drawn = {v: tuple(u for u in heard[v] if u < 5) for v in range(5, 11)}
                assert {v for v in drawn if drawn[v]} == hearing
                seen.update(drawn[v] for v in hearing)
            assert_fits(seen, dict.fromkeys(combinations(range(5), 2), 1 / 10))

    def test_the_given_graph_stays_as_it_was(self, dag):
        before = nx.to_dict_of_dicts(dag)
        generators.attach_io(dag, 2, 2, activation="sin")
        assert nx.to_dict_of_dicts(dag) == before
        assert list(dag) == list("dcbaez")
        assert not dag.graph

    def test_recorded_inputs_and_outputs_are_inner_nodes_too(self):
        inner = generators.mlp([2, 3, 1, 1]).to_networkx()
        inner.remove_nodes_from([v for v, place in inner.nodes(data="freewire_output") if place is not None])
        graph = generators.attach_io(inner, 4, 2)
        assert graph.num_nodes == 12
        assert graph.inputs == (0, 1, 2, 3)
        assert graph.outputs == (10, 11)

    def test_attributes_win_and_travel(self, dag):
        dag.nodes["b"].update(activation="tanh", aggregation="max", bias=0.5)
        dag.nodes["z"].update(activation="linear", bias=-1.0)
        dag.edges["a", "b"].update(weight=2.0, sign=1)
        dag.edges["e", "c"].update(weight=-3.0, frozen=True)
        graph = generators.attach_io(dag, 2, 1, activation="selu", output_activation="sigmoid")
        d, c, b, a, e, z, out = range(2, 9)
        names = [ACTIVATIONS[code] for code in graph.activation]
        assert names == ["linear"] * 2 + ["selu", "selu", "tanh", "selu", "selu", "linear", "sigmoid"]
        assert [AGGREGATIONS[code] for code in graph.aggregation] == ["sum"] * 4 + ["max"] + ["sum"] * 4
        assert {v: x for v, x in enumerate(graph.bias.tolist()) if x == x} == {b: 0.5, z: -1.0}
        edges = list(map(tuple, graph.edge_index.T.tolist()))
        given = {edge: x for edge, x in zip(edges, graph.weight.tolist(), strict=True) if x == x}
        assert given == {(a, b): 2.0, (e, c): -3.0}
        assert {edge for edge, x in zip(edges, graph.sign, strict=True) if x} == {(a, b)}
        assert {edge for edge, x in zip(edges, graph.frozen, strict=True) if x} == {(e, c)}
        assert {(d, out), (c, out), (z, out)} <= set(edges)

    def test_parallel_edges_keep_their_own_weights(self):
        dag = nx.MultiDiGraph()
        dag.add_edge("u", "v", weight=1.0)
        dag.add_edge("u", "v", weight=2.0)
        dag.add_edge("u", "v")
        graph = generators.attach_io(dag, 1, 1)
        inside = [x for (u, _), x in zip(graph.edge_index.T.tolist(), graph.weight.tolist(), strict=True) if u == 1]
        assert inside[:2] == [1.0, 2.0]
        assert math.isnan(inside[2])

    def test_same_as_wired_by_hand_in_networkx(self):
        inner = generators.erdos_renyi_dag(25, 0.2, seed=4)
        for i, (u, v) in enumerate(inner.edges):
            inner.edges[u, v]["weight"] = i / 7
        by_hand = nx.DiGraph()
        by_hand.add_nodes_from(range(3 + 25 + 2))
        by_hand.add_edges_from((u + 3, v + 3, data) for u, v, data in inner.edges(data=True))
        by_hand.add_edges_from((i, v + 3) for i in range(3) for v in inner if inner.in_degree(v) == 0)
        by_hand.add_edges_from((v + 3, 28 + o) for o in range(2) for v in inner if inner.out_degree(v) == 0)
        expected = Graph.from_networkx(by_hand, inputs=range(3), outputs=(28, 29))
        graph = generators.attach_io(inner, 3, 2)
        np.testing.assert_array_equal(graph.edge_index, expected.edge_index)
        np.testing.assert_array_equal(graph.weight, expected.weight)
        np.testing.assert_array_equal(graph.activation, expected.activation)


# ---------------------------------------------------------------------- errors

CHAIN = nx.DiGraph([(0, 1)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.random_graph(0, 5, 1, 2), r"num_inputs: expected an integer of at least 1, got 0\. "),
        (lambda g: g.random_graph(2, -1, 1, 2), r"num_hidden: expected an integer of at least 0, got -1\. "),
        (lambda g: g.random_graph(2, 5, 0, 2), r"num_outputs: expected an integer of at least 1, got 0\. "),
        (lambda g: g.random_graph(2, 5, 1, 0), r"fan_in: expected an integer of at least 1, got 0\. "),
        (lambda g: g.densenet(0, 5, 1), r"num_inputs: expected an integer of at least 1, got 0\. "),
        (
            lambda g: g.mlp([5]),
            r"sizes: expected a list of at least two layer sizes, got \[5\]\. List the sizes",
        ),
        (lambda g: g.mlp(5), r"sizes: expected a list of at least two layer sizes, got 5\. "),
        (lambda g: g.mlp("55"), r"sizes: expected a list of at least two layer sizes, got '55'\. "),
        (
            lambda g: g.mlp([5, 0, 1]),
            r"sizes: expected an integer of at least 1, got 0\. Give the number of nodes in",
        ),
        (lambda g: g.attach_io(CHAIN, 0, 1), r"num_inputs: expected an integer of at least 1, got 0\. "),
        (lambda g: g.attach_io(CHAIN, 1, 0), r"num_outputs: expected an integer of at least 1, got 0\. "),
        (
            lambda g: g.attach_io(CHAIN, 3, 1, fan_in=0),
            r"fan_in: expected an integer of at least 1, got 0\. ",
        ),
        (
            lambda g: g.attach_io(CHAIN, 3, 1, fan_in=4),
            r"fan_in: expected at most num_inputs=3, got 4\. Lower it",
        ),
        (
            lambda g: g.attach_io(nx.path_graph(3), 1, 1),
            r"dag: expected a networkx DiGraph or MultiDiGraph, got Graph\. Give every edge a direction",
        ),
        (
            lambda g: g.attach_io([(0, 1)], 1, 1),
            r"dag: expected a networkx DiGraph or MultiDiGraph, got list\. ",
        ),
        (lambda g: g.attach_io(nx.DiGraph(), 1, 1), r"dag: expected at least one node, got none\. "),
        (
            lambda g: g.attach_io(nx.DiGraph([("a", "b"), ("b", "a"), ("c", "a")]), 1, 1),
            r"graph: expected no cycle, got ('a' -> 'b' -> 'a'|'b' -> 'a' -> 'b')",
        ),
    ],
)
def test_errors(call, message):
    assert_refused(lambda: call(generators), message)


def test_an_attribute_error_names_the_callers_node():
    dag = nx.DiGraph([("a", "b")])
    dag.nodes["b"]["activation"] = "rectify"
    assert_refused(lambda: generators.attach_io(dag, 1, 1), "activation of node 'b': expected one of .*got 'rectify'")
