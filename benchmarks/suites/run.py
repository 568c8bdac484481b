# SPDX-License-Identifier: MIT
"""Time freewire against its peers: ``python -m benchmarks.suites.run [--workloads W1 W2 | --all] [--checkout NAME=PATH]``.

Enters: the workloads and the peers. Leaves: a table on the screen and a JSON file. Every candidate is checked against
the reference before it is timed. "forward" runs without gradients; a "step" clears the gradients and runs
``net(x).sum().backward()`` with x requiring one too. The ratio is a candidate's median over freewire's: above 1,
freewire is faster. A peer that is not there, or cannot run a workload, is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.harness.correctness import DTYPES, ROWS, Gradients, Yardstick, check
from benchmarks.harness.machine import describe
from benchmarks.harness.timing import BLOCK, interleave
from benchmarks.harness.workloads import WORKLOADS, Workload
from benchmarks.peers import CHECKOUTS, PEERS, Peer
from benchmarks.suites.health import conclude

__all__ = [
    "Candidate",
    "Task",
    "add_destinations",
    "admit",
    "candidates",
    "checkout",
    "destinations",
    "forward_task",
    "header",
    "main",
    "measure",
    "own",
    "peer",
    "reason",
    "spelled",
    "step_task",
    "timed",
    "write_json",
]

_ROUNDS = 41
#: Without being asked: the others take some peers minutes on a CPU.
USUAL = ("W1", "W4", "W6")


@dataclass(frozen=True)
class Candidate:
    """Something that computes a network: how it is built, and how its gradients are read in freewire's order.

    Attributes:
        gradients: None: it has none that could be compared.
        dtypes: What it is compared in.
        no_step: Why it computes no gradients; None: it does. With neither these nor ``gradients`` it is another
            network of that size: only its cost is compared, and nothing checked.
    """

    label: str
    make: Callable[[fw.Network], nn.Module]
    gradients: Gradients | None
    refusal: Callable[[fw.Network], str | None] = lambda net: None
    no_step: str | None = None
    dtypes: tuple[torch.dtype, ...] = DTYPES


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
    gradients = kind.gradients if kind.no_step is None else None
    return Candidate(kind.label, kind, gradients, kind.refusal, kind.no_step, kind.dtypes)


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
    modules, refusals = admit(net, competing, workload.batch, device=device, forgiven=forgiven)
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
    forgiven: tuple[type[Exception], ...] = (),
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Build the candidates that can run a network, having compared them with the reference.

    Args:
        net: The network; it goes to ``device`` afterwards.
        competing: The candidates.
        batch: Samples of the comparison.
        rows: Samples that the reference runs: see `Yardstick`.
        device: Where the candidates run.
        forgiven: See `measure`.

    Returns:
        The candidates' modules, and the reasons why the others are left out, by label.

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
        except forgiven as error:
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
    """Time modules in turns; nothing is checked here.

    Args:
        what: "forward" or "step".
        modules: By label; the first is what the others are compared with.
        x: The batch, ``[B, I]``.
        rounds: See `measure`, as the others.
        threads: See there.
        block: See there.
        prepare: See there.

    Returns:
        By label what stands in a row of the results: a `Timing` with the ratio to the first, or ``refusal``.
    """
    make_task = {"forward": forward_task, "step": step_task}[what]
    with torch.set_grad_enabled(what == "step"):
        prepared: dict[str, Task | str] = {}
        for label, module in modules.items():
            prepared |= prepare(label, make_task(module, x))
        tasks = {label: task.run for label, task in prepared.items() if isinstance(task, Task)}
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
    """Why a candidate is left out, in a few words."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def forward_task(module: nn.Module, x: Tensor) -> Task:
    """A call without more; gradients are the caller's to switch off."""
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


# ---------------------------------------------------------------------------------- the command line


