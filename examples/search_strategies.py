# SPDX-License-Identifier: MIT
"""The strategies of the wiring search: freewire's own, and one that repeats a wiring.

All of them log the settings of the training, so that a log of other settings is refused, and all that a trial has
measured, not only its value. Both is what `fw.search.Strategy` is open for: `evaluate` returns what a line holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from search_trial import SPACE, Settings

import freewire as fw

POPULATION, SAMPLE, LAG = 16, 4, 3  # of 48 trials, a third is random; four may run at once


class Trained(fw.search.Strategy):
    """Adds the settings of the training to those of a strategy; to be listed before the strategy that proposes.

    Attributes:
        training: The settings of the training.
    """

    training: Settings

    def settings(self) -> dict[str, Any]:
        """The settings of the strategy and of the training."""
        return {**super().settings(), **asdict(self.training)}


class Measured(Trained):
    """Makes the objective's whole result a part of the log; to be listed in the same way."""

    def evaluate(
        self,
        objective: Callable[..., dict[str, Any]],
        lines: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        report: Callable[[int, float], None],
    ) -> list[dict[str, Any]]:
        """Log all that the objective returns."""
        return [objective(params=line["params"], seed=seed) for line, seed in zip(lines, seeds, strict=True)]


class RandomWirings(Measured, fw.search.RandomSearch):
    """Independent random wirings."""

    def __init__(self, training: Settings) -> None:
        super().__init__(SPACE)
        self.training = training


class EvolvedWirings(Measured, fw.search.Evolution):
    """Each wiring is the best of a few recent ones, with one parameter changed."""

    def __init__(self, training: Settings) -> None:
        super().__init__(SPACE, population=POPULATION, sample=SAMPLE, lag=LAG)
        self.training = training


class Repeated(Measured):
    """The same wiring in every trial, with the trial's own weights and batches.

    Args:
        params: The parameters of the wiring.
        training: The settings of the training.
        repeats: How many trials may run at once.
    """

    def __init__(self, params: Mapping[str, Any], training: Settings, repeats: int) -> None:
        self.params, self.training, self.lag = dict(params), training, repeats

    def settings(self) -> dict[str, Any]:
        """The wiring and the settings of the training."""
        return {"params": self.params, **asdict(self.training)}

    def start(self, seed: int) -> None:
        """Nothing is drawn."""

    def propose(self, trial: int) -> dict[str, Any]:
        """The wiring."""
        return {"params": self.params}

    def tell(self, line: Mapping[str, Any]) -> None:
        """Nothing is learnt."""


STRATEGIES = {"random": RandomWirings, "evolution": EvolvedWirings}
