# SPDX-License-Identifier: MIT
"""Optuna's samplers and pruners: repeatable, in parallel and after a stop, and the same as Optuna's own loop."""

from __future__ import annotations

import json
import statistics
import sys

import pytest

import freewire as fw
from freewire.search import Optuna, RandomSearch, read_log, run
from tests.search import objectives
from tests.search.conformance import Conformance
from tests.search.disordered import timeless
from tests.support.messages import assert_refused

optuna = pytest.importorskip("optuna")


class TestDefault(Conformance):
    def make(self):
        return Optuna(objectives.SPACE)


class TestPruned(Conformance):
    """A pruner that keeps notes about trials, which those that judge others must see."""

    objective = staticmethod(objectives.reports)
    trials = 48

    def make(self):
        return Optuna(
            objectives.SPACE, pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2), lag=5
        )

    def test_prunes(self, whole):
        lines = list(timeless(whole).values())
        pruned = [line for line in lines if line["status"] == "pruned"]
        assert 5 < len(pruned) < len(lines) - 5
        for line in pruned:
            assert len(line["reports"]) < 10
            assert line["value"] == line["reports"][-1][1]
        assert {"completed_rung_0"} <= set(lines[0]["pruner"])
        finished = [objectives.hill(line["params"]) for line in lines if line["status"] == "finished"]
        assert statistics.median(finished) > statistics.median(objectives.hill(line["params"]) for line in pruned)


class TestGenetic(Conformance):
    """A sampler with other objects of Optuna in it, which share its generator; choices that Optuna does not know."""

    objective = staticmethod(lambda params, seed: params["x"] + len(params["sizes"]) + params["odd"] + seed % 7)
    failing = staticmethod(lambda params, seed: None if seed % 2 else params["x"])

    def make(self):
        space = {"sizes": [[3], [3, 3], []], "odd": [1, True, 2.0], "x": (0.0, 1.0), "n": (8, 64)}
        return Optuna(space, optuna.samplers.NSGAIISampler(population_size=6), lag=3)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
class TestSettings:
    @pytest.mark.parametrize(
        ("one", "other", "named"),
        [
            ({"n_startup_trials": 10}, {"n_startup_trials": 11}, "sampler.n_startup_trials 11, .* 10"),
            ({"group": False}, {"group": True, "multivariate": True}, "sampler.*group True, .*group False"),
            ({"n_warmup_steps": 0}, {"n_warmup_steps": 5}, "pruner.n_warmup_steps 5, .* 0"),
            ({"patience": 3}, {"patience": 4}, "pruner.patience 4, .* 3"),
            ({"patience": 3, "n_warmup_steps": 0}, {"patience": 3}, "pruner.wrapped_pruner None, .* 'MedianPruner'"),
            (
                {"patience": 3, "n_warmup_steps": 0},
                {"patience": 3, "n_warmup_steps": 1},
                "pruner.wrapped_pruner.n_warmup_steps 1, .* 0",
            ),
        ],
    )
    def test_a_log_of_other_arguments(self, tmp_path, one, other, named):
        path = tmp_path / "log.jsonl"

        def search(arguments):
            run(objectives.hill, Optuna(objectives.SPACE, **made(arguments)), 2, log=path, workers=0, progress=False)

        def made(arguments):
            if not {"patience", "n_warmup_steps"} & set(arguments):
                return {"sampler": optuna.samplers.TPESampler(**arguments)}
            patience = arguments.get("patience")
            steps = {name: value for name, value in arguments.items() if name != "patience"}
            inner = optuna.pruners.MedianPruner(**steps) if steps else None
            return {"pruner": inner if patience is None else optuna.pruners.PatientPruner(inner, patience=patience)}

        search(one)
        search(one)
        expected = rf".*log\.jsonl: expected the log of a search with {named}"
        assert_refused(lambda: search(other), expected, fw.InputError)

    def test_whatever_sampler_or_pruner(self):
        """What JSON cannot hold is not included."""
        sampler = optuna.samplers.NSGAIISampler(population_size=6, child_generation_strategy=len)
        settings = Optuna({"x": (0.0, 1.0)}, sampler).settings()
        assert settings["sampler.population_size"] == 6
        assert "sampler.child_generation_strategy" not in settings
        for sampler in (
            optuna.samplers.GridSampler({"x": [0.0, 0.5]}),
            optuna.samplers.PartialFixedSampler({"x": 0.5}, optuna.samplers.RandomSampler()),
            optuna.samplers.NSGAIISampler(population_size=6),
            lambda seed: optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False),
        ):
            settings = Optuna({"x": (0.0, 1.0)}, sampler, optuna.pruners.HyperbandPruner()).settings()
            assert settings["sampler"].endswith("Sampler")
            assert not any("seed" in name for name in settings if name != "strategy_seed")
            assert settings["pruner.reduction_factor"] == 3
            assert json.loads(json.dumps(settings, allow_nan=False)) == settings


