# SPDX-License-Identifier: MIT
"""Strategies for tests: one that proposes a list, and one of batches, as NEAT is."""

from __future__ import annotations

import numpy as np
import torch

from freewire.search import Strategy
from freewire.search.processes import available_cores
from freewire.search.strategy import call


class Listed(Strategy):
    """Proposes a list of params, one after the other."""

    def __init__(self, params, lag=0):
        self.params, self.lag = list(params), lag
        self.told = []

    def settings(self):
        return {"params": self.params}

    def start(self, seed):
        self.told = []

    def propose(self, trial):
        return {"params": self.params[trial]}

    def tell(self, line):
        self.told.append(line["trial"])


class Generations(Strategy):
    """Batches of numbers: each generation adds noise to the best of the last, and a trial moves its own number.

    Args:
        size: Trials per generation.
        lag: Trials that need not be known.
    """

    arguments = ("population", "seed")

    def __init__(self, size=6, lag=0):
        self.batch, self.lag = size, lag

    def settings(self):
        return {"size": self.batch, "lag": self.lag}

    def start(self, seed):
        self._seed, self._best = seed, (-np.inf, 0.0)

    def propose(self, trial):
        draws = np.random.default_rng([self._seed, trial])
        return {"genome": {"x": self._best[1] + draws.normal()}, "generation": trial // self.batch}

    def tell(self, line):
        if line["value"] is not None:
            self._best = max(self._best, (line["value"], line["genome"]["x"]))

    def evaluate(self, objective, lines, seeds, report):
        population = np.array([line["genome"]["x"] for line in lines])
        values = call(objective, population=population, seed=seeds[0])
        report(lines[0]["generation"], float(np.nanmax(values)))
        return [
            {"value": value, "genome": {"x": x * 0.9}} for x, value in zip(population.tolist(), values, strict=True)
        ]

    def best(self, line):
        return {"number": line["genome"]["x"]}


def near_three(population, seed):
    """Of all numbers at once."""
    return -((population - 3) ** 2) + 1e-3 * (seed % 10)


def near_three_on_all_cores(population, seed):
    """The same, if torch uses all cores."""
    assert torch.get_num_threads() == available_cores()
    return near_three(population, seed)


def half_are_nan(population, seed):
    """Every second number, and in some generations an error."""
    if seed % 4 == 0:
        raise RuntimeError("a bad generation")
    return np.where(np.arange(len(population)) % 2, near_three(population, seed), np.nan)
