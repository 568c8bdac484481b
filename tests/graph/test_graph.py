# SPDX-License-Identifier: MIT
# ruff: noqa: N806 (G is networkx's own name for a graph)
"""Graphs against plain Python and networkx: constructors, canonical order, export, and every refusal."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable, Hashable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from tests.support.graphs import CASES, Wiring, assert_same_graph, graphs, wirings
from tests.support.messages import assert_refused

ARRAYS = (
    "edge_index",
    "edge_position",
    "input_index",
    "output_index",
    "computed_index",
    "level",
    "activation",
    "aggregation",
    "weight",
    "bias",
    "sign",
    "frozen",
    "reaches_output",
    "hears_input",
)
FULL = fw.Graph.from_edges(
    [0, 1, 0], [2, 2, 1], inputs=[0], weight=[1, 2, 3], bias=[0, 1, 2], sign=[0, 1, -1], frozen=[1, 0, 0]
)


def multi(wiring: Wiring, names: list[Hashable] | None = None) -> nx.MultiDiGraph:
    """The wiring as a networkx user would have built it."""
    name = list(range(wiring.num_nodes)) if names is None else names
    G = nx.MultiDiGraph()
    for i in range(wiring.num_nodes):
        G.add_node(name[i], activation=wiring.activation[i], aggregation=wiring.aggregation[i])
        if wiring.bias is not None:
            G.nodes[name[i]]["bias"] = wiring.bias[i]
        G.nodes[name[i]]["freewire_input"] = False
    for mark, ends in (("freewire_input", wiring.inputs), ("freewire_output", wiring.outputs)):
        for place, i in enumerate(ends):
            G.nodes[name[i]][mark] = place
    for e, (u, v) in enumerate(zip(wiring.src, wiring.dst, strict=True)):
        G.add_edge(name[u], name[v], **({} if wiring.weight is None else {"weight": wiring.weight[e]}))
    return G


def slow_levels(wiring: Wiring) -> list[int]:
    level = [0] * wiring.num_nodes
    for v in wiring.topological:
        for a, b in zip(wiring.src, wiring.dst, strict=True):
            if b == v:
                level[v] = max(level[v], level[a] + 1)
    return level


def slow_order(wiring: Wiring) -> list[int]:
    """The caller's edge numbers in canonical order, by the words of the documentation."""
    level = slow_levels(wiring)

    def key(e: int) -> tuple[int, ...]:
        u, v = wiring.src[e], wiring.dst[e]
        return level[v], v, level[u], u, e

    return sorted(range(len(wiring.src)), key=key)


def test_numbers_at_any_address() -> None:
    """Arrays cut out of a file's bytes need not be aligned."""
    raw = b"1234" + np.array([0, 1, 0], "<i8").tobytes()
    src = np.frombuffer(raw, "<i8", offset=4)
    assert not src.flags.aligned
    assert fw.Graph.from_edges(src, [2, 2, 1]).edge_index.tolist() == [[0, 0, 1], [1, 2, 2]]


class TestOrder:
    """Levels, canonical edge order, and where the caller's edges went."""

    @given(wirings())
    def test_edges_stand_in_canonical_order(self, wiring):
        g, order = wiring.build(), slow_order(wiring)
        assert g.edge_index.dtype == np.int64
        assert g.edge_index.shape == (2, len(order))
        assert g.edge_index.tolist() == [[wiring.src[e] for e in order], [wiring.dst[e] for e in order]]

    @given(wirings())
    def test_edge_position_is_the_column_of_the_callers_edge(self, wiring):
        g, order = wiring.build(), slow_order(wiring)
        assert g.edge_position.dtype == np.int64
        assert g.edge_position.tolist() == [order.index(e) for e in range(len(order))]
        assert g.edge_index[:, g.edge_position].tolist() == [wiring.src, wiring.dst]
        if wiring.weight is not None and wiring.src:
            assert g.weight[g.edge_position].tolist() == wiring.weight

    @given(wirings())
    def test_levels_and_depth_are_longest_paths(self, wiring):
        g = wiring.build()
        G = nx.DiGraph(zip(wiring.src, wiring.dst, strict=True))
        G.add_nodes_from(range(wiring.num_nodes))
        assert g.depth == nx.dag_longest_path_length(G)
        assert g.level.tolist() == slow_levels(wiring)

    @given(wirings(stored=False), st.randoms(use_true_random=False))
    def test_the_callers_order_matters_to_parallel_edges_only(self, wiring, random):
        before = wiring.build()
        shuffled = list(range(len(wiring.src)))
        random.shuffle(shuffled)
        wiring.src = [wiring.src[e] for e in shuffled]
        wiring.dst = [wiring.dst[e] for e in shuffled]
        assert_same_graph(before, wiring.build())

    def test_node_order_breaks_ties_and_not_the_names(self):
        G = nx.DiGraph([("z", "y"), ("b", "y"), ("a", "y"), ("z", "x")])  # nodes z y b a x
        g = fw.Graph.from_networkx(G)
        assert [(g.nodes[u], g.nodes[v]) for u, v in g.edge_index.T] == [
            ("z", "y"),
            ("b", "y"),
            ("a", "y"),
            ("z", "x"),
        ]

    def test_a_million_edges(self):
        src, dst = np.divmod(np.arange(1_000_000), 1000)
        g = fw.Graph.from_edges(src[::-1], dst[::-1] + 1000)
        assert (g.num_nodes, g.num_edges, g.depth) == (2000, 1_000_000, 1)
        np.testing.assert_array_equal(g.edge_index, [dst, src + 1000])

    def test_a_long_chain(self):
        g = fw.Graph.from_edges(np.arange(5000)[::-1], np.arange(1, 5001)[::-1])
        assert g.depth == 5000
        np.testing.assert_array_equal(g.edge_index, [np.arange(5000), np.arange(1, 5001)])
        assert g.reaches_output.all()
        assert g.hears_input.all()


