# SPDX-License-Identifier: MIT
"""Interleaved timing: tasks take turns in short blocks, so that the machine's noise falls on all of them alike.

Enters: functions. Leaves: a `Timing` each, with median and spread. `torch.utils.benchmark` runs each block: it sets
the threads, warms up with two calls (which also takes the caches and the threads back from whoever ran before) and
keeps the garbage collector out.

A run of the health probe (`benchmarks.suites.health`) stands before and after every block. A block beside a slow run is
measured again, in later rounds; where too many are, blocks beside the least slow runs fill the gaps, and the `Timing`
says how many those are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.benchmark import Measurement, Timer

from benchmarks.suites.health import Probe, session

__all__ = ["BLOCK", "Timing", "interleave"]

BLOCK = 0.01  # seconds of calls a block
_PATIENCE = 2  # times the rounds asked for, at most
_BUDGET = 10.0  # seconds of blocks a task; one whose calls are longer gets fewer rounds,
_FEWEST = 5  # but so many


@dataclass(frozen=True)
class Timing:
    """Seconds a call, over the blocks: each block's mean is one run."""

    median: float
    #: Between the quartiles.
    iqr: float
    fastest: float
    runs: int
    calls_per_run: int
    #: Runs among these that stand beside a slow run of the probe, since no better ones could be had.
    sick: int
    #: Blocks measured and then left out for such a run.
    repeated: int
    #: The slowest run of the probe beside these runs, over the session's fastest.
    slowdown: float


@dataclass(frozen=True)
class _Block:
    measurement: Measurement
    probe: float  # seconds, of the slower of the two runs around it


def interleave(
    tasks: dict[str, Callable[[], object]],
    *,
    rounds: int,
    threads: int,
    block: float = BLOCK,
    probe: Probe | None = None,
) -> dict[str, Timing]:
    """Time tasks in turns.

    Args:
        tasks: By label; each call is one thing to time.
        rounds: Blocks a task, at least 1; fewer for a task whose every call takes long. The order of the tasks is
            rotated from round to round.
        threads: That torch may use.
        block: Seconds that a block should take, by which calls are counted; at least one call.
        probe: Of the machine's health; None: the session's.

    Returns:
        By label, in the order given.
    """
    probe = session() if probe is None else probe
    timers = {label: Timer("task()", globals={"task": task}, num_threads=threads) for label, task in tasks.items()}
    calls, wanted = {}, {}
    for label, timer in timers.items():
        once = _seconds(timer, block)
        calls[label] = max(1, math.ceil(block / once))
        wanted[label] = min(rounds, max(_FEWEST, int(_BUDGET / max(block, once))))
    blocks: dict[str, list[_Block]] = {label: [] for label in tasks}
    before = probe()
    for r in range(_PATIENCE * rounds):
        lacking = [
            label
            for label, parts in blocks.items()
            if _healthy(parts, probe) < wanted[label] and len(parts) < _PATIENCE * wanted[label]
        ]
        start = r % max(1, len(lacking))
        for label in lacking[start:] + lacking[:start]:
            measurement = timers[label].timeit(calls[label])
            after = probe()
            blocks[label].append(_Block(measurement, max(before, after)))
            before = after
    return {label: _timing(parts, wanted[label], calls[label], probe) for label, parts in blocks.items()}


def _healthy(blocks: list[_Block], probe: Probe) -> int:
    return sum(not probe.sick(block.probe) for block in blocks)


def _timing(blocks: list[_Block], rounds: int, calls: int, probe: Probe) -> Timing:
    """Of the healthy blocks, filled up with those beside the least slow runs of the probe."""
    kept = sorted(blocks, key=lambda block: block.probe if probe.sick(block.probe) else 0.0)[:rounds]
    (merged,) = Measurement.merge([block.measurement for block in kept])
    return Timing(
        merged.median,
        merged.iqr,
        min(merged.times),
        len(merged.times),
        calls,
        sick=rounds - _healthy(kept, probe),
        repeated=len(blocks) - len(kept),
        slowdown=probe.slowdown(max(block.probe for block in kept)),
    )


def _seconds(timer: Timer, block: float) -> float:
    """A call's time, by the second of two trials."""
    timer.timeit(1)
    once = timer.timeit(1).median
    if once < block / 100:
        once = timer.timeit(50).median
    return max(once, 1e-9)
