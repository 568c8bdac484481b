# SPDX-License-Identifier: MIT
"""What a series of measurements means: records go in, findings in plain sentences come out.

A finding rests on the median of the last `WINDOW` measurements, so that one unusual batch does not make one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from freewire.studies.diagnostics_log import Record

__all__ = ["WINDOW", "findings", "median", "summary"]

WINDOW = 20  # measurements
SHORT, LONG = -0.9, 0.2  # step lengths between which nothing is said
RATIOS = 1e-6, 0.1  # update-to-weight ratios, the same
DEAD = 0.2  # share of the units, of the network
DEAD_IN_LEVEL = 0.5  # share of the units, of a level with at least so many of them:
UNITS_IN_LEVEL = 4
SATURATED = 0.5
MISFIT = 0.3
SPREAD = 1e4  # between gradient norms of levels
NOISE = 10.0  # between the noise scale and the batch size


def median(records: Sequence[Record], name: str) -> float | None:
    """The median of a number over records, without those where it is missing or not finite; None if all are."""
    values = [record[name] for record in records]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(finite) if finite else None


def summary(records: Sequence[Record]) -> str:
    """One line of numbers: medians of the last measurements."""
    if not records:
        return "Diagnostics: nothing measured yet."
    last, recent = records[-1], records[-WINDOW:]
    shown = [
        f"{label} {value:.3g}"
        for label, value in (
            ("loss", median(recent, "loss")),
            ("step length", median(recent, "step_length")),
            ("gradient norm", median(recent, "gradient_norm")),
            ("update ratio", median(recent, "update_ratio")),
        )
        if value is not None
    ]
    units = "" if last["noise_scale"] is None else f"noise scale {last['noise_scale']:.3g} samples, "
    units += f"{last['dead']:,} dead and {last['saturated']:,} saturated of {last['units']:,} units"
    medians = f" (medians of {len(recent)} measurements)" if len(recent) > 1 else ""
    return f"Step {last['step']:,}: {', '.join(shown)}{medians}; {units}"


def findings(records: Sequence[Record]) -> list[str]:
    """What the last measurements say about the training, most important first; empty if nothing stands out."""
    if not records:
        return []
    last, recent = records[-1], records[-WINDOW:]
    return [*_not_finite(records), *_steps(recent), *_units(last), *_gradients(recent, last)]


def _not_finite(records: Sequence[Record]) -> Iterable[str]:
    for name, what in (("loss", "The loss"), ("gradient_norm", "The gradient"), ("weight_norm", "A weight")):
        broken = next((each for each in records if each[name] is not None and not math.isfinite(each[name])), None)
        if broken is not None:
            yield f"{what} is not finite from step {broken['step']:,} on: lower the learning rate, or check the data."
            return


def _steps(recent: Sequence[Record]) -> Iterable[str]:
    length, misfit, ratio = (median(recent, name) for name in ("step_length", "misfit", "update_ratio"))
    if misfit is not None and misfit > MISFIT:
        yield (
            f"Losses and slopes do not fit a parabola (median misfit {misfit:.2g}): steps are so long that the slope "
            "changes irregularly, or the optimizer's gradient is not that of the batch. If gradients are clipped, "
            "accumulated or averaged over processes, pass recompute=True."
        )
    if length is not None and length > 1:
        yield f"Steps end higher than they start (median step length {length:.2f}): the learning rate is too large."
    elif length is not None and length > LONG:
        yield f"Steps end beyond the minimum (median step length {length:.2f}): the learning rate could be smaller."
    elif length is not None and length < SHORT:
        yield f"Steps end far from the minimum (median step length {length:.2f}): the learning rate could be larger."
    if ratio is not None and not RATIOS[0] <= ratio <= RATIOS[1]:
        how = "hardly change the weights" if ratio < RATIOS[0] else "change a large part of the weights"
        yield f"Steps {how} (median update-to-weight ratio {ratio:.1g}; 0.001 is common)."


def _units(last: Record) -> Iterable[str]:
    levels = last["levels"]
    for name, limit, remedy in (
        ("dead", DEAD, "on this batch they learn nothing. Lower the learning rate, or start with larger biases."),
        ("saturated", SATURATED, "scale the inputs or the weights down."),
    ):
        if last["units"] and last[name] > limit * last["units"]:
            yield f"{last[name]:,} of {last['units']:,} units are {name}: {remedy}"
        full = [
            level
            for level, units, count in zip(levels["level"], levels["units"], levels[name], strict=True)
            if units >= UNITS_IN_LEVEL and count > max(DEAD_IN_LEVEL, limit) * units
        ]
        if full:
            yield f"Most units of level{'s' * (len(full) > 1)} {_few(full)} are {name}."


def _gradients(recent: Sequence[Record], last: Record) -> Iterable[str]:
    norms = [
        (norm, level)
        for norm, level in zip(last["levels"]["gradient_norm"], last["levels"]["level"], strict=True)
        if math.isfinite(norm)
    ]
    if norms and max(norms)[0] > SPREAD * min(norms)[0]:
        (low, level), (high, other) = min(norms), max(norms)
        yield (
            f"Gradients of levels differ by orders of magnitude: {low:.1g} at level {level}, {high:.1g} at level "
            f"{other}."
        )
    scale, samples = last["noise_scale"], last["samples"]
    if len(recent) < WINDOW:  # the averages have not settled
        return
    if scale is None and samples > 1:
        yield f"The gradient of {samples:,} samples is mostly noise: a larger batch would make better steps."
    elif scale is not None and scale > NOISE * samples:
        yield (
            f"The gradient of {samples:,} samples is mostly noise (noise scale {scale:,.0f} samples): a larger batch "
            "would make better steps."
        )
    elif scale is not None and scale < samples / NOISE:
        yield (
            f"The gradient of {samples:,} samples has little noise (noise scale {scale:,.2g} samples): smaller batches "
            "would make as good steps."
        )


def _few(levels: Sequence[int]) -> str:
    more = f" and {len(levels) - 5} others" if len(levels) > 5 else ""
    return ", ".join(str(level) for level in levels[:5]) + more
