# SPDX-License-Identifier: MIT
"""Write docs/benchmarks.md and its plots from the recorded results: ``python -m benchmarks.harness.report``.

The page is made from benchmarks/results/*.json alone, and a test checks that page and plots match the JSON files. What
is not measured yet is listed on the page with the command that measures it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import randwire_table
from benchmarks.harness.command import write_text
from benchmarks.harness.plots import density_plot, scaling_plot
from benchmarks.harness.table import cell, place

__all__ = ["COMMANDS", "main", "page", "read"]

#: The results that the page shows, and the command that measures each.
COMMANDS = {
    "cpu": "python -m benchmarks.suites.cpu --all --json benchmarks/results/cpu.json",
    "scaling": "python -m benchmarks.suites.scaling",
    "density": "python -m benchmarks.suites.density",
    "randwire": "python -m benchmarks.suites.randwire --checkout seungwonpark=PATH jiaminren=PATH",
}
_TITLES = {
    "cpu": "Compared with other ways to run the same network",
    "scaling": "Growth with edges, batch and depth",
    "density": "Where dense layers become faster",
    "randwire": "RandWire compared with plain PyTorch",
}
_TITLE = """<!-- SPDX-License-Identifier: MIT -->
<!-- written by `python -m benchmarks.harness.report`; do not edit -->
# Benchmarks

Every candidate's outputs and gradients are compared with `freewire.reference` before it is timed, and the candidates
take turns in blocks of 10 ms. A "forward" runs without gradients; a "step" clears the gradients and runs
`net(x).sum().backward()` with x requiring a gradient too. Figures are medians ± half the interquartile range.

