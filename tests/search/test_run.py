# SPDX-License-Identifier: MIT
"""`run`, in one process: results, arguments, and how the strategy is called."""

from __future__ import annotations

import functools
import json
import math
import os
import random

import numpy as np
import pytest
import torch

import freewire as fw
from freewire.search import Evolution, Optuna, RandomSearch, read_log, run, trial_seed
from tests.search import objectives
from tests.search.disordered import Disordered, timeless
from tests.search.strategies import Generations, Listed
from tests.support.messages import assert_refused


@pytest.fixture
def log(tmp_path):
    return tmp_path / "search.jsonl"


@pytest.fixture
def search(log):
    """`run` in this process, without progress."""
    return functools.partial(run, log=log, workers=0, progress=False)


class TestResult:
    def test_best_trial(self, search, log):
        best = search(objectives.hill, RandomSearch(objectives.SPACE), 20, seed=5)
        header, lines = read_log(log)
        assert header["seed"] == 5
        assert best.value == max(line["value"] for line in lines) == objectives.hill(best.params)
        assert best.line == lines[best.trial]
        assert best.params == lines[best.trial]["params"]
        assert best.seconds == lines[best.trial]["seconds"] >= 0
        assert best.seed == trial_seed(5, best.trial)
        assert best.counts == {"finished": 20}
        assert best.log == str(log)
        assert "value=" in repr(best)

    def test_the_first_of_equal_ones(self, search):
        assert search(lambda params: params["a"], Listed([{"a": a} for a in (1, 3, 2, 3)]), 4).trial == 1

    def test_nothing_is_left_to_do(self, search, log):
        first = search(objectives.hill, RandomSearch(objectives.SPACE), 10)
        before = log.read_bytes()
        assert search(objectives.always_fails, RandomSearch(objectives.SPACE), 10).line == first.line
        assert log.read_bytes() == before

    def test_seeds(self, search, log):
        """Each trial has one, which decides what the global generators draw."""

        def objective(seed):
            return seed + (random.random() + np.random.rand() + float(torch.rand(()))) / 10

        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        search(objective, Listed([{}] * 4), 4, seed=2)
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
        values = [line["value"] for line in read_log(log).lines]
        assert [int(value) for value in values] == [trial_seed(2, trial) for trial in range(4)]
        assert len({round(value % 1, 3) for value in values}) == 4
        log.unlink()
        search(objective, Listed([{}] * 4), 4, seed=2)
        assert [line["value"] for line in read_log(log).lines] == values

    def test_torchs_modes(self, search):
        """A trial's do not reach the next one, or the caller."""
        found = []

        def objective():
            found.append((torch.is_grad_enabled(), torch.get_default_dtype()))
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)
            raise ValueError

        try:
            with pytest.raises(fw.InputError, match="2 failed"):
                search(objective, Listed([{}] * 2), 2)
            assert [*found, (torch.is_grad_enabled(), torch.get_default_dtype())] == [(True, torch.float32)] * 3
        finally:
            torch.set_grad_enabled(True)
            torch.set_default_dtype(torch.float32)

    @pytest.mark.parametrize("begun", [True, False])
    def test_generators_of_gpus(self, search, monkeypatch, begun):
        state = ["before"]
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: begun)
        monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(state))
        monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: state.__setitem__(0, states[0]))
        monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: state.__setitem__(0, seed))
        before = torch.get_rng_state()
        try:
            torch.manual_seed(12)
            state[0] = "before"
            assert search(lambda seed: float(state[0] == seed), Listed([{}]), 1).value == 1
        finally:
            torch.set_rng_state(before)
        assert state == (["before"] if begun else [12])

    def test_the_log_of_an_objective_that_changes_the_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "other").mkdir()

        def moves(params):
            os.chdir(tmp_path / "other")
            return 1

        for trials in (1, 2):
            best = run(moves, Listed([{}] * 2), trials, log="a.jsonl", workers=0, progress=False)
            assert best.log == str(tmp_path / "a.jsonl")
            assert len(read_log(best.log).lines) == trials
            os.chdir(tmp_path)


class Watched(Listed):
    """Remembers how it was called."""

    def start(self, seed):
        super().start(seed)
        self.calls = []

    def propose(self, trial):
        self.calls.append(("propose", trial))
        return super().propose(trial)

    def tell(self, line):
        self.calls.append(("tell", line["trial"], line["value"]))


