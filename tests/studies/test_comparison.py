# SPDX-License-Identifier: MIT
"""Comparisons of a wiring with null models, and the sign-flip test against values computed by hand or plainly."""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import freewire as fw
from freewire import studies
from tests.support.messages import assert_refused

GRAPH = fw.generators.random_graph(4, 20, 3, 4, seed=0)
NULLS = studies.null_models(GRAPH, "degree", 3, seed=0)

#: Scores by wiring (the graph first) and seed.
SCORES = {0: [5.0, 6.0, 9.0], 1: [4.0, 4.0, 4.0], 2: [1.0, 7.0, 7.0], 3: [4.0, 4.0, 7.0]}


def from_table(graph: fw.Graph, seed: int) -> float:
    wirings = [each.wiring_hash for each in (GRAPH, *NULLS)]
    return SCORES[wirings.index(graph.wiring_hash)][seed]


def depth(graph: fw.Graph, seed: int) -> float:
    """A training that a process pool can run."""
    return graph.num_edges + seed + graph.depth / 7


class TestSignFlips:
    @pytest.mark.parametrize(
        ("differences", "p"),
        [
            ([3.0], 1.0),  # +3 and -3 are as far from 0
            ([1.0, 2.0, 3.0], 2 / 8),  # 6 and -6 of all 8 sums
            ([1.0, 2.0, -3.0], 1.0),  # 0
            ([1.0, 2.0, 4.0, -1.0], 6 / 16),  # 8 in two ways, and 6 in four: either 1 may have the other sign
            ([0.0, 0.0], 1.0),
            ([1.0, 0.0], 1.0),
            ([1.0] * 6, 2 / 64),
            ([1.0] * 5 + [-1.0], 14 / 64),  # 4: all alike in 2 ways, all but one in 12
        ],
    )
    def test_by_hand(self, differences, p):
        found = studies.sign_flip_test(differences)
        n = len(differences)
        assert found == (p, 2**n, True, 2 / 2**n)

    def test_every_pattern(self):
        for n in range(1, 11):
            values = np.random.RandomState(n).randn(n) + 0.3
            sums = [abs(np.dot(signs, values)) for signs in itertools.product((1, -1), repeat=n)]
            expected = np.mean(np.array(sums) >= abs(values.sum()) - 1e-12)
            assert studies.sign_flip_test(values).p_value == expected

    def test_rounding_does_not_divide_equal_sums(self):
        """0.1 + 0.2 + 0.3 in any order is one sum, though floats differ."""
        for scale in (1e-9, 0.1, 1e9):
            found = studies.sign_flip_test([scale, 2 * scale, 3 * scale, -scale, scale * 1.1])
            assert found.p_value == studies.sign_flip_test([1.0, 2.0, 3.0, -1.0, 1.1]).p_value

    def test_twenty_are_exact_and_more_are_drawn(self):
        assert studies.sign_flip_test([1.0] * 20) == (2 / 2**20, 2**20, True, 2 / 2**20)
        values = [1.0] * 16 + [-1.0] * 5  # 11 of 21: at most 5 or at least 16 of one sign
        found = studies.sign_flip_test(values)
        expected = 2 * sum(math.comb(21, k) for k in range(6)) / 2**21
        assert (found.patterns, found.exact, found.smallest_p_value) == (100_000, False, 1 / 100_001)
        assert abs(found.p_value - expected) < 4 * math.sqrt(expected / 100_000)
        assert found == studies.sign_flip_test(values) != studies.sign_flip_test(values, seed=1)
        assert studies.sign_flip_test([1.0] * 40).p_value == 1 / 100_001
        assert studies.sign_flip_test([1.0, -1.0] * 20).p_value == 1.0

    @pytest.mark.parametrize("given", [[], [1.0, math.nan], [math.inf], ["a"], [[1.0], [2.0]]])
    def test_refused(self, given: Any):
        said = "differences: expected finite numbers, at least one, got "
        assert_refused(lambda: studies.sign_flip_test(given), said, fw.InputError)


