# SPDX-License-Identifier: MIT
"""freewire/studies/ablation_results.py, and every message of an ablation study."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

import freewire as fw
from freewire import studies
from freewire.studies import Ablation, Silenced
from tests.studies.networks import DAG
from tests.support.messages import assert_refused

pytestmark = pytest.mark.usefixtures("one_thread")


def study() -> Ablation:
    rows = [
        Silenced("node", "h", ("h",), 0.25, -0.5),
        Silenced("edge", ("a", "h"), (0,), 1.0, 0.25),
        Silenced("nodes", "inputs", ("a", "b"), 0.75, 0.0),
    ]
    return Ablation(0.75, 40, tuple(rows))


class TestResult:
    def test_text(self):
        assert str(study()) == (
            "metric 0.75 on 40; with each silenced, the largest effects first\n"
            "node  h                                        0.25         -0.5\n"
            "edge  a -> h                                      1        +0.25\n"
            "nodes inputs                                   0.75           +0"
        )
        many = Ablation(0.0, 1, study().rows * 10)
        assert str(many).endswith("and 10 more")

    def test_to_dict(self):
        made = json.loads(json.dumps(study().to_dict()))
        assert made["baseline"] == 0.75
        assert made["rows"][1] == {"kind": "edge", "name": ["a", "h"], "members": [0], "metric": 1.0, "effect": 0.25}

    def test_plot(self):
        axes = study().plot()
        assert [label.get_text() for label in axes.get_yticklabels()] == ["h", "a -> h", "inputs"]
        assert sorted(bar.get_width() for bar in axes.patches) == [-0.5, 0.0, 0.25]
        assert {text.get_text() for text in axes.get_legend().get_texts()} == {"a node", "an edge", "a set of nodes"}
        axes.figure.canvas.draw()
        axes = study().plot(most=1)
        assert len(axes.patches) == 1
        assert axes.get_title() == "Effect of silencing, the largest 1 of 3"
        assert axes.get_legend() is None
        assert_refused(lambda: study().plot(most=0), "most: expected a whole number of at least 1", fw.InputError)
        assert_refused(lambda: study().plot(ax=3), "ax: expected a matplotlib Axes", fw.InputError)

    def test_node_effects_colour_a_picture(self):
        graph = fw.generators.mlp([2, 3, 1])
        found = studies.ablate(fw.Network(graph), [(torch.ones(2, 2), torch.ones(2, 1))], nn.functional.mse_loss)
        assert set(found.node_effects()) == set(graph.nodes)
        fw.plot(graph, values=found.node_effects())
        assert study().node_effects() == {"h": -0.5}

    def test_nan_comes_first(self):
        graph = fw.Graph.from_edges([0, 1], [2, 2], weight=[1.0, 3.0])
        x = torch.tensor([[math.inf, 1.0]])
        found = studies.ablate(fw.Network(graph), [(x, torch.zeros(1))], lambda y, _: y.clamp(max=100).sum())
        assert math.isnan(found.rows[0].metric)  # 0 times infinity
        assert [row.name for row in found.rows] == [0, 2, 1]


NET = fw.Network(fw.generators.mlp([2, 3, 1]))
BATCH = (torch.ones(4, 2), torch.ones(4, 1))


class TestErrors:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"net": 3}, "net: expected a Network, got int."),
            ({"net": nn.Linear(2, 1)}, "net: expected a Network, got Linear."),
            ({"net": fw.models.GraphStage(DAG, 1, 4)}, "net: expected a network of neurons, got a GraphStage."),
            ({"net": fw.Network(NET.graph, device="meta")}, "net: expected weights, got a network on the meta device"),
            ({"metric": "accuracy"}, r"metric: expected a function \(predictions, targets\) -> number, got 'accuracy'"),
            ({"metric": lambda y, _: y}, r"metric: expected one number, or a pair .*, got a tensor of shape \[4, 1\]"),
            ({"metric": lambda y, _: (1, 2, 3)}, r"metric: expected one number, or a pair .*, got \(1, 2, 3\)"),
            ({"metric": lambda y, _: None}, "metric: expected one number, or a pair .sum, count., got None"),
            ({"loader": 3}, "loader: expected an iterable of .inputs, targets., got int."),
            ({"loader": [3]}, "loader: expected batches .inputs, targets., two tensors, got int."),
            ({"loader": []}, "loader: expected at least one sample, got none."),
            ({"loader": [(BATCH[0][:0], BATCH[1][:0])]}, "loader: expected at least one sample, got none."),
            ({"nodes": ["h"]}, "nodes: expected names of the graph's nodes, got 'h'."),
            ({"nodes": [[0, 1]]}, r"nodes: expected names of the graph's nodes, got \[0, 1\]."),
            ({"nodes": "h"}, "nodes: expected True, a list, or a dictionary of lists, got 'h'."),
            ({"nodes": {0, 1}}, "nodes: expected a list or another collection with an order, got a set."),
            ({"nodes": {"hidden": 3}}, "nodes: expected a list for each label, got 3."),
            ({"nodes": {"hidden": []}}, "nodes: expected at least one in each set, got an empty one."),
            ({"nodes": []}, "nodes: expected something to silence, got no nodes and no edges."),
            ({"nodes": False}, "nodes: expected something to silence, got no nodes and no edges."),
            ({"edges": [9]}, "edges: expected columns of net.graph.edge_index, 0 to 8, got 9."),
            ({"edges": [(0, 2)]}, r"edges: expected columns of net.graph.edge_index, 0 to 8, got \(0, 2\)."),
            ({"edges": 0}, "edges: expected True, a list, or a dictionary of lists, got 0."),
        ],
    )
    def test_each_says_what_is_wrong(self, changed, said):
        given = {"net": NET, "loader": [BATCH], "metric": nn.functional.mse_loss, **changed}
        assert_refused(lambda: studies.ablate(**given), said, fw.InputError)

    def test_other_weights(self):
        class Other(nn.Module):
            graph, weight = NET.graph, torch.ones(3)

        said = r"net: expected 9 weights, one per edge, got shape \[3\]."
        assert_refused(lambda: studies.ablate(Other(), [BATCH], nn.functional.mse_loss), said, fw.InputError)
