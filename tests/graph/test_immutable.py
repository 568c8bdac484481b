# SPDX-License-Identifier: MIT
"""Graphs do not change; copies, pickles and the hash of the wiring."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given

import freewire as fw
from tests.support.graphs import FULL, assert_same_graph, graphs

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
    "group",
    "reaches_output",
    "reachable_from_input",
)


class TestImmutable:
    """A graph cannot be changed."""

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

    def test_deepcopy_returns_the_graph_itself(self):
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
            {"frozen": [1, 1, 1, 1], "sign": [1, 1, 1, 1], "group": [0, 0, 1, -1]},
            {"activation": ["tanh", "sin", "linear", "relu", "linear"]},  # an input's does not matter
        ],
        ids=["weight", "bias", "edge order", "constraints", "input's activation"],
    )
    def test_does_not_change_with(self, changes):
        assert self.build(**changes).wiring_hash == self.GOLDEN

    def test_does_not_change_with_names(self):
        G = nx.relabel_nodes(self.build().to_networkx(), lambda v: f"node {v}")
        g = fw.Graph.from_networkx(G, ["node 0", "node 1"], ["node 2", "node 4"])
        assert g.wiring_hash == self.GOLDEN
