# SPDX-License-Identifier: MIT
"""What a search shows while it runs."""

from __future__ import annotations

import io
import sys

import pytest

from freewire.search import run
from freewire.search.progress import Progress
from tests.search.strategies import Listed


class Terminal(io.StringIO):
    """Text that somebody watches."""

    def isatty(self):
        return True


def values(*numbers):
    """Lines of trials that have ended; None: failed."""
    return [
        {"trial": trial, "value": number, "status": "failed" if number is None else "finished"}
        for trial, number in enumerate(numbers)
    ]


class TestLines:
    def test_best_so_far(self, tmp_path, capsys):
        strategy = Listed([{"a": a} for a in (2, "x", 5, 3)])
        run(lambda params: params["a"], strategy, 4, log=tmp_path / "log", workers=0)
        assert capsys.readouterr().out.splitlines() == [
            "trial 1/4: best 2 (trial 0)",
            "trial 2/4: best 2 (trial 0), 1 failed",
            "trial 3/4: best 5 (trial 2), 1 failed",
            "trial 4/4: best 5 (trial 2), 1 failed",
        ]
        run(lambda params: params["a"], strategy, 4, log=tmp_path / "log", workers=0)
        assert capsys.readouterr().out == ""

    def test_goes_on_from_the_log(self, capsys):
        with Progress(True, 4, values(7.0, None)) as progress:
            progress.update([{"trial": 2, "value": 3.0, "status": "pruned"}])
        assert capsys.readouterr().out == "trial 3/4: best 7 (trial 0), 1 failed\n"

    def test_none_yet(self, capsys):
        with Progress(True, 2, []) as progress:
            progress.update(values(None))
        assert capsys.readouterr().out == "trial 1/2: best none yet, 1 failed\n"

    def test_not_too_many(self, capsys):
        with Progress(True, 1050, []) as progress:
            for _ in range(1050):
                progress.update(values(0.5))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 96
        assert lines[-1].startswith("trial 1050/1050: ")

    def test_nothing(self, capfd):
        with Progress(False, 2, []) as progress:
            progress.update(values(1.0))
        assert capfd.readouterr() == ("", "")


class TestBar:
    def test_in_a_terminal(self, monkeypatch, capsys):
        pytest.importorskip("tqdm")
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(True, 3, values(7.0)) as progress:
            progress.update(values(None))
            progress.update(values(8.5))
        shown = terminal.getvalue()
        assert "1/3 [" in shown
        assert "3/3 [" in shown
        assert "best 8.5 (trial 0), 1 failed" in shown
        assert capsys.readouterr().out == ""

    def test_without_tqdm(self, monkeypatch, capsys):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        with Progress(True, 2, []) as progress:
            progress.update(values(1.0))
        assert terminal.getvalue() == ""
        assert capsys.readouterr().out == "trial 1/2: best 1 (trial 0)\n"
