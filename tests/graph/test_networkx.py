# SPDX-License-Identifier: MIT
"""to_networkx and back."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import freewire as fw
from tests.support.graphs import CASES, FULL, assert_same_graph, multigraph, wirings


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
        G = multigraph(wiring, names)
        for attributes in (*(d for _, d in G.nodes(data=True)), *(d for _, _, d in G.edges(data=True))):
            for name in ("weight", "bias"):  # some edges and nodes store nothing
                if name in attributes and data.draw(st.booleans()):
                    del attributes[name]
        g = fw.Graph.from_networkx(G)
        assert_same_graph(fw.Graph.from_networkx(g.to_networkx()), g)

    def test_attributes_written(self):
        G = FULL.to_networkx()
        assert type(G) is nx.DiGraph
        assert not G.graph
        assert dict(G.nodes(data=True)) == {
            0: {"freewire_input": 0, "freewire_hidden": False},
            1: {"activation": "relu", "aggregation": "sum", "bias": 1.0, "freewire_hidden": True},
            2: {
                "activation": "linear", "aggregation": "sum", "bias": 2.0,
                "freewire_output": 0, "freewire_hidden": False,
            },
        }  # fmt: skip
        assert list(G.edges(data=True)) == [
            (0, 1, {"weight": 3.0, "sign": -1, "group": 4}),
            (0, 2, {"weight": 1.0, "frozen": True}),
            (1, 2, {"weight": 2.0, "sign": 1, "group": 7}),
        ]
        assert_same_graph(fw.Graph.from_networkx(G), FULL)

    def test_parallel_edges_make_a_multigraph(self):
        assert type(CASES["parallel_edges"].to_networkx()) is nx.MultiDiGraph
        assert type(CASES["diamond"].to_networkx()) is nx.DiGraph

    @pytest.mark.parametrize("name", CASES)
    def test_cases_round_trip(self, name):
        assert_same_graph(fw.Graph.from_networkx(CASES[name].to_networkx()), CASES[name])
