# SPDX-License-Identifier: MIT
"""RandWire's results as text: enters what `benchmarks.suites.randwire` writes to JSON, leaves Markdown, goals judged in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["GOALS", "section", "table"]

#: Of plain PyTorch's time over freewire's, at least.
GOALS = {"inference": 1.5, "training": 1.25}
_OWN = {"inference": ("freewire", "freewire, fused"), "training": ("freewire",)}  # what a user has without a compiler

Row = dict[str, Any]


def section(content: dict[str, Any]) -> str:
    """What stands in docs/benchmarks.md: the table, what it holds, and whether the goals are met."""
    lines = [
        f"`{content['model']}`, {content['batch']} images of {content['size']} x {content['size']}, float32, "
        "channels_last. Inference is in eval mode without gradients; a training step is forward in training mode, "
        "cross entropy and backward, without an optimizer. Outputs and all gradients of what computes this network "
        "are compared with plain PyTorch's, in float64 (what is compiled: in float32), before they are timed. "
        f'"Compiled" is by torch.compile, backend {content["compiler"]}; the time to compile is not counted.',
        "",
        table(content),
        "Milliseconds an image, in brackets how many times as fast as plain PyTorch. Memory is the most that torch's "
        "allocator holds in a training step of the batch above what it held before, gradients included, in MB of "
        "10^6 bytes; parameters and multiply-adds (of convolutions and the linear layer, for one image, in millions) "
        "show where a network is another one: other projects' RandWires run on the same wiring, with other gates, "
        "biases and stems (`benchmarks/peers/randwire_checkouts.py`).",
        "",
        "Goals, judged by these figures:",
        "",
        *goals(content),
    ]
    return "\n".join(lines) + "\n"


def table(content: dict[str, Any]) -> str:
    """The table, and why a cell is empty."""
    rows = content["rows"]
    lines = ["| | inference | training | step, MB | parameters, M | multiply-adds, M |", "|---" * 6 + "|"]
    for label in dict.fromkeys(row["candidate"] for row in rows):
        sizes = next((row for row in rows if row["candidate"] == label and "parameters" in row), {})
        cells = [_time(_timed(rows, label, what)) for what in ("inference", "training")]
        cells.append(f"{sizes['step_bytes'] / 1e6:,.0f}" if "step_bytes" in sizes else "-")
        cells += [f"{sizes[name] / 1e6:.2f}" if sizes else "-" for name in ("parameters", "multiply_adds")]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    refusals = [
        f"- {row['candidate']}{f', {where}' if where else ''}: {row[key]}"
        for row in rows
        for key, where in (("refusal", row.get("measure")), ("no_step_bytes", "memory"))
        if key in row
    ]
    if refusals:
        lines += ["", "Left out:", "", *refusals]
    return "\n".join(lines) + "\n"


def goals(content: dict[str, Any]) -> list[str]:
    """A sentence a goal: freewire as it is, without a compiler, against plain PyTorch as it is."""
    rows, plain = content["rows"], content["plain"]
    told = []
    for what, goal in GOALS.items():
        ours = [row for row in (_timed(rows, label, what) for label in _OWN[what]) if row]
        first = _timed(rows, plain, what)
        if not ours or not first:
            told.append(f"- {what}: not measured.")
            continue
        best = min(ours, key=lambda row: row["median"])
        verdict = "met" if best["speedup"] >= goal else "not met"
        sentence = (
            f"- {what}, at least {goal:g} times as fast as plain PyTorch: **{verdict}**, {best['candidate']} is "
            f"{best['speedup']:.2f} times as fast."
        )
        others = [row for row in rows if row.get("measure") == what and "median" in row]
        others = [row for row in others if row["candidate"].startswith("plain, ")]
        if others:
            fastest = min(others, key=lambda row: row["median"])
            sentence += (
                f" Beside {fastest['candidate']!r}, the fastest of the others that compute this network, it takes "
                f"{best['median'] / fastest['median']:.2f} times as long."
            )
        if best["sick"] or first["sick"]:
            sentence += " Measured on a disturbed machine."
        told.append(sentence)
    sizes = {row["candidate"]: row["step_bytes"] for row in rows if "step_bytes" in row}
    own = _OWN["training"][0]
    if own not in sizes or plain not in sizes:
        return [*told, "- peak memory of a training step: not measured."]
    verdict = "met" if sizes[own] < sizes[plain] else "not met"
    share = sizes[own] / sizes[plain] - 1
    return [*told, f"- peak memory of a training step below plain PyTorch's: **{verdict}**, {share:+.1%}."]


def _timed(rows: Sequence[Row], label: str, what: str) -> Row:
    found = (row for row in rows if (row["candidate"], row.get("measure")) == (label, what) and "median" in row)
    return next(found, {})


def _time(row: Row) -> str:
    if not row:
        return "-"
    spread = row["iqr"] / row["median"] * 50
    return f"{row['per_image'] * 1e3:.3g} ± {spread:.0f} % ({row['speedup']:.2f}x)" + " !" * bool(row["sick"])
