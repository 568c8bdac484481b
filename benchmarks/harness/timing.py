# SPDX-License-Identifier: MIT
"""Interleaved timing: tasks take turns in short blocks, so that the machine's noise affects all of them alike.

`interleave` returns one `Timing` per task, with median and spread. `torch.utils.benchmark` runs each block: it sets
the threads, warms up with two calls (which also refills the caches) and switches the garbage collector off.

The health probe (`benchmarks.harness.health`) runs before and after every block. A block next to a slow run of the
probe is measured again in a later round; if too many are, the blocks next to the least slow runs are used, and the
`Timing` says how many they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.utils.benchmark import Measurement, Timer

from benchmarks.harness.health import Probe, session

__all__ = ["BLOCK", "Timing", "interleave"]

BLOCK = 0.01  # seconds of calls per block
_PATIENCE = 2  # at most so many times the requested rounds
_BUDGET = 10.0  # seconds of blocks per task; a task with longer calls gets fewer rounds,
_FEWEST = 5  # but at least so many


@dataclass(frozen=True)
class Timing:
    """Seconds per call, over the blocks; each block's mean is one run."""

    median: float
    #: The distance between the quartiles.
    iqr: float
    fastest: float
    runs: int
    calls_per_run: int
    #: How many of these runs are next to a slow run of the probe, since there were no better ones.
    sick: int
    #: How many blocks were measured and then dropped because of a slow run of the probe.
    repeated: int
    #: The slowest run of the probe next to these runs, over the session's fastest.
    slowdown: float


@dataclass(frozen=True)
class _Block:
    measurement: Measurement
    probe: float  # seconds of the slower of the two runs of the probe around it


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
        tasks: The calls to time, by label.
        rounds: Number of blocks per task, at least 1; a task with long calls gets fewer. The order of the tasks is
            rotated from round to round.
        threads: Number of threads that torch may use.
        block: Seconds that a block should take, which sets its number of calls, at least one.
        probe: The health probe; None for the session's.

    Returns:
        The timings by label, in the given order.
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
    """Summarize the healthy blocks, and if there are too few, those next to the least slow runs of the probe."""
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
    """The time of one call, measured at the second of two trials."""
    timer.timeit(1)
    once = timer.timeit(1).median
    if once < block / 100:
        once = timer.timeit(50).median
    return max(once, 1e-9)
