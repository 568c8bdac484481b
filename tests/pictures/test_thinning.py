# SPDX-License-Identifier: MIT
"""Which edges are kept, and the matrix of a large graph, against plain Python."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

import freewire as fw
from freewire.pictures.thinning import binned, strongest

GRAPH = fw.generators.random_graph(10, 50, 5, fan_in=6, seed=0)
WEIGHT = np.random.default_rng(0).normal(size=GRAPH.num_edges)


def by_target(columns) -> dict[int, list[int]]:
    found = defaultdict(list)
    for column in columns:
        found[int(GRAPH.edge_index[1, column])].append(int(column))
    return found


@pytest.mark.parametrize("most", [60, 130, 200])
def test_the_strongest_into_each_node(most):
    weight = WEIGHT.copy()
    weight[::7], weight[3] = np.nan, -np.inf
    columns, each = strongest(GRAPH, weight, most)
    strength = {i: -1.0 if w != w else abs(w) for i, w in enumerate(weight)}
    every, kept = by_target(range(GRAPH.num_edges)), by_target(columns)
    assert kept.keys() == every.keys()
    for target, edges in every.items():
        assert len(kept[target]) == min(each, len(edges))
        assert sorted(strength[i] for i in kept[target]) == sorted(strength[i] for i in edges)[-each:]
    assert len(columns) <= most < sum(min(each + 1, len(edges)) for edges in every.values())
    assert 3 in columns


def test_few_edges_are_all_kept():
    columns, each = strongest(GRAPH, WEIGHT, GRAPH.num_edges)
    assert np.array_equal(columns, np.arange(GRAPH.num_edges))
    assert each == 6


def test_without_weights_or_with_equal_ones_chance_decides_the_same_way_each_time():
    columns, _ = strongest(GRAPH, None, 110)
    assert np.array_equal(columns, strongest(GRAPH, np.zeros(GRAPH.num_edges), 110)[0])
    first = [min(edges) for edges in by_target(range(GRAPH.num_edges)).values()]
    assert 10 < len(set(first) - set(columns.tolist())) < 50  # not always the first ones
    assert columns[:8].tolist() == [2, 3, 8, 11, 13, 15, 20, 21]  # on every platform


def test_a_matrix_has_the_mean_over_all_pairs():
    group = np.arange(GRAPH.num_nodes) * 4 // GRAPH.num_nodes
    weight = WEIGHT.copy()
    weight[:2] = np.nan, np.inf
    sums, counts = np.zeros((4, 4)), np.zeros((4, 4))
    for u, v, w in zip(*GRAPH.edge_index, weight, strict=True):
        sums[group[u], group[v]] += abs(w) if np.isfinite(w) else 0.0
        counts[group[u], group[v]] += 1
    size = np.bincount(group)
    blank = counts == 0
    assert blank[2, 0]
    np.testing.assert_allclose(binned(GRAPH, weight, group), np.where(blank, np.nan, sums / np.outer(size, size)))
    np.testing.assert_allclose(binned(GRAPH, None, group), np.where(blank, np.nan, counts / np.outer(size, size)))
