# SPDX-License-Identifier: MIT
"""Statistics of wirings, against networkx and plain counting."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import sys
from collections import Counter
from itertools import combinations, permutations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS, metrics
from tests.support.graphs import CASES, graphs
from tests.support.messages import assert_refused


def spread(counts):
    counts = list(counts)
    if not counts:
        return metrics.Spread(0, 0, 0, 0)
    return metrics.Spread(min(counts), pytest.approx(statistics.mean(counts)), statistics.median(counts), max(counts))


def counted(g: fw.Graph) -> metrics.Summary:
    """The summary by networkx and plain Python, one definition after the other."""
    G = nx.MultiDiGraph()
    G.add_nodes_from(range(g.num_nodes))
    edges = g.edge_index.T.tolist()
    G.add_edges_from(edges)
    inputs, outputs = g.input_index.tolist(), g.output_index.tolist()
    are_inputs = set(inputs)
    computed = [v for v in G if v not in are_inputs]
    level = {v: k for k, generation in enumerate(nx.topological_generations(G)) for v in generation}
    pairs = {frozenset(pair) for pair in combinations(G, 2) if not are_inputs.issuperset(pair)}
    reaching_output = set(outputs).union(*(nx.ancestors(G, v) for v in outputs))
    reachable = set(inputs).union(*(nx.descendants(G, v) for v in inputs))
    depth = nx.dag_longest_path_length(nx.DiGraph(G))
    stored = [] if g.weight is None else [w for w in g.weight.tolist() if not math.isnan(w)]
    return metrics.Summary(
        nodes=len(G),
        inputs=len(inputs),
        outputs=len(outputs),
        computed=len(computed),
        edges=len(edges),
        parallel_edges=len(edges) - nx.DiGraph(G).number_of_edges(),
        depth=depth,
        level_width_mean=pytest.approx(len(G) / (depth + 1)),
        level_width_max=max(Counter(level.values()).values()),
        fan_in=spread(G.in_degree(v) for v in computed),
        fan_out=spread(degree for _, degree in G.out_degree),
        output_level=spread(level[v] for v in outputs),
        density=pytest.approx(nx.DiGraph(G).number_of_edges() / max(1, len(pairs))),
        skip_edges=pytest.approx(sum(level[v] - level[u] > 1 for u, v in edges) / max(1, len(edges))),
        dead=len(G) - len(reaching_output),
        unreachable=len(G) - len(reachable),
        activations=Counter(ACTIVATIONS[g.activation[v]] for v in computed),
        aggregations=Counter(AGGREGATIONS[g.aggregation[v]] for v in computed),
        stored_weights=pytest.approx(len(stored) / max(1, len(edges))),
    )


class TestSummary:
    """summary."""

    @pytest.mark.parametrize("name", CASES)
    def test_cases(self, name):
        assert metrics.summary(CASES[name]) == counted(CASES[name])

    @given(graphs())
    def test_any_graph(self, g):
        assert metrics.summary(g) == counted(g)

    @given(graphs())
    def test_values_are_plain(self, g):
        values = dataclasses.asdict(metrics.summary(g))
        assert json.loads(json.dumps(values, allow_nan=False)) == values

    def test_some_weights_stored(self):
        g = fw.Graph.from_edges([0, 0, 1], [1, 2, 2]).with_values(weight=[1.0, math.nan, 0.0])
        assert metrics.summary(g).stored_weights == pytest.approx(2 / 3)

    def test_a_full_graph_is_dense(self):
        src, dst = np.triu_indices(7, k=1)
        computed = dst >= 3  # 0, 1, 2 are inputs
        assert metrics.summary(fw.Graph.from_edges(src[computed], dst[computed])).density == 1.0

    def test_it_reads_well(self):
        text = str(metrics.summary(CASES["parallel_edges"]))
        assert "nodes                   3 (1 inputs, 2 computed, 1 outputs)\n" in text
        assert "edges                   5 (2 parallel)\n" in text
        assert "edges that skip levels  20.0%\n" in text
        assert "aggregations            sum 1, max 1\n" in text
        nothing = metrics.summary(fw.Graph.from_edges([], [], num_nodes=1))
        assert "activations             none\n" in str(nothing)

    def test_it_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            metrics.summary(CASES["diamond"]).nodes = 3

    def test_python_steps_do_not_grow_with_the_graph(self):
        """As many lines of Python for a wide graph of 200,000 edges as for one of 20."""

        def lines(g):
            g.reaches_output, g.reachable_from_input, g.computed_index  # noqa: B018 (the graph's own, and kept)
            count = 0

            def trace(frame, event, argument):
                nonlocal count
                count += event == "line"
                return trace

            before = sys.gettrace()
            sys.settrace(trace)
            try:
                metrics.summary(g)
            finally:
                sys.settrace(before)
            return count

        small, large = (fw.generators.mlp([size, size, 2]) for size in (4, 400))
        assert lines(large) <= lines(small)


class TestSmallWorld:
    """clustering and path_length."""

    @given(graphs())
    def test_clustering(self, g):
        near = [set() for _ in range(g.num_nodes)]
        for u, v in g.edge_index.T.tolist():
            near[u].add(v)
            near[v].add(u)
        shares = []
        for around in near:
            pairs = list(combinations(around, 2))
            shares.append(sum(b in near[a] for a, b in pairs) / len(pairs) if pairs else 0)
        assert metrics.clustering(g) == pytest.approx(statistics.mean(shares))

    @given(graphs())
    def test_path_length(self, g):
        distance = np.full((g.num_nodes, g.num_nodes), math.inf)
        for u, v in g.edge_index.T.tolist():
            distance[u, v] = distance[v, u] = 1
        for k in range(g.num_nodes):  # Floyd and Warshall
            distance = np.minimum(distance, distance[:, [k]] + distance[[k]])
        found = [distance[u, v] for u, v in permutations(range(g.num_nodes), 2) if distance[u, v] < math.inf]
        assert metrics.path_length(g) == pytest.approx(statistics.mean(found) if found else math.nan, nan_ok=True)

    def test_a_connected_one_is_networkxs(self):
        dag = fw.generators.watts_strogatz_dag(30, 4, 0.3, seed=0)
        g = fw.Graph.from_networkx(dag)
        assert metrics.clustering(g) == pytest.approx(nx.average_clustering(dag.to_undirected()))
        assert metrics.path_length(g) == pytest.approx(nx.average_shortest_path_length(dag.to_undirected()))


class TestErrors:
    """All three, refusing anything but a Graph."""

    @pytest.mark.parametrize("function", [metrics.summary, metrics.clustering, metrics.path_length])
    def test_no_graph(self, function):
        assert_refused(lambda: function(nx.DiGraph([(0, 1)])), "g: expected a freewire Graph, got DiGraph. Use Graph.f")
        assert_refused(lambda: function([[0, 1]]), "g: expected a freewire Graph, got list. A Network has one as")