class TestStrategy:
    @pytest.mark.parametrize(("workers", "lag"), [(1, 0), (3, 4), (7, 4), (1, 4), (4, 10**9)])
    def test_is_called_in_one_order(self, log, workers, lag):
        strategy = Watched([{"a": a} for a in range(20)], lag)
        with Disordered(workers) as executor:
            run(lambda params: params["a"], strategy, 20, executor, log, workers=workers, progress=False)
        expected = []
        for trial in range(20):
            if trial > lag:
                expected.append(("tell", trial - lag - 1, trial - lag - 1))
            expected.append(("propose", trial))
        expected += [("tell", trial, trial) for trial in range(max(0, 19 - lag), 20)]
        assert strategy.calls == expected

    def test_proposals_must_be_those_of_the_log(self, search, log):
        """As after an update of a package that draws differently."""
        search(lambda params: 1, Listed([{"a": 1}, {"a": 2}]), 2)
        rows = log.read_text().splitlines()
        rows[2] = json.dumps({**json.loads(rows[2]), "params": {"a": 3}})
        log.write_text("\n".join(rows) + "\n")
        expected = (
            r".*search\.jsonl: expected trial 1 with params {'a': 3}, as in the log, got {'a': 2} from the strategy\. "
            "Continue with the versions of packages"
        )
        assert_refused(lambda: search(lambda params: 1, Listed([{"a": 1}, {"a": 2}]), 2), expected, fw.InputError)

    @pytest.mark.parametrize(
        ("proposal", "expected"),
        [
            ({"params": {"a": {1}}}, r"proposals that JSON can hold, got {'params': {'a': \{1\}}} \("),
            ({"params": {"a": math.nan}}, r"proposals that JSON can hold, got {'params': {'a': nan}} \("),
            ({"parameters": {}}, r"proposals with params or a genome, got {'parameters': {}}\. Correct"),
            (None, r"proposals that JSON can hold, got None \("),
        ],
    )
    def test_no_proposals(self, search, proposal, expected):
        class Wrong(Listed):
            def propose(self, trial):
                return proposal

        assert_refused(lambda: search(lambda: 1, Wrong([]), 1), f"strategy: expected {expected}", fw.InputError)

    def test_what_is_evaluated_and_told_is_what_the_log_will_say(self, search, log):
        class Tuples(Listed):
            def tell(self, line):
                self.told.append(line["params"])

        seen = []
        strategy = Tuples([{"a": (1, 2)}])
        search(lambda params: seen.append(params) or 1, strategy, 1)
        assert seen == strategy.told == [{"a": [1, 2]}]

    @pytest.mark.parametrize("raises", [False, True])
    @pytest.mark.parametrize("make", [RandomSearch, Evolution, Optuna])
    def test_objective_that_changes_its_params(self, search, log, make, raises):
        """The log has what was proposed, the strategy learns from it, and the search continues."""
        if make is Optuna:
            pytest.importorskip("optuna")
        space = {"x": (0.0, 1.0), "sizes": [[1], [2, 3]]}
        options = {"population": 4, "lag": 0} if make is Evolution else {}

        def takes_out(params, report):
            x = params.pop("x")
            params["sizes"].append(0)
            if raises and x < 0.5:
                raise ValueError(x)
            return x

        search(takes_out, make(space, **options), 8)
        best = search(takes_out, make(space, **options), 12)
        lines = [line["params"] for line in read_log(log).lines]
        assert len(lines) == 12
        assert all(set(line) == {"x", "sizes"} and line["sizes"] in space["sizes"] for line in lines)
        assert best.value == best.params["x"]

    def test_params_that_evaluating_changes(self, search, log):
        """They replace the proposed ones, and the search continues all the same."""

        class Rounding(Listed):
            def evaluate(self, objective, lines, seeds, report):
                return [{"value": 1.0, "params": {"a": round(lines[0]["params"]["a"])}}]

        strategy = Rounding([{"a": 1.2}, {"a": 2.0}, {"a": 2.9}])
        for trials in (2, 3):
            search(lambda params: 1, strategy, trials)
        lines = read_log(log).lines
        assert [line["params"] for line in lines] == [{"a": 1}, {"a": 2}, {"a": 3}]
        assert [line["proposed_params"] for line in lines] == strategy.params
        other = Rounding([{"a": 1.1}, {"a": 2.0}, {"a": 2.9}])
        expected = r".*expected trial 0 with params {'a': 1\.2}, as in the log, got {'a': 1\.1} from the strategy"
        log.write_text(log.read_text().replace(json.dumps(strategy.params), json.dumps(other.params)))
        assert_refused(lambda: search(lambda params: 1, other, 3), expected, fw.InputError)

    @pytest.mark.parametrize(
        ("attribute", "value", "expected"),
        [
            ("lag", -1, "a whole number of at least 0, got -1"),
            ("lag", math.inf, "a whole number of at least 0, got inf"),
            ("batch", 0, "a whole number of at least 1, got 0"),
            ("batch", 2.0, r"a whole number of at least 1, got 2\.0"),
        ],
    )
    def test_wrong_attributes(self, search, log, attribute, value, expected):
        strategy = Listed([{}])
        setattr(strategy, attribute, value)
        expected = rf"strategy\.{attribute}: expected {expected}\. Correct that attribute"
        assert_refused(lambda: search(lambda: 1, strategy, 1), expected, fw.InputError)
        assert not log.exists()

    def test_wrong_number_of_results(self, search, log):
        class Short(Generations):
            def evaluate(self, objective, lines, seeds, report):
                return [{"value": 1.0}] * (len(lines) - (seeds[0] % 2))

        search(lambda population: 1, Short(2), 20)
        errors = {line["error"] for line in read_log(log).lines if line["status"] == "failed"}
        assert len(errors) == 1
        assert errors.pop().endswith("ValueError: evaluate: expected a result for each of 2 trials, got 1.")

    def test_results_that_json_cannot_hold(self, search, log):
        class Odd(Listed):
            def evaluate(self, objective, lines, seeds, report):
                return [{"value": 1.0, "more": {1, 2} if lines[0]["params"]["a"] else 3}]

        search(lambda params: 1, Odd([{"a": 0}, {"a": 1}]), 2)
        first, second = read_log(log).lines
        assert first["more"] == 3
        assert second["error"].startswith("evaluate: expected what JSON can hold, got something else (")
        assert second["params"] == {"a": 1}

    def test_cannot_change_what_is_ours(self, search, log):
        class Greedy(Listed):
            def evaluate(self, objective, lines, seeds, report):
                return [{"value": 1.0, "trial": 7, "seconds": -1, "status": "killed"}]

        search(lambda params: 1, Greedy([{}]), 1)
        [line] = read_log(log).lines
        assert line["trial"] == 0
        assert line["status"] == "finished"
        assert line["seconds"] >= 0

    def test_its_own_errors_are_raised(self, search, log):
        strategy = Listed([{}])
        with pytest.raises(IndexError):
            search(lambda params: 1, strategy, 2)
        assert len(read_log(log).lines) == 1


