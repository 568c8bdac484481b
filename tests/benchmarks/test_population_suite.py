# SPDX-License-Identifier: MIT
"""benchmarks/suites/population.py: a quick run prints its tables, with results that have been compared."""

from __future__ import annotations

import pytest
import torch

import freewire as fw
from benchmarks.peers.neat_python import NeatPythonPeer
from benchmarks.suites import population

pytestmark = pytest.mark.slow


def test_quick_run(capsys: pytest.CaptureFixture[str]) -> None:
    population.main(["--quick", "--threads", "1"])
    text = capsys.readouterr().out
    for line in (
        "40 members of 200 edges",
        "| replace 2 members",
        "W5, 8 members, batch 16",
        "10 members of 200 edges",
        "| Network of the union |",
    ):
        assert line in text
    assert "| neat-python |" in text or "neat-python: not run: neat is not installed" in text


def test_neat_python() -> None:
    net = fw.Network(fw.Graph.union([fw.generators.random_graph(3, 5, 2, 2, "tanh", seed=seed) for seed in range(4)]))
    with torch.no_grad():
        net.bias.normal_()
    x = torch.randn(3, 12)
    torch.testing.assert_close(NeatPythonPeer(net)(x), net(x).detach())
