# SPDX-License-Identifier: MIT
"""Spaces: what is a choice, what is a range, what is drawn from them, and what is refused."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

import freewire as fw
from freewire.search.seeds import stream
from freewire.search.space import Choices, Floats, Integers, Space
from tests.support.messages import assert_refused


def drawn(given, count):
    space = Space({"p": given})
    return [space.draw(stream(trial))["p"] for trial in range(count)]


def mutated(given, value, count, step=0.2):
    space = Space({"p": given})
    return [space.mutate({"p": value}, step, stream(trial))["p"] for trial in range(count)]


class TestRanges:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ([2, 4, 6], Choices((2, 4, 6))),
            (["a", None, True, [1, 2]], Choices(("a", None, True, [1, 2]))),
            ([1, True, 1.0], Choices((1, True, 1.0))),
            ([np.int64(3), np.float64(0.5)], Choices((3, 0.5))),
            ((8, 64), Integers(8, 64)),
            ((np.int64(8), 64), Integers(8, 64)),
            ((0.0, 1.0), Floats(0.0, 1.0)),
            ((0, 0.5), Floats(0.0, 0.5)),
            ((-2, -2), Integers(-2, -2)),
        ],
    )
    def test_kinds(self, given, expected):
        found = Space({"p": given}).ranges["p"]
        assert found == expected
        assert repr(found) == repr(expected)  # and their types

    def test_header(self):
        assert Space({"k": [2, "a"], "p": (0, 1.0), "n": (8, 64)}).json == {
            "k": [2, "a"],
            "p": {"type": "float", "low": 0.0, "high": 1.0},
            "n": {"type": "int", "low": 8, "high": 64},
        }


class TestDraws:
    @pytest.mark.parametrize(("given", "values"), [([2, 4, 6], (2, 4, 6)), ((-1, 2), (-1, 0, 1, 2)), ((7, 7), (7,))])
    def test_all_values_are_as_likely(self, given, values):
        count = Counter(drawn(given, 3000))
        assert set(count) == set(values)
        assert len(values) == 1 or stats.chisquare(list(count.values())).pvalue > 1e-4
        assert all(type(value) is int for value in count)

    def test_floats_are_uniform(self):
        assert stats.kstest([(x + 3) / 5 for x in drawn((-3.0, 2.0), 3000)], "uniform").pvalue > 1e-4

    @pytest.mark.parametrize("given", [(5e-324, 1e-323), (1.0, math.nextafter(1, 2)), (-8e307, 8e307)])
    def test_floats_stay_in_extreme_ranges(self, given):
        low, high = given
        for value in (*drawn(given, 200), *mutated(given, low, 200), *mutated(given, high, 200)):
            assert low <= value <= high

    def test_whole_numbers_may_be_many(self):
        values = drawn((-(2**52), 2**52 - 1), 300)
        assert min(values) < -(2**51) < 2**51 < max(values)


class TestMutations:
    def test_choices_become_another(self):
        count = Counter(mutated([2, 4, 6, 8], 6, 2000))
        assert set(count) == {2, 4, 8}
        assert stats.chisquare(list(count.values())).pvalue > 1e-4

    def test_equal_looking_choices(self):
        assert {repr(value) for value in mutated([1, True, 1.0], True, 100)} == {"1", "1.0"}

    def test_numbers_move_a_little(self):
        values = mutated((0.0, 10.0), 5.0, 1000, step=0.1)
        assert 4 <= min(values) < 4.05
        assert 5.95 < max(values) <= 6
        assert set(mutated((0, 20), 10, 1000, step=0.1)) == {8, 9, 11, 12}
        assert set(mutated((0, 20), 10, 1000, step=0.01)) == {9, 11}

    def test_numbers_are_reflected(self):
        values = mutated((0.0, 10.0), 9.5, 1000, step=0.1)
        assert min(values) >= 8.5
        assert 9.9 < max(values) <= 10
        assert set(mutated((0, 20), 0, 1000, step=0.2)) == {1, 2, 3, 4}
        assert set(mutated((0, 20), 1, 1000, step=0.2)) <= {0, 2, 3, 4, 5}
        assert set(mutated((0, 1), 1, 100)) == {0}
        assert set(mutated((3, 5), 5, 1000, step=1.0)) == {3, 4}

    def test_one_parameter_changes(self):
        space = Space({"k": [2, 4], "p": (0.0, 1.0), "n": (8, 64), "fixed": ["only"], "same": (3, 3)})
        params = space.draw(stream(0))
        changed = Counter()
        for trial in range(900):
            child = space.mutate(params, 0.2, stream(1, trial))
            [name] = [name for name in params if child[name] != params[name]]
            changed[name] += 1
        assert set(changed) == {"k", "p", "n"}
        assert stats.chisquare(list(changed.values())).pvalue > 1e-4

    def test_nothing_can_change(self):
        space = Space({"fixed": ["only"]})
        assert space.mutate({"fixed": "only"}, 0.2, stream(0)) == {"fixed": "only"}


class TestRefused:
    @pytest.mark.parametrize("given", [{}, None, [("k", 2)]])
    def test_no_space(self, given):
        assert_refused(lambda: Space(given), r"space: expected a dictionary of parameters, got ", fw.InputError)

    def test_names(self):
        assert_refused(lambda: Space({3: [1]}), "space: expected names that are text, got 3", fw.InputError)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("abc", r"a list of choices or a pair \(low, high\), got 'abc'"),
            ((1, 2, 3), r"a list of choices or a pair \(low, high\), got \(1, 2, 3\)"),
            ({2, 4}, r"a list of choices or a pair \(low, high\), got {2, 4}"),
            ((5, 4), r"\(low, high\) with low <= high, less than 2\*\*53 apart, got \(5, 4\)"),
            ((0, 2**53), r"\(low, high\) with low <= high, less than 2\*\*53 apart, got \(0, 9"),
            ((1.5, 1), r"\(low, high\) with low <= high, both finite, got \(1\.5, 1\)"),
            ((0.0, math.inf), r"\(low, high\) with low <= high, both finite, got \(0\.0, inf\)"),
            ((-1e308, 1e308), r"\(low, high\) with low <= high, both finite, got"),
            ((0.0, math.nan), r"\(low, high\) of two numbers, got nan"),
            ((0.0, 10**400), r"\(low, high\) of two numbers, got 1000"),
            ((False, True), r"\(low, high\) of two numbers, got False"),
            (("a", "b"), r"\(low, high\) of two numbers, got 'a'"),
            ([], r"one or more different choices, got \[\]"),
            ([1, 2, 1], r"one or more different choices, got \[1, 2, 1\]"),
            (
                [(3, 3), (5, 5)],
                r"choices that JSON can hold \(numbers, text, True, False, None, lists\), got \[\(3, 3\)",
            ),
            ([math.nan], r"choices that JSON can hold \(numbers, text, True, False, None, lists\), got \[nan\]"),
            ([abs], r"choices that JSON can hold \(numbers, text, True, False, None, lists\), got \[<built-in"),
            ([{1: 2}], r"choices that JSON can hold \(numbers, text, True, False, None, lists\), got \[{1: 2}\]"),
        ],
        ids=str,
    )
    def test_ranges(self, given, expected):
        assert_refused(lambda: Space({"k": given}), rf"space\['k'\]: expected {expected}", fw.InputError)
