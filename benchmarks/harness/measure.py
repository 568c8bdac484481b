# SPDX-License-Identifier: MIT
"""Check candidates against the reference, then time them in turns.

A `Candidate` says how something that computes a network is built and how its gradients are read. `measure` takes a
workload and candidates, and returns one row per candidate and measure, ready for JSON. "forward" runs without
gradients; a "step" clears the gradients and runs ``net(x).sum().backward()`` with x requiring a gradient too. The ratio
of a row is its median over that of the first candidate, which is freewire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.harness.correctness import DTYPES, ROWS, Gradients, Yardstick, check
from benchmarks.harness.timing import BLOCK, interleave
from benchmarks.harness.workloads import Workload

__all__ = ["Candidate", "Task", "admit", "forward_task", "measure", "own", "reason", "step_task", "timed"]


@dataclass(frozen=True)
class Candidate:
    """Something that computes a network.

    A candidate with neither ``gradients`` nor ``no_step`` is a different network of the same size: only its cost is
    compared, and its results are not checked.

    Attributes:
        label: Its name in the tables.
        make: Builds the module for a network.
        gradients: Reads the gradients of the weights and biases, in freewire's order, from the built module; None if
            it has none to compare.
        refusal: Returns why it cannot run a network, or None if it can.
        no_step: Why it computes no gradients; None if it does.
        dtypes: The dtypes in which its results are compared.
    """

    label: str
    make: Callable[[fw.Network], nn.Module]
    gradients: Gradients | None
    refusal: Callable[[fw.Network], str | None] = lambda net: None
    no_step: str | None = None
    dtypes: tuple[torch.dtype, ...] = DTYPES


@dataclass(frozen=True)
class Task:
    """One thing to time: a call that returns what it computed, and the input that it reads."""

    run: Callable[[], Sequence[Tensor]]
    x: Tensor


#: Maps a label and a task to the tasks that are timed, or the reasons why they are not, by label.
Prepare = Callable[[str, Task], "dict[str, Task | str]"]


def own() -> Candidate:
    """The candidate that is freewire itself."""
    return Candidate("freewire", lambda net: net, lambda net: (net.weight.grad, net.bias.grad))


def measure(
    workload: Workload,
    competing: Sequence[Candidate],
    *,
    rounds: int,
    threads: int,
    block: float = BLOCK,
    device: torch.device | str = "cpu",
    prepare: Prepare = lambda label, task: {label: task},
    tolerated: tuple[type[Exception], ...] = (),
) -> list[dict[str, Any]]:
    """Check and time candidates on one workload.

    Args:
        workload: The network and the batch.
        competing: The candidates; the others are compared with the first.
        rounds: Number of blocks per measurement.
        threads: Number of threads that torch may use.
        block: Seconds per block.
        device: Where the networks run.
        prepare: Turns a candidate's task into the tasks that are timed; by default the task itself.
        tolerated: Exceptions that a candidate other than the first may raise while it is checked. Its row then holds
            the reason.

    Returns:
        One row per candidate and measure, ready for JSON; a row with ``refusal`` where a candidate cannot run.

    Raises:
        WrongResultError: A candidate disagrees with the reference.
    """
    torch.manual_seed(0)
    net = fw.Network(workload.graph())
    modules, refusals = admit(net, competing, workload.batch, device=device, tolerated=tolerated)
    rows = [_row(workload, label, refusal=refusal) for label, refusal in refusals.items()]
    x = torch.randn(workload.batch, len(net.graph.inputs)).to(device)
    no_step = {candidate.label: candidate.no_step for candidate in competing}
    for what in workload.measures:
        able = modules if what == "forward" else {k: module for k, module in modules.items() if no_step[k] is None}
        rows += [_row(workload, label, measure=what, refusal=no_step[label]) for label in modules if label not in able]
        found = timed(what, able, x, rounds=rounds, threads=threads, block=block, prepare=prepare)
        rows += [_row(workload, label, measure=what, **values) for label, values in found.items()]
    return rows


def admit(
    net: fw.Network,
    competing: Sequence[Candidate],
    batch: int,
    *,
    rows: int = ROWS,
    device: torch.device | str = "cpu",
    tolerated: tuple[type[Exception], ...] = (),
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Compare the candidates that can run a network with the reference, and build them.

    Args:
        net: The network; it is moved to ``device`` after the reference has run.
        competing: The candidates.
        batch: Number of samples in the comparison.
        rows: Number of samples that the reference computes; see `Yardstick`.
        device: Where the candidates run.
        tolerated: See `measure`.

    Returns:
        The candidates' modules, and the reasons why the others do not run, both by label.

    Raises:
        WrongResultError: A candidate disagrees with the reference.
    """
    yardstick = Yardstick.of(net, batch, rows)
    net.to(device)
    modules: dict[str, nn.Module] = {}
    refusals: dict[str, str] = {}
    for candidate in competing:
        refusal = candidate.refusal(net)
        try:
            if refusal is None:
                if candidate.gradients is not None or candidate.no_step is not None:
                    check(candidate.label, candidate.make, candidate.gradients, yardstick, device, candidate.dtypes)
                modules[candidate.label] = candidate.make(net)
        except tolerated as error:
            if candidate is competing[0]:
                raise
            refusal = reason(error)
        if refusal is not None:
            refusals[candidate.label] = refusal
    return modules, refusals


def timed(
    what: str,
    modules: dict[str, nn.Module],
    x: Tensor,
    *,
    rounds: int,
    threads: int,
    block: float = BLOCK,
    prepare: Prepare = lambda label, task: {label: task},
) -> dict[str, dict[str, Any]]:
    """Time modules in turns, without checking them.

    Args:
        what: "forward" or "step".
        modules: The modules by label; the others are compared with the first.
        x: The batch, ``[B, I]``.
        rounds: See `measure`, as for the other arguments.
        threads: See `measure`.
        block: See `measure`.
        prepare: See `measure`.

    Returns:
        By label the values of a row of results: a `Timing` with the ratio to the first, or ``refusal``.
    """
    make_task = {"forward": forward_task, "step": step_task}[what]
    with torch.set_grad_enabled(what == "step"):
        prepared: dict[str, Task | str] = {}
        for label, module in modules.items():
            prepared |= prepare(label, make_task(module, x))
        tasks: dict[str, Callable[[], object]] = {
            label: task.run for label, task in prepared.items() if isinstance(task, Task)
        }
        timings = interleave(tasks, rounds=rounds, threads=threads, block=block)
    first = timings[next(iter(modules))].median
    found: dict[str, dict[str, Any]] = {}
    for label, task in prepared.items():
        if isinstance(task, str):
            found[label] = {"refusal": task}
        else:
            timing = timings[label]
            found[label] = {"unit": "s", **asdict(timing), "ratio": timing.median / first}
    return found


def reason(error: Exception) -> str:
    """Why a candidate does not run, in a few words."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def forward_task(module: nn.Module, x: Tensor) -> Task:
    """A plain call; the caller switches gradients off."""
    return Task(lambda: [module(x)], x)


def step_task(module: nn.Module, x: Tensor) -> Task:
    """Forward and backward of the sum of the outputs, with gradients of x and of all parameters."""
    x = x.clone().requires_grad_()
    leaves = [x, *module.parameters()]

    def step() -> list[Tensor]:
        for leaf in leaves:
            leaf.grad = None
        module(x).sum().backward()
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    return Task(step, x)


def _row(workload: Workload, label: str, **values: Any) -> dict[str, Any]:
    about = {"workload": workload.name, "about": workload.about, "batch": workload.batch}
    return {**about, "candidate": label, **values}
