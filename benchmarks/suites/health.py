# SPDX-License-Identifier: MIT
"""Is the machine well? A fixed piece of arithmetic, timed again and again beside what is measured.

Nothing enters; leaves `Probe`, whose call takes some 10 ms and returns the seconds it took. It multiplies matrices
that fit a core's second-level cache, on all cores, through torch: chains of fused multiply-adds that keep every unit
busy, in the thread pool that is measured, and nothing to compile. When another process, or another guest of the same
host, takes a core, its share of every product is late and the products wait for it; a lower clock shows as well. The
fastest run of a session is what the machine can do, so a run slower than that by `SHARE` says that what was measured
beside it does not count. `benchmarks.harness.timing` brackets every block with two of these runs.

What it cannot see: a disturbance that begins and ends between two runs (a block of one long call has no run inside),
a neighbour that takes memory bandwidth only, and a session that is disturbed from its first run to its last.
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

SHARE = 0.25  # of the session's fastest run; a process on one of two cores makes a run about twice as long
_PRODUCTS = 4
_SIZE = 640  # of the products, but for the rows; a run takes about 12 ms where a core does 90 GFLOP/s
_ROWS_A_CORE = 320
_FIRST = 5  # runs before anything is measured


class Probe:
    """A session's runs of the probe.

    Args:
        run: Does the fixed work and returns the seconds that it took; None: the products.
        share: By which a run may be slower than the fastest one.
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
    """The probe of this process, made at the first call."""
    return Probe()


def conclude(machine: dict[str, Any]) -> None:
    """Add to a machine's description (`benchmarks.harness.machine.describe`) how it was while the session measured."""
    machine["load_at_end"] = load()
    machine["probe"] = session().describe()


def _products(threads: int) -> Callable[[], float]:
    rows = _ROWS_A_CORE * threads
    left, right = torch.ones(rows, _SIZE), torch.full((_SIZE, _SIZE), 1 / _SIZE)
    result = torch.empty(rows, _SIZE)

    def run() -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.no_grad():
                torch.mm(left, right, out=result)  # takes caches and threads back from whoever ran before
                start = time.perf_counter()
                for _ in range(_PRODUCTS):
                    torch.mm(left, right, out=result)
                return time.perf_counter() - start
        finally:
            torch.set_num_threads(before)

    return run
