# SPDX-License-Identifier: MIT
"""Interleaved timing: tasks take turns in short blocks, so that the machine's noise falls on all of them alike.

Enters: functions. Leaves: a `Timing` each, with median and spread. `torch.utils.benchmark` runs each block: it sets
the threads, warms up with two calls (which also takes the caches and the threads back from whoever ran before) and
keeps the garbage collector out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.benchmark import Measurement, Timer

__all__ = ["BLOCK", "Timing", "interleave"]

BLOCK = 0.01  # seconds of calls a block


@dataclass(frozen=True)
class Timing:
    """Seconds a call, over the blocks: each block's mean is one run."""

    median: float
    #: Between the quartiles.
    iqr: float
    fastest: float
    runs: int
    calls_per_run: int


def interleave(
    tasks: dict[str, Callable[[], object]], *, rounds: int, threads: int, block: float = BLOCK
) -> dict[str, Timing]:
    """Time tasks in turns.

    Args:
        tasks: By label; each call is one thing to time.
        rounds: Blocks a task, at least 1. The order of the tasks is rotated from round to round.
        threads: That torch may use.
        block: Seconds that a block should take, by which calls are counted; at least one call.

    Returns:
        By label, in the order given.
    """
    timers = {label: Timer("task()", globals={"task": task}, num_threads=threads) for label, task in tasks.items()}
    calls = {label: _calls(timer, block) for label, timer in timers.items()}
    blocks: dict[str, list[Measurement]] = {label: [] for label in tasks}
    labels = list(tasks)
    for r in range(rounds):
        start = r % len(labels)
        for label in labels[start:] + labels[:start]:
            blocks[label].append(timers[label].timeit(calls[label]))
    timings = {}
    for label, parts in blocks.items():
        (merged,) = Measurement.merge(parts)
        timings[label] = Timing(merged.median, merged.iqr, min(merged.times), len(merged.times), calls[label])
    return timings


def _calls(timer: Timer, block: float) -> int:
    """Calls that fill a block, by the second of two trials."""
    timer.timeit(1)
    once = timer.timeit(1).median
    if once < block / 100:
        once = timer.timeit(50).median
    return max(1, math.ceil(block / max(once, 1e-9)))