class TestSamplers:
    def test_the_same_as_optunas_own_loop(self, tmp_path):
        """One trial after the other, TPE sees what it would see in `Study.optimize`."""
        strategy = Optuna(objectives.SPACE, lag=0)
        run(objectives.hill, strategy, 30, log=tmp_path / "log", workers=0, progress=False)
        seed = find_seed(strategy)

        def objective(trial):
            params = {
                "kind": trial.suggest_categorical("kind", ["a", "b", "c"]),
                "x": trial.suggest_float("x", 0.0, 1.0),
                "n": trial.suggest_int("n", 8, 64),
            }
            return objectives.hill(params)

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(objective, n_trials=30)
        assert [line["params"] for line in timeless(tmp_path / "log").values()] == [t.params for t in study.trials]

    def test_finds_more_than_random_search(self, tmp_path):
        best = {"tpe": [], "random": []}
        for seed in range(5):
            for name, strategy in {"tpe": Optuna(objectives.SPACE), "random": RandomSearch(objectives.SPACE)}.items():
                log = tmp_path / f"{name}{seed}"
                best[name].append(
                    run(objectives.hill, strategy, 60, log=log, workers=0, seed=seed, progress=False).value
                )
        assert 1 - statistics.median(best["tpe"]) < (1 - statistics.median(best["random"])) / 2

    @pytest.mark.parametrize(
        "sampler",
        [
            optuna.samplers.RandomSampler(),
            optuna.samplers.RandomSampler(seed=3),
            optuna.samplers.RandomSampler,
            lambda seed: optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False),
            optuna.samplers.TPESampler(n_startup_trials=3),
        ],
    )
    @pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
    def test_are_seeded(self, tmp_path, sampler):
        space = {"x": (0.0, 1.0), "n": (8, 64)}
        found = []
        for seed in (0, 0, 1):
            strategy = Optuna(space, sampler)
            strategy.start(seed)
            found.append([strategy.propose(trial)["params"] for trial in range(6)])
        assert found[0] == found[1] != found[2]

    def test_the_callers_sampler_is_not_used_up(self):
        sampler = optuna.samplers.RandomSampler(seed=3)
        state = sampler._rng.rng.get_state()[2]
        strategy = Optuna(objectives.SPACE, sampler)
        strategy.start(0)
        strategy.propose(0)
        assert sampler._rng.rng.get_state()[2] == state

    @pytest.mark.parametrize(
        "sampler",
        [
            optuna.samplers.GridSampler({"k": [1, 2], "n": [3, 4]}),
            lambda seed: optuna.samplers.BruteForceSampler(seed=seed),
        ],
    )
    @pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
    def test_of_a_finite_number_of_trials(self, tmp_path, sampler):
        """Every combination once; after that they ask Optuna's loop to stop, which is not there."""
        strategy = Optuna({"k": [1, 2], "n": (3, 4)}, sampler, lag=0)
        run(lambda params: params["k"], strategy, 6, log=tmp_path / "log", workers=0, progress=False)
        params = [line["params"] for line in timeless(tmp_path / "log").values()]
        assert sorted((one["k"], one["n"]) for one in params[:4]) == [(1, 3), (1, 4), (2, 3), (2, 4)]
        assert all(trial.state.name == "COMPLETE" for trial in strategy._study.trials)

    def test_settings(self):
        arguments = {"n_startup_trials": 3, "n_warmup_steps": 2, "interval_steps": 4, "n_min_trials": 5}
        pruner = optuna.pruners.MedianPruner(**arguments)
        assert Optuna(objectives.SPACE, optuna.samplers.RandomSampler(), pruner, lag=2, seed=4).settings() == {
            "space": fw.search.RandomSearch(objectives.SPACE).settings()["space"],
            "sampler": "RandomSampler",
            "pruner": "MedianPruner",
            **{f"pruner.{name}": value for name, value in arguments.items()},
            "lag": 2,
            "strategy_seed": 4,
        }


def find_seed(strategy):
    """The seed that a strategy's sampler got at seed 0 of the search."""
    seeds = []
    made = strategy._made_sampler
    strategy._made_sampler = lambda seed: seeds.append(seed) or made(seed)
    strategy.start(0)
    return seeds[0]


