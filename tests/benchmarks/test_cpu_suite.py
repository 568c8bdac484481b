# SPDX-License-Identifier: MIT
"""benchmarks/suites/cpu.py and dense_mlp.py: a quick run writes every row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import freewire as fw
from benchmarks.harness.measure import own
from benchmarks.harness.peaks import Level, Peaks, PeaksError
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
    for key in ("cpu", "cores", "isa", "torch", "freewire", "commit", "threads", "date", "peaks"):
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
                assert ("roofline" in row) == (label == "freewire")
                if "roofline" in row:
                    assert row["roofline"]["reached"] == row["roofline"]["seconds"] / row["median"]
    printed = capsys.readouterr().out
    assert "peaks of 1 thread(s): " in printed
    assert len(re.findall(r"^    limit( +[\d.e-]+ +\d+%)+$", printed, re.M)) == len(cpu.USUAL)
    assert len(re.findall(r"^    forward: [\d.]+ MFLOP, [\d.]+ MB read from L1 in tiles", printed, re.M)) == len(
        cpu.USUAL
    )
    for name in (*cpu.USUAL, *LABELS):
        assert name in printed


def test_limits_are_of_the_workload() -> None:
    """W1 on the machine of docs/performance.md: its forward is bound by rows from L2, 60 MB of them."""
    names, sizes, rates = ("L1", "L2", "L3", "memory"), (32 << 10, 1 << 20, 16 << 20, None), (390e9, 221e9, 129e9, 28e9)
    levels = (Level(name, size, 0, rate, rate) for name, size, rate in zip(names, sizes, rates, strict=True))
    rows = [{"candidate": "peer", "measure": "forward", "median": 1e-3}]
    rows += [{"candidate": "freewire", "measure": what, "median": 1e-3} for what in ("forward", "step")]
    cpu.add_limits(rows, WORKLOADS["W1"], Peaks(2, 234e9, tuple(levels)))
    assert "roofline" not in rows[0]
    forward, step = (row["roofline"] for row in rows[1:])
    assert (forward["level"], forward["bound"], step["bound"]) == ("L2", "bytes", "bytes")
    assert forward["seconds"] == pytest.approx(0.272e-3 + 4 * 8 * 58_720 / 129e9, rel=0.01)  # rows, and lists from L3
    assert forward["reached"] == forward["seconds"] / 1e-3
    assert step["seconds"] == pytest.approx(2 * 0.272e-3 + 4 * 20 * 58_720 / 129e9, rel=0.01)


def test_limits_that_cannot_be_measured_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(threads: int, **settings: float) -> Peaks:
        raise PeaksError("caches: none.")

    monkeypatch.setattr(cpu, "measure_peaks", refuse)
    monkeypatch.setattr(cpu, "candidates", lambda: [own()])
    path = tmp_path / "results.json"
    cpu.main(["--quick", "--workloads", "W6", "--json", str(path)])
    results = json.loads(path.read_text())
    assert results["machine"]["peaks"] == {"refusal": "caches: none."}
    assert "roofline" not in results["rows"][0]
    printed = capsys.readouterr().out
    assert "no limits: caches: none." in printed
    assert "  limit" not in printed


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
