# SPDX-License-Identifier: MIT
"""Time freewire against its peers: ``python -m benchmarks.run [--workloads W1 W2] [--threads N] [--quick]``.

Enters: the workloads and the peers. Leaves: a table on the screen and a JSON file. Every candidate is checked against
the reference before it is timed. "forward" runs without gradients; a "step" clears the gradients and runs
``net(x).sum().backward()`` with x requiring one too. The ratio is a candidate's median over freewire's: above 1,
freewire is faster.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.correctness import Yardstick, check
from benchmarks.machine import describe, load
from benchmarks.peers import PEERS, Peer
from benchmarks.timing import BLOCK, interleave
from benchmarks.workloads import WORKLOADS, Workload

__all__ = ["Candidate", "Task", "candidates", "main", "measure", "own", "peer", "reason", "write_json"]

_ROUNDS = 41
#: Without being asked: the others take some peers minutes on a CPU.
USUAL = ("W1", "W4", "W6")


@dataclass(frozen=True)
class Candidate:
    """Something that computes a network: how it is built, and how its gradients are read in freewire's order.

    Where it is another network of that size (``gradients`` is None) only its cost is compared, and nothing checked.
    """

    label: str
    make: Callable[[fw.Network], nn.Module]
    gradients: Callable[[Any], tuple[Tensor, Tensor]] | None
    refusal: Callable[[fw.Network], str | None] = lambda net: None


@dataclass(frozen=True)
class Task:
    """One thing to time: a call, which returns what it computed, and the input that it reads."""

    run: Callable[[], Sequence[Tensor]]
    x: Tensor


#: From a label and a task to the tasks that are timed, or the reasons why not, by label.
Prepare = Callable[[str, Task], "dict[str, Task | str]"]


def candidates() -> list[Candidate]:
    """The library first, then the peers."""
    return [own(), *map(peer, PEERS)]


def own() -> Candidate:
    """The library."""
    return Candidate("freewire", lambda net: net, lambda net: (net.weight.grad, net.bias.grad))


def peer(kind: type[Peer]) -> Candidate:
    """A peer."""
    return Candidate(kind.label, kind, kind.gradients, kind.refusal)


def measure(
    workload: Workload,
    competing: Sequence[Candidate],
    *,
    rounds: int,
    threads: int,
    block: float = BLOCK,
    device: torch.device | str = "cpu",
    prepare: Prepare = lambda label, task: {label: task},
    forgiven: tuple[type[Exception], ...] = (),
) -> list[dict[str, Any]]:
    """Check and time candidates on one workload.

    Args:
        workload: What to run.
        competing: The candidates; the first is what the others are compared with.
        rounds: Blocks a measurement.
        threads: That torch may use.
        block: Seconds a block.
        device: Where the networks run.
        prepare: What is timed of a candidate's task; the task itself unless told otherwise.
        forgiven: What a candidate but the first may raise while it is checked: its row then says so.

    Returns:
        A row for each candidate and measure, ready for JSON; one with ``refusal`` where a candidate cannot run it.

    Raises:
        WrongResultError: A candidate disagrees with the reference.
    """
    torch.manual_seed(0)
    net = fw.Network(workload.graph())
    yardstick = Yardstick.of(net, workload.batch)
    x = torch.randn(workload.batch, len(net.graph.inputs)).to(device)
    net.to(device)
    modules: dict[str, nn.Module] = {}
    rows = []
    for candidate in competing:
        refusal = candidate.refusal(net)
        try:
            if refusal is None:
                if candidate.gradients is not None:
                    check(candidate.label, candidate.make, candidate.gradients, yardstick, device)
                modules[candidate.label] = candidate.make(net)
        except forgiven as error:
            if candidate is competing[0]:
                raise
            refusal = reason(error)
        if refusal is not None:
            rows.append(_row(workload, candidate.label, refusal=refusal))
    for what in workload.measures:
        make_task = {"forward": _forward, "step": _step}[what]
        with torch.set_grad_enabled(what == "step"):
            prepared = {}
            for label, module in modules.items():
                prepared |= prepare(label, make_task(module, x))
            tasks = {label: task.run for label, task in prepared.items() if isinstance(task, Task)}
            timings = interleave(tasks, rounds=rounds, threads=threads, block=block)
        first = timings[competing[0].label].median
        for label, task in prepared.items():
            if isinstance(task, str):
                rows.append(_row(workload, label, measure=what, refusal=task))
            else:
                timing = timings[label]
                values = {"unit": "s", **asdict(timing), "ratio": timing.median / first}
                rows.append(_row(workload, label, measure=what, **values))
    return rows


def reason(error: Exception) -> str:
    """Why a candidate is left out, in a few words."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _forward(module: nn.Module, x: Tensor) -> Task:
    return Task(lambda: [module(x)], x)


def _step(module: nn.Module, x: Tensor) -> Task:
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


def _print(workload: Workload, rows: Sequence[dict[str, Any]]) -> None:
    scale = {"ms": 1e3, "us": 1e6}[workload.unit]
    print(f"\n{workload.name}  {workload.about}, batch {workload.batch}  ({workload.unit}, median ± half the iqr)")
    header = "".join(f"{what:>22}{'ratio':>8}" for what in workload.measures)
    print(f"  {'':<22}{header}")
    for label in dict.fromkeys(row["candidate"] for row in rows if "measure" in row):
        cells = ""
        for what in workload.measures:
            row = next(r for r in rows if r["candidate"] == label and r.get("measure") == what)
            time = f"{row['median'] * scale:.3g} ± {row['iqr'] * scale / 2:.2g}"
            cells += f"{time:>22}{row['ratio']:>7.1f}x"
        print(f"  {label:<22}{cells}")
    for row in rows:
        if "refusal" in row:
            print(f"  {row['candidate']:<22}  left out: {row['refusal']}")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write results, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\nwritten to {path}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Time freewire against its peers.")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=USUAL, metavar="NAME")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="blocks a measurement")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks.json"), metavar="PATH")
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds: a test of the benchmark")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    machine = describe(options.threads)
    print(
        f"{machine['cpu']}, {machine['cores']} cores, {options.threads} thread(s), torch {machine['torch']}, ", end=""
    )
    print(f"freewire {machine['freewire']} ({machine['commit']}), load {machine['load']}")
    rows = []
    for name in options.workloads:
        workload = WORKLOADS[name].quick() if options.quick else WORKLOADS[name]
        rounds, block = (2, 0.001) if options.quick else (options.rounds, BLOCK)
        found = measure(workload, candidates(), rounds=rounds, threads=options.threads, block=block)
        _print(workload, found)
        rows += found
    print(f"\nload at the end: {load()}")
    machine["load_at_end"] = load()
    write_json(options.json, {"quick": options.quick, "machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
