# SPDX-License-Identifier: MIT
"""Format the results of `benchmarks.suites.randwire` as Markdown, with a verdict on the goals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["GOALS", "MEMORY_GOAL", "SHARE_GOAL", "goals", "section", "table"]

#: Of the machine's peak in float32, in inference.
SHARE_GOAL = 0.6
#: What may at least be how many times as fast as what: (measure, ours, the other's label, ratio).
GOALS = (
    ("inference", "freewire, fused, bfloat16", "freewire, fused", 1.7),
    ("latency", "freewire, fused", "plain PyTorch", 1.5),
    ("training", "freewire", "plain PyTorch", 1.5),
    ("training", "freewire", "plain, compiled", 1.0),
    ("inference", "freewire, fused", "plain, BN folded, compiled", 1.0),
    ("training", "freewire, compiled", "freewire", 1.0),
    ("inference", "freewire, fused, compiled", "freewire, fused", 1.0),
)
#: The most memory of a training step, as a share of plain PyTorch's.
MEMORY_GOAL = 0.5
_OWN = "freewire"
_MEASURES = ("inference", "latency", "training")

Row = dict[str, Any]


def section(content: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md: the table, what it contains, and whether the goals are met."""
    lines = [
        f"`{content['model']}`, {content['batch']} images of {content['size']} x {content['size']}, float32 unless "
        "said otherwise, channels_last. Inference is in eval mode without gradients, latency that of a single image; a "
        "training step is forward in training mode, cross entropy and backward, without an optimizer. Outputs and all "
        "gradients of the candidates that compute this network are compared with plain PyTorch's before they are "
        f'timed, in float64 (in float32 if compiled). "Compiled" means torch.compile with the backend '
        f"{content['compiler']}; the time to compile is not counted.",
        "",
        table(content),
        "Milliseconds per image; in brackets how many times as fast as plain PyTorch, and which share of the machine's "
        f"peak in float32 the arithmetic reaches ({_peak(content) / 1e9:.0f} GFLOP/s, measured in the same run). "
        "Memory is the most that torch's allocator holds in a training step of the batch above what it held before, "
        "gradients included, in MB of 10^6 bytes. Parameters and multiply-adds (of convolutions and the linear layer, "
        "for one image, in millions) show where a network differs: other projects' RandWires run on the same wiring, "
        "with other gates, biases and stems (`benchmarks/peers/randwire_checkouts.py`).",
        "",
        "Goals, according to these figures:",
        "",
        *goals(content),
    ]
    return "\n".join(lines) + "\n"


def table(content: dict[str, Any]) -> str:
    """The table, and the reasons for empty cells."""
    rows = content["rows"]
    lines = ["| | inference | latency | training | step, MB | parameters, M | multiply-adds, M |", "|---" * 7 + "|"]
    for label in dict.fromkeys(row["candidate"] for row in rows):
        sizes = next((row for row in rows if row["candidate"] == label and "parameters" in row), {})
        shares = (_share(content, label) if what == "inference" else None for what in _MEASURES)
        cells = [_time(_timed(rows, label, what), share) for what, share in zip(_MEASURES, shares, strict=True)]
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
    """One sentence per goal, each according to the figures."""
    rows = content["rows"]
    share = _share(content, "freewire, fused")
    wanted = f"- inference: at least {SHARE_GOAL:.0%} of the machine's peak"
    sentences = [
        f"{wanted}: not measured."
        if share is None
        else f"{wanted}: **{_verdict(share >= SHARE_GOAL)}**, freewire, fused reaches {share:.0%}."
    ]
    for what, label, other, goal in GOALS:
        ours, theirs = _timed(rows, label, what), _timed(rows, other, what)
        least = "no slower than" if goal == 1 else f"at least {goal:g} times as fast as"
        wanted = f"- {what}: {label} {least} {other}"
        if not ours or not theirs:
            sentences.append(f"{wanted}: not measured.")
            continue
        ratio = theirs["median"] / ours["median"]
        disturbed = " Measured on a disturbed machine." if ours["sick"] or theirs["sick"] else ""
        sentences.append(f"{wanted}: **{_verdict(ratio >= goal)}**, {ratio:.2f} times.{disturbed}")
    sizes = {row["candidate"]: row["step_bytes"] for row in rows if "step_bytes" in row}
    wanted = f"- training: at most {MEMORY_GOAL:g} times plain PyTorch's memory"
    if _OWN not in sizes or content["plain"] not in sizes:
        return [*sentences, f"{wanted}: not measured."]
    ratio = sizes[_OWN] / sizes[content["plain"]]
    return [*sentences, f"{wanted}: **{_verdict(ratio <= MEMORY_GOAL)}**, {ratio:.2f} times."]


def _verdict(met: bool) -> str:
    return "met" if met else "not met"


def _peak(content: dict[str, Any]) -> float:
    """The machine's peak in operations per second, two per multiply-add."""
    flops: float = content["machine"]["peaks"]["flops"]
    return flops


def _share(content: dict[str, Any], label: str) -> float | None:
    """The share of the peak that inference in float32 reaches."""
    timed = _timed(content["rows"], label, "inference")
    sizes = next((row for row in content["rows"] if row["candidate"] == label and "multiply_adds" in row), None)
    if not timed or sizes is None or "bfloat16" in label:
        return None
    return float(2 * sizes["multiply_adds"] / timed["per_image"] / _peak(content))


def _timed(rows: Sequence[Row], label: str, what: str) -> Row:
    found = (row for row in rows if (row["candidate"], row.get("measure")) == (label, what) and "median" in row)
    return next(found, {})


def _time(row: Row, share: float | None) -> str:
    if not row:
        return "-"
    spread = row["iqr"] / row["median"] * 50
    of_peak = "" if share is None else f", {share:.0%}"
    return f"{row['per_image'] * 1e3:.3g} ± {spread:.0f} % ({row['speedup']:.2f}x{of_peak})" + " !" * bool(row["sick"])
