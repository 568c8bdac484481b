# SPDX-License-Identifier: MIT
"""benchmarks/suites/diagnostics.py: a quick run prints its row; and every night, what diagnostics may cost."""

from __future__ import annotations

import re

import pytest

import freewire as fw
from benchmarks.suites import diagnostics

pytestmark = pytest.mark.usefixtures("one_thread")


def test_quick_run(capsys):
    diagnostics.main(["--quick", "--rounds", "1", "--threads", "1"])
    (row,) = re.findall(
        r"^\| mlp\(\[2, 8, 2\]\), 32 \| ([\d.]+) \| ([\d.]+) \| (-?[\d.]+)% \|", capsys.readouterr().out, re.M
    )
    plain, measured, share = map(float, row)
    assert share == pytest.approx(100 * (measured / plain - 1), abs=1.0)


def test_what_is_timed():
    """Steps of which the first is measured, or none; one training does both."""
    training = diagnostics.Training(fw.generators.mlp([3, 4, 2]), 16, every=5)
    for run, steps, records in ((training.plain, 4, 0), (training.measured, 9, 1), (training.plain, 13, 1)):
        run()
        assert training.optimizer.state[training.net.weight]["step"] == steps
        assert len(training.diagnostics.records) == records


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "bound"), [("W1", 0.20), ("W2", 0.25), ("random_graph", 0.30), ("mlp", 0.30)])
def test_cost(name, bound):
    """At every=10. Small networks, whose steps are shorter than a millisecond, pay for calls and not for arithmetic."""
    make, batch = next(value for label, value in diagnostics.NETWORKS.items() if label.startswith(name))
    found = [diagnostics.measure(make(), batch, every=10, rounds=7, threads=1).share for _ in range(3)]
    assert min(found) < bound, found  # the least disturbed one
