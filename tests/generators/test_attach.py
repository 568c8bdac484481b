# SPDX-License-Identifier: MIT
"""attach_io: which nodes read and feed, and the attributes that are kept."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from freewire import generators
from freewire.graph import ACTIVATIONS, AGGREGATIONS, Graph
from tests.support.messages import assert_refused
from tests.support.promises import Seeded, assert_fits, sources_of


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


class TestAttach:
    @pytest.fixture
    def dag(self):
        """Names in random order: "d" <- "a" -> "b" -> "c" <- "e", and "z" on its own."""
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
        from_inputs = {(i, v) for i in (0, 1) for v in (a, e, z)}
        to_outputs = {(v, o) for v in (d, c, z) for o in (8, 9)}
        assert set(map(tuple, graph.edge_index.T.tolist())) == inner | from_inputs | to_outputs
        assert graph.num_edges == len(inner | from_inputs | to_outputs)

    def test_every_node_reads_inputs(self, dag):
        sources = sources_of(generators.attach_io(dag, 5, 1, every_node=True))
        assert all(sources[v][:5] == [0, 1, 2, 3, 4] for v in range(5, 11))

    def test_fan_in_draws_distinct_inputs(self, dag):
        for every_node, readers in ((False, {8, 9, 10}), (True, set(range(5, 11)))):
            seen = Counter()
            for seed in range(500):
                sources = sources_of(generators.attach_io(dag, 5, 1, 2, every_node, seed=seed))
                drawn = {v: tuple(u for u in sources[v] if u < 5) for v in range(5, 11)}
                assert {v for v in drawn if drawn[v]} == readers
                seen.update(drawn[v] for v in readers)
            assert_fits(seen, dict.fromkeys(combinations(range(5), 2), 1 / 10))

    def test_the_given_graph_is_not_changed(self, dag):
        before = nx.to_dict_of_dicts(dag)
        generators.attach_io(dag, 2, 2, activation="sin")
        assert nx.to_dict_of_dicts(dag) == before
        assert list(dag) == list("dcbaez")
        assert not dag.graph

    def test_recorded_inputs_and_outputs_become_inner_nodes(self):
        inner = generators.mlp([2, 3, 1, 1]).to_networkx()
        inner.remove_nodes_from([v for v, place in inner.nodes(data="freewire_output") if place is not None])
        graph = generators.attach_io(inner, 4, 2)
        assert graph.num_nodes == 12
        assert graph.inputs == (0, 1, 2, 3)
        assert graph.outputs == (10, 11)

    def test_attributes_take_precedence_and_are_kept(self, dag):
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

    def test_equals_a_graph_wired_in_networkx(self):
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


CHAIN = nx.DiGraph([(0, 1)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.attach_io(CHAIN, 0, 1), r"num_inputs: expected a whole number of at least 1, got 0\. "),
        (lambda g: g.attach_io(CHAIN, 1, 0), r"num_outputs: expected a whole number of at least 1, got 0\. "),
        (
            lambda g: g.attach_io(CHAIN, 3, 1, fan_in=0),
            r"fan_in: expected a whole number of at least 1, got 0\. ",
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
