# SPDX-License-Identifier: MIT
"""Compare RandWire with the same network in plain PyTorch.

``python -m benchmarks.suites.randwire [--checkout NAME=PATH ...]`` prints a table and writes JSON to
benchmarks/results/. The candidates are those of `benchmarks.peers.randwire_candidates`. Each is checked, then they take
turns: inference (eval mode, no gradients) of many images and of one, and a training step (forward in training mode,
cross entropy, backward; no optimizer), in channels_last. Compilation happens at the check and is not timed. The peak of
the machine's arithmetic is measured in the same run.

Memory is the most that torch's allocator holds in a training step above what it held before, gradients included
(`benchmarks.harness.memory`), measured for each candidate in a process of its own. This count is the same to the byte
in every run, while resident memory depends on when malloc returns memory to the system. It does not include oneDNN's
own workspaces, which belong to the same convolutions in all candidates.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness.command import add_checkouts, header, spelled, write_json
from benchmarks.harness.correctness import WrongResultError
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe
from benchmarks.harness.measure import reason
from benchmarks.harness.memory import peak_bytes
from benchmarks.harness.peaks import measure_peaks
from benchmarks.harness.randwire_table import table
from benchmarks.harness.timing import BLOCK, interleave
from benchmarks.peers.randwire_candidates import (
    CANDIDATES,
    MEASURES,
    PLAIN,
    Candidate,
    Setup,
    check,
    cost,
    inputs,
    make,
    step,
)
from benchmarks.peers.randwire_checkouts import SOURCES

__all__ = ["main", "measure", "step_bytes"]

_ROUNDS = 9
_QUICK = {"channels": 4, "size": 64, "batch": 4, "classes": 10, "tiny": True}


def measure(
    setup: Setup, competing: Sequence[Candidate] = CANDIDATES, *, rounds: int, block: float = BLOCK
) -> list[dict[str, Any]]:
    """Check candidates, count their cost and time them.

    Args:
        setup: What is run.
        competing: The candidates, plain PyTorch first.
        rounds: Number of blocks per measurement.
        block: Seconds per block.

    Returns:
        Rows for JSON: for each candidate one with its size and the memory of a step, and one for each of its measures,
        with ``refusal`` where it cannot run.

    Raises:
        WrongResultError: A candidate computes something else.
    """
    model = setup.model()
    rows = {one.label: {"candidate": one.label, **_about(one, setup)} for one in competing}
    times: list[dict[str, Any]] = []
    for what in MEASURES:
        modules: dict[str, nn.Module] = {}
        for one in competing:
            if what in one.measures and "refusal" not in rows[one.label]:
                module = _admitted(one, setup, what, model)
                if isinstance(module, nn.Module):
                    modules[one.label] = module
                    print(f"  {one.label}, {what}: checked", flush=True)
                else:
                    times.append({"candidate": one.label, "measure": what, "refusal": module})
        tasks: dict[str, Callable[[], object]] = {}
        for one in competing:
            if one.label in modules:
                images, classes = inputs(one, setup, what)
                call: Callable[..., object] = functools.partial(step, modules[one.label], images, classes)
                tasks[one.label] = call if what == "training" else functools.partial(modules[one.label], images)
        with torch.set_grad_enabled(what == "training"):
            found = interleave(tasks, rounds=rounds, threads=setup.threads, block=block)
        batch = 1 if what == "latency" else setup.batch
        for label, timing in found.items():
            per_image = timing.median / batch
            speedup = found[competing[0].label].median / timing.median
            timed = {"unit": "s", **asdict(timing), "per_image": per_image, "speedup": speedup}
            times.append({"candidate": label, "measure": what, "batch": batch, **timed})
    return [*rows.values(), *times]


def _admitted(one: Candidate, setup: Setup, what: str, model: Any) -> nn.Module | str:
    """The checked module, or why it cannot run."""
    try:
        module = make(one, setup, what, model)
        if isinstance(module, nn.Module):
            check(one, setup, what, module, model)
    except Exception as error:
        return _tolerated(one, error)
    return module


def _about(one: Candidate, setup: Setup) -> dict[str, Any]:
    """Sizes and memory, or why the candidate cannot run."""
    try:
        eager = make(_uncompiled(one), setup, "inference")
        sizes: dict[str, Any] = cost(eager, setup) if isinstance(eager, nn.Module) else {"refusal": eager}
    except Exception as error:
        return {"refusal": _tolerated(one, error)}
    if "training" in one.measures and "refusal" not in sizes:
        try:
            # Tests of the benchmark do not wait for a process to start.
            sizes["step_bytes"] = (_step_bytes_here if setup.tiny else step_bytes)(one.label, setup)
        except Exception as error:
            sizes["no_step_bytes"] = _tolerated(one, error)
    return sizes


def _tolerated(one: Candidate, error: Exception) -> str:
    """Why a candidate cannot run (no compiler, a project needs older packages); raise what is our own fault."""
    if isinstance(error, WrongResultError) or (one.same and not one.compiled):
        raise error
    return reason(error)


def _uncompiled(one: Candidate) -> Candidate:
    return replace(one, compiled=False)


def step_bytes(label: str, setup: Setup) -> int:
    """The peak memory of a training step in bytes, measured in a process of its own.

    Args:
        label: Label of one of `CANDIDATES`.
        setup: What is run.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_step_bytes_here, label, setup).result()


