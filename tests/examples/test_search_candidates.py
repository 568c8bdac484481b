# SPDX-License-Identifier: MIT
"""The candidates that the wiring search draws."""

from __future__ import annotations

import pytest

import freewire as fw

pytestmark = pytest.mark.usefixtures("one_thread")


class TestCandidate:
    """The random draws of a trial."""

    def test_ranges(self, example):
        drawn = [example.trial.candidate(seed=1, trial=trial) for trial in range(600)]
        assert [c.family for c in drawn[:6]] == ["ER", "BA", "WS"] * 2
        er, ba, ws = ([c.parameters for c in drawn if c.family == family] for family in ("ER", "BA", "WS"))
        assert all(0.12 <= parameters["p"] <= 0.4 for parameters in er)
        assert max(parameters["p"] for parameters in er) > 0.39
        assert min(parameters["p"] for parameters in er) < 0.13
        assert {parameters["m"] for parameters in ba} == set(range(1, 8))
        assert {parameters["k"] for parameters in ws} == {2, 4, 6, 8}
        assert all(0 <= parameters["p"] <= 1 for parameters in ws)
        assert max(parameters["p"] for parameters in ws) > 0.97
        assert min(parameters["p"] for parameters in ws) < 0.03
        for seeds in ({c.graph_seed for c in drawn}, {c.weight_seed for c in drawn}):
            assert len(seeds) == 600

    def test_depends_on_seed_and_number(self, example):
        candidate = example.trial.candidate
        assert candidate(3, 7) == candidate(3, 7)
        assert len({candidate(seed, trial).graph_seed for seed in (0, 1, 7) for trial in (0, 1, 7)}) == 9

    @pytest.mark.parametrize("trial", range(3))
    def test_draws_the_described_graph(self, example, trial):
        made = example.trial.candidate(0, trial)
        full = {"ER": "erdos_renyi_dag", "BA": "barabasi_albert_dag", "WS": "watts_strogatz_dag"}[made.family]
        expected = getattr(fw.generators, full)(32, **made.parameters, seed=made.graph_seed)
        assert set(made.draw(32).edges) == set(expected.edges)
