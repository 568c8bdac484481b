# SPDX-License-Identifier: MIT
"""Random draws that are the same on every platform and with every library version.

numpy promises a stable stream of raw words for ``PCG64`` and its seeding, but none for ``numpy.random.Generator``
(NEP 19), and networkx promises nothing, so every draw starts from raw words and is converted here. The order of draws,
the chunk sizes and the thresholds are part of what must not change: the golden hashes of the tests pin them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire.graph.arguments import MAX_NODES, check_whole

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

# All three are part of the stream.
_CHUNK = 1 << 17  # the most values that `distinct` draws at a time, which bounds its memory
_LONGEST_GAP = 1 << 16  # the most trials that one draw of `successes` skips
_GAPS = 1 << 12  # the most draws that `successes` makes at a time


def count(name: str, value: Any, least: int, what: str, most: int | None = MAX_NODES - 1) -> int:
    """Check that argument ``name`` is a whole number from ``least`` to ``most``; an error asks for the ``what``."""
    return check_whole(name, value, least, f"Pass the {what}.", most)


def ranges(counts: Integers) -> Integers:
    """Concatenate 0..c-1 for each count c.

    Args:
        counts: int64 ``[R]``, none negative.

    Returns:
        int64 ``[counts.sum()]``.

    Example:
        >>> ranges(np.array([2, 0, 3])).tolist()
        [0, 1, 0, 1, 2]
    """
    ends = np.cumsum(counts, dtype=np.int64)
    return np.arange(counts.sum(), dtype=np.int64) - np.repeat(ends - counts, counts)


class Draws:
    """One stream of draws.

    Args:
        seed: An integer of at least 0, of any size; None takes fresh entropy.

    Raises:
        GraphError: ``seed`` is anything else.

    Example:
        >>> Draws(7).below(np.full(5, 10)).tolist()
        [6, 8, 7, 2, 3]
    """

    def __init__(self, seed: int | None) -> None:
        if seed is not None:
            seed = count("seed", seed, 0, "same number for the same graph, or None for a new one", None)
        self._bits = np.random.PCG64(seed)

    def uniform(self, size: int) -> Floats:
        """Draw from the multiples of 2**-53 in [0, 1).

        Args:
            size: Number of draws.

        Returns:
            float64 ``[size]``, exact, since 53 bits fit a double.
        """
        words: NDArray[np.uint64] = self._bits.random_raw(size)
        top: Integers = (words >> np.uint64(11)).view(np.int64)
        return top * np.float64(2.0**-53)

    def below(self, bounds: Integers) -> Integers:
        """Draw one integer from 0..b-1 for each bound b.

        The product u * b never rounds up to b. The largest u is 1 - 2**-53, so the exact product is at most
        b - b * 2**-53. For b a power of two that is itself a double. Otherwise 2**e < b < 2**(e + 1), doubles next to b
        are 2**(e - 52) apart, and b * 2**-53 is more than half of that, so the nearest double is below b. One IEEE
        multiplication, rounded once, gives the same result everywhere. The probability of a value is off by at most
        2**-53.

        Args:
            bounds: int64 ``[R]``, each from 1 to 2**53.

        Returns:
            int64 ``[R]``.
        """
        return (self.uniform(bounds.size) * bounds).astype(np.int64)

    def one_below(self, bound: int) -> int:
        """Draw one integer from 0..bound-1, the one that `below` would draw next, without the cost of an array."""
        return int((int(self._bits.random_raw()) >> 11) * 2.0**-53 * bound)

    def distinct(self, bounds: Integers, most: int) -> Integers:
        """Draw, for each bound b, a set of min(most, b) integers from 0..b-1, every such set with equal probability.

        A row draws as many values as it lacks, drops the repeated ones, and draws again. That is a stream of
        independent draws, cut when enough of them are distinct, which favours no set. A row that takes more than half
        of its b values draws those to exclude instead, so at most every second draw repeats an earlier one. All rows
        of a chunk are drawn together, as sorted keys ``row * stride + value``. Time and memory are linear in the number
        of values taken and independent of the bounds.

        Args:
            bounds: int64 ``[R]``, none negative.
            most: At least 0.

        Returns:
            int64 ``[sum of min(most, bounds)]``, row after row, ascending in each row.
        """
        most = min(most, int(bounds.max(initial=0)))
        rows = max(1, _CHUNK // max(1, most))
        chunks = [self._distinct(bounds[i : i + rows], most) for i in range(0, bounds.size, rows)]
        return np.concatenate(chunks) if chunks else np.empty(0, np.int64)

    def _distinct(self, bounds: Integers, most: int) -> Integers:
        taken = np.minimum(bounds, most)
        flipped = taken > bounds - taken
        stride = int(bounds.max())
        first = np.arange(bounds.size, dtype=np.int64) * stride
        keys = np.empty(0, np.int64)
        lacking = np.repeat(np.arange(bounds.size), np.where(flipped, bounds - taken, taken))
        while lacking.size:
            keys = np.sort(np.concatenate([keys, first[lacking] + self.below(bounds[lacking])]))
            repeated = np.zeros(keys.size, bool)
            repeated[1:] = keys[1:] == keys[:-1]
            lacking = keys[repeated] // stride
            keys = keys[~repeated]
        if flipped.any():
            whole = np.repeat(first[flipped], bounds[flipped]) + ranges(bounds[flipped])
            keys = np.setxor1d(keys, whole, assume_unique=True)  # flipped rows keep the values not drawn
        return keys - np.repeat(first, taken)

    def successes(self, trials: int, chance: float) -> Integers:
        """Draw the indices of the successes among independent trials.

        The gap before the next success is at least i with probability (1 - chance)**i (Batagelj and Brandes 2005), so
        time is linear in the successes, not the trials. The paper inverts that with a logarithm, whose last bit depends
        on the platform; a table of powers computed by multiplication does not. A gap longer than the table skips the
        table's length and draws again, which changes nothing since gaps are memoryless.

        Args:
            trials: Number of trials, at least 0.
            chance: Probability of a success, in [0, 1].

        Returns:
            int64 ``[number of successes]``, ascending, each in 0..trials-1.
        """
        longest, batch = min(_LONGEST_GAP, trials), min(_GAPS, trials)
        powers = np.multiply.accumulate(np.full(longest, 1.0 - chance))[::-1]
        found, start = [np.empty(0, np.int64)], 0
        while start < trials:
            # 1 - u is in (0, 1], so that a power of 0 (chance 1) is never reached.
            gaps = longest - np.searchsorted(powers, 1.0 - self.uniform(batch))
            hit = gaps < longest
            ends = start + np.cumsum(gaps + hit)  # one past the success, or past the skipped trials
            found.append(ends[hit & (ends <= trials)] - 1)
            start = int(ends[-1])
        return np.concatenate(found)