def spelled(command: str, arguments: Sequence[str] | None, names: Collection[str] = CHECKOUTS) -> str:
    """The command line as a reader would type it; where things lie stays out, since results are shared."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--json" in given:
        at = given.index("--json")
        del given[at : at + 2]
    given = [word for word in given if not word.startswith("--json=")]
    known = {f"{name}=" for name in names}
    shown = [next((f"{name}PATH" for name in known if word.startswith(name)), word) for word in given]
    return " ".join(["python", "-m", command, *shown])


def header(machine: dict[str, Any]) -> str:
    """One line about where this runs."""
    about = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} thread(s), torch {machine['torch']}"
    return f"{about}, freewire {machine['freewire']} ({machine['commit']}), load {machine['load']}"


def _print(workload: Workload, rows: Sequence[dict[str, Any]]) -> None:
    scale = {"ms": 1e3, "us": 1e6}[workload.unit]
    print(f"\n{workload.name}  {workload.about}, batch {workload.batch}  ({workload.unit}, median ± half the iqr)")
    print(f"  {'':<22}" + "".join(f"{what:>22}{'ratio':>8}" for what in workload.measures))
    for label in dict.fromkeys(row["candidate"] for row in rows if "median" in row):
        cells = ""
        for what in workload.measures:
            row = next(r for r in rows if r["candidate"] == label and r.get("measure") == what)
            time, ratio = "-", ""
            if "median" in row:
                time = f"{row['median'] * scale:.3g} ± {row['iqr'] * scale / 2:.2g}{'!' * bool(row['sick'])}"
                ratio = f"{row['ratio']:.1f}x"
            cells += f"{time:>22}{ratio:>8}"
        print(f"  {label:<22}{cells}")
    for row in rows:
        if "refusal" in row:
            of = f", {row['measure']}" if "measure" in row else ""
            print(f"  {row['candidate']}{of}: left out: {row['refusal']}")
        elif row["sick"]:
            share = f"{row['sick']} of {row['runs']} blocks on a disturbed machine"
            print(f"  ! {row['candidate']}, {row['measure']}: {share} (probe {row['slowdown']:.2f} times its best)")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write results, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\nwritten to {path}")


def add_destinations(parser: argparse.ArgumentParser) -> None:
    """Arguments of the commands whose results stay in the repository, plots included; see `destinations`."""
    parser.add_argument("--json", type=Path, metavar="PATH", help="left out: in benchmarks/results/")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="left out: docs/img/")
    parser.add_argument("--quick", action="store_true", help="small and short, into build/: a test of the benchmark")


def destinations(options: argparse.Namespace, name: str) -> tuple[Path, Path]:
    """Where the results go, and in which folder the plots; a quick run's figures must not get among the others."""
    results, images = ("build", "build") if options.quick else ("benchmarks/results", "docs/img")
    return options.json or Path(results, f"{name}.json"), options.images or Path(images)


def checkout(text: str, names: Collection[str] = CHECKOUTS) -> tuple[str, Path]:
    """A peer's name, one of ``names``, and folder, from ``NAME=PATH``."""
    name, _, path = text.partition("=")
    if name not in names or not path or not Path(path).is_dir():
        raise argparse.ArgumentTypeError(
            f"expected NAME=PATH with NAME one of {', '.join(names)} and PATH a folder, got {text!r}. "
            "Clone the project and give the folder."
        )
    return name, Path(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.run", description="Time freewire against its peers."
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=USUAL, metavar="NAME")
    which.add_argument("--all", action="store_true", help="all workloads, instead of those that take seconds")
    parser.add_argument(
        "--checkout",
        nargs="+",
        action="extend",
        type=checkout,
        default=[],
        metavar="NAME=PATH",
        help=f"folders of peers that no package index has: {', '.join(CHECKOUTS)}",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="blocks a measurement")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks.json"), metavar="PATH")
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds: a test of the benchmark")
    options = parser.parse_args(arguments)

    CHECKOUTS.update(options.checkout)
    torch.set_num_threads(options.threads)
    machine = describe(options.threads)
    print(header(machine))
    content = {
        "quick": options.quick,
        "machine": machine,
        "command": spelled("benchmarks.suites.run", arguments),
        "rows": [],
    }
    for name in WORKLOADS if options.all else options.workloads:
        workload = WORKLOADS[name].quick() if options.quick else WORKLOADS[name]
        rounds, block = (2, 0.001) if options.quick else (options.rounds, BLOCK)
        found = measure(workload, candidates(), rounds=rounds, threads=options.threads, block=block)
        _print(workload, found)
        content["rows"] += found
        conclude(machine)
        write_json(options.json, content)  # a workload takes minutes: who stops here keeps what there is
    print(f"load at the end: {machine['load_at_end']}")


if __name__ == "__main__":
    main()
