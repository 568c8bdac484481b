# SPDX-License-Identifier: MIT
"""Weights, biases and constraints that a graph stores."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from tests.support.graphs import CASES, FULL, assert_same_graph
from tests.support.messages import assert_refused


class TestStored:
    """Weights, biases and the constraints that a graph carries."""

    def test_fields_that_are_not_given_are_none(self):
        g = CASES["diamond"]
        assert (g.weight, g.bias, g.sign, g.frozen, g.group) == (None, None, None, None, None)

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
        G.edges["h", "y"]["weight"] = "2.5"  # graph files hold numbers as text
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

    def test_constraints_are_carried(self):
        assert FULL.edge_index.tolist() == [[0, 0, 1], [1, 2, 2]]
        assert FULL.weight.tolist() == [3, 1, 2]
        assert (FULL.sign.tolist(), FULL.sign.dtype) == ([-1, 0, 1], np.int8)
        assert (FULL.frozen.tolist(), FULL.frozen.dtype) == ([False, True, False], np.bool_)
        assert (FULL.group.tolist(), FULL.group.dtype) == ([4, -1, 7], np.int64)
        plain = fw.Graph.from_edges([0], [1], sign=[0], frozen=[False], group=[-1])
        assert (plain.sign, plain.frozen, plain.group) == (None, None, None)

    def test_with_constraints(self):
        g = FULL.with_constraints(sign=[1, 1, 0], group=None)
        assert (g.sign.tolist(), g.group) == ([1, 1, 0], None)
        assert g.frozen is FULL.frozen
        assert g.wiring_hash == FULL.wiring_hash
        assert g.edge_position.tolist() == FULL.edge_position.tolist()
        assert FULL.with_constraints(frozen=[0, 0, 0]).frozen is None
        with pytest.raises(ValueError, match="read-only"):
            g.sign[0] = 0
        assert_refused(
            lambda: FULL.with_constraints(group=[0, 0.5, 1]),
            r"group: expected a whole number of at least 0, or -1 for no group, got 0\.5 at edge 1 \(0 -> 2\)\. ",
        )
        with pytest.raises(TypeError, match=r"with_constraints: expected sign, frozen, group, got 'weight'\. "):
            FULL.with_constraints(weight=[1, 2, 3])

    def test_with_values_keeps_the_wiring(self):
        g = CASES["diamond"].with_values([1, 2, np.nan, 4], [np.nan, 1, 2, 3])
        np.testing.assert_array_equal(g.weight, [1, 2, np.nan, 4])
        np.testing.assert_array_equal(g.bias, [np.nan, 1, 2, 3])
        assert g.wiring_hash == CASES["diamond"].wiring_hash
        assert_same_graph(g.with_values(), CASES["diamond"])
        assert CASES["diamond"].weight is None
