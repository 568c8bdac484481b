# SPDX-License-Identifier: MIT
"""What a picture consists of: which edges, colours' ends, labels, curves, groups of a matrix, and the note."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

import freewire as fw
from freewire.errors import GraphError, InputError
from freewire.pictures import Subject, subject
from freewire.pictures.colours import DIVERGING, NEUTRAL, hex_colours, limit
from freewire.pictures.curves import bezier
from freewire.pictures.drawing import BINS, Matrix, Wiring, prepare
from freewire.pictures.labels import label
from tests.support.messages import assert_refused
from tests.support.odd_names import ODD_NAMES


def random_weights(graph: fw.Graph) -> Subject:
    return Subject(graph, np.random.default_rng(0).normal(size=graph.num_edges))


class TestWiring:
    def test_few_edges_the_strongest_last(self):
        drawing = prepare(random_weights(fw.generators.mlp([2, 3, 1])))
        assert isinstance(drawing, Wiring)
        assert drawing.note == "6 nodes, 9 edges"
        assert sorted(drawing.edges.tolist()) == list(range(9))
        assert np.all(np.diff(np.abs(drawing.edge_value)) >= 0)
        assert drawing.edge_limit == np.abs(drawing.edge_value).max()
        assert drawing.kind.tolist() == [1, 1, 0, 0, 0, 2]
        assert drawing.labels == list("012345")

    def test_the_note_says_what_is_thinned(self):
        graph = fw.generators.mlp([40, 60, 2])
        drawing = prepare(random_weights(graph))
        assert drawing.note == "102 nodes; 1,488 of 2,520 edges: the strongest, at most 24 into each node"
        assert len(drawing.edges) == len(drawing.curves) == 1488
        drawing = prepare(Subject(graph))
        assert drawing.note == "102 nodes; 1,488 of 2,520 edges: chosen at random, at most 24 into each node"
        assert drawing.edge_value is None

    def test_names_of_inputs_and_outputs_where_not_all_fit(self):
        graph = fw.generators.mlp([41, 30, 3])
        assert [text for text in prepare(Subject(graph)).labels if text] == ["71", "72", "73"]

    def test_curves_run_from_node_to_node_past_the_others(self):
        """In a chain with a shortcut from end to end, which a straight line would draw through the nodes between."""
        graph = fw.Graph.from_edges([0, 1, 2, 0], [1, 2, 3, 3])
        drawing = prepare(Subject(graph))
        (shortcut,) = drawing.curves[graph.edge_index[0, drawing.edges] + 1 < graph.edge_index[1, drawing.edges]]
        assert shortcut[[0, 3]].tolist() == drawing.position[[0, 3]].tolist()
        points = bezier(shortcut[None], 50)[0]
        assert np.all(np.diff(points[:, 0]) > 0)
        for node in (1, 2):
            assert np.hypot(*(points - drawing.position[node]).T).min() > 0.3

    @pytest.mark.parametrize("pairs", [40_000, 0])
    def test_curves_of_a_chain_are_on_both_sides(self, monkeypatch, pairs):
        monkeypatch.setattr("freewire.pictures.curves.PAIRS", pairs)
        drawing = prepare(Subject(fw.Graph.from_edges([0, 1, 2, 0, 1], [1, 2, 3, 2, 3])))
        bends = drawing.curves[drawing.graph.edge_index[0, drawing.edges] + 2 == drawing.graph.edge_index[1]][:, 1, 1]
        assert sorted(np.sign(bends)) == [-1, 1]

    def test_parallel_edges_are_beside_each_other(self):
        drawing = prepare(Subject(fw.Graph.from_edges([0, 0, 0, 1], [1, 1, 1, 2])))
        middle = bezier(drawing.curves, 2)[:, 1, 1]
        assert len(set(middle.round(6))) == 3
        assert middle[:3].mean() == pytest.approx(0)
        assert middle[3] == 0

    @pytest.mark.parametrize(
        "drawn",
        [
            Subject(fw.Graph.from_edges([], [], num_nodes=1, outputs=[0])),
            Subject(fw.Graph.from_edges([], [], num_nodes=3, inputs=[], outputs=[1]), np.zeros(0), np.zeros(3)),
            Subject(fw.Graph.from_edges([0, 0], [1, 1]), np.zeros(2), np.array([np.nan, 0.0])),
            Subject(fw.Graph.from_edges([0, 1], [2, 2]), np.array([np.nan, np.nan])),
            Subject(fw.Graph.from_edges([0, 1], [2, 2]), np.array([np.inf, -np.inf])),
            Subject(fw.Graph.from_edges([0, 1], [2, 2]), np.array([1e308, 5e-324])),
        ],
        ids=["one node", "no edges", "zeros", "nan", "inf", "extreme"],
    )
    def test_the_smallest_and_the_strangest(self, drawn):
        drawing = prepare(drawn)
        assert np.isfinite(drawing.curves).all()
        assert 0 < drawing.edge_limit < np.inf


class TestMatrix:
    def test_groups_are_of_one_level_each(self):
        graph = fw.generators.mlp([1000, 1000, 10])
        drawing = prepare(random_weights(graph))
        assert isinstance(drawing, Matrix)
        assert drawing.note == (
            "2,010 nodes in order of their levels, in 161 groups; 1,010,000 edges: mean |weight| over all pairs of "
            "nodes, from group to group"
        )
        assert drawing.first.tolist() == [0, 80, 160, 161]
        filled = np.zeros((161, 161), bool)
        filled[:80, 80:160] = filled[80:160, 160] = True
        assert np.array_equal(np.isfinite(drawing.cells), filled)
        assert drawing.cells[filled].mean() == pytest.approx(np.sqrt(2 / np.pi), rel=0.01)
        assert [level for level, _ in drawing.ticks()] == [0, 1, 2]

    def test_many_levels_share_groups(self):
        n = 2 * BINS * 10
        drawing = prepare(Subject(fw.Graph.from_edges(np.arange(n - 1), np.arange(1, n))))
        assert drawing.cells.shape == (BINS, BINS)
        assert drawing.first[[0, 20, -1]].tolist() == [0, 1, BINS]
        assert np.nansum(drawing.cells) == pytest.approx((n - 1) / 20**2)
        assert len(drawing.boundaries()) <= 50
        assert len(drawing.ticks()) <= 14

    def test_values_are_averaged_and_unknown_weights_counted(self):
        graph = fw.generators.mlp([1500, 600])
        weight = np.ones(graph.num_edges)
        weight[:3] = np.nan
        drawing = prepare(Subject(graph, weight), np.arange(2100.0))
        assert drawing.note.endswith("; 3 weights of no finite value counted as 0")
        assert drawing.node_what == "mean value"
        assert drawing.node_value[0] == np.arange(2100)[: 1500 // 114 + 1].mean()
        assert drawing.node_value.shape == (160,)


class TestValues:
    GRAPH = fw.Graph.from_networkx(nx.DiGraph([("x", "h"), ("h", "y")]))

    def values(self, given) -> list[float]:
        return prepare(subject(self.GRAPH), given).node_value.tolist()

    def test_in_node_order_or_by_name(self):
        for given in (
            [1, 2, 3],
            torch.tensor([1.0, 2.0, 3.0], requires_grad=True),
            torch.tensor([1, 2, 3], dtype=torch.bfloat16),
            {"y": 3, "x": torch.tensor([1.0]), "h": np.float32(2)},
        ):
            assert self.values(given) == [1, 2, 3]
        assert np.isnan(self.values({"h": 1})).tolist() == [True, False, True]

    def test_the_activations_of_one_sample(self):
        net = fw.Network(self.GRAPH)
        drawing = prepare(subject(net), net.activations(torch.ones(1)))
        assert drawing.node_what == "value"
        assert drawing.node_value[0] == 1

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([1, 2], r"values: expected 3 numbers, one per node, got shape \[2\]. Pass the values for one sample"),
            (torch.zeros(5, 3), r"values: expected 3 numbers, one per node, got shape \[5, 3\]."),
            ({"x": torch.zeros(5)}, r"values: expected one number per node, got shape \[5\] for node 'x'. Pass"),
            ({"z": 1}, "values: expected names of nodes, got unknown 'z'. Use those of this graph: 'x', 'h', 'y'."),
            ({}, "values: expected names of nodes, got none. Use"),
            ({"x": "red"}, "values: expected numbers, got 'red'. Pass"),
            ({"x": None}, "values: expected numbers, got None. Pass"),
            ("abc", "values: expected numbers, got 'abc'. Pass"),
            ([1, 2, 1j], r"values: expected numbers, got \[1, 2, 1j\]. Pass"),
            ({1, 2, 3}, "values: expected a list or another collection with an order, got a set."),
        ],
    )
    def test_refused(self, given, message):
        assert_refused(lambda: self.values(given), message, InputError)

    def test_of_many_names_some_are_listed(self):
        drawn = Subject(fw.generators.mlp([20, 1]))
        assert_refused(lambda: prepare(drawn, {20.5: 1}), r"values: .* 9, 10, 11, \.\.\. \(9 more\)\.", InputError)


def test_what_cannot_be_drawn():
    assert_refused(lambda: subject(torch.nn.Linear(2, 1)), "net_or_graph: expected a Graph or a module", GraphError)
    net = fw.Network(fw.generators.mlp([2, 1]), device="meta")
    assert_refused(lambda: subject(net), "weight: expected values, got a tensor on the meta device", GraphError)


class TestColours:
    def test_ends_middle_and_none(self):
        codes = hex_colours(np.array([-1, 0, 1, 5, np.nan]), DIVERGING)
        assert codes == [DIVERGING[0], DIVERGING[0], DIVERGING[-1], DIVERGING[-1], NEUTRAL]
        middle = hex_colours(np.array([0.5]), DIVERGING, 65)
        assert middle == [DIVERGING[3]]

    @pytest.mark.parametrize(
        ("values", "end"),
        [
            (None, 1),
            ([], 1),
            ([0, np.nan, np.inf], 1),
            ([-3, 2], 3),
            ([1e-320], 1e-30),
            ([1e308], 1e30),
            ([*range(1, 1001), 1e6], 991),
        ],
    )
    def test_where_they_end(self, values, end):
        assert limit(None if values is None else np.array(values, float)) == pytest.approx(end)


def test_lines_are_wider_and_opaque_where_few_edges_have_weights():
    graph = fw.Graph.from_edges([0, 1, 1], [2, 2, 2])
    plain, weighted = prepare(Subject(graph)), prepare(Subject(graph, np.array([np.nan, -1.0, 2.0])))
    assert (plain.line_widths().tolist(), plain.opacity()) == ([1.0, 1.0, 1.0], 0.6)
    assert (weighted.line_widths().tolist(), weighted.opacity()) == (pytest.approx([0.8, 1.7, 2.6]), 1.0)
    many = prepare(random_weights(fw.generators.mlp([30, 30])))
    assert many.opacity() == 0.6
    assert many.line_widths().max() <= 0.8


def test_thinning_does_not_change_the_colours():
    drawn = random_weights(fw.generators.mlp([100, 100]))
    thinned = prepare(drawn)
    assert len(thinned.edges) < 10_000
    assert thinned.edge_limit == limit(drawn.weight)


def test_labels_are_one_line_of_what_prints():
    assert {name: label(name, 200) for name in ODD_NAMES} == ODD_NAMES
    assert label("x" * 1000) == "x" * 10 + "…" + "x" * 9
    assert len(label("\n" * 1000)) == 39
    assert (label("a\nb"), label("\ud800"), label("汉字"), label(np.int64(3))) == ("a\\nb", "\\ud800", "汉字", "3")