A health probe, some 10 ms of fixed arithmetic on all cores, runs before and after every block. A block next to a run
of the probe that is {share:.0f} % slower than the session's fastest one is measured again, for at most twice the
requested number of blocks; figures that still rely on such blocks are marked with "!".
"""
_SHARE = 0.25  # by which the probe's fastest run may differ between two sessions on the same kind of processor

Results = dict[str, dict[str, Any]]


def read(folder: Path) -> Results:
    """Read the results in a folder, those of GPUs included, by file name without ``.json``.

    Raises:
        ValueError: A file holds the results of a quick run.
    """
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    for name, content in found.items():
        if name in COMMANDS and content["quick"]:
            raise ValueError(
                f"{name}.json: expected results of a full run, got those of a quick one. Run `{COMMANDS[name]}`."
            )
    return found


def page(results: Results) -> str:
    """The page's text.

    Args:
        results: The results of `read`.
    """
    share = max((c["machine"]["probe"]["share"] for n, c in results.items() if n in COMMANDS), default=_SHARE)
    parts = [_TITLE.format(share=share * 100)]
    write: dict[str, Callable[[dict[str, Any]], str]] = {
        **{"cpu": _peers, "scaling": _scaling, "density": _density},
        "randwire": randwire_table.section,
    }
    for name, title in _TITLES.items():
        text = f"Not measured yet: run `{COMMANDS[name]}`.\n"
        if name in results:
            text = f"{_session(results[name], results)}\n\n{write[name](results[name])}"
        parts.append(f"## {title}\n\n{text}")
    chips = [name for name, content in results.items() if "gpu" in content["machine"]]
    text = "".join(
        f"- [{results[name]['machine']['gpu']['name']}](../benchmarks/results/{name}.md)\n" for name in chips
    )
    parts.append("## On a GPU\n\n" + (text or "Not measured yet: run `make bench-gpu`.\n"))
    return "\n".join(parts)


def _session(content: dict[str, Any], results: Results) -> str:
    """Where and how well it was measured."""
    machine, rows = content["machine"], [row for row in content["rows"] if "sick" in row]
    probe = machine["probe"]
    sick = sum(bool(row["sick"]) for row in rows)
    text = (
        f"{place(machine)} `{content['command']}`. The probe's fastest run took {probe['best'] * 1e3:.1f} ms, the "
        f"median {probe['median'] / probe['best']:.2f} times as long; {sick} of {len(rows)} measurements are marked."
    )
    best = min(c["machine"]["probe"]["best"] for c in results.values() if c["machine"]["cpu"] == machine["cpu"])
    if probe["best"] > best * (1 + _SHARE):
        text += (
            f" **Another session on this kind of processor was {probe['best'] / best:.2f} times as fast: repeat this "
            "measurement.**"
        )
    return text


def _peers(content: dict[str, Any]) -> str:
    rows = content["rows"]
    timed = [row for row in rows if "median" in row]
    workloads = dict.fromkeys((row["workload"], row["about"], row["batch"]) for row in rows)
    labels = list(dict.fromkeys(row["candidate"] for row in timed))  # the others are below, with the reasons
    lines = []
    for what in dict.fromkeys(row["measure"] for row in timed):
        names = list(dict.fromkeys(row["workload"] for row in timed if row["measure"] == what))
        lines += [f"{what.capitalize()}, ms (in brackets the median over freewire's):", ""]
        lines += ["| | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
        for label in labels:
            own = {row["workload"]: row for row in timed if (row["measure"], row["candidate"]) == (what, label)}
            lines.append(f"| {label} | " + " | ".join(cell(own.get(name, {})) for name in names) + " |")
            if any("roofline" in row for row in own.values()):
                limits = [_limit(own.get(name, {})) for name in names]
                lines.append(f"| limit of {label} | " + " | ".join(limits) + " |")
        lines.append("")
    lines += [f"- {name}: `{about}`, batch {batch}" for name, about, batch in workloads]
    if any("roofline" in row for row in rows):
        lines += ["", _about_limits(content["machine"]["peaks"])]
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "refusal" in row:
            what = f" ({row['measure']})" if "measure" in row else ""
            reasons.setdefault((row["candidate"], row["refusal"]), []).append(row["workload"] + what)
    if reasons:
        lines += ["", "Not run:", ""]
        lines += [f"- {label}, {', '.join(where)}: {why}" for (label, why), where in reasons.items()]
    lines += [
        "",
        "Each peer uses the best of several layouts, listed at the head of its file in `benchmarks/peers/`.",
    ]
    return "\n".join(lines) + "\n"


def _limit(row: dict[str, Any]) -> str:
    if "roofline" not in row:
        return "-"
    return f"{row['roofline']['seconds'] * 1e3:.3g} ({row['roofline']['reached']:.0%})"


def _about_limits(peaks: dict[str, Any]) -> str:
    rates = ", ".join(f"{level['name']} {level['random'] / 1e9:.0f}" for level in peaks["levels"])
    return (
        "The limit is the shortest time that the network's arithmetic and reads can take, in brackets the share of it "
        "that is reached ([how it is counted](performance.md)). Peaks of this machine, measured in the same run: "
        f"{peaks['flops'] / 1e9:.0f} GFLOP/s; random rows of 256 bytes in GB/s: {rates}."
    )


def _scaling(content: dict[str, Any]) -> str:
    rows = content["rows"]
    kinds = list(dict.fromkeys((row["measure"], row["threads"]) for row in rows))
    lines = ["![Time over edges, batch and depth](img/scaling.svg)", ""]
    lines += ["Time per edge and sample in ns, in brackets the network's in ms:", ""]
    heads = [f"{what}, {threads} thread{'s' * (threads > 1)}" for what, threads in kinds]
    lines += ["| edges | batch | depth | " + " | ".join(heads) + " |", "|---" * (3 + len(kinds)) + "|"]
    for point in dict.fromkeys((row["edges"], row["batch"], row["depth"]) for row in rows):
        own = {(r["measure"], r["threads"]): r for r in rows if (r["edges"], r["batch"], r["depth"]) == point}
        cells = [f"{own[k]['ns_per_edge_sample']:.3g} ({own[k]['median'] * 1e3:.3g}){_mark(own[k])}" for k in kinds]
        lines.append("| " + " | ".join(f"{value:,}" for value in point) + " | " + " | ".join(cells) + " |")
    slopes = [f"{_slope(rows, line, kinds[-1]):.2f} in {line}" for line in ("edges", "batch")]
    lines += ["", f"Slope of log time between the line's middle and its end, {heads[-1]}: {', '.join(slopes)}."]
    return "\n".join(lines) + "\n"


def _slope(rows: Sequence[dict[str, Any]], line: str, kind: tuple[str, int]) -> float:
    """The slope of log time over the upper half of a line, since the fixed cost of a call affects the lower half."""
    own = sorted(
        (row[line], row["median"]) for row in rows if line in row["lines"] and (row["measure"], row["threads"]) == kind
    )
    at, time = np.log(np.array(own[len(own) // 2 - 1 :])).T
    return float(np.polyfit(at, time, 1)[0])


def _density(content: dict[str, Any]) -> str:
    rows = content["rows"]
    lines = ["![Time over density](img/density.svg)", ""]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    labels = list(dict.fromkeys(row["candidate"] for row in rows))
    heads = [f"{what}, {label}" for what in measures for label in labels]
    lines += ["| network | density | edges | " + " | ".join(heads) + " |", "|---" * (3 + len(heads)) + "|"]
    for point in dict.fromkeys((row["network"], row["density"], row["edges"]) for row in rows):
        own = {(r["measure"], r["candidate"]): r for r in rows if (r["network"], r["density"], r["edges"]) == point}
        cells = [cell(own[what, label]) for what in measures for label in labels]
        lines.append(f"| {point[0]} | {point[1] * 100:g} % | {point[2]:,} | " + " | ".join(cells) + " |")
    lines += ["", "Times in ms, in brackets relative to freewire's. Both are equally fast at:", ""]
    for cross in content["crossovers"]:
        at = "one is faster at all these densities" if cross["density"] is None else f"{cross['density']:.2%}"
        lines.append(f"- {cross['network']}, {cross['measure']}: {at}")
    return "\n".join(lines) + "\n"


def _mark(row: dict[str, Any]) -> str:
    return " !" if row["sick"] else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.harness.report", description="Write docs/benchmarks.md."
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), metavar="FOLDER")
    parser.add_argument("--docs", type=Path, default=Path("docs"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    results = read(options.results)
    for name, draw in (("scaling", scaling_plot), ("density", density_plot)):
        if name in results:
            draw(results[name], options.docs / "img")
    path = options.docs / "benchmarks.md"
    write_text(path, page(results))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
