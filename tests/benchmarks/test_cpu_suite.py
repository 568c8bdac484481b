# SPDX-License-Identifier: MIT
"""benchmarks/suites/cpu.py and dense_mlp.py: a quick run writes every row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import freewire as fw
from benchmarks.harness.workloads import WORKLOADS
from benchmarks.peers import PEERS
from benchmarks.suites import cpu, dense_mlp

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = [candidate.label for candidate in cpu.candidates()]
PEER = {peer.label: peer for peer in PEERS}


@pytest.mark.slow
def test_quick_run_writes_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "results.json"
    cpu.main(["--quick", "--json", str(path)])
    results = json.loads(path.read_text())
    assert results["quick"] is True
    for key in ("cpu", "cores", "isa", "torch", "freewire", "commit", "threads", "date"):
        assert key in results["machine"]
    for workload in map(WORKLOADS.get, cpu.USUAL):
        for label in LABELS:
            rows = [r for r in results["rows"] if (r["workload"], r["candidate"]) == (workload.name, label)]
            if "refusal" in rows[0]:
                assert rows[0]["refusal"] == str(PEER[label].refusal(fw.Network(workload.quick().graph())))
                continue
            assert [row["measure"] for row in rows] == list(workload.measures)
            for row in rows:
                assert row["median"] > 0
                assert row["iqr"] >= 0
                assert row["runs"] == 2
                assert row["ratio"] > 0
    printed = capsys.readouterr().out
    for name in (*cpu.USUAL, *LABELS):
        assert name in printed


@pytest.mark.slow
def test_comparison_with_dense_networks_writes_every_row(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    path = tmp_path / "dense.json"
    dense_mlp.main(["--quick", "--json", str(path)])
    own, equal_parameters, equal_neurons = json.loads(path.read_text())["rows"]
    assert abs(equal_parameters["parameters"] - own["parameters"]) < 75  # one hidden node more or less
    assert equal_neurons["candidate"] == "dense, equal neurons (40 hidden)"
    for row in (own, equal_parameters, equal_neurons):
        assert 0 < row["accuracy"] < 1
        assert row["median"] > 0
        assert row["step_bytes"] > 0
        assert row["held_bytes"] >= 3 * 4 * row["parameters"]


def test_dense_networks_have_the_stated_sizes() -> None:
    own, equal_parameters, equal_neurons = (model.make(0) for model in dense_mlp.models())
    count = sum(parameter.numel() for parameter in own.parameters())
    assert abs(sum(p.numel() for p in equal_parameters.parameters()) - count) < 75
    assert sum(p.numel() for p in equal_neurons.parameters()) == 300 * 65 + 301 * 10