class TestConstructors:
    """from_networkx, from_edges, from_adjacency and union agree with one another."""

    @given(wirings())
    def test_networkx_agrees_with_edges(self, wiring):
        if wiring.bias is not None and all(v in wiring.inputs for v in range(wiring.num_nodes)):
            wiring.bias = None  # no node could carry it
        assert_same_graph(fw.Graph.from_networkx(multi(wiring)), wiring.build())

    @given(wirings(stored=False))
    def test_adjacency_agrees_with_edges(self, wiring):
        pairs = sorted(set(zip(wiring.src, wiring.dst, strict=True)))
        wiring.src, wiring.dst = [u for u, _ in pairs], [v for _, v in pairs]
        wiring.weight = [(-1) ** e * (e + 0.5) for e in range(len(pairs))]
        dense = np.zeros((wiring.num_nodes, wiring.num_nodes))
        dense[wiring.src, wiring.dst] = wiring.weight
        options = wiring.arguments()
        for used in ("src", "dst", "num_nodes", "weight"):
            del options[used]
        expected = wiring.build()
        for matrix in (dense, dense.tolist(), sparse.csr_array(dense), sparse.coo_matrix(dense)):
            assert_same_graph(fw.Graph.from_adjacency(matrix, **options), expected)

    @pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
    def test_every_sparse_format(self, form):
        dense = np.triu(np.arange(1.0, 17).reshape(4, 4), 1)
        matrix = sparse.csr_array(dense).asformat(form)
        assert_same_graph(fw.Graph.from_adjacency(matrix), fw.Graph.from_adjacency(dense))

    def test_positional_arguments_stand_as_documented(self):
        dense = [[0, 0, 2.0], [0, 0, 1.0], [0, 0, 0]]
        g = fw.Graph.from_adjacency(dense, [1, 0], [2, 1], "tanh", "sigmoid")
        G = nx.DiGraph()
        G.add_nodes_from(range(3))
        G.add_weighted_edges_from([(0, 2, 2.0), (1, 2, 1.0)])
        assert_same_graph(g, fw.Graph.from_networkx(G, [1, 0], [2, 1], "tanh", "sigmoid"))
        assert (g.inputs, g.outputs) == ((1, 0), (2, 1))

    @pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.bsr_array])
    def test_repeated_sparse_entries_add_up(self, kind):
        twice = np.array([1.0, 2.0, 4.0])
        if kind is sparse.coo_array:
            matrix = kind((twice, ([0, 0, 1], [1, 1, 2])), shape=(3, 3))
        elif kind is sparse.csc_array:
            matrix = kind((twice, np.array([0, 0, 1]), np.array([0, 0, 2, 3])), shape=(3, 3))
        else:
            blocks = twice.reshape(3, 1, 1) if kind is sparse.bsr_array else twice
            matrix = kind((blocks, np.array([1, 1, 2]), np.array([0, 2, 3, 3])), shape=(3, 3))
        before = matrix.data.copy()
        g = fw.Graph.from_adjacency(matrix)
        assert g.edge_index.tolist() == [[0, 1], [1, 2]]
        assert g.weight.tolist() == [3.0, 4.0]
        np.testing.assert_array_equal(matrix.data, before)  # the caller's matrix is left as it was

    def test_sparse_entries_that_are_zero_are_no_edges(self):
        explicit = sparse.csr_array((np.array([0.0, 5.0]), np.array([1, 2]), np.array([0, 2, 2, 2])), (3, 3))
        assert fw.Graph.from_adjacency(explicit).edge_index.tolist() == [[0], [2]]
        cancelling = sparse.coo_array(([1.0, -1.0, 2.0], ([0, 0, 0], [1, 1, 2])), shape=(3, 3))
        assert fw.Graph.from_adjacency(cancelling).edge_index.tolist() == [[0], [2]]

    def test_a_mask_gives_weights_of_one(self):
        mask = np.array([[False, True], [False, False]])
        assert fw.Graph.from_adjacency(mask).weight.tolist() == [1.0]
        assert fw.Graph.from_adjacency(sparse.csr_array(mask)).weight.tolist() == [1.0]

    @pytest.mark.parametrize("kind", [np.int8, np.int32, np.uint16, np.uint64, np.int64])
    def test_node_numbers_of_any_integer_type(self, kind):
        g = fw.Graph.from_edges(np.array([0, 1], kind), np.array([1, 2], kind), inputs=np.array([0], kind))
        assert_same_graph(g, fw.Graph.from_edges([0, 1], [1, 2]))

    @given(st.lists(graphs(max_nodes=6, max_edges=8), min_size=1, max_size=4))
    def test_union_puts_graphs_side_by_side(self, members):
        g = fw.Graph.union(members)
        offset = np.cumsum([0, *(m.num_nodes for m in members)]).tolist()
        shifted = list(zip(members, offset, strict=False))
        assert g.nodes == range(offset[-1])
        assert g.inputs == tuple(v + o for m, o in shifted for v in m.inputs)
        assert g.outputs == tuple(v + o for m, o in shifted for v in m.outputs)
        assert g.level.tolist() == [x for m in members for x in m.level.tolist()]
        assert g.activation.tolist() == [x for m in members for x in m.activation.tolist()]
        assert g.aggregation.tolist() == [x for m in members for x in m.aggregation.tolist()]
        edges, at = g.edge_index[:, g.edge_position].T.tolist(), 0
        for m, o in shifted:  # the i-th edge of the caller is the i-th of all members' canonical edges
            assert edges[at : at + m.num_edges] == (m.edge_index.T + o).tolist()
            for mine, all_of_them, here in (
                (m.weight, g.weight, g.edge_position[at : at + m.num_edges]),
                (m.bias, g.bias, np.arange(o, o + m.num_nodes)),
            ):
                size = len(here)
                values = np.full(size, np.nan) if all_of_them is None else all_of_them[here]
                np.testing.assert_array_equal(values, np.full(size, np.nan) if mine is None else mine)
            at += m.num_edges
        assert at == g.num_edges

    def test_union_of_one_is_equal(self):
        for g in (*CASES.values(), FULL):
            assert_same_graph(fw.Graph.union([g]), g)

    def test_union_names_members_where_one_has_names(self):
        named = fw.Graph.from_networkx(nx.DiGraph([("x", "y")]))
        g = fw.Graph.union(iter([named, CASES["single_edge"], named]))
        assert g.nodes == ((0, "x"), (0, "y"), (1, 0), (1, 1), (2, "x"), (2, "y"))
        assert g.inputs == ((0, "x"), (1, 0), (2, "x"))
        assert g.outputs == ((0, "y"), (1, 1), (2, "y"))

    def test_union_keeps_what_single_edges_store(self):
        g = fw.Graph.union([CASES["single_edge"], FULL])
        where = g.edge_position[1:]
        assert g.sign[where].tolist() == FULL.sign.tolist()
        assert g.frozen[where].tolist() == FULL.frozen.tolist()
        assert (g.sign[g.edge_position[0]], g.frozen[g.edge_position[0]]) == (0, False)

    def test_only_the_constructors_make_graphs(self):
        with pytest.raises(TypeError, match=r"^Graph: expected one of Graph\.from_networkx, .*got a direct call"):
            fw.Graph()


