# SPDX-License-Identifier: MIT
"""``bench [FILE]``: how fast a network runs on this machine, beside a dense one of as many parameters.

Times are medians of interleaved blocks, so that a busy moment slows both networks. The suites that compare freewire
with other ways to run a wiring are in the repository's benchmarks/.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from freewire.cli.subjects import add_reading_options, check_option, read
from freewire.errors import InputError, shown
from freewire.generators import random_graph
from freewire.graph import Graph
from freewire.nn import Network, Recurrent
from freewire.ops import library

__all__ = ["EXAMPLES", "HELP", "add_options", "run"]

HELP = "time a network on this machine"
EXAMPLES = """\
examples:
  python -m freewire bench                       # 2,000 random neurons of 32 inputs each, 256 samples
  python -m freewire bench wires.json --batch 1 --threads 1
  python -m freewire bench net.safetensors --device cuda
"""
BLOCK = 0.02  # seconds of calls at a time


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_reading_options(parser, required=False)
    parser.add_argument("--batch", type=int, default=256, help="samples per call (256)")
    parser.add_argument("--threads", type=int, help="threads of the CPU (torch's default)")
    parser.add_argument("--device", default="cpu", help="such as cuda (cpu)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure, in all (5)")


def run(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Measure; return the text to print and the same for ``--json``."""
    check_option(options, "batch", 1, 2**31 - 1)
    check_option(options, "threads", 1, os.cpu_count() or 1)
    check_option(options, "seconds", 0.01, 86_400)
    device = _device(options.device)
    found = random_graph(784, 1990, 10, 32, seed=0) if options.file is None else read(options)
    if isinstance(found, Recurrent):
        raise InputError(
            "FILE: expected a network without delays, got a recurrent one. Time calls of it with torch.utils.benchmark."
        )
    threads = options.threads or torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = (Network(found) if isinstance(found, Graph) else found).to(device)
        dense = dense_like(net).to(device, net.weight.dtype)
        x = torch.randn(options.batch, len(net.graph.inputs)).to(device, net.weight.dtype)
    calls = {}
    for name, module in (("freewire", net), ("dense", dense)):
        calls[f"{name} forward"] = _forward(module, x)
        calls[f"{name} training"] = _training(module, x)
    seconds = _measure(calls, threads, options.seconds)
    record = {
        "file": options.file,
        "nodes": net.graph.num_nodes,
        "edges": net.graph.num_edges,
        "levels": net.graph.depth,
        "parameters": _count(net),
        "dense_sizes": [part.out_features for part in dense if isinstance(part, nn.Linear)][:-1],
        "dense_parameters": _count(dense),
        "batch": options.batch,
        "dtype": str(net.weight.dtype).removeprefix("torch."),
        "device": str(device) if device.type != "cpu" else f"cpu, {library.instruction_set()}, {threads} threads",
        "seconds": {name: seconds[name] for name in calls},
    }
    return _text(record), record


def dense_like(net: Network) -> nn.Sequential:
    """A dense network with two hidden layers of one size and about as many parameters as a freely wired one."""
    inputs, outputs, wanted = len(net.graph.inputs), len(net.graph.outputs), _count(net)
    linear = inputs + outputs + 2  # parameters: h^2 + linear h + outputs
    hidden = max(1, round((-linear + math.sqrt(linear**2 + 4 * max(0, wanted - outputs))) / 2))
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _device(name: str) -> torch.device:
    problem = None
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            problem = "a meta tensor has no values, so nothing is computed"
    except (RuntimeError, AssertionError, ImportError) as error:  # what torch raises depends on the kind of device
        problem = str(error)
    if problem is not None:
        raise InputError(
            f"--device: expected one that this torch can use, got {shown(name)} ({shown(problem)}). "
            "`python -m freewire doctor` says what is missing."
        )
    return device


def _forward(module: nn.Module, x: Tensor) -> Callable[[], object]:
    def call() -> object:
        with torch.no_grad():
            return module(x)

    return call


def _training(module: nn.Module, x: Tensor) -> Callable[[], object]:
    def call() -> None:
        module.zero_grad(set_to_none=True)
        module(x).sum().backward()

    return call


def _measure(calls: dict[str, Callable[[], object]], threads: int, seconds: float) -> dict[str, float]:
    """Median seconds of each call; the calls take turns in blocks until the time is up, at least three times."""
    timers = {name: Timer("call()", globals={"call": call}, num_threads=threads) for name, call in calls.items()}
    number = {name: max(1, round(BLOCK / timer.timeit(1).mean)) for name, timer in timers.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.monotonic() + seconds
    while len(times[next(iter(calls))]) < 3 or time.monotonic() < end:
        for name, timer in timers.items():
            times[name].append(timer.timeit(number[name]).mean)
    return {name: sorted(runs)[len(runs) // 2] for name, runs in times.items()}


def _text(record: dict[str, Any]) -> str:
    seconds, batch = record["seconds"], record["batch"]
    title = record["file"] or "random_graph(784, 1990, 10, fan_in=32, seed=0)"
    lines = [
        f"{title}: {record['nodes']:,} nodes, {record['edges']:,} edges, {record['levels']:,} levels, "
        f"{record['parameters']:,} parameters",
        f"{batch:,} samples per call, {record['dtype']}, {record['device']}",
        "",
        f"{'':34}{'forward':>12}{'training':>12}{'samples/s':>14}",
    ]
    hidden = " x ".join(map(str, record["dense_sizes"]))
    for name, label in (("freewire", "freewire"), ("dense", f"dense, hidden {hidden}")):
        forward, training = seconds[f"{name} forward"], seconds[f"{name} training"]
        lines.append(f"{label:34}{_time(forward):>12}{_time(training):>12}{batch / training:>14,.0f}")
    rate = record["edges"] * batch / seconds["freewire forward"] / 1e9
    lines += [
        "",
        "training: forward and backward, without an optimizer; samples/s are of it. The dense network has "
        f"{record['dense_parameters']:,} parameters.",
        f"freewire's forward computes {rate:,.3g} billion edges a second.",
    ]
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"
