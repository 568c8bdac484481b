# SPDX-License-Identifier: MIT
"""freewire/studies/damage_results.py and damage_plot.py: groups, dictionaries, text and plots."""

from __future__ import annotations

import dataclasses
import json

import matplotlib.figure
import pytest

from freewire import studies
from tests.studies.networks import loader, net

pytestmark = pytest.mark.usefixtures("one_thread")


class TestResult:
    study = studies.damage(net(), loader())

    def test_groups(self):
        by_node = self.study.accuracy_drops_by_out_degree()
        assert {degree: len(drops) for degree, drops in by_node.items()} == {0: 4, 2: 6}
        assert by_node[0] == [row.accuracy_drop for row in self.study.nodes if row.node in "de"]
        by_edge = self.study.accuracy_drops_by_target_in_degree()
        assert {degree: len(drops) for degree, drops in by_edge.items()} == {1: 2, 2: 4, 3: 6}
        assert list(by_edge) == [1, 2, 3]

    def test_to_dict(self):
        made = json.loads(json.dumps(self.study.to_dict()))
        assert {"accuracy", "accuracy_drop"} <= set(made["nodes"][0]) & set(made["edges"][0])
        nodes = tuple(studies.NodeDamage(**row) for row in made.pop("nodes"))
        edges = tuple(studies.EdgeDamage(**row) for row in made.pop("edges"))
        assert studies.Damage(**made, nodes=nodes, edges=edges) == self.study

    def test_it_is_frozen_and_reads_well(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.study.baseline = 1.0
        rows = [studies.NodeDamage("s", i, 1, 2, 0.9 - drop, drop) for i, drop in enumerate((0.1, 0.03))]
        text = str(studies.Damage(0.9, 50, tuple(rows), ()))
        assert text == (
            "accuracy 90.00% on 50 images; accuracy drop in percentage points, mean (worst)\n"
            "without a node of out-degree             2:   6.50 (10.00), 2 of them"
        )

    def test_plot(self):
        figure = self.study.plot()
        assert isinstance(figure, matplotlib.figure.Figure)
        left, right = figure.axes
        assert [axes.get_xlabel() for axes in (left, right)] == [
            "out-degree of the node",
            "in-degree of the edge's target",
        ]
        assert {axes.get_ylabel() for axes in (left, right)} == {"accuracy drop (percentage points)"}
        for axes, groups in (
            (left, self.study.accuracy_drops_by_out_degree()),
            (right, self.study.accuracy_drops_by_target_in_degree()),
        ):
            drawn = sorted(float(y) for dots in axes.collections for y in dots.get_offsets()[:, 1])
            assert drawn == pytest.approx(sorted(100 * drop for drops in groups.values() for drop in drops))
            for degree, dots in zip(groups, axes.collections, strict=True):
                assert all(abs(x - degree) < 0.5 for x in dots.get_offsets()[:, 0])
        figure.canvas.draw()

    def test_plot_of_one_kind(self):
        figure = dataclasses.replace(self.study, nodes=()).plot()
        assert [axes.get_title() for axes in figure.axes] == ["without one edge"]

    def test_plot_of_nothing(self):
        assert dataclasses.replace(self.study, nodes=(), edges=()).plot().axes == []
