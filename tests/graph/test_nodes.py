# SPDX-License-Identifier: MIT
"""Names, inputs, outputs, functions of nodes, and which nodes paths reach."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from tests.support.graphs import CASES, assert_same_graph, wirings


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
    def test_default_inputs_are_the_nodes_of_in_degree_0(self, wiring):
        g = fw.Graph.from_edges(wiring.src, wiring.dst, num_nodes=wiring.num_nodes)
        assert g.inputs == tuple(v for v in range(wiring.num_nodes) if v not in wiring.dst)
        assert g.outputs == tuple(v for v in range(wiring.num_nodes) if v not in wiring.src)
        assert g.input_index.tolist() == list(g.inputs)
        assert g.output_index.tolist() == list(g.outputs)

    def test_networkx_default_inputs(self):
        G = nx.DiGraph([("b", "c"), ("a", "c"), ("c", "d"), ("c", "e")])
        g = fw.Graph.from_networkx(G)
        assert (g.inputs, g.outputs) == (("b", "a"), ("d", "e"))

    def test_given_order_is_kept(self):
        g = fw.Graph.from_edges([0, 1, 2, 2], [2, 2, 3, 4], inputs=[1, 0], outputs=[4, 2, 3])
        assert (g.inputs, g.outputs) == ((1, 0), (4, 2, 3))
        assert g.input_index.tolist() == [1, 0]
        assert g.output_index.tolist() == [4, 2, 3]
        assert g.computed_index.tolist() == [2, 3, 4]

    def test_inputs_that_to_networkx_wrote_are_read_and_arguments_win(self):
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
        assert not g.reachable_from_input[2]

    def test_activations_by_place(self):
        g = fw.Graph.from_edges([0, 1, 2], [1, 2, 3], activation="tanh", output_activation="sin")
        assert [ACTIVATIONS[c] for c in g.activation] == ["linear", "tanh", "tanh", "sin"]
        g = fw.Graph.from_edges([0, 1, 2], [1, 2, 3])
        assert [ACTIVATIONS[c] for c in g.activation] == ["linear", "relu", "relu", "linear"]
        assert [AGGREGATIONS[c] for c in g.aggregation] == ["sum"] * 4
        # one name per node, outputs included; an input is not computed, so its names do not matter
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
    def test_dead_and_unreachable_nodes(self, wiring):
        g = wiring.build()
        G = nx.DiGraph(zip(wiring.src, wiring.dst, strict=True))
        G.add_nodes_from(range(wiring.num_nodes))
        alive = set(wiring.outputs).union(*(nx.ancestors(G, v) for v in wiring.outputs))
        reachable = set(wiring.inputs).union(*(nx.descendants(G, v) for v in wiring.inputs))
        assert set(np.flatnonzero(g.reaches_output)) == alive
        assert set(np.flatnonzero(g.reachable_from_input)) == reachable
        assert g.computed_index.tolist() == [v for v in range(wiring.num_nodes) if v not in wiring.inputs]
        dead, unreachable = wiring.num_nodes - len(alive), wiring.num_nodes - len(reachable)
        assert (f"{dead} of them reaching no output" in repr(g)) == bool(dead)
        assert (f"{unreachable} of them unreachable from the inputs" in repr(g)) == bool(unreachable)

    def test_repr(self):
        assert repr(CASES["diamond"]) == "Graph(4 nodes, 1 inputs, 1 outputs, 4 edges, depth 2)"
        assert repr(CASES["disconnected"]) == (
            "Graph(9 nodes, 4 of them reaching no output, 4 of them unreachable from the inputs, 3 inputs, 3 outputs, "
            "3 edges, depth 1)"
        )
        assert repr(CASES["fan_in_1000"]) == "Graph(1,006 nodes, 1,000 inputs, 6 outputs, 6,000 edges, depth 1)"
