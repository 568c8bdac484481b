# SPDX-License-Identifier: MIT
"""Search for a good generator of random graphs: three families and their parameters, for a small RandWire on digits.

Each trial draws a graph per stage from the generator that it tries, and trains the network on scikit-learn's
handwritten digits, enlarged to 32x32 pixels. Its value is the accuracy on validation digits. `--strategy optuna` lets
Optuna's TPE sampler propose trials, and its median pruner end those that fall behind; `--strategy evolution` needs no
other package.

At the end the best generator and the paper's, WS(4, 0.75), each draw and train new networks, which are measured on the
test digits. The command writes to the output folder a log, from which it continues when it is run again, and
`search.png`, the search's progress, and `parameters.png`, its parameters against its results.

RandWire: Xie et al., Exploring randomly wired neural networks for image recognition, ICCV 2019.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from search_report import spread
from search_strategies import Repeated, Trained
from search_trial import Digits, Settings, load_digits, measure, train
from torch.nn.functional import interpolate

import freewire as fw

#: m belongs to BA, k to WS, and p to ER and WS; the others are drawn but not used.
SPACE = {"family": ["ER", "BA", "WS"], "p": (0.3, 1.0), "k": [2, 4, 6], "m": (1, 5)}
PAPER = {"family": "WS", "p": 0.75, "k": 4, "m": 1}
STAGES, SIDE, CLASSES = 3, 32, 10  # RandWire's small regime; the least side of its images
TRIALS, REPEATS = 40, 5
OTHER_SEEDS = 2**32  # added to the search's seed, so that no retraining repeats a trial of the search
FULL = {"epochs": 15, "nodes": 8, "channels": 16}
QUICK = {"epochs": 2, "nodes": 7, "channels": 2, "train": 100}  # only to see that it runs
QUICK_TRIALS = 4


class Evolved(Trained, fw.search.Evolution):
    """Generators of which each is the best of a few recent ones, with one parameter changed."""

    def __init__(self, training: Settings) -> None:
        super().__init__(SPACE, population=16, sample=4, lag=3)
        self.training = training


class Sampled(Trained, fw.search.Optuna):
    """Generators from Optuna's TPE sampler, with its median pruner."""

    def __init__(self, training: Settings) -> None:
        try:
            import optuna
        except ImportError:
            raise fw.BuildError(
                "optuna: expected it to be installed, got no such package. Run: pip install 'freewire[search]'."
            ) from None

        warmup = training.epochs // 2  # the first epochs say little
        super().__init__(SPACE, pruner=optuna.pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=warmup), lag=3)
        self.training = training


STRATEGIES = {"evolution": Evolved, "optuna": Sampled}


def generator(params: Mapping[str, Any]) -> fw.models.ER | fw.models.BA | fw.models.WS:
    """The generator that parameters of `SPACE` describe."""
    if params["family"] == "ER":
        return fw.models.ER(params["p"])
    return fw.models.BA(params["m"]) if params["family"] == "BA" else fw.models.WS(params["k"], params["p"])


def build(params: Mapping[str, Any], settings: Settings, seed: int) -> fw.models.RandWire:
    """A RandWire of the small regime with few nodes, its graphs drawn from the generator."""
    torch.manual_seed(seed)
    draw = generator(params)
    dags = [draw(settings.nodes, STAGES * seed + stage) for stage in range(STAGES)]
    return fw.models.RandWire(dags, settings.channels, "small", num_classes=CLASSES, in_channels=1)


def enlarged(digits: Digits) -> Digits:
    """Digits of 32x32 pixels."""
    return Digits(interpolate(digits.x, size=(SIDE, SIDE), mode="bilinear"), digits.y)


def accuracy_of(
    settings: Settings, params: Mapping[str, Any], seed: int, report: Callable[[int, float], None]
) -> float:
    """The search's objective: train one network, and return its accuracy on the validation digits.

    Args:
        settings: The settings of the training.
        params: A value for each name of `SPACE`.
        seed: Seed of graphs, weights and batches.
        report: Reports the accuracy after each epoch.
    """
    torch.set_num_threads(1)  # or the last bits would depend on the number of workers, which share the cores
    training, validation, _ = map(enlarged, load_digits(settings))
    net = build(params, settings, seed)
    train(net, training, settings.epochs, lambda epoch: report(epoch, measure(net, validation)[0]))
    return measure(net, validation)[0]


def tested(settings: Settings, params: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Train one network; its accuracy on the validation digits, ``value``, and on the ``test`` digits."""
    torch.set_num_threads(1)
    training, validation, test = map(enlarged, load_digits(settings))
    net = build(params, settings, seed)
    train(net, training, settings.epochs)
    return {"value": measure(net, validation)[0], "test": measure(net, test)[0]}


def retrain(name: str, params: Mapping[str, Any], settings: Settings, seed: int, out: Path, workers: int | None) -> str:
    """Draw and train new networks of a generator; return a line of text."""
    log = out / f"{name}.jsonl"
    objective, strategy = partial(tested, settings), Repeated(params, settings, REPEATS)
    fw.search.run(objective, strategy, REPEATS, None, log, seed + OTHER_SEEDS, None, workers)
    accuracies = [line["test"] for line in fw.search.report(log).ranked]
    text = f"{name}: {generator(params)}"
    return f"{text:<42} {mean(accuracies):6.1%} of the test digits ({spread(accuracies)})"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Search for the generator of a small RandWire's graphs, on digits.")
    parser.add_argument("--strategy", choices=STRATEGIES, default="evolution", help="what proposes trials (evolution)")
    parser.add_argument("--trials", type=int, help=f"number of generators to try ({TRIALS})")
    parser.add_argument("--workers", type=int, help="number of processes (one per core)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws (0)")
    parser.add_argument("--out", type=Path, default=Path("demo/randwire"), help="output folder (demo/randwire)")
    parser.add_argument("--quick", action="store_true", help="a few tiny networks, only to see that it runs")
    options = parser.parse_args(argv)
    if options.trials is None:
        options.trials = QUICK_TRIALS if options.quick else TRIALS
    for name, least in (("trials", 1), ("workers", 0), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name}: expected at least {least}, got {value}.")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Search, retrain, print, and draw the pictures; return the exit status."""
    options = parse(argv)
    settings = Settings(split=options.seed, **(QUICK if options.quick else FULL))
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "search.jsonl"
    try:
        strategy = STRATEGIES[options.strategy](settings)
        objective = partial(accuracy_of, settings)
        best = fw.search.run(objective, strategy, options.trials, None, log, options.seed, None, options.workers)
        report = fw.search.report(log)
        print(f"\n{report}\n")
        report.plot(options.out / "search.png", by="family")
        fw.search.compare([log]).plot(options.out / "parameters.png")
        for name, params in (("best", best.params), ("paper", PAPER)):
            print(retrain(name, params, settings, options.seed, options.out, options.workers))
    except KeyboardInterrupt as error:
        print(f"\nStopped. {error}.", file=sys.stderr)
        return 130
    except fw.FreewireError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Means and standard deviations over {REPEATS} draws of graphs and weights. Written to {options.out}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
