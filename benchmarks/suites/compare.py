# SPDX-License-Identifier: MIT
"""Compare this checkout with another one: ``python -m benchmarks.suites.compare OLD [--cases W1 ...] [--threads N]``.

OLD is the folder of another checkout whose libraries are built too. Each has a process of its own, and the two take
turns in short blocks, so that disturbances affect both. A block counts with its fastest call, a pair of blocks with the
ratio of theirs; printed are the medians over the pairs, and half the distance between the quartiles of the ratios:
above 1, this checkout is faster. Norms of outputs and gradients must agree before anything is timed.

The command fails if a case is slower than in OLD by more than `TOLERATED`, and is so again in new processes, started in
the other order: where its memory lies makes a process up to some percent faster or slower than another one with the
same code. Workloads and timing code are those of this checkout, in both processes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import freewire as fw
from benchmarks.harness.command import header
from benchmarks.harness.machine import describe
from benchmarks.harness.measure import forward_task, step_task
from benchmarks.harness.workloads import WORKLOADS, Workload

__all__ = ["CASES", "TOLERATED", "Difference", "DifferentResultsError", "WorkerError", "compare", "main", "serve"]

TOLERATED = 0.03
_ROUNDS = 9
_SECONDS = 0.1  # per block
_FEWEST = 3  # calls per block
_AGREE = 1e-3  # relative, of norms
_ROOT = Path(__file__).resolve().parents[2]
# In a worker: freewire comes from the checkout that is measured, everything else from this one.
_WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
import freewire
sys.path.insert(0, sys.argv[2])
from benchmarks.suites.compare import serve
serve(int(sys.argv[3]))
"""

_WIDE = Workload(
    name="R1",
    about="random_graph(784, 17490, 10, 32), one sample",
    graph=partial(fw.generators.random_graph, 784, 17_490, 10, 32, seed=0),
    small=partial(fw.generators.random_graph, 24, 80, 10, 6, seed=0),
    batch=1,
    small_batch=1,
)
#: The workloads, and small batches; names as on the command line.
CASES: dict[str, Workload] = WORKLOADS | {
    case.name: case
    for case in (
        _WIDE,
        replace(_WIDE, name="R4", about="the same, 4 samples", batch=4, small_batch=4),
        replace(_WIDE, name="R8", about="the same, 8 samples", batch=8, small_batch=8),
        replace(WORKLOADS["W4"], name="M1", about=f"{WORKLOADS['W4'].about}, one sample", batch=1, small_batch=1),
    )
}


class WorkerError(Exception):
    """A checkout cannot be measured."""


class DifferentResultsError(AssertionError):
    """The two checkouts do not compute the same."""


@dataclass(frozen=True)
class Difference:
    """One case in both checkouts: medians in seconds, and old over new."""

    case: str
    what: str
    new: float
    old: float
    ratio: float
    #: Half the distance between the quartiles of the ratios.
    spread: float

    @property
    def slower(self) -> bool:
        """Whether this checkout takes longer by more than is tolerated."""
        return self.ratio < 1 / (1 + TOLERATED)

    def __str__(self) -> str:
        scale, unit = (1e6, "us") if self.new < 1e-3 else (1e3, "ms")
        times = "".join(f"{seconds * scale:>10.4g} {unit}" for seconds in (self.new, self.old))
        return f"{self.case:<4}{self.what:<9}{times}{self.ratio:>8.3f} ± {self.spread:.3f}{'  slower' * self.slower}"


# ---------------------------------------------------------------------------------- in a worker


