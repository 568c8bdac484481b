# SPDX-License-Identifier: MIT
"""The examples' progress: a bar on a terminal, one line elsewhere."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator

import pytest

from tests.support.examples import imported


@pytest.fixture
def progress() -> Iterator[types.ModuleType]:
    """The example's module."""
    with imported("progress") as module:
        yield module


def test_one_line_without_a_terminal(progress, capsys):
    with progress.Progress("training", 3, "epoch") as bar:
        for loss in range(3):
            bar.update(loss=f"{loss}.0")
    written = capsys.readouterr()
    assert re.fullmatch(r"training: 3 epochs in \d+\.\d s, loss 2\.0\n", written.err)
    assert written.out == ""


def test_line_after_an_interruption_says_how_far_it_got(progress, capsys):
    bar = progress.Progress("search", 4000, "trial", done=1999)
    bar.update()
    bar.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert re.fullmatch(r"search: 2,000 of 4,000 trials in \d+\.\d s\n", capsys.readouterr().err)


def test_total_may_be_known_later(progress, capsys):
    with progress.Progress("damaging", None, "run") as bar:
        bar.total = 1
        bar.update()
    assert re.fullmatch(r"damaging: 1 run in \d+\.\d s\n", capsys.readouterr().err)


def test_bar_on_a_terminal(progress, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.Progress("training", None, "epoch", done=1) as bar:
        bar.total = 2
        bar.update(loss="0.5")
    written = capsys.readouterr().err
    assert "\r" in written
    assert "training: 100%" in written
    assert "2/2" in written
    assert "loss=0.5" in written
