# SPDX-License-Identifier: MIT
"""NEAT as a strategy: it solves XOR, goes on from a log as if it had never stopped, and learns by gradients too."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import freewire as fw
from tests.search.neat.searches import (
    X,
    best,
    check_genome,
    finished,
    genomes_of,
    no_report,
    propose,
    run,
    xor_error,
    xor_fitness,
)
from tests.support.messages import assert_refused

pytestmark = pytest.mark.usefixtures("one_thread")


def started(seed: int = 0, num_inputs: int = 2, num_outputs: int = 1, population: int = 20, **options: Any) -> Any:
    search = fw.search.NEAT(num_inputs, num_outputs, population, **options)
    search.start(seed)
    return search


class TestSearch:
    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(3))
    def test_xor_is_solved(self, seed):
        """It needs a hidden node or a function that is not monotonic, which the first generation has not."""
        search = started(seed, population=150, output_activation="sigmoid")
        log = run(search, xor_fitness, 100, until=-0.05)
        winner = best(log)
        assert winner["value"] > -0.05
        found = search.best(winner)
        assert (found["network"](X) > 0.5).flatten().tolist() == [False, True, True, False]
        assert found["graph"].nodes[:3] == (-1, -2, 0)

    def test_genomes_of_a_search_are_valid(self):
        options = dict(add_node=0.4, add_edge=0.4, delete_node=0.1, delete_edge=0.1, toggle_edge=0.1)
        log = run(started(population=40, **options), xor_fitness, 8)
        origins: dict[int, tuple[int, int]] = {}
        for genome in genomes_of(log):
            check_genome(genome, origins)
        assert max(len(genome.node) for genome in genomes_of(log)) > 3

    def test_lines(self):
        log = run(started(population=12), xor_fitness, 3)
        assert [line["generation"] for line in log] == [k // 12 for k in range(36)]
        assert all(line["parents"] == [] for line in log[:12])
        for line in log[12:]:
            assert 1 <= len(line["parents"]) <= 2
            assert {parent // 12 for parent in line["parents"]} == {line["generation"] - 1}
        assert all(isinstance(line["species"], int) for line in log)

    def test_the_best_is_never_lost(self):
        values = [best(run(started(3, population=30), xor_fitness, time))["value"] for time in range(1, 6)]
        assert values == sorted(values)

    @pytest.mark.slow
    def test_species_near_the_target(self):
        search = started(population=100, add_node=0.3, add_edge=0.3, target_species=8)
        log = run(search, xor_fitness, 30)
        counts = [len({line["species"] for line in log[100 * t : 100 * t + 100]}) for t in range(30)]
        assert counts[0] == 1
        assert 5 <= np.mean(counts[-5:]) <= 12

    @pytest.mark.slow
    def test_recurrent(self):
        """An echo: the output at time t is the input at t - 1, which no feed-forward network can compute."""
        x = torch.randint(0, 2, (6, 16, 1), generator=torch.Generator().manual_seed(0)).float()

        def fitness(population: fw.Population) -> torch.Tensor:
            y, _ = population(x)
            return -(y[:, 1:] - x[:-1]).square().mean(dim=(1, 2, 3))

        search = started(1, 1, 1, population=100, recurrent=True, activation="linear", add_node=0.2)
        log = run(search, fitness, 60, until=-0.01)
        winner = best(log)
        assert winner["value"] > -0.01
        network = search.best(winner)["network"]
        assert isinstance(network, fw.Recurrent)
        assert (network(x)[0][1:] - x[:-1]).square().mean() < 0.011


class TestReplay:
    OPTIONS: ClassVar[dict[str, Any]] = dict(
        population=25, add_node=0.3, add_edge=0.3, delete_node=0.1, target_species=4
    )

    def test_the_same_seed_is_the_same_search(self):
        logs = [run(started(seed, **self.OPTIONS), xor_fitness, 4) for seed in (1, 1, 2)]
        assert logs[0] == logs[1]
        assert logs[0] != logs[2]
        assert logs[0][:25] != logs[2][:25]

    def test_a_told_log_continues_as_if_never_stopped(self):
        log = run(started(**self.OPTIONS), xor_fitness, 5)
        for stop in range(5):
            search = started(**self.OPTIONS)
            search.propose(0)  # what came before a start is forgotten
            search.start(0)
            for time in range(stop):
                proposed = propose(search, time)
                told = log[25 * time : 25 * time + 25]
                assert [line["genome"] for line in proposed] == [line["genome"] for line in told]
                for line in told:
                    search.tell(line)
            assert [line["genome"] for line in propose(search, stop)] == [
                line["genome"] for line in log[25 * stop : 25 * stop + 25]
            ]

    def test_learnt_weights_are_replayed(self):
        options = dict(self.OPTIONS, gradient_steps=2, loss=xor_error)
        log = run(started(**options), xor_fitness, 3)
        search = started(**options)
        for time in range(2):
            proposed = propose(search, time)
            told = log[25 * time : 25 * time + 25]
            assert [line["genome"] for line in proposed] != [line["genome"] for line in told]  # these have learnt
            for line in told:
                search.tell(line)
        again = finished(search, xor_fitness, propose(search, 2))
        assert again == log[50:]

    def test_other_genomes_are_refused(self):
        """Those of a log that another version of numpy drew, say."""
        search, other = started(**self.OPTIONS), started(1, **self.OPTIONS)
        line = finished(other, xor_fitness, propose(other, 0))[3]
        propose(search, 0)
        said = "log: expected the genomes that this search proposes, got another as trial 3"
        assert_refused(lambda: search.tell(line), said, fw.InputError)
        search = started(**self.OPTIONS, gradient_steps=1, loss=xor_error)
        proposed = propose(search, 0)
        search.tell(line)  # may have been learnt
        line["genome"] = finished(search, xor_fitness, proposed)[3]["genome"]
        line["genome"]["edges"]["enabled"][0] ^= True
        assert_refused(lambda: search.tell(line), said, fw.InputError)

    def test_order(self):
        search = fw.search.NEAT(2, 1, 3)
        assert_refused(lambda: search.propose(0), "trial: expected one of this generation", fw.InputError)
        search.start(0)
        assert_refused(lambda: search.propose(1), "trial: expected one of this generation", fw.InputError)
        lines = finished(search, xor_fitness, propose(search, 0))
        assert_refused(lambda: search.propose(6), "trial: expected one of this generation", fw.InputError)
        for line in lines[:2]:
            search.tell(line)
        said = "trial: expected the next generation once all of this one are told, got 2 of 3"
        assert_refused(lambda: search.propose(3), said, fw.InputError)


def test_a_worker_gets_no_generation():
    """Which would be sent with each batch."""
    search = started(population=500, gradient_steps=1, loss=xor_error)
    line = {"trial": 0, **search.propose(0)}
    data = pickle.dumps(search)
    assert len(data) < 5000
    assert len(pickle.loads(data).evaluate(xor_fitness, [line], [0], no_report)) == 1


class TestObjectives:
    def evaluate(self, objective: Any, **options: Any) -> list[dict[str, Any]]:
        search = started(population=4, **options)
        lines = [{"trial": k, **search.propose(k)} for k in range(4)]
        return search.evaluate(objective, lines, [11, 12, 13, 14], no_report)

    def test_a_member_that_fails_fails_alone(self):
        found = self.evaluate(lambda population: torch.tensor([1.0, math.nan, -math.inf, 2.0]))
        assert [line.get("value") for line in found] == [1.0, None, None, 2.0]
        for line, got in zip(found[1:3], ("nan", "-inf"), strict=True):
            assert line["error"].startswith(f"objective: expected a finite number for this member, got {got}.")

    def test_failed_members_have_no_offspring(self):
        def only_one(population: fw.Population) -> torch.Tensor:
            return torch.where(torch.arange(20) == 13, 1.0, math.nan)

        search = started()
        log = run(search, only_one, 1)
        assert [line["status"] for line in log].count("failed") == 19
        assert {tuple(line["parents"]) for line in propose(search, 1)} == {(13,)}

    def test_all_failed_is_not_the_end(self):
        log = run(started(), lambda population: torch.full((20,), math.nan), 3)
        assert len(log) == 60

    def test_what_it_is_given(self):
        seen = []

        def objective(population: fw.Population, seed: int, report: Any) -> list[float]:
            report(0, 0.5)
            seen.append((type(population), len(population), seed, torch.is_grad_enabled()))
            return [1, 2, 3, 4]

        assert [line["value"] for line in self.evaluate(objective)] == [1, 2, 3, 4]
        assert seen == [(fw.Population, 4, 11, False)]

    @pytest.mark.parametrize(
        ("result", "got"),
        [
            (torch.ones(3), r"shape \[3\]"),
            (torch.ones(4, 1), r"shape \[4, 1\]"),
            (0.5, r"shape \[\]"),
            (None, "None"),
            ("good", "'good'"),
            (torch.ones(4, dtype=torch.complex64), "tensor"),
            (torch.ones(4) > 0, "tensor"),
            ([1, 2, None, 4], r"\[1, 2, None, 4\]"),
        ],
    )
    def test_other_results_are_refused(self, result, got):
        said = rf"objective: expected a tensor of shape \[4\], one number for each member, got {got}"
        assert_refused(lambda: self.evaluate(lambda population: result), said, fw.InputError)

    def test_errors_of_the_objective_are_its_own(self):
        def objective(population: fw.Population) -> torch.Tensor:
            raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError, match="mine"):
            self.evaluate(objective)


class TestGradients:
    def evaluated(self, **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        search = started(2, population=30, initial_hidden=3, output_activation="sigmoid", loss=xor_error, **options)
        lines = propose(search, 0)
        return lines, finished(search, xor_fitness, lines)

    def test_lamarckian(self):
        before, after = self.evaluated(gradient_steps=200, lr=0.05)
        plain = finished(fw.search.NEAT(2, 1, 30), xor_fitness, before)
        assert np.mean([line["value"] for line in after]) > np.mean([line["value"] for line in plain]) + 0.1
        again = finished(fw.search.NEAT(2, 1, 30), xor_fitness, after)  # what is in the log computes what it says
        np.testing.assert_allclose([line["value"] for line in again], [line["value"] for line in after], rtol=1e-5)
        for old, new in zip(genomes_of(before), genomes_of(after), strict=True):
            check_genome(new)
            assert old.innovation.tolist() == new.innovation.tolist()

    def test_baldwinian(self):
        before, after = self.evaluated(gradient_steps=50, lr=0.05, inheritance="baldwinian")
        _, lamarckian = self.evaluated(gradient_steps=50, lr=0.05)
        assert [line["genome"] for line in after] == [line["genome"] for line in before]
        assert [line["value"] for line in after] == [line["value"] for line in lamarckian]
        winner = best(after)
        network = fw.search.NEAT(2, 1, 30).best(winner)["network"]
        torch.testing.assert_close(
            -(network(X) - torch.tensor([[0.0], [1], [1], [0]])).square().mean().item(), winner["value"]
        )

    def test_each_member_learns_alone(self):
        """The same as one trained by itself, also beside one whose loss is NaN."""
        search = started(population=3, gradient_steps=5, loss=self.loss, optimizer="sgd", lr=0.1)
        lines = propose(search, 0)
        together = search.evaluate(xor_fitness, lines, [0] * 3, no_report)
        for k in (0, 2):
            alone = search.evaluate(xor_fitness, lines[k : k + 1], [0], no_report)[0]
            weights = [line["genome"]["edges"]["weight"] for line in (together[k], alone)]
            np.testing.assert_allclose(*weights, rtol=1e-5)
        assert together[1]["genome"] == lines[1]["genome"]  # not NaN, which no log holds

    @staticmethod
    def loss(population: fw.Population, seed: int, step: int) -> torch.Tensor:
        assert (seed, step in range(5)) == (0, True)
        return xor_error(population) * torch.where(torch.arange(len(population)) == 1, math.nan, 1.0)

    def test_disabled_edges_keep_their_weights(self):
        search = started(population=2, gradient_steps=3, loss=xor_error)
        lines = propose(search, 0)
        lines[0]["genome"]["edges"]["enabled"][1] = False
        (learnt, _) = search.evaluate(xor_fitness, lines, [0, 0], no_report)
        old, new = (line["genome"]["edges"]["weight"] for line in (lines[0], learnt))
        assert new[1] == old[1]
        assert new[0] != old[0]

    def test_a_loss_without_gradient(self):
        search = started(population=2, gradient_steps=3, loss=lambda population: torch.ones(2))
        lines = propose(search, 0)
        said = "loss: expected a tensor that depends on the population's parameters"
        assert_refused(lambda: search.evaluate(xor_fitness, lines, [0, 0], no_report), said, fw.InputError)
        search = started(population=2, gradient_steps=3, loss=lambda population: torch.ones(3))
        said = r"loss: expected a tensor of shape \[2\]"
        assert_refused(lambda: search.evaluate(xor_fitness, lines, [0, 0], no_report), said, fw.InputError)

    def test_an_optimizer_of_the_callers(self):
        search = started(population=2, gradient_steps=3, loss=xor_error, optimizer=torch.optim.Adagrad)
        assert search.settings()["optimizer"] == "torch.optim.adagrad.Adagrad"
        assert len(search.evaluate(xor_fitness, propose(search, 0), [0, 0], no_report)) == 2


class TestSettings:
    def test_json(self):
        search = fw.search.NEAT(3, 2, activation=["tanh", "relu", "tanh"], gradient_steps=2, loss=xor_error)
        found = search.settings()
        assert json.loads(json.dumps(found)) == found
        assert found["activation"] == ["tanh", "relu"]
        assert found["output_activation"] == ["linear"]
        assert found["loss"] == "tests.search.neat.searches.xor_error"
        assert search.batch == found["population"] == 150

    def test_every_setting_is_an_argument(self):
        """And the default of each is the one that the signature shows."""
        import inspect

        parameters = inspect.signature(fw.search.NEAT).parameters
        found = fw.search.NEAT(3, 2).settings()
        assert set(parameters) - {"device"} == set(found)
        for name, value in found.items():
            default = parameters[name].default
            if default is not inspect.Parameter.empty:
                assert value == ([default] if isinstance(value, list) else default)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"num_inputs": 0}, "num_inputs: expected a whole number of at least 1, got 0"),
            ({"num_outputs": 1.0}, "num_outputs: expected a whole number of at least 1, got 1.0"),
            ({"population": 1}, "population: expected a whole number of at least 2, got 1"),
            ({"recurrent": "yes"}, "recurrent: expected True or False, got 'yes'"),
            ({"activation": "sigmoidal"}, "activation: expected a name or a list of names among linear, .*'sigmoidal'"),
            ({"activation": []}, r"activation: expected a name or a list .*got \[\]"),
            ({"activation": {"tanh"}}, "activation: expected a list or another collection with an order"),
            ({"aggregation": ["sum", 3]}, "aggregation: expected a name or a list of names among sum, .*got 3"),
            ({"add_node": 1.5}, "add_node: expected a probability from 0 to 1, got 1.5"),
            ({"weight_step": -1}, "weight_step: expected a number of at least 0, got -1"),
            ({"lr": math.inf}, "lr: expected a number of at least 0, got inf"),
            ({"bias_std": "1"}, "bias_std: expected a number of at least 0, got '1'"),
            ({"target_species": 0}, "target_species: expected a whole number of at least 1, got 0"),
            ({"inheritance": "both"}, "inheritance: expected one of lamarckian, baldwinian, got 'both'"),
            ({"optimizer": "Adam"}, "optimizer: expected one of adam, .*, or a function, got 'Adam'"),
            ({"loss": "mse", "gradient_steps": 1}, "loss: expected a function or None, got 'mse'"),
            (
                {"gradient_steps": 3},
                "gradient_steps: expected some with a loss, or none of both, got 3 steps and no loss",
            ),
            ({"loss": xor_error}, "gradient_steps: expected some with a loss, .* got 0 steps and a loss"),
        ],
        ids=lambda value: value if isinstance(value, str) else " ".join(value),  # a function's text has its address
    )
    def test_refused(self, options, said):
        arguments = {"num_inputs": 2, "num_outputs": 1, **options}
        assert_refused(lambda: fw.search.NEAT(**arguments), said, fw.InputError)