def _step_bytes_here(label: str, setup: Setup) -> int:
    torch.set_num_threads(setup.threads)
    (one,) = (one for one in CANDIDATES if one.label == label)
    module = make(one, setup, "training")
    if isinstance(module, str):
        raise RuntimeError(module)
    images, classes = setup.data()

    def task() -> None:
        step(module, images, classes)
        for parameter in module.parameters():
            parameter.grad = None  # or the next step would free them while it is measured

    return peak_bytes(task)


# ---------------------------------------------------------------------------------- the command line


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.randwire", description="Compare RandWire with plain PyTorch."
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="blocks per measurement")
    parser.add_argument("--batch", type=int, help="number of images (16)")
    parser.add_argument("--size", type=int, help="their height and width (224)")
    parser.add_argument("--channels", type=int, help="C of the small regime (78)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--compiler", metavar="BACKEND", help="backend of torch.compile (inductor; with --quick, eager)"
    )
    parser.add_argument(
        "--eager", action="store_true", help="skip the candidates of torch.compile, which take minutes to compile"
    )
    add_checkouts(parser, SOURCES)
    parser.add_argument("--json", type=Path, metavar="PATH", help="default: in benchmarks/results/")
    parser.add_argument("--quick", action="store_true", help="small and short, into build/: a test of the benchmark")
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in ("batch", "size", "channels", "compiler")}
    chosen: dict[str, Any] = {"compiler": "eager", **_QUICK} if options.quick else {}
    chosen |= {name: value for name, value in given.items() if value is not None}
    checkouts = {name: str(path) for name, path in options.checkout}
    setup = Setup(threads=options.threads, checkouts=checkouts, **chosen)
    rounds, block = (1, 1e-4) if options.quick else (options.rounds, BLOCK)

    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        machine = describe(options.threads)
        print(header(machine))
        peaks = measure_peaks(options.threads)
        print(peaks)
        machine["peaks"] = asdict(peaks)
        competing = [one for one in CANDIDATES if not (options.eager and one.compiled)]
        rows = measure(setup, competing, rounds=rounds, block=block)
    finally:
        torch.set_num_threads(before)
    conclude(machine)
    about = {"model": setup.about, "batch": setup.batch, "size": setup.size, "compiler": setup.compiler, "plain": PLAIN}
    command = spelled("benchmarks.suites.randwire", arguments, SOURCES)
    content = {"quick": options.quick, "machine": machine, "command": command, **about, "rows": rows}
    print("\n" + table(content))
    folder = Path("build" if options.quick else "benchmarks/results")
    write_json(options.json or folder / "randwire.json", content)


if __name__ == "__main__":
    main()
