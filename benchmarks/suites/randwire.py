# SPDX-License-Identifier: MIT
"""RandWire beside the same network in plain PyTorch: ``python -m benchmarks.suites.randwire [--checkout NAME=PATH ...]``.

Enters: the candidates of `benchmarks.suites.randwire_candidates`. Leaves: a table on the screen and JSON in
benchmarks/results/. Each candidate is checked, then they take turns: inference (eval mode, no gradients) and a training
step (forward in training mode, cross entropy, backward; no optimizer), in float32 and channels_last. Compiling is not
timed: it happens at the check.

Memory is the most that torch's allocator holds in a training step above what it held before, gradients included
(`benchmarks.harness.memory`), of each candidate in a process of its own. A count repeats to the byte, while the process's
resident memory depends on what malloc gives back and when; what oneDNN takes for its own is in neither alike, and is
the same convolutions' for all.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness.correctness import WrongResultError
from benchmarks.harness.machine import describe
from benchmarks.harness.memory import peak_bytes
from benchmarks.harness.timing import BLOCK, interleave
from benchmarks.peers.randwire_checkouts import SOURCES
from benchmarks.suites.health import conclude
from benchmarks.suites.randwire_candidates import CANDIDATES, MEASURES, PLAIN, Candidate, Setup, check, cost, make, step
from benchmarks.suites.randwire_table import table
from benchmarks.suites.run import checkout, header, reason, spelled, write_json

__all__ = ["main", "measure", "step_bytes"]

_ROUNDS = 9
_QUICK = {"channels": 4, "size": 64, "batch": 4, "classes": 10, "tiny": True}


def measure(
    setup: Setup, competing: Sequence[Candidate] = CANDIDATES, *, rounds: int, block: float = BLOCK
) -> list[dict[str, Any]]:
    """Check, count and time candidates.

    Args:
        setup: What is run.
        competing: Candidates, plain PyTorch first.
        rounds: Blocks a measurement.
        block: Seconds a block.

    Returns:
        Rows for JSON: of each candidate one for what it consists of and what memory a step takes, and one for each of
        its measures; ``refusal`` where it cannot run.

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
        images, classes = setup.data()
        tasks: dict[str, Callable[[], object]] = {
            label: functools.partial(module, images)
            if what == "inference"
            else functools.partial(step, module, images, classes)
            for label, module in modules.items()
        }
        with torch.set_grad_enabled(what == "training"):
            found = interleave(tasks, rounds=rounds, threads=setup.threads, block=block)
        for label, timing in found.items():
            per_image = timing.median / setup.batch
            speedup = found[competing[0].label].median / timing.median
            timed = {"unit": "s", **asdict(timing), "per_image": per_image, "speedup": speedup}
            times.append({"candidate": label, "measure": what, "batch": setup.batch, **timed})
    return [*rows.values(), *times]


def _admitted(one: Candidate, setup: Setup, what: str, model: Any) -> nn.Module | str:
    """The module, checked; or why it cannot run."""
    try:
        module = make(one, setup, what, model)
        if isinstance(module, nn.Module):
            check(one, setup, what, module, model)
    except Exception as error:
        return _forgiven(one, error)
    return module


def _about(one: Candidate, setup: Setup) -> dict[str, Any]:
    """Sizes and memory, or why the candidate cannot run."""
    try:
        eager = make(_uncompiled(one), setup, "inference")
        sizes: dict[str, Any] = cost(eager, setup) if isinstance(eager, nn.Module) else {"refusal": eager}
    except Exception as error:
        return {"refusal": _forgiven(one, error)}
    if "training" in one.measures and "refusal" not in sizes:
        try:
            # A test of the benchmark should not wait for processes to start.
            sizes["step_bytes"] = (_step_bytes_here if setup.tiny else step_bytes)(one.label, setup)
        except Exception as error:
            sizes["no_step_bytes"] = _forgiven(one, error)
    return sizes


def _forgiven(one: Candidate, error: Exception) -> str:
    """Why a candidate is left out: a compiler is missing, a project wants older packages; our own faults are raised."""
    if isinstance(error, WrongResultError) or (one.same and not one.compiled):
        raise error
    return reason(error)


def _uncompiled(one: Candidate) -> Candidate:
    return Candidate(one.label, one.build, one.measures, one.same)


def step_bytes(label: str, setup: Setup) -> int:
    """The peak of a training step's memory, measured in a process of its own.

    Args:
        label: Of `CANDIDATES`.
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
            parameter.grad = None  # freed within the next measured step, they would count against it

    return peak_bytes(task)


# ---------------------------------------------------------------------------------- the command line


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.randwire", description="RandWire beside plain PyTorch."
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="blocks a measurement")
    parser.add_argument("--batch", type=int, help="images; left out: 16")
    parser.add_argument("--size", type=int, help="their height and width; left out: 224")
    parser.add_argument("--channels", type=int, help="C of the small regime; left out: 78")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compiler", metavar="BACKEND", help="of torch.compile; left out: inductor, quick: eager")
    parser.add_argument("--eager", action="store_true", help="without torch.compile, which takes minutes to compile")
    parser.add_argument(
        "--checkout",
        nargs="+",
        action="extend",
        type=functools.partial(checkout, names=SOURCES),
        default=[],
        metavar="NAME=PATH",
        help=f"folders of other projects: {', '.join(SOURCES)}",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="left out: in benchmarks/results/")
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
        competing = [one for one in CANDIDATES if not (options.eager and one.compiled)]
        rows = measure(setup, competing, rounds=rounds, block=block)
    finally:
        torch.set_num_threads(before)
    conclude(machine)
    told = {"model": setup.about, "batch": setup.batch, "size": setup.size, "compiler": setup.compiler, "plain": PLAIN}
    command = spelled("benchmarks.suites.randwire", arguments, SOURCES)
    content = {"quick": options.quick, "machine": machine, "command": command, **told, "rows": rows}
    print("\n" + table(content))
    folder = Path("build" if options.quick else "benchmarks/results")
    write_json(options.json or folder / "randwire.json", content)


if __name__ == "__main__":
    main()