class TestCompare:
    study = studies.compare(GRAPH, NULLS, from_table, 3)

    def test_scores_and_differences(self):
        assert self.study.seeds == (0, 1, 2)
        assert [list(self.study.graph_scores), *map(list, self.study.null_scores)] == list(SCORES.values())
        assert self.study.differences == (2.0, 1.0, 3.0)
        assert self.study.test == studies.sign_flip_test([2.0, 1.0, 3.0])
        assert (self.study.mean_difference, self.study.cohen_d) == (2.0, 2.0)
        assert self.study.win_rate == 8 / 9
        assert self.study.rank == 1

    def test_rows(self):
        rows = self.study.rows()
        assert rows[0] == ("graph", 20 / 3, pytest.approx(np.std([5, 6, 9], ddof=1)), 0.0, 0)
        assert rows[2] == ("null model 1", 5.0, pytest.approx(math.sqrt(12)), pytest.approx(5 / 3), 2)
        assert [row.graph_better for row in rows[1:]] == [3, 2, 3]

    def test_equal_scores(self):
        study = studies.compare(GRAPH, NULLS, lambda graph, seed: seed, [4, 2])
        assert (study.mean_difference, study.cohen_d, study.win_rate, study.rank) == (0.0, 0.0, 0.5, 4)
        assert study.test.p_value == 1.0
        better = studies.compare(GRAPH, NULLS, lambda graph, seed: float(graph is GRAPH), 6)
        assert (better.cohen_d, better.win_rate, better.rank) == (math.inf, 1.0, 1)
        assert better.test.p_value == 2 / 64
        assert studies.compare(GRAPH, NULLS, lambda graph, seed: -float(graph is GRAPH), 6).cohen_d == -math.inf

    @pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
    def test_executor(self, pool):
        with pool(2) as executor:
            found = studies.compare(GRAPH, NULLS, depth, [3, 7], executor=executor)
        assert found == studies.compare(GRAPH, NULLS, depth, [3, 7])
        assert found.graph_scores == (depth(GRAPH, 3), depth(GRAPH, 7))

    def test_what_has_not_begun_is_cancelled(self):
        begun = []

        def fails(graph: fw.Graph, seed: int) -> float:
            begun.append(seed)
            if len(begun) > 1:
                time.sleep(0.02)
            raise KeyError(seed)

        with ThreadPoolExecutor(1) as executor, pytest.raises(KeyError):
            studies.compare(GRAPH, NULLS, fails, 10, executor=executor)
        assert len(begun) < 40

    def test_text(self):
        assert str(self.study) == (
            "                        mean         std  difference  graph better\n"
            "graph                6.66667       2.082\n"
            "null model 0               4           0      +2.667  at 3 of 3 seeds\n"
            "null model 1               5       3.464      +1.667  at 2 of 3 seeds\n"
            "null model 2               5       1.732      +1.667  at 3 of 3 seeds\n"
            "difference to the mean of the null models +2, Cohen's d 2.00\n"
            "better in 89% of 9 pairs of a null model and a seed; rank 1 of 4 by mean score\n"
            "two-sided sign-flip test over 3 seeds, all 8 patterns: p = 0.25\n"
            "with 3 seeds p cannot be below 0.25; 0.05 takes at least 6 seeds"
        )
        many = str(studies.compare(GRAPH, NULLS * 10, from_table, 3))
        assert "\nand 18 more\n" in many
        six = str(studies.compare(GRAPH, NULLS, depth, 6))
        assert "cannot be below" not in six
        assert "100,000 patterns drawn" in str(studies.compare(GRAPH, NULLS, depth, 21))

    def test_to_dict(self):
        made = json.loads(json.dumps(self.study.to_dict()))
        assert made["null_scores"] == [SCORES[1], SCORES[2], SCORES[3]]
        assert made["test"]["p_value"] == 0.25
        assert made["rank"] == 1

    def test_plot(self):
        axes = self.study.plot()
        lines = [line.get_ydata().tolist() for line in axes.lines]
        assert lines[:3] == [[5.0, 3.0], [6.0, 5.0], [9.0, 6.0]]
        assert lines[3:] == [[20 / 3] * 2, [14 / 3] * 2]
        (dots,) = axes.collections
        assert sorted(dots.get_offsets()[:, 1]) == sorted(SCORES[1] + SCORES[2] + SCORES[3])
        assert axes.get_title() == "difference +2 over 3 seeds, d = 2.00, p = 0.25"
        axes.figure.canvas.draw()
        single = studies.compare(GRAPH, NULLS[:1], from_table, 3).plot(ax=axes.figure.add_subplot())
        assert [label.get_text() for label in single.get_xticklabels()] == ["the wiring", "the null model"]
        assert not single.collections

    def test_plot_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
        assert_refused(self.study.plot, r"matplotlib: .* pip install 'freewire\[viz\]'", fw.BuildError)


class TestErrors:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"graph": 3}, "graph: expected a Graph, got int."),
            ({"nulls": GRAPH}, "nulls: expected a list of Graphs, got Graph."),
            ({"nulls": []}, "nulls: expected at least one Graph, got none."),
            ({"nulls": [3]}, "nulls: expected Graphs, got int."),
            ({"nulls": {GRAPH}}, "nulls: expected a list or another collection with an order, got a set."),
            ({"train": 3}, r"train: expected a function \(graph, seed\) -> score, got 3."),
            ({"executor": 3}, "executor: expected a concurrent.futures.Executor or None, got int."),
            ({"seeds": 1}, "seeds: expected at least 2, got 1. With fewer than 6 no p-value"),
            ({"seeds": -3}, "seeds: expected at least 2, got 0."),
            ({"seeds": "abc"}, "seeds: expected a list of integers or their number, got 'abc'."),
            ({"seeds": 2.0}, "seeds: expected a list of integers or their number, got 2.0."),
            ({"seeds": [1, 2.5]}, "seeds: expected integers, got 2.5."),
            ({"seeds": [1, 2, 1]}, "seeds: expected different integers, got 1 repeated."),
            (
                {"train": lambda graph, seed: math.nan if graph is NULLS[1] and seed == 5 else 0.0},
                "train: expected a finite number as score, got nan for null model 1 at seed 5.",
            ),
            (
                {"train": lambda graph, seed: -math.inf},
                "train: expected a finite number as score, got -inf for the graph at seed 4.",
            ),
            (
                {"train": lambda graph, seed: None},
                "train: expected a finite number as score, got None for the graph at seed 4.",
            ),
        ],
    )
    def test_each_says_what_is_wrong(self, changed, said):
        given = {"graph": GRAPH, "nulls": NULLS, "train": depth, "seeds": [4, 5], **changed}
        assert_refused(lambda: studies.compare(**given), said, fw.InputError)