class TestNodes:
    """Names, inputs, outputs, activations and aggregations."""

    def test_arrays_name_nodes_by_number(self):
        g = fw.Graph.from_edges([0], [2], num_nodes=4, inputs=[0, 1])
        assert g.nodes == range(4)
        assert (g.num_nodes, g.num_edges, g.depth) == (4, 1, 1)
        assert g.inputs == (0, 1)
        assert [type(v) for v in g.inputs] == [int, int]

    def test_names_are_anything_hashable(self):
        class Thing:
            pass

        thing = Thing()
        names = ["a", 7, 2.5, ("t", (1, None)), frozenset({1}), thing, b"bytes", True, np.str_("n"), Thing]
        G = nx.DiGraph(itertools.pairwise(names))
        g = fw.Graph.from_networkx(G, inputs=["a"], outputs=[thing, Thing])
        assert g.nodes == tuple(names)
        assert g.inputs == ("a",)
        assert g.outputs == (thing, Thing)
        assert list(g.to_networkx().nodes) == names

    @given(wirings())
    def test_inputs_left_out_are_the_nodes_of_in_degree_0(self, wiring):
        g = fw.Graph.from_edges(wiring.src, wiring.dst, num_nodes=wiring.num_nodes)
        assert g.inputs == tuple(v for v in range(wiring.num_nodes) if v not in wiring.dst)
        assert g.outputs == tuple(v for v in range(wiring.num_nodes) if v not in wiring.src)
        assert g.input_index.tolist() == list(g.inputs)
        assert g.output_index.tolist() == list(g.outputs)

    def test_networkx_inputs_left_out(self):
        G = nx.DiGraph([("b", "c"), ("a", "c"), ("c", "d"), ("c", "e")])
        g = fw.Graph.from_networkx(G)
        assert (g.inputs, g.outputs) == (("b", "a"), ("d", "e"))

    def test_given_order_is_kept(self):
        g = fw.Graph.from_edges([0, 1, 2, 2], [2, 2, 3, 4], inputs=[1, 0], outputs=[4, 2, 3])
        assert (g.inputs, g.outputs) == ((1, 0), (4, 2, 3))
        assert g.input_index.tolist() == [1, 0]
        assert g.output_index.tolist() == [4, 2, 3]
        assert g.computed_index.tolist() == [2, 3, 4]

    def test_what_to_networkx_wrote_is_read_and_arguments_win(self):
        G = fw.Graph.from_networkx(nx.DiGraph([("x", "h"), ("h", "y")]), outputs=["h"]).to_networkx()
        assert fw.Graph.from_networkx(G).outputs == ("h",)
        assert fw.Graph.from_networkx(G, outputs=["y", "h"]).outputs == ("y", "h")
        assert fw.Graph.from_networkx(G, inputs=[]).inputs == ()
        renamed = nx.relabel_nodes(G, str.upper)
        assert fw.Graph.from_networkx(renamed).outputs == ("H",)

    def test_marks_give_the_order(self):
        G = nx.DiGraph([("a", "y"), ("b", "y"), ("c", "y")])
        nx.set_node_attributes(G, {"a": 7, "b": -1.5, "c": False}, "freewire_input")
        assert fw.Graph.from_networkx(G).inputs == ("b", "a")
        nx.set_node_attributes(G, {"a": True, "b": True}, "freewire_input")
        assert fw.Graph.from_networkx(G).inputs == ("a", "b")

    def test_any_node_may_be_output_input_or_feed(self):
        g = fw.Graph.from_edges([0, 1], [1, 2], inputs=[0], outputs=[0, 1, 2])
        assert (g.inputs, g.outputs) == ((0,), (0, 1, 2))

    def test_isolated_nodes_are_kept(self):
        G = nx.DiGraph([("x", "y")])
        G.add_node("alone")
        g = fw.Graph.from_networkx(G, inputs=["x"], outputs=["y"])
        assert g.nodes == ("x", "y", "alone")
        assert not g.reaches_output[2]
        assert not g.hears_input[2]

    def test_activations_by_place(self):
        g = fw.Graph.from_edges([0, 1, 2], [1, 2, 3], activation="tanh", output_activation="sin")
        assert [ACTIVATIONS[c] for c in g.activation] == ["linear", "tanh", "tanh", "sin"]
        g = fw.Graph.from_edges([0, 1, 2], [1, 2, 3])
        assert [ACTIVATIONS[c] for c in g.activation] == ["linear", "relu", "relu", "linear"]
        assert [AGGREGATIONS[c] for c in g.aggregation] == ["sum"] * 4
        # one name a node: the outputs' own too; an input is not computed, so its codes say nothing
        g = fw.Graph.from_edges([0, 1], [1, 2], activation=["step", "sin", "cos"], aggregation=["max", "min", "mean"])
        assert [ACTIVATIONS[c] for c in g.activation] == ["linear", "sin", "cos"]
        assert [AGGREGATIONS[c] for c in g.aggregation] == ["sum", "min", "mean"]

    def test_node_attributes_win_over_arguments(self):
        G = nx.DiGraph([("x", "h"), ("h", "k"), ("k", "y"), ("k", "z")])
        G.nodes["h"].update(activation="gelu", aggregation="maxabs")
        G.nodes["y"]["activation"] = "selu"
        G.nodes["x"].update(activation="sin", aggregation="max")
        g = fw.Graph.from_networkx(G, activation="tanh", output_activation="sigmoid")
        assert [ACTIVATIONS[c] for c in g.activation] == ["linear", "gelu", "tanh", "selu", "sigmoid"]
        assert [AGGREGATIONS[c] for c in g.aggregation] == ["sum", "maxabs", "sum", "sum", "sum"]

    @pytest.mark.parametrize("name", ["activation", "aggregation"])
    def test_an_inputs_attributes_are_not_read(self, name):
        G = nx.DiGraph([("x", "y")])
        G.nodes["x"][name] = None
        assert_same_graph(fw.Graph.from_networkx(G), fw.Graph.from_networkx(nx.DiGraph([("x", "y")])))

    def test_every_name_is_its_code(self):
        nodes = range(1, 1 + len(ACTIVATIONS))
        g = fw.Graph.from_edges([0] * len(nodes), nodes, activation=["linear", *ACTIVATIONS])
        assert g.activation.tolist() == [0, *range(len(ACTIVATIONS))]
        nodes = range(1, 1 + len(AGGREGATIONS))
        g = fw.Graph.from_edges([0] * len(nodes), nodes, aggregation=["sum", *AGGREGATIONS])
        assert g.aggregation.tolist() == [0, *range(len(AGGREGATIONS))]

    def test_the_names_are_those_of_the_documentation(self):
        assert set(ACTIVATIONS) == set(
            [
                "linear",
                "relu",
                "leaky_relu",
                "elu",
                "selu",
                "gelu",
                "silu",
                "softplus",
                "sigmoid",
                "tanh",
                "sin",
                "cos",
                "gaussian",
                "abs",
                "square",
                "step",
                "hard_tanh",
                "hard_sigmoid",
            ]
        )
        assert set(AGGREGATIONS) == set(["sum", "mean", "product", "max", "min", "maxabs"])

    @given(wirings())
    def test_dead_and_deaf_nodes(self, wiring):
        g = wiring.build()
        G = nx.DiGraph(zip(wiring.src, wiring.dst, strict=True))
        G.add_nodes_from(range(wiring.num_nodes))
        alive = set(wiring.outputs).union(*(nx.ancestors(G, v) for v in wiring.outputs))
        hears = set(wiring.inputs).union(*(nx.descendants(G, v) for v in wiring.inputs))
        assert set(np.flatnonzero(g.reaches_output)) == alive
        assert set(np.flatnonzero(g.hears_input)) == hears
        assert g.computed_index.tolist() == [v for v in range(wiring.num_nodes) if v not in wiring.inputs]
        dead, deaf = wiring.num_nodes - len(alive), wiring.num_nodes - len(hears)
        assert (f"{dead} of them reaching no output" in repr(g)) == bool(dead)
        assert (f"{deaf} of them hearing no input" in repr(g)) == bool(deaf)

    def test_repr(self):
        assert repr(CASES["diamond"]) == "Graph(4 nodes, 1 inputs, 1 outputs, 4 edges, depth 2)"
        assert repr(CASES["disconnected"]) == (
            "Graph(9 nodes, 4 of them reaching no output, 4 of them hearing no input, 3 inputs, 3 outputs, "
            "3 edges, depth 1)"
        )
        assert repr(CASES["fan_in_1000"]) == "Graph(1,006 nodes, 1,000 inputs, 6 outputs, 6,000 edges, depth 1)"


