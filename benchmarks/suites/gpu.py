# SPDX-License-Identifier: MIT
"""Time freewire against its peers on a GPU: ``python -m benchmarks.suites.gpu [--out FOLDER] [--minutes N] [--quick]``.

It runs the workloads at several batch sizes, against the peers that a GPU has (cuSPARSE per level, masked dense per
level, dense layers), and writes FOLDER/<chip>.json and the same as a Markdown table. Both are rewritten after every
workload, so that no measurement is lost if a later one fails. Candidates are checked, timed and counted as in
`benchmarks.harness.measure`; a block of calls starts and ends with a synchronisation, so a time is a call's share of
what the CPU and the GPU needed together.

Each candidate runs twice: called from Python, and ("graph") with the same call captured into a CUDA graph, which
leaves only the GPU's time. The dense MLP is another network, with as many layers, and neurons per layer, as the wiring
has levels and nodes: it shows what a dense network of that shape costs, and its results are not compared. Peers that
fail, or need more memory or time than there is, get a dash and the reason.

All numbers are drawn on the CPU: a capture that failed can leave torch's generator on the GPU refusing every draw.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import freewire as fw
from benchmarks.harness.command import write_json, write_text
from benchmarks.harness.correctness import WrongResultError
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe, describe_gpu
from benchmarks.harness.measure import Candidate, Task, measure, own, reason
from benchmarks.harness.table import markdown
from benchmarks.harness.timing import BLOCK
from benchmarks.harness.workloads import WORKLOADS, Workload
from benchmarks.peers.csr import CsrPeer
from benchmarks.peers.dense_layers import DENSE
from benchmarks.peers.masked import MaskedPeer
from benchmarks.peers.sequential import SequentialPeer

__all__ = ["CASES", "main"]

#: Workload and batch, in the order of the table: the longest last, for the time may be up before it begins.
CASES = (("W1", 256), ("W1", 1024), ("W1", 16384), ("W2", 1024), ("W4", 256), ("W3", 256), ("W4", 16384))
_ROUNDS = 21
_LONGEST = 2.0  # seconds a call
_SAME = 1e-4  # relative difference between a captured call's results and the plain one's

Prepared = dict[str, Task | str]


def competing() -> list[Candidate]:
    """The library first, then what a GPU has."""
    return [
        own(),
        *(peer.candidate() for peer in (CsrPeer, MaskedPeer, SequentialPeer)),
        replace(DENSE, refusal=_dense_refusal),
    ]


def _dense_refusal(net: fw.Network) -> str | None:
    return "the wiring is dense itself: see nn.Sequential" if SequentialPeer.refusal(net) is None else None


# ---------------------------------------------------------------------------------- what is timed


def prepare_on_cpu(label: str, task: Task) -> Prepared:
    """The call as it is."""
    task.run()
    return {label: task}


def prepare_on_gpu(label: str, task: Task) -> Prepared:
    """The call as it is, and captured."""
    graph = f"{label}, graph"
    try:
        task.run()  # makes handles and workspaces
        torch.cuda.synchronize()
        start = time.perf_counter()
        task.run()
        torch.cuda.synchronize()
    except RuntimeError as error:
        if label == "freewire":
            raise
        return dict.fromkeys((label, graph), reason(error))
    if (took := time.perf_counter() - start) > _LONGEST:
        return dict.fromkeys((label, graph), f"{took:.1f} s a call")
    try:
        return {label: task, graph: captured(label, task)}
    except (RuntimeError, WrongResultError) as error:
        if label == "freewire":
            raise
        return {label: task, graph: reason(error)}


def captured(label: str, task: Task) -> Task:
    """The same call as a CUDA graph.

    Args:
        label: Of the candidate, for the message.
        task: What to capture.

    Raises:
        WrongResultError: On another input the graph's results are not the call's.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            task.run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = task.run()

    def replay() -> Sequence[torch.Tensor]:
        graph.replay()
        return results

    with torch.no_grad():
        task.x.copy_(torch.randn(task.x.shape, dtype=task.x.dtype))
    found = [value.detach().clone() for value in replay()]
    for got, want in zip(found, task.run(), strict=True):
        error = float((got - want).norm() / want.norm().clamp_min(torch.finfo(want.dtype).tiny))
        if not error <= _SAME:
            raise WrongResultError(
                f"{label}: expected the captured call's results to be the call's within {_SAME:.0e}, got a relative "
                f"error of {error:.1e}. Nothing is timed until they agree."
            )
    return Task(replay, task.x)


# ---------------------------------------------------------------------------------- the command line


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.gpu", description="Time freewire against its peers on a GPU."
    )
    parser.add_argument("--cases", nargs="+", default=[f"{name}:{batch}" for name, batch in CASES], metavar="W1:256")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=5.0, help="start no new case after this many")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="blocks per measurement")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a test of the benchmark")
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds: a test of the benchmark")
    parser.add_argument("--commit", help="commit of the sources, if they are a copy without git")
    return parser.parse_args(arguments)


def _workload(case: str, quick: bool) -> Workload:
    name, _, batch = case.partition(":")
    if name not in WORKLOADS or not batch.isdigit():
        sys.exit(f"--cases: expected names of {', '.join(WORKLOADS)} with a batch, as W1:256, got {case!r}.")
    workload = WORKLOADS[name]
    return workload.quick() if quick else replace(workload, batch=int(batch))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    started = time.monotonic()
    options = _parsed(arguments)
    workloads = dict.fromkeys(_workload(case, options.quick) for case in options.cases)  # small ones coincide
    threads = torch.get_num_threads()
    machine = describe(threads)
    machine["commit"] = options.commit or machine["commit"]
    chip = options.device
    if options.device == "cuda":
        if not torch.cuda.is_available():
            sys.exit("--device: expected a GPU that this torch can use, got none. Run it where there is one.")
        machine["gpu"] = describe_gpu()
        chip = re.sub(r"[^a-z0-9]+", "-", machine["gpu"]["name"].lower()).strip("-")
    given = " ".join(["python -m benchmarks.suites.gpu", *(sys.argv[1:] if arguments is None else arguments)])
    content: dict[str, Any] = {"quick": options.quick, "machine": machine, "command": given, "rows": []}
    rounds, block = (2, 0.001) if options.quick else (options.rounds, BLOCK)
    for workload in workloads:
        minutes = (time.monotonic() - started) / 60
        if minutes > options.minutes:
            print(f"{workload.name}, {workload.batch}: skipped, {minutes:.1f} minutes have passed")
            continue
        content["rows"] += measure(
            workload,
            competing(),
            rounds=rounds,
            threads=threads,
            block=block,
            device=options.device,
            prepare=prepare_on_gpu if options.device == "cuda" else prepare_on_cpu,
            tolerated=() if options.device == "cpu" else (RuntimeError, WrongResultError),
        )
        conclude(machine)
        if options.device == "cuda":
            machine["gpu_at_end"] = describe_gpu()
            torch.cuda.empty_cache()
        write_json(options.out / f"{chip}.json", content)
        write_text(options.out / f"{chip}.md", markdown(content))
        minutes = (time.monotonic() - started) / 60
        print(f"{workload.name}, {workload.batch}: {minutes:.1f} minutes", flush=True)
    print(markdown(content))


if __name__ == "__main__":
    main()
