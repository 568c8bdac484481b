# SPDX-License-Identifier: MIT
"""Recurrent graphs: delays and leaks through every constructor, canonical order, and what is refused."""

from __future__ import annotations

from collections import deque

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from tests.support.graphs import RECURRENT, assert_same_graph

LOOP = nx.DiGraph([("x", "a"), ("a", "b"), ("b", "a"), ("b", "b")])


def random_edges(seed: int, num_nodes: int = 40, num_edges: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources, destinations and delays; an edge to a node that is not later has a delay."""
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, num_nodes, num_edges), rng.integers(4, num_nodes, num_edges)
    return src, dst, np.where(src < dst, rng.integers(0, 3, num_edges), rng.integers(1, 4, num_edges))


class TestDelays:
    """Where delays come from."""

    def test_edges_from_an_input_have_none_and_others_one(self):
        g = fw.Graph.from_networkx(LOOP, outputs=["b"], recurrent=True)
        assert g.recurrent
        assert g.delay is not None
        assert g.delay[g.edge_position].tolist() == [0, 1, 1, 1]

    def test_a_stored_delay_counts_and_makes_the_graph_recurrent(self):
        G = LOOP.copy()
        G.edges["a", "b"]["delay"] = 0
        G.edges["x", "a"]["delay"] = 3
        g = fw.Graph.from_networkx(G, outputs=["b"])
        assert g.delay[g.edge_position].tolist() == [3, 0, 1, 1]
        assert g.depth == 1

    def test_one_number_stands_for_all(self):
        g = fw.Graph.from_edges([0, 1, 2], [1, 2, 1], outputs=[2], delay=2, leak=0.5)
        assert g.delay.tolist() == [2, 2, 2]
        np.testing.assert_array_equal(g.leak, [np.nan, 0.5, 0.5])

    def test_an_adjacency_matrix(self):
        g = fw.Graph.from_adjacency([[0, 1.0], [0, 2.0]], outputs=[1], recurrent=True, leak=[1, 0.25])
        assert g.delay.tolist() == [0, 1]
        assert g.leak[1] == 0.25

    def test_a_graph_without_cycles_may_be_recurrent(self):
        g = fw.Graph.from_edges([0, 1], [1, 2], recurrent=True)
        assert g.delay[g.edge_position].tolist() == [0, 1]
        assert not fw.Graph.from_edges([0, 1], [1, 2]).recurrent


class TestOrder:
    """Levels, edges, and paths."""

    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_canonical(self, seed):
        src, dst, delay = random_edges(seed)
        g = fw.Graph.from_edges(src, dst, num_nodes=40, inputs=[0, 1], outputs=[39, 38], delay=delay)
        np.testing.assert_array_equal(g.edge_index[:, g.edge_position], (src, dst))
        np.testing.assert_array_equal(g.delay[g.edge_position], delay)
        u, v = g.edge_index
        caller = np.empty(g.num_edges, np.int64)
        caller[g.edge_position] = np.arange(g.num_edges)
        order = np.lexsort((caller, u, g.level[u], v, g.level[v]))
        np.testing.assert_array_equal(order, np.arange(g.num_edges))
        instant = g.delay == 0
        expected = np.zeros(40, np.int64)
        for _ in range(40):
            np.maximum.at(expected, v[instant], expected[u[instant]] + 1)
        np.testing.assert_array_equal(g.level, expected)

    @pytest.mark.parametrize("seed", range(5))
    def test_paths_run_through_cycles(self, seed):
        src, dst, delay = random_edges(seed, num_edges=50)
        g = fw.Graph.from_edges(src, dst, num_nodes=40, inputs=[0, 1], outputs=[39, 38], delay=delay)
        for found, start, edges in (
            (g.reachable_from_input, g.input_index, zip(src, dst, strict=True)),
            (g.reaches_output, g.output_index, zip(dst, src, strict=True)),
        ):
            G = nx.DiGraph(list(edges))
            reached, queue = set(start.tolist()), deque(start.tolist())
            while queue:
                for v in G.successors(u) if (u := queue.popleft()) in G else ():
                    if v not in reached:
                        reached.add(v)
                        queue.append(v)
            assert set(np.flatnonzero(found).tolist()) == reached


class TestRoundTrip:
    """What carries a graph carries its delays and leaks."""

    def test_networkx(self):
        assert_same_graph(fw.Graph.from_networkx(RECURRENT.to_networkx()), RECURRENT)

    @pytest.mark.parametrize("suffix", [".json", ".graphml", ".json.gz"])
    def test_files(self, suffix, tmp_path):
        fw.write_graph(RECURRENT, tmp_path / f"g{suffix}")
        assert_same_graph(fw.read_graph(tmp_path / f"g{suffix}"), RECURRENT)

    def test_a_plain_edge_list(self, tmp_path):
        g = fw.Graph.from_edges([0, 1, 2, 2], [1, 2, 1, 3], delay=[0, 1, 2, 1])
        fw.write_graph(g, tmp_path / "g.csv")
        again = fw.read_graph(tmp_path / "g.csv")
        assert again.delay.tolist() == g.delay.tolist()
        assert again.wiring_hash == g.wiring_hash

    def test_without_edges(self):
        g = fw.Graph.from_edges([], [], num_nodes=3, inputs=[0], outputs=[1, 2], leak=[1, 0.5, 1], recurrent=True)
        assert g.recurrent
        assert_same_graph(fw.Graph.from_data(g.to_data()), g)

    def test_union(self):
        g = fw.Graph.union([fw.generators.mlp([2, 1]), RECURRENT])
        assert g.delay[: g.num_edges].tolist().count(0) >= 2
        assert g.recurrent
        own = g.edge_position[2:]
        assert g.delay[own].tolist() == RECURRENT.delay.tolist()
        np.testing.assert_array_equal(g.leak[3:], RECURRENT.leak)

    def test_delays_and_leaks_are_part_of_the_wiring(self):
        def hashed(**kwargs) -> str:
            return fw.Graph.from_edges([0, 1], [1, 1], outputs=[1], **kwargs).wiring_hash

        found = {hashed(delay=d, leak=leak) for d in (1, 2) for leak in (0.5, 1.0, None)}
        assert len(found) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(), r"graph: expected no cycle, got 2 -> 1 -> 2\. .*recurrent=True"),
        (dict(delay=[0, 0, 0]), r"delay: expected an edge of delay 1 or more in every cycle, got 2 -> 1 -> 2 without"),
        (dict(delay=[0, -1, 1]), r"delay: expected a whole number from 0 to 65535, got -1 at edge 1 \(1 -> 2\)"),
        (dict(delay=[0, 0.5, 1]), r"delay: expected a whole number from 0 to 65535, got 0\.5 at edge 1"),
        (dict(delay=[0, 1]), r"delay: expected shape \[3\], one per edge, got \[2\]"),
        (dict(delay=True), r"delay: expected shape|delay: expected numbers, got True"),
        (dict(delay=1, leak=[0, 0, 1]), r"leak: expected a number above 0 and at most 1, got 0 at node 0"),
        (dict(delay=1, leak=1.5), r"leak: expected a number above 0 and at most 1, got 1\.5 at node 0"),
        (dict(recurrent=True, inputs=[1]), r"inputs: expected nodes without in-edges, got 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(fw.GraphError, match=message):
        fw.Graph.from_edges([0, 1, 2], [1, 2, 1], outputs=[2], **arguments)


def test_leak_without_recurrence():
    with pytest.raises(fw.GraphError, match="leak: expected none, since the graph is not recurrent"):
        fw.Graph.from_edges([0], [1], leak=0.5)


def test_bad_attributes():
    for value in (-1, 0.5, "soon", 65536, None):
        G = LOOP.copy()
        G.edges["a", "b"]["delay"] = value
        with pytest.raises(fw.GraphError, match=r"delay of edge 'a' -> 'b': expected a whole number from 0 to 65535"):
            fw.Graph.from_networkx(G, outputs=["b"])


def test_a_network_refuses_it():
    with pytest.raises(fw.GraphError, match="graph: expected one without delays, got a recurrent graph"):
        fw.Network(RECURRENT)


def test_every_node_feeds_another():
    with pytest.raises(fw.GraphError, match="outputs: expected at least one node, got none, since every node feeds"):
        fw.Graph.from_edges([0, 1], [1, 0], recurrent=True)


def test_recurrent_is_a_boolean():
    for make, given in ((fw.Graph.from_edges, ([0], [1])), (fw.Graph.from_networkx, (LOOP,))):
        with pytest.raises(fw.GraphError, match="recurrent: expected True or False, got 'no'"):
            make(*given, recurrent="no")