class TestStored:
    """Weights, biases and the reserved attributes that a graph carries."""

    def test_none_where_none_is_given(self):
        g = CASES["diamond"]
        assert (g.weight, g.bias, g.sign, g.frozen) == (None, None, None, None)

    def test_parallel_edges_have_their_own_weights(self):
        G = nx.MultiDiGraph()
        G.add_edge("x", "y", weight=1.0)
        G.add_edge("x", "z", weight=2.0)
        G.add_edge("x", "y", weight=3.0)
        g = fw.Graph.from_networkx(G)
        assert g.edge_index.tolist() == [[0, 0, 0], [1, 1, 2]]
        assert g.weight.tolist() == [1.0, 3.0, 2.0]
        assert g.edge_position.tolist() == [0, 1, 2]  # of G.edges, which lists a pair's edges together
        g = fw.Graph.from_edges([0, 0, 0], [1, 2, 1], weight=[1, 2, 3])
        assert g.weight.tolist() == [1.0, 3.0, 2.0]
        assert g.edge_position.tolist() == [0, 2, 1]

    def test_some_weights_and_some_biases(self):
        G = nx.DiGraph([("x", "h"), ("h", "y"), ("x", "y")])
        G.edges["h", "y"]["weight"] = "2.5"  # graph files bring numbers as text
        G.nodes["h"]["bias"] = np.float32(0.5)
        g = fw.Graph.from_networkx(G)
        np.testing.assert_array_equal(g.weight, [np.nan, np.nan, 2.5])
        np.testing.assert_array_equal(g.bias, [np.nan, 0.5, np.nan])
        assert g.weight.dtype == g.bias.dtype == np.float64

    def test_an_inputs_bias_of_zero_is_dropped(self):
        g = fw.Graph.from_edges([0], [1], bias=[0, 3])
        np.testing.assert_array_equal(g.bias, [np.nan, 3])

    def test_infinite_weights_are_numbers(self):
        assert fw.Graph.from_edges([0], [1], weight=[np.inf]).weight.tolist() == [np.inf]

    def test_reserved_attributes_are_carried(self):
        assert FULL.edge_index.tolist() == [[0, 0, 1], [1, 2, 2]]
        assert FULL.weight.tolist() == [3, 1, 2]
        assert (FULL.sign.tolist(), FULL.sign.dtype) == ([-1, 0, 1], np.int8)
        assert (FULL.frozen.tolist(), FULL.frozen.dtype) == ([False, True, False], np.bool_)
        plain = fw.Graph.from_edges([0], [1], sign=[0], frozen=[False])
        assert (plain.sign, plain.frozen) == (None, None)

    def test_with_values_is_the_same_wiring(self):
        g = CASES["diamond"].with_values([1, 2, np.nan, 4], [np.nan, 1, 2, 3])
        np.testing.assert_array_equal(g.weight, [1, 2, np.nan, 4])
        np.testing.assert_array_equal(g.bias, [np.nan, 1, 2, 3])
        assert g.wiring_hash == CASES["diamond"].wiring_hash
        assert_same_graph(g.with_values(), CASES["diamond"])
        assert CASES["diamond"].weight is None


