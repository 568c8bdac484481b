# SPDX-License-Identifier: MIT
"""Levels, canonical edge order, and where the caller's edges are in it."""

from __future__ import annotations

import networkx as nx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import freewire as fw
from tests.support.graphs import Wiring, assert_same_graph, wirings


def slow_levels(wiring: Wiring) -> list[int]:
    level = [0] * wiring.num_nodes
    for v in wiring.topological:
        for a, b in zip(wiring.src, wiring.dst, strict=True):
            if b == v:
                level[v] = max(level[v], level[a] + 1)
    return level


def slow_order(wiring: Wiring) -> list[int]:
    """The caller's edge numbers in canonical order, computed from the definition in the documentation."""
    level = slow_levels(wiring)

    def key(e: int) -> tuple[int, ...]:
        u, v = wiring.src[e], wiring.dst[e]
        return level[v], v, level[u], u, e

    return sorted(range(len(wiring.src)), key=key)


def test_numbers_at_any_address() -> None:
    """Arrays that are slices of a file's bytes need not be aligned."""
    raw = b"1234" + np.array([0, 1, 0], "<i8").tobytes()
    src = np.frombuffer(raw, "<i8", offset=4)
    assert not src.flags.aligned
    assert fw.Graph.from_edges(src, [2, 2, 1]).edge_index.tolist() == [[0, 0, 1], [1, 2, 2]]


class TestOrder:
    """Levels, canonical edge order, and where the caller's edges went."""

    @given(wirings())
    def test_edges_are_in_canonical_order(self, wiring):
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

    def test_node_order_not_names_breaks_ties(self):
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
        assert g.reachable_from_input.all()
