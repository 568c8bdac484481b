# SPDX-License-Identifier: MIT
"""Format the results of `benchmarks.suites.randwire` as Markdown, with a verdict on the goals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["GOALS", "section", "table"]

#: The least ratio of plain PyTorch's time to freewire's.
GOALS = {"inference": 1.5, "training": 1.25}
_OWN = {"inference": ("freewire", "freewire, fused"), "training": ("freewire",)}  # without a compiler

Row = dict[str, Any]


def section(content: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md: the table, what it contains, and whether the goals are met."""
    lines = [
        f"`{content['model']}`, {content['batch']} images of {content['size']} x {content['size']}, float32, "
        "channels_last. Inference is in eval mode without gradients; a training step is forward in training mode, "
        "cross entropy and backward, without an optimizer. Outputs and all gradients of the candidates that compute "
        "this network are compared with plain PyTorch's before they are timed, in float64 (in float32 if compiled). "
        f'"Compiled" means torch.compile with the backend {content["compiler"]}; the time to compile is not counted.',
        "",
        table(content),
        "Milliseconds per image; in brackets how many times as fast as plain PyTorch. Memory is the most that torch's "
        "allocator holds in a training step of the batch above what it held before, gradients included, in MB of "
        "10^6 bytes. Parameters and multiply-adds (of convolutions and the linear layer, for one image, in millions) "
        "show where a network differs: other projects' RandWires run on the same wiring, with other gates, "
        "biases and stems (`benchmarks/peers/randwire_checkouts.py`).",
        "",
        "Goals, according to these figures:",
        "",
        *goals(content),
    ]
    return "\n".join(lines) + "\n"


def table(content: dict[str, Any]) -> str:
    """The table, and the reasons for empty cells."""
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
        lines += ["", "Not run:", "", *refusals]
    return "\n".join(lines) + "\n"


def goals(content: dict[str, Any]) -> list[str]:
    """One sentence per goal: freewire against plain PyTorch, both without a compiler."""
    rows, plain = content["rows"], content["plain"]
    sentences = []
    for what, goal in GOALS.items():
        ours = [row for row in (_timed(rows, label, what) for label in _OWN[what]) if row]
        first = _timed(rows, plain, what)
        if not ours or not first:
            sentences.append(f"- {what}: not measured.")
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
                f" Compared with {fastest['candidate']!r}, the fastest of the others that compute this network, it "
                f"takes {best['median'] / fastest['median']:.2f} times as long."
            )
        if best["sick"] or first["sick"]:
            sentence += " Measured on a disturbed machine."
        sentences.append(sentence)
    sizes = {row["candidate"]: row["step_bytes"] for row in rows if "step_bytes" in row}
    own = _OWN["training"][0]
    if own not in sizes or plain not in sizes:
        return [*sentences, "- peak memory of a training step: not measured."]
    verdict = "met" if sizes[own] < sizes[plain] else "not met"
    share = sizes[own] / sizes[plain] - 1
    return [*sentences, f"- peak memory of a training step below plain PyTorch's: **{verdict}**, {share:+.1%}."]


def _timed(rows: Sequence[Row], label: str, what: str) -> Row:
    found = (row for row in rows if (row["candidate"], row.get("measure")) == (label, what) and "median" in row)
    return next(found, {})


def _time(row: Row) -> str:
    if not row:
        return "-"
    spread = row["iqr"] / row["median"] * 50
    return f"{row['per_image'] * 1e3:.3g} ± {spread:.0f} % ({row['speedup']:.2f}x)" + " !" * bool(row["sick"])