class TestStudy:
    def test_is_told_everything(self, tmp_path):
        def objective(params, report):
            report(3, 0.5)
            report(3, 0.7)
            report(5, float("nan"))
            if params["x"] < 0.3:
                raise ValueError
            if params["x"] < 0.6:
                report(7, 0.25)
                raise fw.search.Pruned
            return 1.5

        strategy = Optuna({"x": (0.0, 1.0)}, optuna.samplers.RandomSampler())
        run(objective, strategy, 12, log=tmp_path / "log", workers=0, progress=False)
        states = {"finished": "COMPLETE", "failed": "FAIL", "pruned": "PRUNED"}
        lines = timeless(tmp_path / "log")
        assert {line["status"] for line in lines.values()} == set(states)
        for line, trial in zip(lines.values(), strategy._study.trials, strict=True):
            assert trial.state.name == states[line["status"]]
            assert trial.params == line["params"]
            assert trial.value == {"finished": 1.5, "failed": None, "pruned": 0.25}[line["status"]]
            assert trial.intermediate_values[3] == 0.5
            assert trial.intermediate_values[5] != trial.intermediate_values[5]

    def test_a_pruner_judges_by_what_had_been_told(self, tmp_path):
        """A trial that is worse than all before it is not pruned while the strategy has not been told of them."""

        def objective(params, report):
            report(1, -params["n"])
            return -params["n"]

        for lag, statuses in ((0, ["finished", "pruned"]), (1, ["finished", "finished"])):
            strategy = Optuna(
                {"n": (0, 10**6)}, optuna.samplers.RandomSampler(), optuna.pruners.MedianPruner(n_startup_trials=1), lag
            )
            log = tmp_path / f"log{lag}"
            for seed in range(20):  # until the second trial is worse than the first
                strategy.start(seed)
                first, second = (strategy.propose(trial)["params"]["n"] for trial in (0, 1))
                if second > first:
                    break
            run(objective, strategy, 2, log=log, workers=0, seed=seed, progress=False)
            assert [line["status"] for line in read_log(log).lines] == statuses

    def test_hyperband(self, tmp_path):
        """Its brackets depend on the study's name and the trial's number, which are the same every time."""

        def search(name):
            pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=10, reduction_factor=2)
            strategy = Optuna(objectives.SPACE, optuna.samplers.RandomSampler(), pruner)
            run(objectives.reports, strategy, 40, log=tmp_path / name, workers=0, progress=False)
            return timeless(tmp_path / name)

        assert search("one") == search("two")
        assert "pruned" in {line["status"] for line in search("one").values()}

    def test_is_quiet(self, capfd):
        optuna.logging.set_verbosity(optuna.logging.INFO)
        strategy = Optuna(objectives.SPACE)
        strategy.start(0)
        assert capfd.readouterr() == ("", "")
        assert optuna.logging.get_verbosity() == optuna.logging.INFO


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"sampler": "TPE"}, "sampler: expected a sampler of Optuna or a function of a seed, got 'TPE'. Pass"),
            (
                {"sampler": lambda seed: 3},
                "sampler: expected a function that returns a sampler of Optuna, got 3 from it",
            ),
            ({"pruner": "Median"}, "pruner: expected a pruner of Optuna, got 'Median'. Pass"),
            ({"lag": -1}, "lag: expected a whole number of at least 0, got -1"),
            ({"space": {}}, "space: expected a dictionary of parameters, got {}"),
        ],
    )
    def test_arguments(self, options, expected):
        assert_refused(lambda: Optuna(**{"space": objectives.SPACE, **options}).settings(), expected, fw.InputError)

    def test_another_sampler_of_the_same_name(self, tmp_path):
        """Its class is the same, its proposals are not."""
        log = tmp_path / "log"
        sampler = optuna.samplers.RandomSampler
        samplers = [sampler, lambda seed: sampler(seed=seed + 1)]  # the header has no seed of a sampler
        run(objectives.hill, Optuna(objectives.SPACE, samplers[0], lag=0), 6, log=log, workers=0, progress=False)
        expected = r".*log: expected trial 0 with params {.*}, as in the log, got {.*} from the strategy\. Continue"
        assert_refused(
            lambda: run(
                objectives.hill, Optuna(objectives.SPACE, samplers[1], lag=0), 6, log=log, workers=0, progress=False
            ),
            expected,
            fw.InputError,
        )
        assert len(json.dumps(read_log(log).header)) > 100

    def test_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "optuna", None)
        expected = r"optuna: expected it to be installed, got no such package\. Run: pip install 'freewire\[search\]'"
        assert_refused(lambda: Optuna(objectives.SPACE), expected, fw.BuildError)
