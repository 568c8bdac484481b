# SPDX-License-Identifier: MIT
"""Random search, evolution, and a strategy of batches: what each proposes, and the promises of all."""

from __future__ import annotations

import statistics

import pytest

import freewire as fw
from freewire.search import Evolution, RandomSearch
from tests.search import objectives, strategies
from tests.search.conformance import Conformance
from tests.search.disordered import timeless
from tests.support.messages import assert_refused

SPACE = objectives.SPACE
GOLDEN = [{"kind": "c", "x": 0.9917032376092603, "n": 35}, {"kind": "c", "x": 0.5230688319407821, "n": 54}]


class TestRandomSearch(Conformance):
    def make(self):
        return RandomSearch(SPACE)

    def test_depends_on_the_seeds_and_the_number_alone(self):
        found = {}
        for seed, own, trial in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2**32, 0, 0), (0, 2**32, 0)]:
            strategy = RandomSearch(SPACE, seed=own)
            strategy.start(seed)
            found[seed, own, trial] = strategy.propose(trial)["params"]
            strategy.tell({"trial": 0, "value": 3.0, "params": {}})
            assert strategy.propose(trial)["params"] == found[seed, own, trial]
        assert len({params["x"] for params in found.values()}) == len(found)

    def test_golden(self):
        """The same trials on every platform and in every version."""
        strategy = RandomSearch(SPACE)
        strategy.start(0)
        assert [strategy.propose(trial)["params"] for trial in range(2)] == GOLDEN


class TestEvolution(Conformance):
    def make(self):
        return Evolution(SPACE, population=12, sample=4)

    def test_children_of_recent_trials(self):
        """A child has all parameters but one from one of the last 20 trials that were told."""
        space = {name: (0.0, 1.0) for name in "abc"}
        strategy = Evolution(space, population=20, sample=5, step=0.1, lag=4)
        lines = run_serially(strategy, 200, lambda params: params["a"] - abs(params["b"] - 0.5))
        ages = []
        for trial in range(20, 200):
            child = lines[trial]
            parents = [
                other
                for other in range(trial)
                if sorted(child[name] == lines[other][name] for name in "abc") == [False, True, True]
            ]
            recent = [other for other in parents if trial - 4 - 20 <= other < trial - 4]
            assert recent, trial
            ages.append(trial - max(recent))
            # A trial that changes what its parent had changed looks like a child of its grandparent, too.
            assert min(max(abs(child[name] - lines[other][name]) for name in "abc") for other in recent) <= 0.1
        assert max(ages) > 10
        assert min(ages) == 5

    def test_best_of_the_sample_is_the_parent(self):
        """With a sample of many, nearly every child is one of the best trial's."""
        space = {name: (0.0, 1.0) for name in "abc"}
        strategy = Evolution(space, population=10, sample=200, lag=0)
        lines = run_serially(strategy, 60, lambda params: params["a"])
        for trial in range(10, 60):
            most = max(params["a"] for params in lines[trial - 10 : trial])
            best = [params for params in lines[trial - 10 : trial] if params["a"] == most]
            assert 2 in [sum(lines[trial][name] == params[name] for name in "abc") for params in best]

    def test_old_trials_die(self):
        """A trial that is far better than all others, by luck, has no children once it is old.

        After it the values fall, so the best is then the oldest one that may still have children.
        """
        space = {name: (0.0, 1.0) for name in "abc"}
        strategy = Evolution(space, population=10, sample=200, lag=0)
        strategy.start(0)
        lines = []
        for trial in range(40):
            lines.append(strategy.propose(trial)["params"])
            strategy.tell({"params": lines[-1], "value": 100.0 if trial == 9 else -float(trial)})
        for trial in range(10, 40):
            parent = lines[9 if trial < 20 else trial - 10]
            assert sum(lines[trial][name] == parent[name] for name in "abc") == 2

    def test_failed_trials_have_no_children(self):
        strategy = Evolution({name: (0.0, 1.0) for name in "abc"}, population=10, sample=200, lag=0)
        strategy.start(0)
        lines = []
        for trial in range(30):
            lines.append(strategy.propose(trial)["params"])
            strategy.tell({"params": lines[-1], "value": None if trial % 10 or trial > 20 else -1.0 * trial})
        for trial in range(10, 21):
            good = lines[(trial - 1) // 10 * 10]
            assert sum(lines[trial][name] == good[name] for name in "abc") == 2
        strategy.start(0)
        for trial in range(30):  # all have failed: trials stay random
            params = strategy.propose(trial)["params"]
            strategy.tell({"params": params, "value": None})
            lines.append(params)
        assert len({params["a"] for params in lines[30:]}) == 30

    def test_finds_more_than_random_search(self):
        def best(strategy, seed):
            strategy.start(seed)
            values = []
            for trial in range(150):
                params = strategy.propose(trial)["params"]
                values.append(objectives.hill(params))
                if trial >= 8:
                    strategy.tell(told[trial - 8])
                told.append({"params": params, "value": values[-1]})
            return 1 - max(values)

        gaps = {}
        for name, make in {"evolution": Evolution, "random": RandomSearch}.items():
            gaps[name] = []
            for seed in range(10):
                told: list = []
                gaps[name].append(best(make(SPACE), seed))
        assert statistics.median(gaps["evolution"]) < statistics.median(gaps["random"]) / 3

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"population": 0}, "population: expected a whole number of at least 1, got 0"),
            ({"sample": 0}, "sample: expected a whole number of at least 1, got 0"),
            ({"step": 0}, "step: expected a share of the range, above 0 and at most 1, got 0"),
            ({"step": 1.1}, r"step: expected a share of the range, above 0 and at most 1, got 1\.1"),
            ({"step": "a"}, "step: expected a share of the range, above 0 and at most 1, got 'a'"),
            ({"lag": -1}, "lag: expected a whole number of at least 0, got -1"),
            ({"population": 8}, "lag: expected less than the population of 8, got 8"),
            ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
            ({"seed": 2**64}, "seed: expected a whole number of at most"),
        ],
    )
    def test_refused(self, options, expected):
        assert_refused(lambda: Evolution(SPACE, **options), expected, fw.InputError)


