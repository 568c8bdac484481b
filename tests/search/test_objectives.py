# SPDX-License-Identifier: MIT
"""What an objective may name, return, report and raise, and what the log then says; in one process."""

from __future__ import annotations

import asyncio
import functools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

import freewire as fw
from freewire.search import Pruned, read_log, run
from freewire.search.result import best_line
from tests.search import objectives
from tests.search.strategies import Listed
from tests.support.messages import assert_refused


@pytest.fixture
def log(tmp_path):
    return tmp_path / "search.jsonl"


@pytest.fixture
def search(log):
    """`run` in this process, without progress."""
    return functools.partial(run, log=log, workers=0, progress=False)


def listed(*kinds):
    return Listed([{"what": kind} for kind in kinds])


class TestObjective:
    @pytest.mark.parametrize(
        "objective",
        [
            lambda params: params["a"],
            lambda seed, params: params["a"],
            lambda params, /, seed: params["a"],
            lambda report, params, other=3: params["a"],
            lambda **named: named["params"]["a"] + 0 * named["seed"],
            functools.partial(lambda factor, params: factor * params["a"], 1.0),
        ],
    )
    def test_may_name_what_it_wants(self, search, objective):
        assert search(objective, Listed([{"a": 4}]), 1).value == 4

    @pytest.mark.parametrize(
        "number",
        [
            *(2, 2.0, Fraction(2), Decimal(2), np.float32(2), np.int8(2), np.longdouble(2), np.array(2.0)),
            *(np.array([[2]]), torch.tensor(2.0), torch.tensor([2]), torch.tensor([2.0], requires_grad=True)),
            torch.tensor(2, dtype=torch.bfloat16),
        ],
        ids=repr,
    )
    def test_numbers(self, search, log, number):
        assert search(lambda: number, Listed([{}]), 1).value == 2
        assert type(read_log(log).lines[0]["value"]) is float

    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("nan", "value: expected a finite number, got nan. The objective returns how good it is."),
            ("nothing", "value: expected a finite number, got None. The objective returns how good it is."),
            ("text", "value: expected a finite number, got '0.5'. The objective returns how good it is."),
            ("raises", "KeyError: 'no such thing'"),
            ("exits", "SystemExit: 3"),
        ],
    )
    def test_failures_are_recorded(self, search, log, kind, error):
        best = search(objectives.trouble, listed("fine", kind, "better"), 3)
        assert best.trial == 2
        assert best.counts == {"finished": 2, "failed": 1}
        line = read_log(log).lines[1]
        assert line["status"] == "failed"
        assert line["value"] is None
        assert line["params"] == {"what": kind}
        assert line["error"].endswith(error)

    @pytest.mark.parametrize(
        "value",
        [
            *(math.inf, -math.inf, True, 10**400, 1j, Decimal("sNaN"), Decimal("1e400"), "0.5", [0.5]),
            *(np.ones(2), np.ones(0), np.True_, np.array([True]), np.complex128(1), np.str_("1")),
            *(np.timedelta64(3, "ns"), np.datetime64(3, "ns")),
            *(torch.ones(2), torch.ones(0), torch.tensor(True), torch.tensor(1j), torch.ones(1, device="meta")),
        ],
        ids=repr,
    )
    def test_no_numbers(self, search, log, value):
        search(lambda params: value if params["a"] else 1, Listed([{"a": 0}, {"a": 1}]), 2)
        assert read_log(log).lines[1]["error"].startswith("value: expected a finite number, got ")

    def test_trace(self, search, log):
        """From the objective's first line on, without ours, and cut where it is long."""

        def deep(depth):
            return deep(depth - 1) if depth else int("x" * 10)

        search(
            lambda params: deep(params["depth"]) if params["depth"] < 100 else 1,
            Listed([{"depth": 2}, {"depth": 100}]),
            2,
        )
        lines = read_log(log).lines[0]["error"].splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1].startswith("ValueError: invalid literal for int()")
        assert all(__file__ in line for line in lines if line.startswith("  File"))
        assert sum(", in deep" in line for line in lines) == 3

    @pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, SystemExit, pytest.fail.Exception])
    def test_errors_that_are_no_exceptions(self, search, log, kind):
        """They do not stop the search, and leave a trace."""

        def fails(params):
            if params["a"]:
                raise kind("enough")
            return 1

        assert search(fails, Listed([{"a": 0}, {"a": 1}, {"a": 0}]), 3).counts == {"finished": 2, "failed": 1}
        error = read_log(log).lines[1]["error"]
        assert error.startswith("Traceback")
        assert 'raise kind("enough")' in error
        assert f"{kind.__name__}: enough" in error

    def test_long_error(self, search, log):
        def fails(params):
            if params["a"]:
                raise ValueError("x" * 100_000 + "end")
            return 0

        search(fails, Listed([{"a": 0}, {"a": 1}]), 2)
        error = read_log(log).lines[1]["error"]
        assert 3000 < len(error) < 5000
        assert error.endswith("xend")

    def test_reports(self, search, log):
        search(objectives.reports, Listed([{"kind": "b", "x": 0.3, "n": 20}]), 1)
        assert read_log(log).lines[0]["reports"] == [[step, (step + 1) / 10] for step in range(10)]

    @pytest.mark.parametrize(
        ("step", "value", "kept"),
        [
            (np.int64(3), np.float32(0.5), [3, 0.5]),
            (0, math.nan, [0, None]),
            (0, torch.tensor([2]), [0, 2.0]),
            (0, Decimal("0.5"), [0, 0.5]),
        ],
    )
    def test_reported_numbers(self, search, log, step, value, kept):
        search(lambda report: report(step, value) or 1, Listed([{}]), 1)
        assert read_log(log).lines[0]["reports"] == [kept]

    @pytest.mark.parametrize(
        ("step", "value", "error"),
        [
            (-1, 1.0, "TypeError: report: expected a step that is a whole number from 0 on, got -1."),
            (1.5, 1.0, "TypeError: report: expected a step that is a whole number from 0 on, got 1.5."),
            (1, "a", "TypeError: report: expected a value that is a number, got 'a'."),
            (1, np.True_, "TypeError: report: expected a value that is a number, got np.True_."),
        ],
    )
    def test_no_report(self, search, log, step, value, error):
        search(lambda params, report: (params["a"] and report(step, value)) or 1, Listed([{"a": 0}, {"a": 1}]), 2)
        assert read_log(log).lines[1]["error"].endswith(error)

    def test_may_prune_itself(self, search, log):
        def gives_up(params, report):
            for step in range(params["a"]):
                report(step, 10.0 + step)
            if params["a"] != 3:
                raise Pruned
            return 1

        best = search(gives_up, Listed([{"a": a} for a in (2, 3, 0)]), 3)
        assert best.counts == {"pruned": 2, "finished": 1}
        assert best.value == 1  # a pruned trial is not the best
        assert [(line["value"], line["status"]) for line in read_log(log).lines] == [
            (11.0, "pruned"),
            (1.0, "finished"),
            (None, "pruned"),
        ]

    def test_no_trial_finishes(self, search, log):
        expected = (
            r"objective: expected a number from at least one trial, got none \(3 failed; the first: ArithmeticError: "
            r"never\)\. Read the errors in .*search\.jsonl; to run these trials again, remove it\."
        )
        assert_refused(lambda: search(objectives.always_fails, Listed([{}] * 3), 3), expected, fw.InputError)
        assert len(read_log(log).lines) == 3

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (
                [("pruned", None)],
                r"\(1 pruned\)\. Use a pruner that lets more of them finish; to run these trials again, remove log\.",
            ),
            ([("killed", "killed: by 9")] * 3, r"\(3 killed; the first: by 9\)\. Read the errors in log"),
            ([("timeout", "timeout: it took 3 s")], r"\(1 timeout; the first: it took 3 s\)\. Read"),
            (
                [("pruned", None), ("failed", "Traceback\nValueError: killed: a"), ("killed", "killed: by 9")],
                r"\(1 pruned, 1 failed, 1 killed; the first failed: ValueError: killed: a\)\. Read",
            ),
        ],
    )
    def test_how_no_trial_has_finished(self, lines, expected):
        lines = [{"status": status} | ({"error": error} if error else {}) for status, error in lines]
        expected = rf"objective: expected a number from at least one trial, got none {expected}"
        assert_refused(lambda: best_line(lines, "log"), expected, fw.InputError)

    @pytest.mark.parametrize(
        ("objective", "expected"),
        [
            (3, "got 3. Pass a function"),
            (lambda x: 1, "got one that needs the argument x. Rename it, or give it a default"),
            (lambda params, *, population: 1, "got one that needs the argument population"),
            (max, "got <built-in function max>, whose arguments are unknown. Wrap it"),
        ],
    )
    def test_other_arguments(self, search, log, objective, expected):
        expected = f"objective: expected a function of params, seed, report, or of some of them, {expected}"
        assert_refused(lambda: search(objective, Listed([{}]), 1), expected, fw.InputError)
        assert not log.exists()
