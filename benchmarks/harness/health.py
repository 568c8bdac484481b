# SPDX-License-Identifier: MIT
"""Health probe: a fixed piece of arithmetic that is timed next to everything measured, to detect disturbances.

A call of `Probe` takes some 10 ms and returns its time in seconds. It multiplies matrices that fit a core's
second-level cache, on all cores, through torch: chains of fused multiply-adds that keep every unit busy, in the same
thread pool as the measurement, with nothing to compile. When another process, or another guest of the same host, takes
a core, its share of every product is late and the products wait for it; a lower clock shows as well. The fastest run of
a session is taken as what the machine can do; a run slower than that by `SHARE` means that the measurements next to it
do not count. `benchmarks.harness.timing` runs the probe before and after every block.

The probe cannot detect a disturbance that begins and ends between two runs (a block of one long call has no run
inside), a neighbour that takes only memory bandwidth, or a session that is disturbed from its first run to its last.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.harness.machine import cores, load

__all__ = ["SHARE", "Probe", "conclude", "session"]

SHARE = 0.25  # of the session's fastest run; a process on one of two cores doubles the time of a run
_PRODUCTS = 4
_SIZE = 640  # columns and inner size of the products; a run takes about 12 ms where a core does 90 GFLOP/s
_ROWS_PER_CORE = 320
_FIRST = 5  # runs before anything is measured


class Probe:
    """A session's runs of the probe.

    Args:
        run: Does the fixed work and returns its time in seconds; None for the matrix products.
        share: The fraction by which a run may be slower than the fastest one.
    """

    def __init__(self, run: Callable[[], float] | None = None, share: float = SHARE) -> None:
        self._run = run if run is not None else _products(cores())
        self.share = share
        self.seconds: list[float] = []
        for _ in range(_FIRST):
            self()

    def __call__(self) -> float:
        """One run, in seconds."""
        self.seconds.append(self._run())
        return self.seconds[-1]

    def slowdown(self, seconds: float) -> float:
        """A run's time over that of the fastest run so far, at least 1."""
        return seconds / min(self.seconds)

    def sick(self, seconds: float) -> bool:
        """Whether a run was too slow for what was measured beside it to count."""
        return self.slowdown(seconds) > 1 + self.share

    def describe(self) -> dict[str, Any]:
        """The session's runs, ready for JSON; times in seconds."""
        return {
            "unit": "s",
            "best": min(self.seconds),
            "median": statistics.median(self.seconds),
            "worst": max(self.seconds),
            "runs": len(self.seconds),
            "sick": sum(map(self.sick, self.seconds)),
            "share": self.share,
        }


@functools.cache
def session() -> Probe:
    """The probe of this process, created at the first call."""
    return Probe()


def conclude(machine: dict[str, Any]) -> None:
    """Add the session's load and probe to a machine's description (`benchmarks.harness.machine.describe`)."""
    machine["load_at_end"] = load()
    machine["probe"] = session().describe()


def _products(threads: int) -> Callable[[], float]:
    rows = _ROWS_PER_CORE * threads
    left, right = torch.ones(rows, _SIZE), torch.full((_SIZE, _SIZE), 1 / _SIZE)
    result = torch.empty(rows, _SIZE)

    def run() -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.no_grad():
                torch.mm(left, right, out=result)  # warms up caches and threads
                start = time.perf_counter()
                for _ in range(_PRODUCTS):
                    torch.mm(left, right, out=result)
                return time.perf_counter() - start
        finally:
            torch.set_num_threads(before)

    return run