def run_serially(strategy, trials, value):
    """The params of a search, each trial told as late as the strategy's lag allows."""
    strategy.start(0)
    lines = []
    for trial in range(trials):
        if trial > strategy.lag:
            told = lines[trial - strategy.lag - 1]
            strategy.tell({"params": told, "value": value(told)})
        lines.append(strategy.propose(trial)["params"])
    return lines


class TestGenerations(Conformance):
    objective = staticmethod(strategies.near_three)
    failing = staticmethod(strategies.half_are_nan)
    trials = 48

    def make(self):
        return strategies.Generations()

    def test_rounded_up_to_whole_batches(self, tmp_path):
        path = tmp_path / "log.jsonl"
        self.run(path, trials=7)
        lines = timeless(path)
        assert list(lines) == list(range(12))
        assert [line["generation"] for line in lines.values()] == [0] * 6 + [1] * 6

    def test_lines(self, tmp_path):
        """Evaluating has changed the genomes, and reports are in the first line of a batch."""
        best = self.run(tmp_path / "log.jsonl")
        lines = timeless(tmp_path / "log.jsonl")
        assert best.params is None
        assert best.number == lines[best.trial]["genome"]["x"]
        assert best.line["value"] == best.value
        with pytest.raises(AttributeError, match="the result of this search has no attribute 'graph'"):
            _ = best.graph
        for trial, line in lines.items():
            [value] = [line["value"]]
            assert value == pytest.approx(-((line["genome"]["x"] / 0.9 - 3) ** 2), abs=0.01)
            batch = [lines[other]["value"] for other in range(trial // 6 * 6, trial // 6 * 6 + 6)]
            assert line.get("reports") == (None if trial % 6 else [[trial // 6, max(batch)]])

    def test_only_members_that_are_nan_have_failed(self, tmp_path):
        self.run(tmp_path / "log.jsonl", self.failing)
        lines = list(timeless(tmp_path / "log.jsonl").values())
        kinds = set()
        for first in range(0, self.trials, 6):
            errors = [line.get("error") for line in lines[first : first + 6]]
            if errors[1] is None:
                kinds.add("members")
                assert errors[1::2] == [None] * 3
                assert all(text.startswith("value: expected a finite number, got nan") for text in errors[::2])
            else:
                kinds.add("batch")
                assert len(set(errors)) == 1
                assert errors[0].endswith("RuntimeError: a bad generation")
        assert kinds == {"members", "batch"}


class TestGenerationsSideBySide(TestGenerations):
    """Three generations at once, each of which knows the trials up to 15 before its first, in midst of a batch."""

    def make(self):
        return strategies.Generations(lag=15)