class TestInterrupted:
    def test_says_what_the_log_holds(self, search, log):
        def interrupts(params):
            if params["a"] == 2:
                raise KeyboardInterrupt
            return params["a"]

        strategy = Listed([{"a": a} for a in range(4)])
        with pytest.raises(
            KeyboardInterrupt, match=r"search\.jsonl holds 2 trials; the same call continues from there"
        ):
            search(interrupts, strategy, 4)
        assert search(lambda params: params["a"], strategy, 4).counts == {"finished": 4}
        assert list(timeless(log)) == [0, 1, 2, 3]


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"strategy": RandomSearch}, "strategy: expected a Strategy, got <class"),
            ({"trials": 0}, "trials: expected a whole number of at least 1, got 0"),
            ({"trials": 1.5}, r"trials: expected a whole number of at least 1, got 1\.5"),
            ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
            ({"workers": -1}, "workers: expected a whole number of at least 0, got -1"),
            ({"timeout": 0}, "timeout: expected None or a number of seconds above 0, got 0"),
            ({"timeout": "a"}, "timeout: expected None or a number of seconds above 0, got 'a'"),
            ({"timeout": 5}, "timeout: expected None with workers=0, got 5.0. Only processes of freewire's own"),
            ({"executor": "dask"}, r"executor: expected a concurrent\.futures\.Executor, got 'dask'\. For Dask pass"),
        ],
    )
    def test_refused(self, search, log, options, expected):
        arguments = {"strategy": Evolution(objectives.SPACE), "trials": 3, **options}
        assert_refused(lambda: search(objectives.hill, **arguments), expected, fw.InputError)
        assert not log.exists()

    def test_timeout_of_an_executor(self, log):
        with Disordered(0) as executor:
            assert_refused(
                lambda: run(objectives.hill, RandomSearch(objectives.SPACE), 3, executor, log, timeout=3),
                "timeout: expected None with an executor, got 3.0. Only processes",
                fw.InputError,
            )

    def test_other_search(self, search):
        search(objectives.hill, RandomSearch(objectives.SPACE), 3)
        for strategy, seed, expected in (
            (Evolution(objectives.SPACE), 0, "strategy 'Evolution', got one with strategy 'RandomSearch'"),
            (RandomSearch(objectives.SPACE), 1, "seed 1, got one with seed 0"),
            (RandomSearch({"x": (0.0, 2.0)}), 0, "space {'x': {.*}}, got one with space {'kind': .*}"),
        ):
            assert_refused(
                lambda strategy=strategy, seed=seed: search(objectives.hill, strategy, 3, seed=seed),
                rf".*search\.jsonl: expected the log of a search with {expected}\. Continue",
                fw.InputError,
            )
