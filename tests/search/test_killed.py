# SPDX-License-Identifier: MIT
"""A search that is killed at random moments: nothing that ended is lost, nothing runs twice, the result is the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.search import killed_search
from tests.search.disordered import as_text, timeless
from tests.support import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks searches")


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kind"), [(0, "threads"), pytest.param(1, "processes", marks=pytest.mark.nightly)])
def test_killed_twenty_times(tmp_path, seed, kind):
    log, undisturbed = tmp_path / "killed.jsonl", tmp_path / "undisturbed.jsonl"
    command = [sys.executable, "-m", "tests.search.killed_search", str(log), str(seed), kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(found) == killed_search.KILLS
    trials = [count for _, count in found]
    assert trials == sorted(trials)
    assert trials[-1] < killed_search.TRIALS, "it was never killed in its last part; make it longer"
    assert len(set(trials)) > killed_search.KILLS / 3, "it was mostly killed before it had begun"

    before = log.read_bytes()[: found[-1][0]]
    killed_search.search(log, kind)
    assert log.read_bytes().startswith(before)  # what had ended is as it was
    killed_search.search(undisturbed, kind)
    assert len(timeless(undisturbed)) == killed_search.TRIALS
    assert as_text(timeless(log)) == as_text(timeless(undisturbed))
