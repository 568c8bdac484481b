# SPDX-License-Identifier: MIT
"""The health probe, and how `interleave` handles blocks measured on a disturbed machine (simulated here)."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

from benchmarks.harness import health
from benchmarks.harness.health import Probe
from benchmarks.harness.machine import cores
from benchmarks.harness.timing import interleave


def simulated(seconds: Iterable[float], rest: float = 1.0) -> Callable[[], float]:
    """A probe whose runs take the given times after the first ones of a session, and then ``rest``."""
    runs = iter([1.0] * health._FIRST + list(seconds))
    return lambda: next(runs, rest)


def timings(probe: Probe, labels: str = "ab", rounds: int = 4) -> dict[str, Any]:
    tasks: dict[str, Callable[[], object]] = {label: lambda: None for label in labels}
    return interleave(tasks, rounds=rounds, threads=1, block=1e-5, probe=probe)


class TestInterleave:
    def test_healthy_machine_repeats_nothing(self) -> None:
        probe = Probe(simulated([1.0, 1.1, 1.2, 1.0]))
        for timing in timings(probe).values():
            assert (timing.runs, timing.sick, timing.repeated) == (4, 0, 0)
            assert timing.slowdown <= 1.2
        assert len(probe.seconds) == health._FIRST + 1 + 2 * 4  # one before, one after every block

    def test_blocks_next_to_a_slow_run_are_measured_again(self) -> None:
        # The third run is after b's first block and before b's second (rounds rotate: a b, b a).
        found = timings(Probe(simulated([1.0, 1.0, 2.0])))
        assert (found["a"].sick, found["a"].repeated) == (0, 0)
        assert (found["b"].runs, found["b"].sick, found["b"].repeated) == (4, 0, 2)
        assert found["b"].slowdown == 1.0

    def test_machine_that_stays_disturbed_is_reported(self) -> None:
        probe = Probe(simulated([], rest=3.0))
        found = timings(probe)
        for timing in found.values():
            assert (timing.runs, timing.sick, timing.repeated) == (4, 4, 4)
            assert timing.slowdown == 3.0
        assert probe.describe()["sick"] == 1 + 2 * 2 * 4

    def test_least_disturbed_blocks_fill_the_gaps(self) -> None:
        found = timings(Probe(simulated([1.0, 1.0, 4.0], rest=2.0)), labels="a", rounds=2)["a"]
        assert (found.runs, found.sick, found.repeated, found.slowdown) == (2, 1, 2, 2.0)

    def test_later_faster_run_invalidates_earlier_ones(self) -> None:
        found = timings(Probe(simulated([1.0, 1.0], rest=0.5)), labels="a", rounds=3)["a"]
        assert (found.sick, found.repeated) == (0, 2)

    def test_long_call_gets_fewer_rounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("benchmarks.harness.timing._BUDGET", 0.02)
        tasks: dict[str, Callable[[], object]] = {"long": lambda: time.sleep(2e-3), "short": lambda: None}
        found = interleave(tasks, rounds=20, threads=1, block=1e-4, probe=Probe(simulated([])))
        assert 5 <= found["long"].runs <= 10
        assert found["short"].runs == 20


class TestProbe:
    def test_runs_slower_than_the_share_are_sick(self) -> None:
        probe = Probe(simulated([2.0]), share=0.5)
        probe()
        assert [probe.sick(seconds) for seconds in (1.0, 1.5, 1.51)] == [False, False, True]
        assert probe.slowdown(3.0) == 3.0
        described = probe.describe()
        assert (described["best"], described["worst"], described["runs"], described["sick"]) == (1.0, 2.0, 6, 1)

    def test_machine_is_described_with_the_sessions_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "session", lambda: Probe(simulated([])))
        machine: dict[str, Any] = {}
        health.conclude(machine)
        assert machine["probe"]["best"] == 1.0
        assert "load_at_end" in machine

    def test_default_probe_times_products_on_all_cores(self) -> None:
        threads = torch.get_num_threads()
        probe = Probe()
        assert len(probe.seconds) == health._FIRST
        assert min(probe.seconds) > 0
        assert torch.get_num_threads() == threads

    @pytest.mark.nightly  # pure timing, while other processes take every core
    def test_process_that_takes_the_cores_is_detected(self) -> None:
        probe = Probe()
        alone = min(probe() for _ in range(20))
        spawn = multiprocessing.get_context("spawn")
        burning = [spawn.Process(target=_burn, daemon=True) for _ in range(2 * cores())]
        for process in burning:
            process.start()
        try:
            time.sleep(1.0)
            beside = statistics.median(probe() for _ in range(15))
        finally:
            for process in burning:
                process.terminate()
                process.join()
        assert beside > (1 + health.SHARE) * alone


def _burn() -> None:
    while True:
        sum(range(100_000))
