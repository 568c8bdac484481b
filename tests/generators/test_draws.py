# SPDX-License-Identifier: MIT
"""The draws behind every generator: the pinned stream, its bounds, and its distributions."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from freewire.generators import draws as draws_module
from freewire.generators.draws import _CHUNK, Draws, count, ranges
from tests.support.messages import assert_refused


class FixedBits:
    """Replaces PCG64 and always returns the same word."""

    def __init__(self, word):
        self.word = word

    def random_raw(self, size=None):
        return self.word if size is None else np.full(size, self.word, np.uint64)


def rows_of(values, bounds, most):
    return np.split(values, np.cumsum(np.minimum(bounds, most))[:-1])


def assert_uniform(counts):
    assert stats.chisquare(counts).pvalue > 1e-4


class TestStream:
    def test_words_of_pcg64_through_our_own_conversion(self):
        words = [int(w) for w in np.random.PCG64(11).random_raw(6)]
        draws = Draws(11)
        assert draws.uniform(2).tolist() == [(w >> 11) / 2**53 for w in words[:2]]
        assert draws.below(np.array([10, 1000])).tolist() == [
            math.floor((w >> 11) / 2**53 * b) for w, b in zip(words[2:4], (10, 1000), strict=True)
        ]
        assert [draws.one_below(7), draws.one_below(2**40)] == [
            math.floor((w >> 11) / 2**53 * b) for w, b in zip(words[4:], (7, 2**40), strict=True)
        ]

    def test_pinned_draws(self):
        """What golden graphs do not pin: the table of gaps, and the position in the stream after a batch."""
        draws = Draws(0)
        assert draws.successes(10**6, 1e-5).tolist() == [
            96977,
            101161,
            102828,
            561855,
            630808,
            715661,
            882360,
            937297,
            940170,
            953442,
        ]
        assert draws.successes(20_000, 0.5)[-3:].tolist() == [19990, 19994, 19997]
        assert draws.distinct(np.array([2**40, 9, 3]), 5).tolist() == [
            *[79592600030, 192832244785, 437581479721, 706671532461, 980460908378],
            *[0, 1, 2, 4, 5],
            *[0, 1, 2],
        ]
        assert draws.one_below(10**6) == 753915

    def test_pinned_words(self):  # numpy's own promise, on which ours depends
        assert np.random.PCG64(0).random_raw(2).tolist() == [11749869230777074271, 4976686463289251617]

    @pytest.mark.parametrize("bound", [1, 2, 3, 10, 2**31 - 1, 2**32, 2**52 + 1, 2**53 - 1, 2**53])
    def test_extreme_words_stay_below_the_bound(self, bound):
        draws = Draws(0)
        for word, expected in ((0, 0), (2**64 - 1, bound - 1)):
            draws._bits = FixedBits(word)
            assert draws.below(np.array([bound])).tolist() == [expected]
            assert draws.one_below(bound) == expected

    @settings(deadline=None, derandomize=True)
    @given(st.integers(1, 2**53))
    def test_the_largest_word_stays_below_any_bound(self, bound):
        draws = Draws(0)
        draws._bits = FixedBits(2**64 - 1)
        assert draws.one_below(bound) == bound - 1

    def test_uniform_is_uniform(self):
        values = Draws(1).uniform(20_000)
        assert stats.kstest(values, "uniform").pvalue > 1e-3

    def test_seed_of_any_size_and_numpy_seed(self):
        assert Draws(10**40).one_below(10**9) == Draws(10**40).one_below(10**9)
        assert Draws(np.int64(5)).one_below(10**9) == Draws(5).one_below(10**9)

    def test_no_seed_takes_fresh_entropy(self):
        assert Draws(None).uniform(4).tolist() != Draws(None).uniform(4).tolist()


class TestDistinct:
    @settings(deadline=None, derandomize=True)
    @given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 50), st.integers(0, 2**32))
    def test_each_row_is_a_sorted_set_of_the_right_size(self, bounds, most, seed):
        bounds = np.array(bounds, np.int64)
        values = Draws(seed).distinct(bounds, most)
        assert values.dtype == np.int64
        assert len(values) == np.minimum(bounds, most).sum()
        for row, bound in zip(rows_of(values, bounds, most), bounds, strict=False):
            assert (np.diff(row) > 0).all()
            assert ((row >= 0) & (row < bound)).all()

    @pytest.mark.parametrize(("bound", "most"), [(5, 1), (5, 2), (6, 3), (5, 3), (5, 4), (8, 4), (8, 5)])
    def test_every_set_is_equally_likely(self, bound, most):
        sets = Draws(2).distinct(np.full(30_000, bound), most).reshape(-1, most)
        seen = Counter(map(tuple, sets.tolist()))
        possible = list(combinations(range(bound), most))
        assert set(seen) <= set(possible)
        assert_uniform([seen[s] for s in possible])

    def test_rows_are_independent(self):
        sets = Draws(3).distinct(np.full(40_000, 4), 2).reshape(-1, 2, 2)
        seen = Counter((tuple(a), tuple(b)) for a, b in sets.tolist())
        assert len(seen) == 36
        assert_uniform(list(seen.values()))

    def test_a_mixed_batch_draws_every_row_uniformly(self):
        bounds = np.tile([3, 4, 7, 50], 20_000)  # all taken, flipped, flipped, not flipped
        rows = rows_of(Draws(4).distinct(bounds, 4), bounds, 4)
        assert all(row.tolist() == [0, 1, 2] for row in rows[::4])
        assert all(row.tolist() == [0, 1, 2, 3] for row in rows[1::4])
        for start, bound in ((2, 7), (3, 50)):
            counts = np.bincount(np.concatenate(rows[start::4]), minlength=bound)
            expected = 20_000 * 4 / bound
            # Values of one row exclude each other, which shrinks the variance by this much.
            shrink = (1 - 4 / bound) * bound / (bound - 1)
            assert 1e-4 < stats.chi2.sf(((counts - expected) ** 2 / expected).sum() / shrink, bound - 1) < 1 - 1e-4

    def test_more_values_than_one_chunk(self):
        bounds = np.arange(_CHUNK // 2) + 5
        values = Draws(5).distinct(bounds, 7)
        owner = np.repeat(np.arange(len(bounds)), np.minimum(bounds, 7))
        assert len(values) > 2 * _CHUNK
        assert (values < bounds[owner]).all()
        assert ((np.diff(values) > 0) | (np.diff(owner) == 1)).all()

    def test_more_values_in_a_row_than_one_chunk(self):
        bounds = np.array([_CHUNK + 3, 10 * _CHUNK])
        first, second = rows_of(Draws(6).distinct(bounds, _CHUNK + 1), bounds, _CHUNK + 1)
        assert len(np.setdiff1d(np.arange(_CHUNK + 3), first)) == 2
        assert (np.diff(second) > 0).all()
        assert stats.kstest(second / (10 * _CHUNK), "uniform").pvalue > 1e-3

    def test_a_huge_count_costs_what_is_there(self):
        assert Draws(0).distinct(np.array([3, 1]), 10**15).tolist() == [0, 1, 2, 0]


class TestSuccesses:
    @pytest.mark.parametrize(("trials", "chance", "expected"), [(0, 0.5, []), (5, 1.0, [0, 1, 2, 3, 4]), (9, 0.0, [])])
    def test_certain_cases(self, trials, chance, expected):
        assert Draws(0).successes(trials, chance).tolist() == expected

    @pytest.mark.parametrize("longest", [1, 2, 3, 100])  # with the first three, most gaps exceed the table of powers
    @pytest.mark.parametrize("chance", [0.2, 0.5, 0.93])
    def test_every_outcome_of_four_trials(self, chance, longest, monkeypatch):
        monkeypatch.setattr(draws_module, "_LONGEST_GAP", longest)
        draws = Draws(1)
        seen = Counter(tuple(draws.successes(4, chance).tolist()) for _ in range(5000))
        possible = [s for size in range(5) for s in combinations(range(4), size)]
        expected = np.array([5000 * chance ** len(s) * (1 - chance) ** (4 - len(s)) for s in possible])
        assert set(seen) <= set(possible)
        observed = np.array([seen[s] for s in possible])
        rare = expected < 5
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        keep = expected > 0
        assert stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-4

    # The last two exceed the real table of powers.
    @pytest.mark.parametrize(("trials", "chance"), [(10**6, 0.01), (10**7, 1e-4), (10**9, 1e-6), (10**10, 1e-7)])
    def test_number_and_spread_of_rare_successes(self, trials, chance):
        found = Draws(2).successes(trials, chance)
        mean = trials * chance
        assert abs(len(found) - mean) < 4 * math.sqrt(mean)
        assert (np.diff(found) > 0).all()
        assert stats.kstest(found / trials, "uniform").pvalue > 1e-3

    def test_more_successes_than_one_batch(self):
        found = Draws(3).successes(100_000, 0.5)
        assert abs(len(found) - 50_000) < 4 * math.sqrt(25_000)
        assert found[0] >= 0
        assert found[-1] < 100_000
        gaps = np.bincount(np.diff(found), minlength=12)[1:9]
        assert stats.chisquare(gaps, gaps.sum() * 0.5 ** np.arange(1, 9) / (1 - 0.5**8)).pvalue > 1e-4


class TestHelpers:
    def test_ranges(self):
        assert ranges(np.array([2, 0, 3, 1])).tolist() == [0, 1, 0, 1, 2, 0]
        assert ranges(np.array([], np.int64)).tolist() == []

    def test_count_takes_numpy_integers(self):
        value = count("n", np.int32(3), 1, "number of nodes")
        assert value == 3
        assert type(value) is int

    @pytest.mark.parametrize("value", [0, -1, 2.0, "3", None, True])
    def test_count_refuses(self, value):
        assert_refused(
            lambda: count("n", value, 1, "number of nodes"),
            r"n: expected a whole number of at least 1, got .*\. Pass the number of nodes\.$",
        )
