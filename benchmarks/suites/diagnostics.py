# SPDX-License-Identifier: MIT
"""What `freewire.studies.Diagnostics` costs: ``python -m benchmarks.suites.diagnostics [--rounds N] [--every N]``.

Prints a Markdown table: milliseconds of a training step without and with diagnostics, by what share it is longer, and
milliseconds of one measurement. One training goes on with and without diagnostics, in turns of several hundred
milliseconds, so that it finds the caches as it would alone; shorter turns would show measurements as up to twice as
long. A step is that of the examples: pick a batch, forward, cross-entropy, backward, Adam.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import cross_entropy

import freewire as fw
from benchmarks.harness.command import header
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe
from benchmarks.harness.timing import interleave
from benchmarks.harness.workloads import WORKLOADS

__all__ = ["NETWORKS", "Overhead", "Training", "measure"]

SAMPLES = 2048
BLOCK = 0.3  # seconds

#: Label -> graph and batch size.
NETWORKS: dict[str, tuple[Callable[[], fw.Graph], int]] = {
    f"W1: {WORKLOADS['W1'].about}": (WORKLOADS["W1"].graph, WORKLOADS["W1"].batch),
    f"W2: {WORKLOADS['W2'].about}": (WORKLOADS["W2"].graph, WORKLOADS["W2"].batch),
    "random_graph(64, 300, 10, 8)": (lambda: fw.generators.random_graph(64, 300, 10, 8, seed=0), 32),
    "mlp([2, 8, 2])": (lambda: fw.generators.mlp([2, 8, 2]), 32),
}


class Overhead(NamedTuple):
    """Seconds per training step."""

    plain: float
    measured: float  # with diagnostics
    every: int

    @property
    def share(self) -> float:
        """By what share of a step's time diagnostics lengthen it."""
        return self.measured / self.plain - 1

    @property
    def one(self) -> float:
        """Seconds of one measurement."""
        return (self.measured - self.plain) * self.every


class Training:
    """One training, whose steps are measured or not.

    Its memory is the same either way: where a network's tape is changes the time of a step as much as diagnostics do.

    Args:
        graph: The wiring.
        batch: Samples per step.
        every: Measure every so many steps.
    """

    def __init__(self, graph: fw.Graph, batch: int, every: int) -> None:
        torch.manual_seed(0)
        self.net = fw.Network(graph)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-4)
        self.diagnostics = fw.studies.Diagnostics(self.net, self.optimizer, every)
        self._x, self._y = torch.randn(SAMPLES, len(graph.inputs)), torch.randint(0, len(graph.outputs), (SAMPLES,))
        self._order = torch.randperm(SAMPLES).split(batch)[: SAMPLES // batch]
        self._every, self._step = every, 0

    def plain(self) -> None:
        """Train for ``every`` steps; the hook of the diagnostics, 2 us, is still there."""
        self.diagnostics.steps = 1  # none of the steps is measured
        self._train(measured=False)

    def measured(self) -> None:
        """Train for ``every`` steps, the first of which is measured."""
        self.diagnostics.steps = 0
        self._train(measured=True)

    def _train(self, measured: bool) -> None:
        for _ in range(self._every - (not measured)):
            chosen = self._order[self._step % len(self._order)]
            inputs, targets = self._x[chosen], self._y[chosen]
            loss = cross_entropy(self.net(inputs), targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if measured:
                self.diagnostics.step(inputs, targets, cross_entropy, loss)
            self._step += 1


def measure(graph: fw.Graph, batch: int, every: int, rounds: int, threads: int, block: float = BLOCK) -> Overhead:
    """Time steps with diagnostics and without, in turns."""
    training = Training(graph, batch, every)
    tasks: dict[str, Callable[[], object]] = {"plain": training.plain, "measured": training.measured}
    timings = interleave(tasks, rounds=rounds, threads=threads, block=block)
    return Overhead(timings["plain"].median / (every - 1), timings["measured"].median / every, every)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.diagnostics", description="Time training with and without diagnostics."
    )
    parser.add_argument("--every", type=int, default=10, help="measure every so many steps (10)")
    parser.add_argument("--rounds", type=int, default=15, help="blocks per training (15)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="the smallest network only: a test of the benchmark")
    options = parser.parse_args(arguments)
    machine = describe(options.threads)
    print(header(machine) + "\n")
    print(f"| network, batch | step, ms | with diagnostics at every={options.every} | longer | one measurement, ms |")
    print("|---|---|---|---|---|")
    for name, (make, batch) in list(NETWORKS.items())[-1 if options.quick else 0 :]:
        block = 0.02 if options.quick else BLOCK
        found = measure(make(), batch, options.every, options.rounds, options.threads, block)
        print(
            f"| {name}, {batch:,} | {1e3 * found.plain:.3f} | {1e3 * found.measured:.3f} | {found.share:.1%} | "
            f"{1e3 * found.one:.2f} |",
            flush=True,
        )
    conclude(machine)


if __name__ == "__main__":
    main()
