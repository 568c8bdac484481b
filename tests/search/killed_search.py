# SPDX-License-Identifier: MIT
"""A search that is killed again and again; run as ``python -m tests.search.killed_search LOG SEED KIND``.

freewire is imported once. Each attempt is a fork in a process group of its own, which searches until the whole group
gets SIGKILL at a random moment, some trials later. For each the log's size and the number of its trials are printed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from freewire.search import Evolution, read_log, run
from tests.search import objectives

KILLS, TRIALS = 20, 400


def slow_hill(params, seed):
    """A trial of a millisecond or so, of which some fail."""
    time.sleep(0.001 * (seed % 3))
    if seed % 11 == 0:
        raise ValueError(f"seed {seed}")
    return objectives.hill(params)


def search(log: Path, kind: str) -> None:
    """The search that is killed."""
    strategy = Evolution(objectives.SPACE, population=20, sample=5)
    if kind == "processes":
        run(slow_hill, strategy, TRIALS, log=log, workers=2, progress=False)
    else:
        with ThreadPoolExecutor(4) as executor:
            run(slow_hill, strategy, TRIALS, executor, log, progress=False)


def attempt(log: Path, kind: str, lines: int, seconds: float) -> None:
    """Search until the log has so many lines more, or is complete, and for some seconds more; then be killed."""
    enough = min(count(log) + lines, 1 + TRIALS)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        search(log, kind)
        os._exit(0)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or has done so itself
        os.setpgid(child, child)
    while lines and count(log) < enough:
        time.sleep(0.0005)
    time.sleep(seconds)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def count(log: Path) -> int:
    """The number of lines in the log, its header included."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


def main(log: Path, seed: int, kind: str) -> None:
    """Kill the search ``KILLS`` times."""
    chance = random.Random(seed)
    for _ in range(KILLS):
        attempt(log, kind, chance.randrange(19), chance.uniform(0, 0.01))
        text = log.read_bytes() if log.exists() else b""
        print(text.rfind(b"\n") + 1, len(read_log(log).lines) if b"\n" in text else 0, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
