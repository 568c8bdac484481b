# SPDX-License-Identifier: MIT
"""Search for a good wiring: random graphs of three families, each a network that learns handwritten digits.

Enters: how many trials, how many processes. Leaves: tables on the screen, and in the output folder `search.jsonl`, a
line a trial, and `search.png`, accuracy against clustering and path length of the wirings. Run the command again and it
goes on where it was stopped or killed; give it more trials and it runs those that are missing. The results are the same
whatever the number of processes, in an order of their own.

The search is random: trials know nothing of each other. They are ranked by validation digits. At the end the winner and
the candidate in the middle of the ranking are trained anew, with other weights and batches, and only these see the test
digits: the winner's accuracy in the search is the highest of many, so partly luck.

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

from search_log import Log
from search_report import comparison, draw, ranked, tables
from search_trial import Settings, run_trial, start_worker
from tqdm import tqdm

import freewire as fw

TRIALS, REPEATS = 48, 5
QUICK = {"epochs": 2, "nodes": 12, "channels": 8, "train": 200}  # to see it run; it finds nothing
QUICK_TRIALS = 6


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of so many processes, which start when there is work; with this one, or with an error, they end."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads without the threads
    worker_end, leash = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, start_worker, (worker_end,))
    try:
        yield pool
    except BaseException:
        leash.close()  # ends the workers in the midst of their trials
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        leash.close()
        worker_end.close()


def run_missing(
    jobs: Iterable[tuple[int, int]], settings: Settings, log: Log, pool: ProcessPoolExecutor, name: str
) -> None:
    """Run the trials that the log lacks, in processes, and log each as it finishes.

    Args:
        jobs: (trial, repeat) of each.
        settings: Of the search.
        log: Written by this process alone.
        pool: The processes.
        name: Of the progress bar.

    Raises:
        BrokenProcessPool: A process died.
    """
    jobs = list(jobs)
    missing = [job for job in jobs if job not in log.results]
    with _unheard_interrupts():
        futures: list[Future[dict[str, Any]]] = [pool.submit(run_trial, settings, *job) for job in missing]
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), desc=name, unit="trial") as progress:
        for future in as_completed(futures):
            log.append(future.result())
            progress.update()


@contextmanager
def _unheard_interrupts() -> Iterator[None]:
    """Processes started meanwhile never hear Ctrl-C, which a terminal sends to all; this one hears it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def search(settings: Settings, trials: int, log: Log, pool: ProcessPoolExecutor) -> str:
    """Run what is missing of a search.

    Args:
        settings: What a trial depends on.
        trials: How many.
        log: What is known already, and where it goes.
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
    again = [(trial, repeat) for trial in dict.fromkeys(chosen) for repeat in repeats]
    run_missing(again, settings, log, pool, "winner and median, trained anew")
    winner, median = ([log.results[trial, repeat] for repeat in (0, *repeats)] for trial in chosen)
    return f"{tables(results)}\n\n{comparison(winner, median)}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Search for a good wiring among random graphs, on handwritten digits.")
    parser.add_argument("--trials", type=int, help=f"candidates ({TRIALS}); more than last time: the missing ones run")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (one a core)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (0)")
    parser.add_argument("--epochs", type=int, help=f"passes over the training digits ({Settings.epochs})")
    parser.add_argument("--out", type=Path, default=Path("demo/search"), help="folder of the log and the picture")
    parser.add_argument("--quick", action="store_true", help="a few tiny networks, to see it run")
    options = parser.parse_args(argv)
    if options.trials is None:
        options.trials = QUICK_TRIALS if options.quick else TRIALS
    for name, least in (("trials", 1), ("workers", 1), ("seed", 0), ("epochs", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name}: expected at least {least}, got {value}.")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Search, print the tables, draw the picture; returns the exit status."""
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
        return _stopped("A worker died, perhaps for want of memory (then try fewer --workers)", log, path, 1)
    except fw.FreewireError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Written to {options.out}/: search.jsonl and search.png")
    return 0


def _stopped(why: str, log: Log | None, path: Path, status: int) -> int:
    count = sum(repeat == 0 for _, repeat in log.results) if log else 0
    print(f"\n{why}. {path} holds {count} finished trials; the same command goes on from there.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
