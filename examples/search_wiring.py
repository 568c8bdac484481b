# SPDX-License-Identifier: MIT
"""Search for a good wiring: random graphs of three families, each built as a network that learns handwritten digits.

The command prints tables and writes to the output folder `search.jsonl`, one line per trial, and `search.png`, accuracy
against clustering and path length of the wirings. Run again, it continues where it was stopped or killed; with more
trials, it runs the missing ones. The results do not depend on the number of processes, only their order does.

This is a random search: trials are independent of each other. They are ranked by their accuracy on validation digits.
At the end the winner and the candidate in the middle of the ranking are retrained with other weights and batches, and
only these are measured on the test digits: the winner's accuracy in the search is the highest of many, so partly luck.

The method, and the three families as networks' wirings: Xie et al., Exploring randomly wired neural networks for image
recognition, ICCV 2019.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from progress import Progress
from search_log import Log
from search_report import comparison, draw, ranked, tables
from search_trial import Settings, run_trial, start_worker

import freewire as fw

TRIALS, REPEATS = 48, 5
QUICK = {"epochs": 2, "nodes": 12, "channels": 8, "train": 200}  # only to see that it runs
QUICK_TRIALS = 6


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes, which start when there is work and end with this process or on an error."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads but not the threads
    worker_end, parent_end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, start_worker, (worker_end,))
    try:
        yield pool
    except BaseException:
        parent_end.close()  # the workers exit in the middle of their trials
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        parent_end.close()
        worker_end.close()


def run_missing(
    jobs: Iterable[tuple[int, int]], settings: Settings, log: Log, pool: ProcessPoolExecutor, name: str
) -> None:
    """Run the trials that are not in the log, and log each as it finishes.

    Args:
        jobs: Pairs (trial, repeat).
        settings: The settings of the search.
        log: The log, to which only this process writes.
        pool: The processes.
        name: Name of the progress bar.

    Raises:
        BrokenProcessPool: A process died.
    """
    jobs = list(jobs)
    missing = [job for job in jobs if job not in log.results]
    with _interrupts_blocked():
        futures: list[Future[dict[str, Any]]] = [pool.submit(run_trial, settings, *job) for job in missing]
    with Progress(name, len(jobs), "trial", done=len(jobs) - len(missing)) as progress:
        for future in as_completed(futures):
            log.append(future.result())
            progress.update()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Delay SIGINT, which a terminal sends to all processes; processes started meanwhile never receive it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def search(settings: Settings, trials: int, log: Log, pool: ProcessPoolExecutor) -> str:
    """Run the missing trials of a search.

    Args:
        settings: The settings of the search.
        trials: Number of trials.
        log: The log of finished trials, to which new ones are added.
        pool: The processes.

    Returns:
        The tables.
    """
    run_missing([(trial, 0) for trial in range(trials)], settings, log, pool, "search")
    results = [log.results[trial, 0] for trial in range(trials)]
    order = ranked(results)
    if not order:
        return tables(results)
    chosen = [order[0]["trial"], order[len(order) // 2]["trial"]]
    repeats = range(1, REPEATS + 1)
    retraining = [(trial, repeat) for trial in dict.fromkeys(chosen) for repeat in repeats]
    run_missing(retraining, settings, log, pool, "retraining winner and median")
    winner, median = ([log.results[trial, repeat] for repeat in (0, *repeats)] for trial in chosen)
    return f"{tables(results)}\n\n{comparison(winner, median)}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Search for a good wiring among random graphs, on handwritten digits.")
    parser.add_argument(
        "--trials", type=int, help=f"number of candidates ({TRIALS}); if more than last time, the missing ones run"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes (one per core)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws (0)")
    parser.add_argument("--epochs", type=int, help=f"passes over the training digits ({Settings.epochs})")
    parser.add_argument(
        "--out", type=Path, default=Path("demo/search"), help="folder of the log and the picture (demo/search)"
    )
    parser.add_argument("--quick", action="store_true", help="a few tiny networks, only to see that it runs")
    options = parser.parse_args(argv)
    if options.trials is None:
        options.trials = QUICK_TRIALS if options.quick else TRIALS
    for name, least in (("trials", 1), ("workers", 1), ("seed", 0), ("epochs", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name}: expected at least {least}, got {value}.")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Search, print the tables and draw the picture; return the exit status."""
    options = parse(argv)
    values = QUICK if options.quick else {}
    if options.epochs is not None:
        values = {**values, "epochs": options.epochs}
    settings = Settings(seed=options.seed, **values)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "search.jsonl"
    log = None
    try:
        with Log(path, asdict(settings)) as log, processes(options.workers) as pool:
            print(f"{search(settings, options.trials, log, pool)}\n")
            draw([log.results[trial, 0] for trial in range(options.trials)], options.out / "search.png")
    except KeyboardInterrupt:
        return _stopped("Stopped", log, path, 130)
    except BrokenProcessPool:
        return _stopped("A worker died, perhaps out of memory (then use fewer --workers)", log, path, 1)
    except fw.FreewireError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Written to {options.out}/: search.jsonl and search.png")
    return 0


def _stopped(why: str, log: Log | None, path: Path, status: int) -> int:
    count = sum(repeat == 0 for _, repeat in log.results) if log else 0
    print(f"\n{why}. {path} holds {count} finished trials; the same command continues from there.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
