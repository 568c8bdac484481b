# SPDX-License-Identifier: MIT
"""layered: columns by level, few crossings, orders that are kept, blocks."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from freewire.pictures import layered


def crossings(graph: fw.Graph, y: np.ndarray) -> int:
    """How many pairs of edges between the same two neighbouring levels cross."""
    (source, target), found = graph.edge_index, 0
    for level in range(graph.depth):
        between = (graph.level[source] == level) & (graph.level[target] == level + 1)
        a, b = y[source[between]], y[target[between]]
        found += int(np.count_nonzero((a[:, None] - a) * (b[:, None] - b) < 0)) // 2
    return found


def bands(width: int, depth: int, seed: int) -> fw.Graph:
    """Each node reads the three nearest of the level before, and nodes are numbered at random but for the inputs."""
    numbers = np.random.default_rng(seed).permutation(np.arange(width, width * (depth + 1)))
    names = np.concatenate((np.arange(width), numbers)).reshape(depth + 1, width)
    edges = [
        (names[level, min(max(i + shift, 0), width - 1)], names[level + 1, i])
        for level, i, shift in itertools.product(range(depth), range(width), (-1, 0, 1))
    ]
    src, dst = zip(*sorted(set(edges)), strict=True)
    return fw.Graph.from_edges(src, dst, inputs=names[0], outputs=names[-1, :1])


def test_edges_cross_less():
    graph = bands(20, 3, seed=0)
    given = np.argsort(np.argsort(graph.level, kind="stable"), kind="stable")  # in node order
    found = crossings(graph, layered(graph)[:, 1])
    # Without the ends of the levels, each node's three edges cross those of the next in 3 places.
    assert found <= 3 * 20 * 3 + 6
    assert found < 0.1 * crossings(graph, given)


def test_inputs_and_outputs_keep_their_order_from_top_to_bottom():
    graph = fw.Graph.from_networkx(
        nx.DiGraph([("a", "y"), ("b", "x"), ("c", "w"), ("k", "w")]), inputs=list("cab"), outputs=list("wxy")
    )
    place = dict(zip(graph.nodes, layered(graph).tolist(), strict=True))
    assert place["k"][0] == 0  # a constant, beside the inputs
    assert place["c"][1] < place["a"][1] < place["b"][1]
    assert place["w"][1] < place["x"][1] < place["y"][1]


def test_x_is_the_level_and_levels_are_centred():
    graph = fw.generators.random_graph(5, 60, 3, fan_in=3, seed=1)
    place = layered(graph)
    assert np.array_equal(place[:, 0], graph.level)
    for level in range(graph.depth + 1):
        y = np.sort(place[graph.level == level, 1])
        assert y.sum() == pytest.approx(0)
        assert np.diff(y).min(initial=1) >= 1
    assert np.array_equal(place, layered(graph))


def test_a_wide_level_is_a_block_filled_row_by_row():
    graph = fw.generators.mlp([784, 41, 10])
    place = layered(graph)
    pixels = place[:784]
    columns, rows = np.unique(pixels[:, 0]), np.unique(pixels[:, 1])
    assert (len(columns), len(rows)) == (14, 56)
    assert -0.3 < columns[0] < columns[-1] < 0.3
    assert np.array_equal(np.lexsort((pixels[:, 0], pixels[:, 1])), np.arange(784))  # as one reads
    assert len(np.unique(place[784:825], axis=0)) == 41  # none on top of another
    assert np.array_equal(place[825:, 0], np.full(10, 2.0))
    assert np.ptp(place[825:, 1]) > 20  # spread over part of the height


@pytest.mark.parametrize(
    ("graph", "places"),
    [
        (fw.Graph.from_edges([], [], num_nodes=1, outputs=[0]), [[0, 0]]),
        (fw.Graph.from_edges([], [], num_nodes=2, inputs=[], outputs=[1]), [[0, -0.5], [0, 0.5]]),
        (fw.Graph.from_edges([0, 0], [1, 1]), [[0, 0], [1, 0]]),
    ],
)
def test_the_smallest(graph, places):
    assert layered(graph).tolist() == places


def test_fewer_sweeps_where_they_would_read_too_many_edges(monkeypatch):
    monkeypatch.setattr("freewire.pictures.layout.WORK", 2_000)
    graph = bands(20, 3, seed=0)
    assert crossings(graph, layered(graph)[:, 1]) > 500  # no sweep fits
