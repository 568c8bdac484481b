# SPDX-License-Identifier: MIT
"""benchmarks.suites.evolution, on few genomes."""

from __future__ import annotations

import re

import pytest

from benchmarks.suites import evolution

pytestmark = pytest.mark.usefixtures("one_thread")


def test_table(capsys):
    evolution.main(["--population", "12", "--generations", "3"])
    rows = re.findall(r"^\| (.+?) \| (\d+) \| \d+ \| \d+ \| \d+ \|$", capsys.readouterr().out, re.MULTILINE)
    assert [label for label, _ in rows] == list(evolution.SEARCHES)
    assert [int(edges) > 190 for _, edges in rows] == [False, True, True]
