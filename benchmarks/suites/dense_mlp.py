# SPDX-License-Identifier: MIT
"""Compare a freely wired network with dense MLPs on handwritten digits.

``python -m benchmarks.suites.dense_mlp [--seeds N] [--json PATH] [--quick]`` prints a table and writes a JSON file. The
data are scikit-learn's 1,797 digits of 8 by 8 pixels. The demo's graph, a small world (Watts and Strogatz) of 300
hidden nodes, each of which also reads 24 of the 64 pixels, is trained by the same loop as a dense MLP with as many
parameters and one with as many neurons (one hidden layer each, which was at least as accurate here as two).

The columns: *accuracy* on the fifth of the digits that the split holds back (stratified, a different split for every
seed), mean over the seeds and standard deviation. *Step*: from clearing the gradients to the optimizer's update, on one
batch, with the models in turns. *Step memory*: the peak of what torch allocates within such a step (activations,
gradients, temporaries; see `benchmarks.harness.memory`). *Held*: bytes that are kept between steps, in parameters,
Adam's two moments, and buffers.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import freewire as fw
from benchmarks.harness.command import write_json
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe
from benchmarks.harness.memory import peak_bytes
from benchmarks.harness.timing import interleave

__all__ = ["main", "models"]

_BATCH = 64
_ROUNDS = 41
_RATE = 3e-3  # initial learning rate of Adam, falling to 0 along a cosine
_INPUTS, _HIDDEN, _OUTPUTS = 64, 300, 10

Split = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Model:
    """A kind of network: its label, and a function that builds one for a seed."""

    label: str
    make: Callable[[int], nn.Module]


def models(hidden: int = _HIDDEN) -> list[Model]:
    """The freely wired network, and the dense ones of its size.

    Args:
        hidden: Number of hidden nodes of the wired network.
    """
    own = _parameters(_wired(hidden, 0))
    equal = round((own - _OUTPUTS) / (_INPUTS + 1 + _OUTPUTS))
    return [
        Model("freewire, small world", lambda seed: _wired(hidden, seed)),
        Model(f"dense, equal parameters ({equal} hidden)", lambda seed: _dense(equal)),
        Model(f"dense, equal neurons ({hidden} hidden)", lambda seed: _dense(hidden)),
    ]


def _wired(hidden: int, seed: int) -> fw.Network:
    dag = fw.generators.watts_strogatz_dag(hidden, k=4, p=0.75, seed=seed)
    graph = fw.generators.attach_io(dag, _INPUTS, _OUTPUTS, fan_in=24, every_node=True, seed=seed)
    return fw.Network(graph)


def _dense(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(_INPUTS, hidden), nn.ReLU(), nn.Linear(hidden, _OUTPUTS))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _split(seed: int) -> Split:
    """Training and test samples ``[n, 64]`` from 0 to 1, then their classes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, classes = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, classes, test_size=0.2, stratify=classes, random_state=seed)
    train, test, train_classes, test_classes = map(torch.as_tensor, parts)
    return train.float(), test.float(), train_classes, test_classes


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, target: Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(model(x), target).backward()
    optimizer.step()


def _accuracy(model: Model, seed: int, split: Split, epochs: int) -> float:
    """Train one network and test it."""
    train, test, train_classes, test_classes = split
    torch.manual_seed(seed)
    net = model.make(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(_BATCH):
            _step(net, optimizer, train[rows], train_classes[rows])
        schedule.step()
    with torch.no_grad():
        return float((net(test).argmax(1) == test_classes).double().mean())


def compare(competing: Sequence[Model], *, seeds: int, epochs: int, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Measure every model.

    Args:
        competing: The models.
        seeds: Number of trainings per model.
        epochs: Number of epochs per training.
        rounds: Number of blocks of timing per model.
        threads: Number of threads that torch may use.

    Returns:
        One row per model, ready for JSON.
    """
    splits = [_split(seed) for seed in range(seeds)]
    accuracies = {
        model.label: [_accuracy(model, seed, split, epochs) for seed, split in enumerate(splits)] for model in competing
    }
    x, target = splits[0][0][:_BATCH], splits[0][2][:_BATCH]
    tasks: dict[str, Callable[[], object]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for model in competing:
        torch.manual_seed(0)
        net = model.make(0)
        optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)

        def task(net: nn.Module = net, optimizer: torch.optim.Optimizer = optimizer) -> None:
            _step(net, optimizer, x, target)

        step_bytes = peak_bytes(task)
        moments = [value for state in optimizer.state.values() for value in state.values()]
        tasks[model.label] = task
        got = accuracies[model.label]
        rows[model.label] = {
            "candidate": model.label,
            "parameters": _parameters(net),
            "accuracy": statistics.mean(got),
            "accuracy_sd": statistics.stdev(got) if len(got) > 1 else 0.0,
            "accuracies": got,
            "step_bytes": step_bytes,
            "held_bytes": sum(t.nbytes for t in (*net.parameters(), *net.buffers(), *moments)),
        }
    timings = interleave(tasks, rounds=rounds, threads=threads)
    return [{**row, "batch": _BATCH, "unit": "s", **asdict(timings[label])} for label, row in rows.items()]


def _print(rows: Sequence[dict[str, Any]], seeds: int) -> None:
    print(f"\ndigits, {seeds} seed(s), batch {_BATCH}")
    columns = ("accuracy %", "parameters", "step ms", "step memory KB", "held KB")
    print(f"  {'':<38}" + "".join(f"{name:>16}" for name in columns))
    for row in rows:
        cells = (
            f"{row['accuracy'] * 100:.2f} ± {row['accuracy_sd'] * 100:.2f}",
            f"{row['parameters']:,}",
            f"{row['median'] * 1e3:.3f} ± {row['iqr'] * 500:.3f}",
            f"{row['step_bytes'] / 1e3:,.0f}",
            f"{row['held_bytes'] / 1e3:,.0f}",
        )
        print(f"  {row['candidate']:<38}" + "".join(f"{cell:>16}" for cell in cells))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.dense_mlp", description="Compare freewire with dense MLPs on digits."
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=Path("build/dense_mlp.json"), metavar="PATH")
    parser.add_argument("--quick", action="store_true", help="small and short: a test of the benchmark")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    machine = describe(options.threads)
    seeds, epochs, rounds, hidden = options.seeds, options.epochs, _ROUNDS, _HIDDEN
    if options.quick:
        seeds, epochs, rounds, hidden = 1, 1, 2, 40
    rows = compare(models(hidden), seeds=seeds, epochs=epochs, rounds=rounds, threads=options.threads)
    _print(rows, seeds)
    conclude(machine)
    write_json(
        options.json,
        {"quick": options.quick, "machine": machine, "seeds": seeds, "epochs": epochs, "rows": rows},
    )


if __name__ == "__main__":
    main()
