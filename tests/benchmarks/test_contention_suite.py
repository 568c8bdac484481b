# SPDX-License-Identifier: MIT
"""benchmarks/suites/contention.py: a quick run prints every row, and busy processes are ended."""

from __future__ import annotations

import re
import time

import pytest
import torch
from torch import nn

from benchmarks.suites import contention


def test_busy_processes_are_ended() -> None:
    with contention.busy(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert all(process.returncode is not None for process in processes)


def test_spread_is_of_single_calls() -> None:
    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(float(x))
            return x

    found = contention.spread({"a": (Slow(), torch.tensor(1e-3)), "b": (Slow(), torch.tensor(3e-3))}, 0.03)
    assert 1e-3 <= found["a"].median <= found["a"].p99 <= found["a"].longest
    assert found["a"].calls > found["b"].calls >= contention._TURNS
    assert found["b"].median >= 3e-3
    assert found["b"].mean <= found["b"].longest


def test_dense_layers_take_about_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def simulated(modules: dict[str, tuple[nn.Module, torch.Tensor]], seconds: float) -> dict[str, contention.Spread]:
        layers = len(modules[""][0]) // 2
        taken = 1e-3 * layers if layers < 8 else 2e-3 * layers
        return {"": contention.Spread(*[taken] * 4, calls=10)}

    monkeypatch.setattr(contention, "spread", simulated)
    for seconds, count in ((7e-3, 7), (16e-3, 8), (1e-5, 1), (10.0, contention._MOST_LAYERS)):
        layers, x = contention.dense_layers(seconds, 3, 8)
        assert layers(x).shape == (3, 8)
        assert sum(isinstance(layer, nn.Linear) for layer in layers) == count


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_quick_run_prints_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    contention.main(["--quick", "--threads", "1", "--busy", "0", "1"])
    printed = capsys.readouterr().out
    rows = re.findall(
        r"^  (freewire|\d+ x nn\.Linear\(16, 16\)) +(\d)( +[\d.]+){4}( +[\d.]+x){4}  [\d,]+ calls$", printed, re.M
    )
    assert [row[1] for row in rows] == ["0", "0", "1", "1"] * len(contention.CASES)
    for case in contention.CASES:
        assert f"{case.name}, batch {case.batch}\n" in printed
