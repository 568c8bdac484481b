# SPDX-License-Identifier: MIT
"""Random search: every trial's parameters are drawn independently of all others."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from freewire.search.seeds import check_seed, stream
from freewire.search.space import Space
from freewire.search.strategy import Strategy

__all__ = ["RandomSearch"]


class RandomSearch(Strategy):
    """Draws parameters at random. A trial depends on the seeds and its number alone, so any number run at once.

    Args:
        space: From the names of parameters to a list of choices, or a pair (low, high): floats, or whole numbers where
            both are; both ends are included, and all values have the same probability.
        seed: Another seed than 0 gives another search at the same seed of `run`.

    Raises:
        InputError: ``space`` or ``seed`` is not one.

    Example:
        >>> strategy = RandomSearch({"k": [2, 4, 6], "p": (0.0, 1.0), "n": (8, 64)})
        >>> strategy.start(seed=0)
        >>> sorted(strategy.propose(trial=0)["params"])
        ['k', 'n', 'p']
    """

    lag = sys.maxsize

    def __init__(self, space: Mapping[str, Any], seed: int = 0) -> None:
        self._space, self._seed, self._search_seed = Space(space), check_seed(seed), 0

    def settings(self) -> dict[str, Any]:
        """The space and the strategy's seed."""
        return {"space": self._space.json, "strategy_seed": self._seed}

    def start(self, seed: int) -> None:
        """Begin with the seed of the search."""
        self._search_seed = seed

    def propose(self, trial: int) -> dict[str, Any]:
        """Draw the parameters of a trial."""
        return {"params": self._space.draw(stream(self._search_seed, self._seed, trial))}

    def tell(self, line: Mapping[str, Any]) -> None:
        """Nothing is learnt."""
