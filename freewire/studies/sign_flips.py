# SPDX-License-Identifier: MIT
"""The sign-flip test: whether paired differences are on one side of 0 more than chance would put them there.

References:
    Fisher: The design of experiments, 1935 (section 21, the test on Darwin's pairs of plants).
    Phipson, Smyth: Permutation p-values should never be zero, Statistical Applications in Genetics and Molecular
    Biology 9, 2010 (the p-value where patterns are drawn).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from freewire.errors import InputError, shown
from freewire.generators.draws import Draws
from freewire.graph.arguments import as_array

__all__ = ["SignFlips", "pairs_needed", "sign_flip_test"]

_MOST = 20  # differences up to which all patterns of signs are computed
_DRAWN = 100_000  # patterns that are drawn for more of them
_CHUNK = 1 << 20  # signs that are drawn at a time
_ROUNDING = 1e-12  # of the sum of all sizes; sums that differ by less are equal


class SignFlips(NamedTuple):
    """The result of a `sign_flip_test`."""

    p_value: float  #: Two-sided.
    patterns: int  #: Patterns of signs that were compared.
    exact: bool  #: Whether those were all there are; else they were drawn at random.
    smallest_p_value: float  #: What the p-value could not have been below, however large the differences.


def sign_flip_test(differences: Iterable[float], seed: int = 0) -> SignFlips:
    """Test whether paired differences have a mean of 0, by flipping their signs in all ways.

    The null hypothesis is that each difference is as probable as its negative, independently of the others. The p-value
    is the share of the patterns of signs, of which there are ``2**n``, that give a mean at least as far from 0 as that
    of the differences. Up to 20 differences all patterns are computed, and the p-value is exact. Of more, 100,000
    patterns are drawn at random, and p is ``(1 + found) / (1 + drawn)``.

    Args:
        differences: Finite numbers ``[n]``, at least one.
        seed: Of the drawn patterns.

    Raises:
        InputError: No difference, or one that is not a finite number.

    Example:
        >>> import freewire as fw
        >>> fw.studies.sign_flip_test([1.0, 2.0, 3.0])
        SignFlips(p_value=0.25, patterns=8, exact=True, smallest_p_value=0.25)
    """
    values = as_array(list(differences), "differences", InputError)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(
            f"differences: expected finite numbers, at least one, got {shown(differences)}. Pass one per pair."
        )
    values = values.astype(np.float64)
    n, reached = len(values), abs(values.sum()) - _ROUNDING * np.abs(values).sum()
    if n <= _MOST:
        sums = values[:1]  # the other half of all patterns are the negatives of these
        for value in values[1:]:
            sums = np.concatenate((sums + value, sums - value))
        return SignFlips(float(np.mean(np.abs(sums) >= reached)), 2**n, True, 2.0 ** (1 - n))
    draws, found, chunk = Draws(seed), 0, max(1, _CHUNK // n)
    for first in range(0, _DRAWN, chunk):
        size = min(chunk, _DRAWN - first)
        signs = np.where(draws.uniform(size * n).reshape(size, n) < 0.5, 1.0, -1.0)
        found += int(np.count_nonzero(np.abs(signs @ values) >= reached))
    return SignFlips((1 + found) / (1 + _DRAWN), _DRAWN, False, 1 / (1 + _DRAWN))


def pairs_needed(p_value: float) -> int:
    """The fewest differences of which the smallest p-value is at most this one.

    Args:
        p_value: Above 0, at most 1.
    """
    return max(1, math.ceil(1 - math.log2(p_value)))
