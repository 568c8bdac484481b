# SPDX-License-Identifier: MIT
"""Cycles are refused, and named."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from tests.support.graphs import from_edges, from_networkx
from tests.support.messages import assert_refused


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

    def test_any_of_many_cycles_is_named_whole(self):
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
