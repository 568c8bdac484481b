# SPDX-License-Identifier: MIT
"""How long calls take while other processes are busy: ``python -m benchmarks.suites.contention [--threads N]``.

A thread that waits for another one by spinning, while that one has no core, waits until the scheduler puts it on one:
milliseconds. Dense layers of torch show how often that is usual. For 0, 1 and 2 busy processes, none of them tied to a
core, the command times single calls of two networks without gradients, one that runs in tiles of the batch and one of
a single sample, and of as many dense layers as take about as long. Printed in ms are the median, the mean, the 99th
percentile and the longest of all calls, and the same over the median without busy processes.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.harness.command import header
from benchmarks.harness.machine import describe
from benchmarks.harness.workloads import WORKLOADS

__all__ = ["BUSY", "CASES", "Case", "Spread", "busy", "dense_layers", "main", "spread"]

#: Numbers of busy processes.
BUSY = (0, 1, 2)
_SECONDS = 3.0  # of calls per row
_TURNS = 10  # in so many blocks, in which network and dense layers take turns
_SAMPLED = 4  # layers, from whose time that of one is estimated first
_MOST_LAYERS = 64


@dataclass(frozen=True)
class Case:
    """A network, the batch, and the width of the dense layers that it is compared with."""

    name: str
    graph: Callable[[], fw.Graph]
    small: Callable[[], fw.Graph]
    batch: int
    width: int


CASES = (
    Case("W1", WORKLOADS["W1"].graph, WORKLOADS["W1"].small, WORKLOADS["W1"].batch, 320),
    Case(
        "random_graph(784, 130000, 10, 32)",
        partial(fw.generators.random_graph, 784, 130_000, 10, 32, seed=0),
        WORKLOADS["W3"].small,
        1,
        1024,
    ),
)


class Spread(NamedTuple):
    """Seconds of single calls."""

    median: float
    mean: float
    p99: float
    longest: float
    calls: int


@contextlib.contextmanager
def busy(processes: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep so many processes busy meanwhile."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def dense_layers(seconds: float, batch: int, width: int) -> tuple[nn.Module, Tensor]:
    """As many square dense layers with relu as take about some time, at least one, and a batch for them."""

    def layers(count: int) -> nn.Module:
        return nn.Sequential(*(module for _ in range(count) for module in (nn.Linear(width, width), nn.ReLU())))

    x, count = torch.randn(batch, width), _SAMPLED
    for _ in range(2):  # a layer of few may find its weights in a cache, one of many in memory
        took = spread({"": (layers(count), x)}, _TURNS * 0.01)[""].median
        count = min(_MOST_LAYERS, max(1, round(count * seconds / took)))
    return layers(count), x


def spread(modules: dict[str, tuple[nn.Module, Tensor]], seconds: float) -> dict[str, Spread]:
    """Time single calls of modules without gradients, in turns of many calls, for about some seconds each."""
    found: dict[str, list[float]] = {label: [] for label in modules}
    with torch.inference_mode():
        for _ in range(_TURNS):
            for label, (module, x) in modules.items():
                module(x)  # brings its memory back into the caches
                end = time.perf_counter() + seconds / _TURNS
                while (begin := time.perf_counter()) < end or not found[label]:
                    module(x)
                    found[label].append(time.perf_counter() - begin)
    return {
        label: Spread(
            float(np.median(times)), float(np.mean(times)), float(np.quantile(times, 0.99)), max(times), len(times)
        )
        for label, times in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.contention", description="Time calls while other processes are busy."
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--busy", type=int, nargs="+", default=list(BUSY), help="numbers of busy processes (0 1 2)")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="of calls per row")
    parser.add_argument("--quick", action="store_true", help="small networks, few calls: a test of the benchmark")
    options = parser.parse_args(arguments)
    seconds = 0.02 if options.quick else options.seconds
    torch.set_num_threads(options.threads)
    print(header(describe(options.threads)))
    for case in CASES:
        torch.manual_seed(0)
        net = fw.Network(case.small() if options.quick else case.graph())
        x = torch.randn(case.batch, len(net.graph.inputs))
        alone = spread({"": (net, x)}, seconds / 4)[""].median
        width = 16 if options.quick else case.width
        dense, dense_x = dense_layers(alone, case.batch, width)
        label = f"{len(dense) // 2} x nn.Linear({width}, {width})"
        modules = {"freewire": (net, x), label: (dense, dense_x)}
        print(f"\n{case.name}, batch {case.batch}")
        print(f"  {'':<28}busy" + "".join(f"{name:>10}" for name in Spread._fields[:4]) + "   over the median alone")
        median: dict[str, float] = {}
        for processes in options.busy:
            with busy(processes):
                found = spread(modules, seconds)
            for label, of in found.items():
                first = median.setdefault(label, of.median)
                times = "".join(f"{1e3 * value:>10.3f}" for value in of[:4])
                ratios = "".join(f"{value / first:>8.1f}x" for value in of[:4])
                print(f"  {label:<28}{processes:>4}{times}{ratios}  {of.calls:,} calls", flush=True)


if __name__ == "__main__":
    main()
