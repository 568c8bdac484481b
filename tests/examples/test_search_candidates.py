# SPDX-License-Identifier: MIT
"""The candidates that the wiring search draws, and how one is built, trained and measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import freewire as fw

pytestmark = pytest.mark.usefixtures("one_thread")


def params(family: str, density: float = 0.5, rewiring: float = 0.25, graph_seed: int = 7) -> dict:
    return {"family": family, "density": density, "rewiring": rewiring, "graph_seed": graph_seed}


class TestCandidate:
    """From parameters to wirings."""

    def test_ranges(self, example):
        drawn = {
            (family, place): example.trial.generator(params(family, place / 64))
            for family in example.trial.FAMILIES
            for place in range(65)
        }
        assert [drawn["ER", place].p for place in (0, 32, 64)] == pytest.approx([0.12, 0.26, 0.4])
        assert [drawn["BA", place].m for place in (0, 9, 10, 63, 64)] == [1, 1, 2, 7, 7]
        assert {drawn["BA", place].m for place in range(65)} == set(range(1, 8))
        assert {drawn["WS", place].k for place in range(65)} == {2, 4, 6, 8}
        assert drawn["WS", 0].p == 0.25

    @pytest.mark.parametrize(
        ("family", "full"),
        [
            ("ER", fw.generators.erdos_renyi_dag(32, 0.26, 7)),
            ("BA", fw.generators.barabasi_albert_dag(32, 4, 7)),
            ("WS", fw.generators.watts_strogatz_dag(32, 6, 0.25, 7)),
        ],
    )
    def test_draws_the_described_graph(self, example, family, full):
        assert set(example.trial.generator(params(family))(32, 7).edges) == set(full.edges)

    def test_names(self, example):
        names = [example.trial.wiring_name(params(family)) for family in example.trial.FAMILIES]
        assert names == ["ER(p=0.26)", "BA(m=4)", "WS(k=6, p=0.25)"]

    def test_all_that_a_search_draws_can_be_built(self, example):
        """Of the densities that the search draws, few graphs are not connected."""
        strategy = fw.search.RandomSearch(example.trial.SPACE)
        strategy.start(0)
        drawn = [strategy.propose(trial)["params"] for trial in range(60)]
        for each in drawn:
            assert example.trial.generator(each)(32, each["graph_seed"]).number_of_nodes() == 32
        assert {each["family"] for each in drawn} == set(example.trial.FAMILIES)
        assert len({each["graph_seed"] for each in drawn}) == 60


class TestTrial:
    """Training and measuring a network."""

    def test_split(self, example):
        parts = example.trial.load_digits(example.trial.Settings())
        assert [len(part.y) for part in parts] == [600, 600, 597]
        images = {part.x[i].numpy().tobytes() for part in parts for i in range(len(part.y))}
        assert len(images) == 1797  # all images differ, so none is in two parts
        shares = [np.bincount(part.y) / len(part.y) for part in parts]
        np.testing.assert_allclose(shares[1:], [shares[0]] * 2, atol=0.005)

    def test_depends_only_on_its_arguments(self, example, quick):
        first = example.trial.run_trial(quick, params("WS"), seed=5)
        torch.manual_seed(99)
        assert example.trial.run_trial(quick, params("WS"), seed=5) == first
        other = example.trial.run_trial(quick, params("WS"), seed=6, test=True)
        assert "test" not in first
        assert 0 < other["test"] < 1
        same = ("wiring", "graph", "weights", "multiply_adds")
        assert all(first[name] == other[name] for name in same)
        assert first["validation_loss"] != other["validation_loss"]

    def test_learns(self, example):
        settings = example.trial.Settings(epochs=4, nodes=8, train=1000)
        assert example.trial.run_trial(settings, params("ER"), 0)["value"] > 0.6

    def test_statistics_and_costs_are_those_of_the_graph(self, example, quick):
        lines = {family: example.trial.run_trial(quick, params(family), 0) for family in ("ER", "BA")}
        dag = example.trial.generator(params("BA"))(quick.nodes, 7)
        graph = fw.Graph.from_networkx(dag)
        assert lines["BA"]["graph"] == {
            "edges": graph.num_edges,
            "depth": graph.depth,
            "clustering": fw.metrics.clustering(graph),
            "path_length": fw.metrics.path_length(graph),
        }
        edges = {family: line["graph"]["edges"] for family, line in lines.items()}
        assert edges["ER"] != edges["BA"]  # and nothing else differs:
        assert len({line["weights"] - edges[family] for family, line in lines.items()}) == 1
        without_edges = {line["multiply_adds"] - edges[f] * 16 * quick.channels for f, line in lines.items()}
        with FlopCounterMode(display=False) as counter:
            example.trial.build(dag, quick.channels)(torch.rand(1, 1, 8, 8))
        assert {counter.get_total_flops()} == {2 * each for each in without_edges}

    def test_loss_is_nan(self, example):
        digits = example.trial.Digits(torch.full((4, 1, 8, 8), math.nan), torch.zeros(4, dtype=torch.int64))
        net = example.trial.build(example.trial.generator(params("BA"))(8, 0), 4)
        with pytest.raises(FloatingPointError, match=r"^loss: expected a finite number, got nan in epoch 0\.$"):
            example.trial.train(net, digits, epochs=1)
