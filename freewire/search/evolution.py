# SPDX-License-Identifier: MIT
"""Regularised (aging) evolution: the best of a few recent trials is mutated, and every trial dies of old age.

References:
    Real, Aggarwal, Huang, Le: Regularized evolution for image classifier architecture search, AAAI 2019.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from freewire.errors import InputError, shown
from freewire.graph.arguments import check_number, check_whole
from freewire.search.seeds import check_seed, stream
from freewire.search.space import Space
from freewire.search.strategy import Strategy

__all__ = ["Evolution"]


class Evolution(Strategy):
    """Mutates the best of ``sample`` trials, which are drawn from the last ``population`` ones.

    The first ``population`` trials are random. After them, each draws ``sample`` of the last ``population`` trials that
    have been told, with replacement as in the paper, and changes one parameter of the best of them: a choice to
    another choice, a number by at most ``step`` of its range. No trial stays in the population because it is good, so
    one that was lucky is forgotten unless its descendants are good, too. Trials that failed count as worst; where all
    that were drawn have failed, the trial is random.

    Args:
        space: From the names of parameters to a list of choices, or a pair (low, high): floats, or whole numbers where
            both are.
        population: The number of trials that may be drawn.
        sample: The number of trials that are drawn; more make the search greedier. In the paper it is a quarter of the
            population.
        step: The farthest that a number moves, as a share of its range.
        lag: A trial is proposed when all trials before the last ``lag`` have finished, so ``lag + 1`` can run at once.
            It is part of the search: another lag gives other trials, another number of workers never does.
        seed: Another seed than 0 gives another search at the same seed of `run`.

    Raises:
        InputError: An argument does not fit.

    Example:
        >>> strategy = Evolution({"k": [2, 4, 6], "p": (0.0, 1.0)}, population=20, sample=5)
        >>> strategy.start(seed=0)
        >>> sorted(strategy.propose(trial=0)["params"])
        ['k', 'p']
    """

    def __init__(
        self,
        space: Mapping[str, Any],
        population: int = 40,
        sample: int = 10,
        step: float = 0.2,
        lag: int = 8,
        seed: int = 0,
    ) -> None:
        self._space, self._seed, self._search_seed = Space(space), check_seed(seed), 0
        self._population = check_whole("population", population, 1, "Use 40, say.", error=InputError)
        self._sample = check_whole("sample", sample, 1, "Use a quarter of the population, say.", error=InputError)
        expected, remedy = "a share of the range, above 0 and at most 1", "Use 0.2, say."
        self._step = check_number("step", step, expected, remedy, InputError)
        if not 0 < self._step <= 1:
            raise InputError(f"step: expected {expected}, got {shown(step)}. {remedy}")
        self.lag = check_whole("lag", lag, 0, "Use the most workers that you will have, minus 1.", error=InputError)
        if self.lag >= self._population:  # or there would be nobody to draw from
            raise InputError(
                f"lag: expected less than the population of {self._population}, got {self.lag}. Use a larger one."
            )
        self._recent: deque[tuple[dict[str, Any], float | None]] = deque(maxlen=self._population)

    def settings(self) -> dict[str, Any]:
        """The space and all arguments."""
        return {
            "space": self._space.json,
            "population": self._population,
            "sample": self._sample,
            "step": self._step,
            "lag": self.lag,
            "strategy_seed": self._seed,
        }

    def start(self, seed: int) -> None:
        """Begin with the seed of the search."""
        self._search_seed = seed
        self._recent.clear()

    def propose(self, trial: int) -> dict[str, Any]:
        """Draw the parameters of a trial, or mutate those of another."""
        draws = stream(self._search_seed, self._seed, trial)
        if trial >= self._population:
            drawn = [self._recent[draws.one_below(len(self._recent))] for _ in range(self._sample)]
            rated = [(value, params) for params, value in drawn if value is not None]
            if rated:
                _, parent = max(rated, key=lambda pair: pair[0])
                return {"params": self._space.mutate(parent, self._step, draws)}
        return {"params": self._space.draw(draws)}

    def tell(self, line: Mapping[str, Any]) -> None:
        """Add a trial to the population; the oldest one leaves it."""
        self._recent.append((line["params"], line["value"]))

    def __getstate__(self) -> dict[str, Any]:
        """Without the population, which no worker needs."""
        return {**self.__dict__, "_recent": deque(maxlen=self._population)}
