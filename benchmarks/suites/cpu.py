# SPDX-License-Identifier: MIT
"""Time freewire against its peers on the CPU.

``python -m benchmarks.suites.cpu [--workloads W1 W2 | --all] [--checkout NAME=PATH]`` (`make bench`) prints a table per
workload and writes a JSON file. Every candidate is checked against the reference before it is timed; see
`benchmarks.harness.measure`. The ratio is a candidate's median over freewire's: above 1, freewire is faster. A peer
that is not installed, or cannot run a workload, is listed with the reason.

The row "limit" is the shortest time that freewire's arithmetic and reads can take on this machine, whose peaks are
measured first, and the share of it that freewire reaches; see `benchmarks.harness.roofline`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import freewire as fw
from benchmarks.harness.command import add_checkouts, header, spelled, write_json
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe
from benchmarks.harness.measure import Candidate, measure, own
from benchmarks.harness.peaks import Peaks, PeaksError, measure_peaks
from benchmarks.harness.roofline import roofline
from benchmarks.harness.timing import BLOCK
from benchmarks.harness.workloads import WORKLOADS, Workload
from benchmarks.peers import CHECKOUTS, PEERS

__all__ = ["USUAL", "candidates", "main"]

_ROUNDS = 41
#: The workloads measured by default; on the others some peers take minutes on a CPU.
USUAL = ("W1", "W4", "W6")


def candidates() -> list[Candidate]:
    """The library first, then the peers."""
    return [own(), *(peer.candidate() for peer in PEERS)]


def add_limits(rows: Sequence[dict[str, Any]], workload: Workload, peaks: Peaks) -> None:
    """Add to freewire's rows what a call computes and reads, its limit, and the share of the limit it reaches."""
    plan = fw.plan.make_plan(workload.graph())
    for row in rows:
        if row["candidate"] == own().label:
            limit = roofline(plan, workload.batch, row["measure"], peaks)
            row["roofline"] = {**asdict(limit), "reached": limit.seconds / row["median"]}


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
        _print_limits(workload, [row["roofline"] for row in rows if row["candidate"] == label and "roofline" in row])
    for row in rows:
        if "refusal" in row:
            of = f", {row['measure']}" if "measure" in row else ""
            print(f"  {row['candidate']}{of}: not run: {row['refusal']}")
        elif row["sick"]:
            share = f"{row['sick']} of {row['runs']} blocks on a disturbed machine"
            print(f"  ! {row['candidate']}, {row['measure']}: {share} (probe {row['slowdown']:.2f} times its best)")


def _measured_again(peaks: Peaks | None, machine: dict[str, Any], options: argparse.Namespace) -> Peaks | None:
    """Measure the machine's peaks; the best so far are added to its description, or else the reason why not."""
    settings = {"rounds": 1, "seconds": 1e-4} if options.quick else {} if peaks is None else {"rounds": 2}
    try:
        peaks = measure_peaks(options.threads, **settings).best(peaks)
    except PeaksError as error:
        machine["peaks"] = {"refusal": str(error)}
        return None
    machine["peaks"] = asdict(peaks)
    return peaks


def _print_limits(workload: Workload, limits: Sequence[dict[str, Any]]) -> None:
    """The limit of each measure with the share reached, and below it what it is made of."""
    if not limits:
        return
    scale = {"ms": 1e3, "us": 1e6}[workload.unit]
    print(f"  {'  limit':<22}" + "".join(f"{of['seconds'] * scale:>22.3g}{of['reached']:>8.0%}" for of in limits))
    for what, of in zip(workload.measures, limits, strict=True):
        print(
            f"    {what}: {_short(of['flops'])} MFLOP, {_short(of['bytes'])} MB read from {of['level']} in tiles of "
            f"{of['tile']}; bound by {of['bound']}"
        )


def _short(count: int) -> str:
    """In millions."""
    return f"{count / 1e6:,.0f}" if count >= 1e8 else f"{count / 1e6:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.cpu", description="Time freewire against its peers on the CPU."
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=USUAL, metavar="NAME")
    which.add_argument("--all", action="store_true", help="all workloads, not only those that take seconds")
    add_checkouts(parser, CHECKOUTS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="blocks per measurement")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks.json"), metavar="PATH")
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds: a test of the benchmark")
    options = parser.parse_args(arguments)

    CHECKOUTS.update(options.checkout)
    torch.set_num_threads(options.threads)
    machine = describe(options.threads)
    print(header(machine))
    peaks = _measured_again(None, machine, options)
    print(f"no limits: {machine['peaks']['refusal']}" if peaks is None else peaks)
    command = spelled("benchmarks.suites.cpu", arguments, CHECKOUTS)
    content: dict[str, Any] = {"quick": options.quick, "machine": machine, "command": command, "rows": []}
    for name in WORKLOADS if options.all else options.workloads:
        workload = WORKLOADS[name].quick() if options.quick else WORKLOADS[name]
        rounds, block = (2, 0.001) if options.quick else (options.rounds, BLOCK)
        found = measure(workload, candidates(), rounds=rounds, threads=options.threads, block=block)
        if peaks is not None:
            peaks = _measured_again(peaks, machine, options)  # the machine may have been disturbed before
            add_limits(found, workload, peaks)
        _print(workload, found)
        content["rows"] += found
        conclude(machine)
        write_json(options.json, content)  # after every workload, so that stopping the command loses at most one
    print(f"load at the end: {machine['load_at_end']}")


if __name__ == "__main__":
    main()
