# SPDX-License-Identifier: MIT
"""What `freewire.studies.Diagnostics` costs: ``python -m benchmarks.suites.diagnostics [--rounds N] [--every N]``.

Prints a Markdown table: milliseconds of a training step without and with diagnostics, by what share it is longer, and
milliseconds of one measurement. Two trainings of the same network take turns in blocks of several hundred milliseconds,
so that each of them finds the caches as it would alone; shorter blocks would show measurements as up to twice as long.
A step is that of the examples: pick a batch, forward, cross-entropy, backward, Adam.
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

__all__ = ["NETWORKS", "Overhead", "measure", "training"]

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


def training(graph: fw.Graph, batch: int, every: int | None) -> Callable[[], None]:
    """A task of ``every`` training steps, the first of which is measured; or of 10 without diagnostics (None)."""
    torch.manual_seed(0)
    net = fw.Network(graph)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    x, y = torch.randn(SAMPLES, len(graph.inputs)), torch.randint(0, len(graph.outputs), (SAMPLES,))
    order = torch.randperm(SAMPLES).split(batch)
    diagnostics = None if every is None else fw.studies.Diagnostics(net, optimizer, every)
    step = 0

    def run() -> None:
        nonlocal step
        for _ in range(every or 10):
            chosen = order[step % (SAMPLES // batch)]
            inputs, targets = x[chosen], y[chosen]
            loss = cross_entropy(net(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if diagnostics is not None:
                diagnostics.step(inputs, targets, cross_entropy, loss)
            step += 1

    return run


def measure(graph: fw.Graph, batch: int, every: int, rounds: int, threads: int, block: float = BLOCK) -> Overhead:
    """Time both trainings in turns."""
    tasks: dict[str, Callable[[], object]] = {
        "plain": training(graph, batch, None),
        "measured": training(graph, batch, every),
    }
    timings = interleave(tasks, rounds=rounds, threads=threads, block=block)
    return Overhead(timings["plain"].median / 10, timings["measured"].median / every, every)


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