class TestExport:
    """to_networkx and back."""

    @given(wirings(), st.data())
    def test_round_trip(self, wiring, data):
        names = data.draw(
            st.lists(
                st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers(), st.text(max_size=2))),
                unique=True,
                min_size=wiring.num_nodes,
                max_size=wiring.num_nodes,
            )
        )
        G = multi(wiring, names)
        for attributes in (*(d for _, d in G.nodes(data=True)), *(d for _, _, d in G.edges(data=True))):
            for name in ("weight", "bias"):  # some edges and nodes store none
                if name in attributes and data.draw(st.booleans()):
                    del attributes[name]
        g = fw.Graph.from_networkx(G)
        assert_same_graph(fw.Graph.from_networkx(g.to_networkx()), g)

    def test_attributes_written(self):
        G = FULL.to_networkx()
        assert type(G) is nx.DiGraph
        assert not G.graph
        assert dict(G.nodes(data=True)) == {
            0: {"freewire_input": 0},
            1: {"activation": "relu", "aggregation": "sum", "bias": 1.0},
            2: {"activation": "linear", "aggregation": "sum", "bias": 2.0, "freewire_output": 0},
        }
        assert list(G.edges(data=True)) == [
            (0, 1, {"weight": 3.0, "sign": -1}),
            (0, 2, {"weight": 1.0, "frozen": True}),
            (1, 2, {"weight": 2.0, "sign": 1}),
        ]
        assert_same_graph(fw.Graph.from_networkx(G), FULL)

    def test_parallel_edges_make_a_multigraph(self):
        assert type(CASES["parallel_edges"].to_networkx()) is nx.MultiDiGraph
        assert type(CASES["diamond"].to_networkx()) is nx.DiGraph

    @pytest.mark.parametrize("name", CASES)
    def test_cases_come_back(self, name):
        assert_same_graph(fw.Graph.from_networkx(CASES[name].to_networkx()), CASES[name])


class TestImmutable:
    """Nothing changes a graph once it is made."""

    @pytest.mark.parametrize("name", ARRAYS)
    def test_arrays_are_read_only(self, name):
        for g in (FULL, FULL.with_values([1, 2, 3], [0, 1, 2]), pickle.loads(pickle.dumps(FULL))):
            array = getattr(g, name)
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0

    @pytest.mark.parametrize(
        "name", [*ARRAYS, "nodes", "inputs", "outputs", "num_nodes", "depth", "wiring_hash", "other"]
    )
    def test_attributes_are_read_only(self, name):
        g = copy.copy(FULL)
        getattr(g, name, None)  # cached or not
        with pytest.raises(AttributeError):
            setattr(g, name, None)

    def test_a_callers_arrays_are_copied(self):
        src, dst, weight, bias = np.array([0]), np.array([1]), np.array([2.0]), np.array([0, 3.0])
        inputs, outputs = np.array([0]), np.array([1])
        g = fw.Graph.from_edges(src, dst, weight=weight, bias=bias, inputs=inputs, outputs=outputs)
        before = pickle.loads(pickle.dumps(g))
        for array in (src, dst, weight, bias, inputs, outputs):
            array += 7
        assert_same_graph(g, before)
        assert src.flags.writeable

    def test_a_networkx_graph_is_copied(self):
        G = nx.DiGraph([("x", "y")])
        g = fw.Graph.from_networkx(G)
        G.add_edge("y", "z")
        assert g.nodes == ("x", "y")

    def test_deepcopy_is_itself(self):
        assert copy.deepcopy(FULL) is FULL
        assert copy.deepcopy([FULL])[0] is FULL

    @given(graphs())
    def test_pickle_round_trip(self, g):
        again = pickle.loads(pickle.dumps(g))
        assert_same_graph(again, g)
        np.testing.assert_array_equal(again.edge_position, g.edge_position)
        assert repr(again) == repr(g)


class TestWiringHash:
    """The hash that ties a state_dict to a wiring."""

    GOLDEN = "a2c2a95a245fb90a30ea77925c62fabe0dd3c5fd8872756769b984db691c5966"

    def build(self, **changes: Any) -> fw.Graph:
        arguments: dict[str, Any] = dict(src=[0, 1, 0, 3], dst=[2, 2, 3, 4], num_nodes=5, inputs=[0, 1], outputs=[2, 4])
        return fw.Graph.from_edges(**{**arguments, **changes})

    def test_golden(self):
        assert self.build().wiring_hash == self.GOLDEN

    @pytest.mark.parametrize(
        "changes",
        [
            {"num_nodes": 6},
            {"inputs": [1, 0]},
            {"inputs": [0]},
            {"outputs": [4, 2]},
            {"outputs": [2, 3, 4]},
            {"dst": [2, 2, 3, 2]},
            {"src": [0, 1, 0, 3, 3], "dst": [2, 2, 3, 4, 4]},
            {"activation": "tanh"},
            {"output_activation": "tanh"},
            {"aggregation": "mean"},
        ],
        ids=lambda changes: "-".join(changes),
    )
    def test_changes_with(self, changes):
        assert self.build(**changes).wiring_hash != self.GOLDEN

    @pytest.mark.parametrize(
        "changes",
        [
            {"weight": [1, 2, 3, 4]},
            {"bias": [0, 0, 1, 2, 3]},
            {"src": [3, 0, 0, 1], "dst": [4, 3, 2, 2]},
            {"frozen": [1, 1, 1, 1], "sign": [1, 1, 1, 1]},
            {"activation": ["tanh", "sin", "linear", "relu", "linear"]},  # an input's says nothing
        ],
        ids=["weight", "bias", "edge order", "reserved", "input's activation"],
    )
    def test_does_not_change_with(self, changes):
        assert self.build(**changes).wiring_hash == self.GOLDEN

    def test_does_not_change_with_names(self):
        G = nx.relabel_nodes(self.build().to_networkx(), lambda v: f"node {v}")
        g = fw.Graph.from_networkx(G, ["node 0", "node 1"], ["node 2", "node 4"])
        assert g.wiring_hash == self.GOLDEN


def marked_with(value: Any) -> nx.DiGraph:
    G = nx.DiGraph([("a", "b")])
    G.nodes["a"]["freewire_input"] = value
    return G


def from_edges(*edges: tuple[int, int], **options: Any) -> fw.Graph:
    return fw.Graph.from_edges([u for u, _ in edges], [v for _, v in edges], **options)


def from_networkx(*edges: tuple[Any, ...], **options: Any) -> fw.Graph:
    return fw.Graph.from_networkx(nx.DiGraph(edges), **options)


def with_node(**attributes: Any) -> fw.Graph:
    G = nx.DiGraph([("x", "y")])
    G.nodes["y"].update(attributes)
    return fw.Graph.from_networkx(G)


def with_edge(**attributes: Any) -> fw.Graph:
    G = nx.DiGraph()
    G.add_edge("x", "y", **attributes)
    return fw.Graph.from_networkx(G)


KNOWN = r"linear, relu, .*, hard_sigmoid"


