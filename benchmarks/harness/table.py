# SPDX-License-Identifier: MIT
"""Format results, as a benchmark writes them to JSON, as a Markdown table with one column per candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["cell", "markdown", "place"]


def markdown(content: dict[str, Any]) -> str:
    """The page: where it was measured, the table, and why a cell is empty.

    Args:
        content: ``machine``, ``command`` and ``rows``, as `benchmarks.suites.gpu` writes them.
    """
    machine, rows = content["machine"], content["rows"]
    title = machine.get("gpu", {}).get("name") or machine["cpu"]
    lines = ["<!-- SPDX-License-Identifier: MIT -->", f"# {title}", ""]
    if content["quick"]:
        lines += ["A quick run on small networks, to test the benchmark: its figures mean nothing.", ""]
    lines += [f"{place(machine)} `{content['command']}`", ""]
    lines += ["Medians in ms ± half the interquartile range; in brackets the median over freewire's.", ""]
    if any(row.get("sick") for row in rows):
        lines += ["!: measured while something else used the machine, according to the health probe.", ""]
    lines += _table(rows)
    networks = dict.fromkeys((row["workload"], row["about"]) for row in rows)
    lines += ["", *(f"- {name}: `{about}`" for name, about in networks)]
    refusals = dict.fromkeys(
        f"{row['workload']}, {row['batch']}, {row['candidate']}{_of(row)}: {row['refusal']}"
        for row in rows
        if "refusal" in row
    )
    if refusals:
        lines += ["", "Not run:", "", *(f"- {refusal}" for refusal in refusals)]
    return "\n".join(lines) + "\n"


def place(machine: dict[str, Any]) -> str:
    """Machine, versions and commit, as a sentence."""
    parts = [machine["cpu"], f"{machine['cores']} cores", f"Python {machine['python']}", f"torch {machine['torch']}"]
    if gpu := machine.get("gpu"):
        at_end = machine.get("gpu_at_end", gpu)
        parts += [f"CUDA {gpu['cuda']}", f"driver {gpu['driver']}", f"{gpu['multiprocessors']} multiprocessors"]
        parts += [f"clocks {at_end['clocks']} at the end"]
    return ", ".join(map(str, [*parts, f"commit {machine['commit']}"])) + "."


def _of(row: dict[str, Any]) -> str:
    return f", {row['measure']}" if "measure" in row else ""


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    timed = [row for row in rows if "measure" in row]
    labels = list(dict.fromkeys(row["candidate"] for row in timed))
    lines = ["| workload | batch | pass | " + " | ".join(labels) + " |", "|---" * (3 + len(labels)) + "|"]
    for name, batch, what in dict.fromkeys((row["workload"], row["batch"], row["measure"]) for row in timed):
        own = {
            row["candidate"]: row
            for row in timed
            if (row["workload"], row["batch"], row["measure"]) == (name, batch, what)
        }
        cells = [cell(own.get(label, {})) for label in labels]
        lines.append(f"| {name} | {batch:,} | {what} | " + " | ".join(cells) + " |")
    return lines


def cell(row: dict[str, Any]) -> str:
    """A median with its spread and ratio, marked if the machine was disturbed; "-" if nothing was timed."""
    if "median" not in row:
        return "-"
    mark = " !" if row["sick"] else ""
    spread = row["iqr"] / row["median"] * 50
    return f"{row['median'] * 1e3:.3g} ± {spread:.0f} % ({row['ratio']:.3g}x){mark}"
