# SPDX-License-Identifier: MIT
"""Seeds of a search: every trial has its own, and every proposal its own stream of draws.

Both depend on numbers only, so the order in which trials run changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from freewire.errors import InputError
from freewire.generators.draws import Draws
from freewire.graph.arguments import check_whole

__all__ = ["check_seed", "stream", "trial_seed"]

_MOST = 2**64 - 1


def check_seed(seed: Any) -> int:
    """The argument ``seed`` as an int.

    Raises:
        InputError: It is not a whole number from 0 to 2**64 - 1.
    """
    return check_whole("seed", seed, 0, "The same number gives the same search.", _MOST, InputError)


def trial_seed(seed: int, trial: int) -> int:
    """The seed that an objective gets in a trial, from 0 to 2**32 - 1, which any library accepts.

    Args:
        seed: The seed of the search.
        trial: The trial's number.

    Example:
        >>> trial_seed(0, 3) == trial_seed(0, 3), trial_seed(0, 3) == trial_seed(3, 0)
        (True, False)
    """
    return int(_sequence(seed, trial).generate_state(1)[0])


def stream(*numbers: int) -> Draws:
    """A stream of draws that depends on these numbers, each from 0 to 2**64 - 1, and is independent of all others."""
    return Draws(int.from_bytes(_sequence(*numbers).generate_state(4).astype("<u4").tobytes(), "little"))


def _sequence(*numbers: int) -> np.random.SeedSequence:
    # Each number takes two words: numpy would give small ones one, and 2**32 alone would then be (0, 1).
    return np.random.SeedSequence([word for number in numbers for word in (number & 0xFFFFFFFF, number >> 32)])