class TestCycles:
    """A cycle is refused, and named."""

    def test_self_loop(self):
        assert_refused(lambda: from_edges((0, 1), (1, 1)), r"graph: expected no cycle, got 1 -> 1\. ")
        assert_refused(lambda: from_networkx(("a", "a")), r"graph: expected no cycle, got 'a' -> 'a'\. ")

    def test_two_nodes(self):
        assert_refused(
            lambda: from_networkx(("x", "a"), ("a", "b"), ("b", "a"), ("b", "y")),
            r"graph: expected no cycle, got ('a' -> 'b' -> 'a'|'b' -> 'a' -> 'b')\. ",
        )

    def test_follows_the_edges(self):
        assert_refused(
            lambda: from_edges((0, 1), (1, 2), (2, 3), (3, 1)),
            r"graph: expected no cycle, got (1 -> 2 -> 3 -> 1|2 -> 3 -> 1 -> 2|3 -> 1 -> 2 -> 3)\. ",
        )

    def test_nodes_before_and_after_it_are_not_named(self):
        before, after = [(i, i + 1) for i in range(50)], [(53, i) for i in range(54, 100)]
        assert_refused(
            lambda: from_edges(*after, *before, (50, 51), (51, 52), (52, 51), (52, 53)),
            r"graph: expected no cycle, got (51 -> 52 -> 51|52 -> 51 -> 52)\. ",
        )

    def test_a_long_one_is_cut_short(self):
        length = 1000
        assert_refused(
            lambda: from_edges(*((i, (i + 1) % length) for i in range(length)), inputs=[], outputs=[0]),
            r"graph: expected no cycle, got (\d+) -> (\d+ -> ){11}\.\.\. \(988 more\) -> \1\. Remove",
        )

    def test_of_many_any_is_named_whole(self):
        G = nx.gnp_random_graph(60, 0.1, seed=3, directed=True)
        with pytest.raises(fw.GraphError, match="expected no cycle, got ") as caught:
            fw.Graph.from_networkx(G, inputs=[], outputs=[0])
        cycle = str(caught.value).split("got ")[1].split(". ")[0].split(" -> ")
        assert cycle[0] == cycle[-1]
        assert len(cycle) > 2
        for u, v in itertools.pairwise(cycle):
            if "..." not in u + v:
                assert G.has_edge(int(u), int(v))

    def test_in_a_matrix(self):
        assert_refused(lambda: fw.Graph.from_adjacency(np.eye(2)), r"graph: expected no cycle, got (0 -> 0|1 -> 1)\. ")

    def test_of_parallel_edges(self):
        G = nx.MultiDiGraph([("a", "b"), ("a", "b"), ("b", "a")])
        assert_refused(
            lambda: fw.Graph.from_networkx(G), r"graph: expected no cycle, got '[ab]' -> '[ab]' -> '[ab]'\. "
        )


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    # kinds of graph
    "undirected": (
        lambda: fw.Graph.from_networkx(nx.Graph([(0, 1)])),
        r"G: expected a networkx DiGraph or MultiDiGraph, got Graph\. ",
    ),
    "no networkx graph": (
        lambda: fw.Graph.from_networkx([(0, 1)]),
        r"G: expected a networkx DiGraph or MultiDiGraph, got list\. ",
    ),
    "empty networkx graph": (
        lambda: fw.Graph.from_networkx(nx.DiGraph()),
        r"outputs: expected at least one node, got none\. ",
    ),
    "empty arrays": (lambda: from_edges(), r"outputs: expected at least one node, got none\. "),
    "empty matrix": (
        lambda: fw.Graph.from_adjacency(np.zeros((0, 0))),
        r"outputs: expected at least one node, got none\. ",
    ),
    # inputs and outputs
    "no output": (lambda: from_edges((0, 1), outputs=[]), r"outputs: expected at least one node, got none\. "),
    "input with in-edges": (
        lambda: from_edges((0, 1), (0, 2), (1, 2), inputs=[0, 2]),
        r"inputs: expected nodes without in-edges, got 2 with 2 in-edge\(s\) at the first\. ",
    ),
    "named input with in-edges": (
        lambda: from_networkx(("a", "b"), ("b", "c"), inputs=["a", "b", "c"]),
        r"inputs: expected nodes without in-edges, got 'b', 'c' with 1 ",
    ),
    "many inputs with in-edges": (
        lambda: from_edges(*((0, i) for i in range(1, 21)), inputs=range(21)),
        r"inputs: expected nodes without in-edges, got 1, 2, .*, 12, \.\.\. \(8 more\) with 1 ",
    ),
    "repeated input": (
        lambda: from_edges((0, 1), inputs=[0, 0]),
        r"inputs: expected each node once, got 0 more than once\. ",
    ),
    "repeated output": (
        lambda: from_networkx(("a", "b"), outputs=["b", "a", "b"]),
        r"outputs: expected each node once, got 'b' more than once\. ",
    ),
    "unknown input": (
        lambda: from_networkx(("a", "b"), inputs=["z"]),
        r"inputs: expected nodes of the graph, got 'z'\. ",
    ),
    "unknown output": (
        lambda: from_networkx(("a", "b"), outputs=[0]),
        r"outputs: expected nodes of the graph, got 0\. ",
    ),
    "unhashable input": (
        lambda: from_networkx(("a", "b"), inputs=[["a"]]),
        r"inputs: expected nodes of the graph, got \['a'\]\. ",
    ),
    "one input, no list": (lambda: from_networkx((0, 1), inputs=0), r"inputs: expected a list of node names, got "),
    "string for inputs": (
        lambda: from_networkx(("a", "b"), inputs="a"),
        r"inputs: expected a list of node names, got (the string )?'a'\. ",
    ),
    "string for outputs of arrays": (
        lambda: from_edges((0, 1), outputs="1"),
        r"outputs: expected a list of node names, got (the string )?'1'\. ",
    ),
    "marks that are no numbers": (
        lambda: fw.Graph.from_networkx(marked_with("first")),
        r"freewire_input of node 'a': expected a number, the place among the others, got 'first'\. ",
    ),
    "input number too large": (
        lambda: from_edges((0, 1), inputs=[2]),
        r"inputs: expected node numbers below 2, got 2\. ",
    ),
    "output number negative": (
        lambda: from_edges((0, 1), outputs=[-1]),
        r"outputs: expected node numbers below 2, got -1\. ",
    ),
    "input names for numbers": (
        lambda: from_edges((0, 1), inputs=["0"]),
        r"inputs: expected a one-dimensional array of integers, got <U1 of shape \[1\]\. ",
    ),
    "mask for outputs": (
        lambda: from_edges((0, 1), outputs=[False, True]),
        r"outputs: expected a one-dimensional array of integers, got bool of shape \[2\]\. ",
    ),
    # edges
    "src longer than dst": (
        lambda: fw.Graph.from_edges([0, 1], [2]),
        r"dst: expected 2 entries, as many as src, got 1\. ",
    ),
    "negative source": (
        lambda: from_edges((0, 1), (-1, 1)),
        r"src: expected node numbers from 0 to 1, got -1 at edge 1\. ",
    ),
    "destination too large": (
        lambda: from_edges((0, 1), (0, 5), num_nodes=5),
        r"dst: expected node numbers from 0 to 4, got 5 at edge 1\. ",
    ),
    "source beyond 64 bits": (
        lambda: fw.Graph.from_edges(np.array([2**63 + 1], np.uint64), [1]),
        r"src: expected node numbers from 0 to ",
    ),
    "source beyond any type": (
        lambda: from_edges((2**70, 1)),
        r"src: expected a one-dimensional array of integers, got object of shape \[1\]\. ",
    ),
    "node number that asks for terabytes": (lambda: from_edges((2**50, 1)), r"(src|num_nodes): expected .*, got "),
    "floats for sources": (
        lambda: fw.Graph.from_edges([0.0], [1]),
        r"src: expected a one-dimensional array of integers, got float64 of shape \[1\]\. ",
    ),
    "table of sources": (
        lambda: fw.Graph.from_edges([[0, 1]], [1, 2]),
        r"src: expected a one-dimensional array of integers, got int64 of shape \[1, 2\]\. ",
    ),
    "ragged sources": (
        lambda: fw.Graph.from_edges([[0], [1, 2]], [1, 2]),
        r"src: expected an array of numbers, got \[\[0\], \[1, 2\]\] ",
    ),
    "number for destinations": (
        lambda: fw.Graph.from_edges([0], 1),
        r"dst: expected a one-dimensional array of integers, got int64 of shape \[\]\. ",
    ),
    "names for destinations": (
        lambda: fw.Graph.from_edges([0], ["y"]),
        r"dst: expected a one-dimensional array of integers, got <U1 of shape \[1\]\. ",
    ),
    "negative num_nodes": (lambda: from_edges(num_nodes=-1), r"num_nodes: expected .*, got -1\. "),
    "negative num_nodes with edges": (
        lambda: from_edges((0, 1), num_nodes=-1),
        r"num_nodes: expected .*, got -1\. ",
    ),
    "half a node": (lambda: from_edges((0, 1), num_nodes=2.5), r"num_nodes: expected .*, got 2\.5\. "),
    "num_nodes as text": (lambda: from_edges((0, 1), num_nodes="2"), r"num_nodes: expected .*, got '2'\. "),
    "num_nodes that asks for terabytes": (
        lambda: from_edges((0, 1), num_nodes=2**40),
        r"num_nodes: expected .*, got 1099511627776\. ",
    ),
    "too few nodes": (
        lambda: from_edges((0, 1), num_nodes=1),
        r"dst: expected node numbers from 0 to 0, got 1 at edge 0\. ",
    ),
    # matrices
    "oblong matrix": (
        lambda: fw.Graph.from_adjacency(np.zeros((2, 3))),
        r"A: expected a square matrix \[N, N\], got shape \[2, 3\]\. ",
    ),
    "oblong sparse matrix": (
        lambda: fw.Graph.from_adjacency(sparse.csr_array((3, 2))),
        r"A: expected a square matrix \[N, N\], got shape \[3, 2\]\. ",
    ),
    "vector for a matrix": (
        lambda: fw.Graph.from_adjacency([0, 1]),
        r"A: expected a square matrix \[N, N\], got shape \[2\]\. ",
    ),
    "sparse vector": (
        lambda: fw.Graph.from_adjacency(sparse.coo_array([0, 1])),
        r"A: expected a square matrix \[N, N\], got shape \[2\]\. ",
    ),
    "cube for a matrix": (
        lambda: fw.Graph.from_adjacency(np.zeros((2, 2, 2))),
        r"A: expected a square matrix \[N, N\], got shape \[2, 2, 2\]\. ",
    ),
    "no matrix": (
        lambda: fw.Graph.from_adjacency(None),
        r"A: expected a square matrix \[N, N\], got shape \[\]\. ",
    ),
    "ragged matrix": (
        lambda: fw.Graph.from_adjacency([[0], [0, 1]]),
        r"A: expected an array of numbers, got \[\[0\], \[0, 1\]\] ",
    ),
    "NaN in a matrix": (
        lambda: fw.Graph.from_adjacency([[0, 1, 0], [0, 0, np.nan], [0, 0, 0]]),
        r"weight: expected numbers, got nan at edge 1 \(1 -> 2\)\. ",
    ),
    "NaN in a sparse matrix": (
        lambda: fw.Graph.from_adjacency(sparse.csr_array([[0, np.nan], [0, 0]])),
        r"weight: expected numbers, got nan at edge 0 \(0 -> 1\)\. ",
    ),
    "text in a matrix": (
        lambda: fw.Graph.from_adjacency([["", "x"], ["", ""]]),
        r"weight: expected numbers, got ",
    ),
    # weights, biases, sign and frozen
    "NaN weight": (
        lambda: from_edges((0, 2), (1, 2), weight=[1, np.nan]),
        r"weight: expected numbers, got nan at edge 1 \(1 -> 2\)\. ",
    ),
    "NaN weight of a named edge": (
        lambda: with_edge(weight=float("nan")),
        r"weight of edge 'x' -> 'y': expected a number, got nan\. ",
    ),
    "text for a weight": (
        lambda: with_edge(weight="heavy"),
        r"weight of edge 'x' -> 'y': expected a number, got 'heavy'\. ",
    ),
    "None for a weight": (
        lambda: with_edge(weight=None),
        r"weight of edge 'x' -> 'y': expected a number, got None\. ",
    ),
    "too few weights": (
        lambda: from_edges((0, 2), (1, 2), weight=[1]),
        r"weight: expected shape \[2\], one an edge, got \[1\]\. ",
    ),
    "one weight for all": (
        lambda: from_edges((0, 1), weight=0.5),
        r"weight: expected shape \[1\], one an edge, got \[\]\. ",
    ),
    "text for weights": (
        lambda: from_edges((0, 1), weight=["heavy"]),
        r"weight: expected numbers, got \['heavy'\]\. ",
    ),
    "complex weight": (lambda: from_edges((0, 1), weight=[1 + 2j]), r"weight: expected .*numbers, got "),
    "NaN bias": (
        lambda: from_edges((0, 1), bias=[0, np.nan]),
        r"bias: expected numbers, got nan at node 1\. ",
    ),
    "NaN bias of a named node": (
        lambda: with_node(bias=np.float32("nan")),
        r"bias of node 'y': expected a number, got .*nan.*\. ",
    ),
    "a bias an edge": (
        lambda: from_edges((0, 1), bias=[1]),
        r"bias: expected shape \[2\], one a node, got \[1\]\. ",
    ),
    "bias on an input": (
        lambda: from_edges((0, 2), (1, 2), bias=[0, 0.5, 1]),
        r"bias: expected 0 at an input, got 0\.5 at 1\. ",
    ),
    "bias on a named input": (
        lambda: fw.Graph.from_networkx(with_bias_at_input()),
        r"bias: expected 0 at an input, got 3\.0 at 'x'\. ",
    ),
    "with_values, weight": (
        lambda: CASES["diamond"].with_values([1, 2]),
        r"weight: expected 4 values, got shape \[2\]\. ",
    ),
    "with_values, bias": (
        lambda: CASES["diamond"].with_values(None, [[1, 2, 3, 4]]),
        r"bias: expected 4 values, got shape \[1, 4\]\. ",
    ),
    "sign of 2": (lambda: with_edge(sign=2), r"sign of edge 'x' -> 'y': expected -1, 0 or 1, got 2\. "),
    "sign of 3": (lambda: from_edges((0, 1), sign=[3]), r"sign: expected -1, 0 or 1, got 3 at edge 0\. "),
    "sign of 256": (lambda: from_edges((0, 1), sign=[256]), r"sign: expected -1, 0 or 1, got 256 at edge 0\. "),
    "sign of 257": (lambda: from_edges((0, 1), sign=[257]), r"sign: expected -1, 0 or 1, got 257 at edge 0\. "),
    "sign of -128": (lambda: from_edges((0, 1), sign=[-128]), r"sign: expected -1, 0 or 1, got -128 at edge 0\. "),
    "half a sign": (lambda: from_edges((0, 1), sign=[0.5]), r"sign: expected -1, 0 or 1, got 0\.5 at edge 0\. "),
    "NaN sign": (lambda: from_edges((0, 1), sign=[np.nan]), r"sign: expected -1, 0 or 1, got nan at edge 0\. "),
    "too many signs": (
        lambda: from_edges((0, 1), sign=[1, 1]),
        r"sign: expected shape \[1\], one an edge, got \[2\]\. ",
    ),
    "too few frozen": (
        lambda: from_edges((0, 2), (1, 2), frozen=[True]),
        r"frozen: expected shape \[2\], one an edge, got \[1\]\. ",
    ),
    "frozen in words": (lambda: from_edges((0, 1), frozen=["no"]), r"frozen: expected .*, got "),
    "frozen of 2": (lambda: from_edges((0, 1), frozen=[2]), r"frozen: expected true or false, got 2 at edge 0\. "),
    "num_nodes of True": (lambda: from_edges(num_nodes=True), r"num_nodes: expected .*, got True\. "),
    # activations and aggregations
    "unknown activation": (
        lambda: from_edges((0, 1), activation="rulu"),
        rf"activation: expected one of {KNOWN}, got 'rulu'\. ",
    ),
    "unknown output activation": (
        lambda: from_edges((0, 1), output_activation="softmax"),
        rf"output_activation: expected one of {KNOWN}, got 'softmax'\. ",
    ),
    "unknown activation of networkx": (
        lambda: from_networkx((0, 1), activation="rulu"),
        rf"activation: expected one of {KNOWN}, got 'rulu'\. ",
    ),
    "unknown activation among many": (
        lambda: from_edges((0, 1), activation=["relu", "rulu"]),
        rf"activation: expected one of {KNOWN}, got 'rulu'\. ",
    ),
    "unknown activation of a node": (
        lambda: with_node(activation="rulu"),
        rf"activation of node 'y': expected one of {KNOWN}, got 'rulu'\. ",
    ),
    "function for an activation": (
        lambda: with_node(activation=np.tanh),
        rf"activation of node 'y': expected one of {KNOWN}, got <ufunc 'tanh'>\. ",
    ),
    "unknown aggregation": (
        lambda: from_edges((0, 1), aggregation="median"),
        r"aggregation: expected one of sum, mean, product, max, min, maxabs, got 'median'\. ",
    ),
    "unknown aggregation of a node": (
        lambda: with_node(aggregation="median"),
        r"aggregation of node 'y': expected one of sum, .*, maxabs, got 'median'\. ",
    ),
    "too few activations": (
        lambda: from_edges((0, 1), activation=["relu"]),
        r"activation: expected one name or 2, one a node, got 1\. ",
    ),
    "too many aggregations": (
        lambda: from_edges((0, 1), aggregation=["sum"] * 3),
        r"aggregation: expected one name or 2, one a node, got 3\. ",
    ),
    # union
    "union of nothing": (lambda: fw.Graph.union([]), r"graphs: expected at least one Graph, got none\. "),
    "union of numbers": (lambda: fw.Graph.union([1]), r"graphs: expected Graph objects, got int\. "),
    "union of a graph": (lambda: fw.Graph.union(CASES["diamond"]), r"graphs: expected .*, got "),
}


def with_bias_at_input() -> nx.DiGraph:
    G = nx.DiGraph([("x", "y")])
    G.nodes["x"]["bias"] = 3
    return G


class TestRefused:
    """Bad input: one sentence that says what was expected, what came, and what to do."""

    @pytest.mark.parametrize("case", REFUSED)
    def test_says_what_is_wrong(self, case):
        attempt, match = REFUSED[case]
        assert_refused(attempt, match)

    def test_an_unknown_activation_lists_all_known(self):
        with pytest.raises(fw.GraphError, match="rulu") as caught:
            from_edges((0, 1), activation="rulu")
        assert f"one of {', '.join(ACTIVATIONS)}, got" in str(caught.value)
        with pytest.raises(fw.GraphError, match="median") as caught:
            from_edges((0, 1), aggregation="median")
        assert f"one of {', '.join(AGGREGATIONS)}, got" in str(caught.value)