def serve(threads: int) -> None:
    """Answer requests from standard input, a line of JSON each, until it ends.

    Args:
        threads: Number of threads that torch may use.
    """
    torch.set_num_threads(threads)
    built: dict[str, tuple[fw.Network, torch.Tensor]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        workload = CASES[asked["case"]].quick() if asked["quick"] else CASES[asked["case"]]
        if workload.name not in built:
            built.clear()
            torch.manual_seed(0)
            net = fw.Network(workload.graph())
            built[workload.name] = net, torch.randn(workload.batch, len(net.graph.inputs))
        step = asked["what"] == "step"
        with torch.set_grad_enabled(step):
            task = (step_task if step else forward_task)(*built[workload.name])
            norms = [float(each.detach().double().norm()) for each in task.run()]
            print(json.dumps({"norms": norms, "fastest": _fastest(task.run, asked["seconds"])}), flush=True)


def _fastest(call: Callable[[], object], seconds: float) -> float:
    """The time of the fastest call, over some seconds of calls."""
    best, calls, end = float("inf"), 0, time.perf_counter() + seconds
    while calls < _FEWEST or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
        calls += 1
    return best


# ---------------------------------------------------------------------------------- in the command


class _Worker:
    """The process of one checkout."""

    def __init__(self, checkout: Path, threads: int) -> None:
        if not Path(checkout, "freewire", "__init__.py").is_file():
            raise WorkerError(f"OLD: expected a checkout of freewire, got a folder without it: {checkout}.")
        self.checkout = checkout
        command = [sys.executable, "-c", _WORKER, str(checkout), str(_ROOT), str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and has no answer either
        answer = self._process.stdout.readline()
        if not answer:
            raise WorkerError(
                f"OLD: expected a built checkout of freewire, but the process of {self.checkout} ended with status "
                f"{self._process.wait()}; its message is above. Build it with `make setup`."
            )
        return json.loads(answer)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


def compare(
    old: Path,
    cases: Sequence[str],
    *,
    threads: int,
    rounds: int = _ROUNDS,
    seconds: float = _SECONDS,
    quick: bool,
    this_first: bool = False,
) -> Iterator[Difference]:
    """Time cases in this checkout and in another one, in turns.

    Args:
        old: The other checkout.
        cases: Names in `CASES`.
        threads: Number of threads that torch may use.
        rounds: Number of pairs of blocks.
        seconds: Time of a block.
        quick: Take the small networks, whose figures mean nothing.
        this_first: Start this checkout's process before the other one's.

    Raises:
        WorkerError: A folder is no checkout, or not built, or its process fails.
        DifferentResultsError: Outputs or gradients of the two differ.
    """
    started = (_ROOT, old) if this_first else (old, _ROOT)
    with _Worker(started[0], threads) as one, _Worker(started[1], threads) as two:
        this, other = (one, two) if this_first else (two, one)
        for case in cases:
            for what in CASES[case].measures:
                yield _difference((this, other), rounds, case=case, what=what, seconds=seconds, quick=quick)


def _difference(workers: Sequence[_Worker], rounds: int, *, case: str, what: str, **settings: Any) -> Difference:
    first = [worker.ask(case=case, what=what, **{**settings, "seconds": 0.0})["norms"] for worker in workers]
    if len(first[0]) != len(first[1]) or not np.allclose(*first, rtol=_AGREE):
        raise DifferentResultsError(
            f"{case}, {what}: expected the same norms of outputs or gradients in both checkouts, got {first[0]} here "
            f"and {first[1]} in {workers[1].checkout}. Nothing is timed until they agree."
        )
    times = np.empty((rounds, 2))
    for r in range(rounds):
        for at in (0, 1) if r % 2 else (1, 0):
            times[r, at] = workers[at].ask(case=case, what=what, **settings)["fastest"]
    new, old = np.median(times, axis=0).tolist()
    low, ratio, high = np.quantile(times[:, 1] / times[:, 0], (0.25, 0.5, 0.75)).tolist()
    return Difference(case, what, new, old, ratio, (high - low) / 2)


def _slower(differences: Iterator[Difference]) -> set[tuple[str, str]]:
    """Print differences; which of them are slower."""
    slower = set()
    for found in differences:
        print(found, flush=True)
        if found.slower:
            slower.add((found.case, found.what))
    return slower


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.compare", description="Compare this checkout with another one."
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="folder of the other checkout, which must be built")
    about = ", ".join(f"{name}: {case.about}" for name, case in CASES.items())
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=about)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="pairs of blocks per case")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="time of a block")
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds: a test of the benchmark")
    options = parser.parse_args(arguments)
    rounds, seconds = (2, 1e-3) if options.quick else (options.rounds, options.seconds)

    print(header(describe(options.threads)))
    print(f"{'':<13}{'this':>13}{'old':>13}  old / this")
    settings = {"threads": options.threads, "rounds": rounds, "seconds": seconds, "quick": options.quick}
    try:
        slower = _slower(compare(options.old, options.cases, **settings))
        if slower and not options.quick:
            print("again, in new processes:")
            cases = sorted({case for case, _ in slower})
            slower &= _slower(compare(options.old, cases, this_first=True, **settings))
    except (WorkerError, DifferentResultsError) as error:
        sys.exit(str(error))
    if slower and not options.quick:
        sys.exit(f"slower by more than {TOLERATED:.0%}: {', '.join(map(' '.join, sorted(slower)))}")


if __name__ == "__main__":
    main()
