# SPDX-License-Identifier: MIT
"""Is the learning rate right? One network is trained with three, and diagnostics distinguish them.

The data are scikit-learn's 1,797 scanned digits, 8x8 pixels. A random network of 300 tanh neurons learns to read them
by gradient descent with a learning rate that is too small, one that is right, and one that is too large. A few lines in
the training loop measure every tenth step. The command prints a table and what the diagnostics find, and writes two
kinds of pictures and every measurement to the output folder.

The normalised step length says where a step ends on a parabola along it: near -1 the learning rate is too small to
matter, at 0 the step ends at the minimum, and above 1 the loss is higher than before the step. The best rates end near
0. Far too large ones end beyond it, no parabola fits their steps, and they saturate the neurons.
"""

from __future__ import annotations

import argparse
import math
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from handwritten import Digits, load_digits
from torch.nn.functional import cross_entropy

import freewire as fw
from freewire.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIDDEN, FAN_IN = 300, 8
EPOCHS, BATCH, EVERY = 15, 64, 10
#: What each learning rate is -> the rate of gradient descent.
RATES = {"too small": 1e-3, "right": 1.0, "too large": 10.0}
COLOURS = {"too small": "#8d9bb0", "right": "#2e86ab", "too large": "#e4572e"}
SHOWN = (-1.5, 3.0)  # step lengths that the picture shows; longer ones are at its edge


class Run(NamedTuple):
    """A training: its measurements, and the share of the test digits that it reads."""

    diagnostics: fw.studies.Diagnostics
    accuracy: float


def train(data: Digits, rate: float, epochs: int, seed: int, log: Path) -> Run:
    """Train a network, always from the same start; four lines of this are for the diagnostics."""
    torch.manual_seed(seed)
    net = fw.Network(fw.generators.random_graph(64, HIDDEN, 10, FAN_IN, activation="tanh", seed=seed))
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    diagnostics = fw.studies.Diagnostics(net, optimizer, EVERY, log=log)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train_x)).split(BATCH):
            x, y = data.train_x[batch], data.train_y[batch]
            loss = cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            diagnostics.step(x, y, cross_entropy, loss)
    diagnostics.close()
    with torch.no_grad():
        right = (net(data.test_x).argmax(dim=1) == data.test_y).float().mean()
    return Run(diagnostics, float(right))


def median(run: Run, name: str) -> float:
    """The median of a number over a run's measurements, as far as it is finite; NaN if it never is."""
    values = [record[name] for record in run.diagnostics.records]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def table(runs: dict[str, Run]) -> str:
    """A line per learning rate, and below it what its diagnostics find."""
    lines = [
        f"{'learning rate':20} {'step length':>11} {'update ratio':>12} {'saturated':>9} {'last loss':>9} accuracy"
    ]
    for name, run in runs.items():
        last = run.diagnostics.records[-1]
        lines.append(
            f"{RATES[name]:<9g} {name:10} {median(run, 'step_length'):11.2f} {median(run, 'update_ratio'):12.2g} "
            f"{last['saturated'] / last['units']:9.0%} {last['loss']:9.3g} {run.accuracy:8.1%}"
        )
        for finding in run.diagnostics.report():
            lines += textwrap.wrap(finding, 100, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def compare(runs: dict[str, Run]) -> Figure:
    """Draw loss and step length of all runs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    losses, lengths = figure.subplots(1, 2)
    for name, run in runs.items():
        records = [record for record in run.diagnostics.records if record["step_length"] is not None]
        steps = [record["step"] for record in records]
        label = f"{RATES[name]:g}, {name}"
        losses.plot(steps, [record["loss"] for record in records], color=COLOURS[name], label=label)
        at = [min(max(record["step_length"], SHOWN[0]), SHOWN[1]) for record in records]
        lengths.plot(steps, at, color=COLOURS[name], marker=".", linewidth=0.8, label=label)
    losses.set(title="loss of the batch", xlabel="step", yscale="log")
    losses.legend(title="learning rate", frameon=False)
    for length, what in ((-1, "no step"), (0, "minimum"), (1, "as high as before")):
        lengths.axhline(length, color="#3b4656", linewidth=0.8)
        lengths.annotate(
            what,
            (1.01, length),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize="small",
            annotation_clip=False,
        )
    lengths.set(title="where steps end: normalised step length", xlabel="step", ylim=(SHOWN[0] - 0.1, SHOWN[1] + 0.1))
    for axes in (losses, lengths):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Train with each learning rate, print the table, write pictures and measurements."""
    parser = argparse.ArgumentParser(
        description="Show how diagnostics distinguish a learning rate that is too small, right or too large."
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the split, the wiring, the weights, the batches (0)"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the training digits ({EPOCHS})")
    parser.add_argument("--out", type=Path, default=Path("demo/diagnostics"), help="folder (demo/diagnostics)")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error(f"--epochs: expected at least 1, got {options.epochs}.")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the network is too small to divide among threads

    data, runs = load_digits(options.seed), {}
    for name, rate in RATES.items():
        log = options.out / f"{name.replace(' ', '-')}.jsonl"
        log.unlink(missing_ok=True)  # of an earlier run, which would be continued
        runs[name] = train(data, rate, options.epochs, options.seed, log)
        with replacing(log.with_suffix(".png")) as file:
            runs[name].diagnostics.plot().savefig(file, format="png", dpi=80)
    print(table(runs))
    with replacing(options.out / "diagnostics.png") as file:
        compare(runs).savefig(file, format="png", dpi=110)
    print(
        f"\nWritten to {options.out}/: diagnostics.png, which compares them, and for each learning rate a picture and "
        "all measurements as JSON lines"
    )


if __name__ == "__main__":
    main()
