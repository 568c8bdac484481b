# SPDX-License-Identifier: MIT
"""A suite of tests that the test class of every strategy inherits: the promises of `freewire.search.Strategy`."""

from __future__ import annotations

import json
import pickle
import random

import pytest
import torch

import freewire as fw
from tests.search import objectives
from tests.search.disordered import Disordered, as_text, timeless


class Conformance:
    """Tests of any strategy.

    A subclass says how to make one, and for other arguments than ``params`` its objectives:

    Attributes:
        objective: Depends on what is proposed and on the seed.
        failing: Some trials fail, and some finish.
        hopeless: Every trial fails.
        trials: How many; of some batches, and enough for the strategy to learn.
    """

    objective = staticmethod(objectives.hilly_hill)
    failing = staticmethod(objectives.often_fails)
    hopeless = staticmethod(objectives.always_fails)
    trials = 40

    def make(self):
        """A new strategy, always with the same arguments."""
        raise NotImplementedError

    def run(self, path, objective=None, trials=None, **options):
        options = {"workers": 0, "seed": 1, **options}
        return fw.search.run(
            objective or self.objective, self.make(), trials or self.trials, log=path, progress=False, **options
        )

    def disordered(self, path, seed, workers, **options):
        """A search by an executor in which any of ``workers`` trials may end first; it says how many there were."""
        with Disordered(seed) as executor:
            self.run(path, executor=executor, workers=workers, **options)
            return executor.most

    @pytest.fixture
    def whole(self, tmp_path):
        """The log of an undisturbed search in this process."""
        path = tmp_path / "whole.jsonl"
        self.run(path)
        return path

    def test_same_seed_same_search(self, whole, tmp_path):
        best = self.run(tmp_path / "again.jsonl")
        lines = timeless(whole)
        assert list(lines) == list(range(self.trials))
        assert as_text(timeless(tmp_path / "again.jsonl")) == as_text(lines)
        assert best.value == max(line["value"] for line in lines.values())
        assert best.trial == min(trial for trial, line in lines.items() if line["value"] == best.value)

    def test_other_seed_other_search(self, whole, tmp_path):
        self.run(tmp_path / "other.jsonl", seed=2)
        pairs = zip(timeless(whole).values(), timeless(tmp_path / "other.jsonl").values(), strict=True)
        proposed = [[line.get("params", line.get("genome")) for line in pair] for pair in pairs]
        assert sum(one != other for one, other in proposed) > self.trials / 2

    @pytest.mark.parametrize("workers", [1, 2, 7])
    def test_any_number_of_workers(self, whole, tmp_path, workers):
        path = tmp_path / "log.jsonl"
        strategy = self.make()
        at_once = self.disordered(path, seed=workers, workers=workers)
        assert at_once <= min(workers, strategy.lag // strategy.batch + 1)
        assert as_text(timeless(path)) == as_text(timeless(whole))

    def test_continues_from_anywhere(self, whole, tmp_path):
        """From logs as a killed search leaves them: the first lines, in the order in which trials ended."""
        batch = self.make().batch
        first = tmp_path / "first.jsonl"
        self.disordered(first, seed=3, workers=5)
        text = first.read_bytes().splitlines(keepends=True)
        chance = random.Random(0)
        for count in sorted({0, batch, self.trials, *(batch * chance.randrange(self.trials // batch) for _ in "123")}):
            path = tmp_path / f"cut{count}.jsonl"
            path.write_bytes(b"".join(text[: 1 + count]) + (b'{"trial": ' if count < self.trials else b""))
            self.disordered(path, seed=count, workers=3)
            assert path.read_bytes().startswith(b"".join(text[: 1 + count]))
            assert as_text(timeless(path)) == as_text(timeless(whole))

    def test_more_trials_later(self, whole, tmp_path):
        path = tmp_path / "log.jsonl"
        batch = self.make().batch
        for trials in (batch, self.trials // 2, self.trials):
            self.run(path, trials=trials)
        assert as_text(timeless(path)) == as_text(timeless(whole))
        best = self.run(path, trials=batch)  # that of the first, although the log has more
        assert best.trial < batch

    def test_starts_again(self):
        """A strategy that has been used starts over, and nothing that it was told has an effect."""
        strategy = self.make()
        found = []
        for seed in (5, 6, 5):
            strategy.start(seed)
            found.append([strategy.propose(trial) for trial in range(strategy.batch)])
        assert found[0] == found[2] != found[1]

    def test_failed_trials(self, tmp_path):
        self.run(tmp_path / "one.jsonl", self.failing)
        lines = timeless(tmp_path / "one.jsonl")
        status = [line["status"] for line in lines.values()]
        assert {"finished", "failed"} <= set(status)
        assert all((line["value"] is None) == ("error" in line) for line in lines.values())
        self.disordered(tmp_path / "many.jsonl", seed=8, workers=5, objective=self.failing)
        assert as_text(timeless(tmp_path / "many.jsonl")) == as_text(lines)

    def test_all_trials_fail(self, tmp_path):
        path = tmp_path / "log.jsonl"
        with pytest.raises(fw.InputError, match=r"^objective: expected a number from at least one trial, got none"):
            self.run(path, self.hopeless)
        assert [line["status"] for line in timeless(path).values()] == ["failed"] * self.trials

    def test_settings(self):
        settings = self.make().settings()
        assert json.loads(json.dumps(settings, allow_nan=False)) == settings
        assert self.make().settings() == settings
        strategy = self.make()
        strategy.start(3)
        strategy.propose(0)
        assert strategy.settings() == settings

    def test_evaluates_in_a_copy(self):
        """What a worker gets depends on nothing else, and is not changed."""
        strategy = self.make()
        strategy.start(3)
        lines = [{"trial": trial, **strategy.propose(trial)} for trial in range(strategy.batch)]
        seeds = list(range(5, 5 + strategy.batch))
        text = json.dumps(lines)
        state, found = pickle.dumps(strategy), []
        for _ in range(2):
            torch.manual_seed(0)
            found.append(pickle.loads(state).evaluate(self.objective, lines, seeds, lambda step, value: None))
        assert len(found[0]) == strategy.batch
        assert [float(one["value"]) for one in found[0]] == [float(one["value"]) for one in found[1]]
        assert json.dumps(lines) == text
