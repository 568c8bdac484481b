# SPDX-License-Identifier: MIT
"""benchmarks/suites/compare.py: two checkouts take turns; what is slower, wrong or not built is reported."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmarks.suites import compare
from benchmarks.suites.compare import CASES, Difference, DifferentResultsError, WorkerError
from tests.support import ROOT


class SimulatedWorker:
    """Answers from a script; its calls get slower by ``factor`` with every block."""

    asked: list[tuple[str, str]]

    def __init__(self, checkout: Path, seconds: float, factor: float = 1.0, norm: float = 1.0) -> None:
        self.checkout, self.seconds, self.factor, self.norm = checkout, seconds, factor, norm

    def ask(self, case: str, what: str, seconds: float, quick: bool) -> dict[str, Any]:
        self.asked.append((self.checkout.name, what))
        if seconds:
            self.seconds *= self.factor
        return {"norms": [self.norm, 2.0], "fastest": self.seconds}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(SimulatedWorker, "asked", found, raising=False)
    return found


def difference(new: SimulatedWorker, old: SimulatedWorker, rounds: int = 3) -> Difference:
    return compare._difference((new, old), rounds, case="W1", what="step", seconds=0.1, quick=True)


class TestDifference:
    def test_checkouts_alternate(self, asked: list[tuple[str, str]]) -> None:
        new, old = SimulatedWorker(Path("new"), 1.0), SimulatedWorker(Path("old"), 3.0)
        assert difference(new, old) == Difference("W1", "step", 1.0, 3.0, 3.0, 0.0)
        assert [name for name, _ in asked] == ["new", "old", "old", "new", "new", "old", "old", "new"]

    @pytest.mark.usefixtures("asked")
    def test_ratio_is_that_of_neighbouring_blocks(self) -> None:
        new, old = SimulatedWorker(Path("new"), 1.0, factor=2.0), SimulatedWorker(Path("old"), 2.0, factor=2.0)
        found = difference(new, old)
        assert (found.new, found.old, found.ratio, found.spread) == (4.0, 8.0, 2.0, 0.0)

    @pytest.mark.usefixtures("asked")
    def test_different_results_are_not_timed(self) -> None:
        message = r"W1, step: expected the same norms .*, got \[1.01, 2.0\] here and \[1.0, 2.0\] in old\."
        with pytest.raises(DifferentResultsError, match=message):
            difference(SimulatedWorker(Path("new"), 1.0, norm=1.01), SimulatedWorker(Path("old"), 1.0))

    @pytest.mark.parametrize(("ratio", "slower"), [(1.5, False), (0.98, False), (0.96, True)])
    def test_slower_by_more_than_three_percent(self, ratio: float, slower: bool) -> None:
        found = Difference("W1", "step", 2e-3, 2e-3 * ratio, ratio, 0.01)
        assert found.slower == slower
        assert str(found).endswith(f"{ratio:.3f} ± 0.010" + "  slower" * slower)


class TestWorker:
    def test_folder_without_a_checkout(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="OLD: expected a checkout of freewire, got a folder without it: "):
            compare.main([str(tmp_path)])

    def test_checkout_that_is_not_built(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "freewire").mkdir()
        (tmp_path / "freewire" / "__init__.py").write_text("raise ImportError('no library')")
        message = r"OLD: expected a built checkout .* ended with status 1; its message is above\. Build it with"
        with compare._Worker(tmp_path, 1) as worker, pytest.raises(WorkerError, match=message):
            worker.ask(case="W6", what="forward", seconds=0.0, quick=True)
        assert "ImportError: no library" in capfd.readouterr().err


@pytest.mark.parametrize("again", [0.9, 1.0])
def test_case_that_is_slower_twice_fails_the_command(again: float, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def simulated(old: Path, cases: list[str], this_first: bool = False, **settings: Any) -> Iterator[Difference]:
        asked.append((cases, this_first))
        ratios = {"W1": again if this_first else 0.9, "W2": 1.1}
        return (Difference(case, "step", 1.0, ratios[case], ratios[case], 0.0) for case in cases)

    monkeypatch.setattr(compare, "compare", simulated)
    expected = pytest.raises(SystemExit, match=r"slower by more than 3%: W1 step$") if again < 1 else nullcontext()
    with expected:
        compare.main([str(ROOT), "--cases", "W1", "W2"])
    assert asked == [(["W1", "W2"], False), (["W1"], True)]


def test_cases_are_those_that_must_not_get_slower() -> None:
    assert list(CASES) == ["W1", "W2", "W3", "W4", "W5", "W6", "R1", "R4", "R8", "M1"]
    assert [CASES[name].batch for name in ("R1", "R4", "R8", "M1")] == [1, 4, 8, 1]


@pytest.mark.slow
def test_quick_run_with_itself(capfd: pytest.CaptureFixture[str]) -> None:
    compare.main([str(ROOT), "--quick", "--cases", "W6", "M1", "--threads", "1"])
    rows = re.findall(
        r"^(W6|M1) +(forward|step) +[\d.]+ [um]s +[\d.]+ [um]s +[\d.]+ ± [\d.]+", capfd.readouterr().out, re.M
    )
    assert rows == [("W6", "forward"), ("M1", "forward"), ("M1", "step")]
