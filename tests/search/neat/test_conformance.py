# SPDX-License-Identifier: MIT
"""The promises of every strategy, of searches by NEAT: `fw.search.run` in any order, from any log, with failures."""

from __future__ import annotations

import math

import pytest
import torch

import freewire as fw
from tests.search.conformance import Conformance
from tests.search.disordered import timeless
from tests.search.neat.searches import X, Y, xor_error, xor_fitness

pytestmark = pytest.mark.usefixtures("one_thread")


def noisy(population, seed):
    """The fitness with noise from the generation's seed, and from the global generator, which is seeded with it."""
    return xor_fitness(population) + 1e-3 * (seed % 1000) + 1e-3 * torch.rand(len(population))


def often_fails(population, seed, error=xor_error):
    """Every third generation raises, and of the others every third member fails."""
    if seed % 3 == 0:
        raise ValueError(f"seed {seed}")
    return torch.where((torch.arange(len(population)) + seed) % 3 == 0, math.nan, -error(population))


def recurrent_error(population):
    """Of the output after three steps of the same x."""
    y, _ = population(X.expand(3, *X.shape))
    return (y[:, -1] - Y).square().mean(dim=(1, 2))


def recurrent_noisy(population, seed):
    """The same as a fitness, with noise."""
    return -recurrent_error(population) + 1e-3 * torch.rand(len(population))


def recurrent_often_fails(population, seed):
    """As `often_fails`."""
    return often_fails(population, seed, recurrent_error)


class TestNeat(Conformance):
    objective = staticmethod(noisy)
    failing = staticmethod(often_fails)

    def make(self):
        return fw.search.NEAT(2, 1, population=8, add_node=0.3, add_edge=0.3, target_species=2)

    def test_result(self, tmp_path):
        best = self.run(tmp_path / "log.jsonl", xor_fitness)
        assert best.params is None
        torch.testing.assert_close(-(best.network(X) - Y).square().mean().item(), best.value)
        torch.testing.assert_close(fw.Network(best.graph)(X), best.network(X))

    def test_trials_are_rounded_up_to_generations(self, tmp_path):
        self.run(tmp_path / "log.jsonl", trials=9)
        assert len(timeless(tmp_path / "log.jsonl")) == 16

    def test_objectives_that_name_something_else(self, tmp_path):
        with pytest.raises(fw.InputError, match=r"^objective: expected a function of population, seed, report"):
            self.run(tmp_path / "log.jsonl", lambda params: 0.0)

    def test_a_wrong_shape_is_one_sentence_for_all(self, tmp_path):
        with pytest.raises(fw.InputError, match=r"expected a tensor of shape \[8\], one number for each member"):
            self.run(tmp_path / "log.jsonl", lambda population: torch.ones(3), trials=8)


class TestLamarckianAndRecurrent(Conformance):
    objective = staticmethod(recurrent_noisy)
    failing = staticmethod(recurrent_often_fails)
    trials = 20

    def make(self):
        return fw.search.NEAT(
            2, 1, population=5, recurrent=True, add_node=0.3, add_edge=0.3, gradient_steps=2, loss=recurrent_error
        )


def test_a_worker_process(tmp_path):
    """The objective is imported, and the generation is sent, by a process of its own."""
    search = fw.search.NEAT(2, 1, population=5, gradient_steps=1, loss=xor_error)
    logs = [tmp_path / "one.jsonl", tmp_path / "other.jsonl"]
    for log, workers in zip(logs, (0, 1), strict=True):
        fw.search.run(xor_fitness, search, 10, log=log, workers=workers, progress=False)
    assert timeless(logs[0]) == timeless(logs[1])
