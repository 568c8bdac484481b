# SPDX-License-Identifier: MIT
"""Search for a good wiring: random graphs of three families, each built as a network that learns handwritten digits.

The command prints tables and writes to the output folder `search.jsonl`, one line per trial, and `search.png`: the
search's progress, and accuracy against clustering and path length of the wirings. Run again, it continues where it was
stopped or killed; with more trials, it runs the missing ones. The results do not depend on the number of processes,
only their order does.

Trials are independent of each other, or with `--strategy evolution` offspring of earlier ones. They are ranked by their
accuracy on validation digits. At the end the winner and the candidate in the middle of the ranking are retrained with
other weights and batches (`trial12.jsonl` and the like), and only these are measured on the test digits: the winner's
accuracy in the search is the highest of many, so partly luck.

The method, and the three families as networks' wirings: Xie et al., Exploring randomly wired neural networks for image
recognition, ICCV 2019.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from search_report import comparison, tables
from search_strategies import STRATEGIES, Repeated
from search_trial import Settings, run_trial

import freewire as fw

TRIALS, REPEATS = 48, 5
OTHER_SEEDS = 2**32  # added to the search's seed, so that no retraining repeats a trial of the search
QUICK = {"epochs": 2, "nodes": 12, "channels": 8, "train": 200}  # only to see that it runs
QUICK_TRIALS = 6


def search(
    settings: Settings, strategy: str, trials: int, seed: int, out: Path, workers: int | None = None
) -> fw.search.SearchReport:
    """Run the missing trials of a search.

    Args:
        settings: The settings of the training.
        strategy: A name in `STRATEGIES`.
        trials: Number of trials.
        seed: Seed of the search.
        out: The folder of the log.
        workers: Number of processes; None: one per core; 0: none but this one.

    Returns:
        The report.
    """
    log = out / "search.jsonl"
    fw.search.run(partial(run_trial, settings), STRATEGIES[strategy](settings), trials, None, log, seed, None, workers)
    return fw.search.report(log)


def retrain(
    line: dict[str, Any], settings: Settings, seed: int, out: Path, workers: int | None = None
) -> list[dict[str, Any]]:
    """Train a trial's wiring with other weights and batches, and measure it on the test digits too.

    Args:
        line: The trial's line in the log.
        settings: The settings of the training.
        seed: Seed of the search.
        out: The folder of the log of the new trials.
        workers: As for `search`.

    Returns:
        The lines of the new trials.
    """
    strategy, log = Repeated(line["params"], settings, REPEATS), out / f"trial{line['trial']}.jsonl"
    objective = partial(run_trial, settings, test=True)
    fw.search.run(objective, strategy, REPEATS, None, log, seed + OTHER_SEEDS, None, workers)
    return fw.search.read_log(log).lines


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Search for a good wiring among random graphs, on handwritten digits.")
    parser.add_argument(
        "--trials", type=int, help=f"number of candidates ({TRIALS}); if more than last time, the missing ones run"
    )
    parser.add_argument("--strategy", choices=STRATEGIES, default="random", help="what proposes candidates (random)")
    parser.add_argument("--workers", type=int, help="number of processes (one per core)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws (0)")
    parser.add_argument("--epochs", type=int, help=f"passes over the training digits ({Settings.epochs})")
    parser.add_argument(
        "--out", type=Path, default=Path("demo/search"), help="folder of the logs and the picture (demo/search)"
    )
    parser.add_argument("--quick", action="store_true", help="a few tiny networks, only to see that it runs")
    options = parser.parse_args(argv)
    if options.trials is None:
        options.trials = QUICK_TRIALS if options.quick else TRIALS
    for name, least in (("trials", 1), ("workers", 0), ("seed", 0), ("epochs", 1)):
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
    settings = Settings(split=options.seed, **values)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        report = search(settings, options.strategy, options.trials, options.seed, options.out, options.workers)
        print(f"\n{report}\n\n{tables(report)}\n")
        report.plot(options.out / "search.png", by="family")
        winner, median = report.ranked[0], report.ranked[len(report.ranked) // 2]
        retrained = [retrain(line, settings, options.seed, options.out, options.workers) for line in (winner, median)]
    except KeyboardInterrupt as error:
        print(f"\nStopped. {error}.", file=sys.stderr)
        return 130
    except fw.FreewireError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{comparison((winner, retrained[0]), (median, retrained[1]))}")
    print(f"Written to {options.out}/: search.jsonl and search.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
