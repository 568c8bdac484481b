# SPDX-License-Identifier: MIT
"""What a search returns: its best trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from freewire.errors import InputError, cut, shown

__all__ = ["Result", "best_line"]


@dataclass(frozen=True)
class Result:
    """The best trial of a search. Strategies may add attributes: NEAT's has ``graph`` and ``network``.

    Attributes:
        value: What the objective returned; of two equal ones the earlier trial is the best.
        params: The trial's parameters; None where the strategy proposes something else.
        trial: Its number.
        seed: The seed that the objective got.
        seconds: How long it took, with the other trials of its batch.
        line: Its line of the log.
        counts: How many trials ended in which way, by status.
        log: The absolute path of the log.
    """

    value: float
    params: dict[str, Any] | None
    trial: int
    seed: int
    seconds: float
    line: Mapping[str, Any] = field(repr=False)
    counts: Mapping[str, int]
    log: str
    extras: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """What the strategy has added."""
        extras = self.__dict__.get("extras", {})
        if name not in extras:
            raise AttributeError(f"the result of this search has no attribute {shown(name)}")
        return extras[name]


def best_line(lines: Sequence[Mapping[str, Any]], log: str) -> Mapping[str, Any]:
    """The line of the best trial that has finished.

    Args:
        lines: Lines of the log, in order of trials.
        log: The path of the log, for the message.

    Raises:
        InputError: No trial has finished.
    """
    finished = [line for line in lines if line["status"] == "finished"]
    if not finished:
        counts = Counter(line["status"] for line in lines)
        ends = ", ".join(f"{count} {status}" for status, count in counts.items())
        wrong = next((line for line in lines if line.get("error")), None)
        remedy = f"Use a pruner that lets more of them finish; to run these trials again, remove {log}."
        if wrong is not None:
            last = wrong["error"].splitlines()[-1].removeprefix(f"{wrong['status']}: ")  # the counts say that
            ends += f"; the first {wrong['status']}: {cut(last)}" if len(counts) > 1 else f"; the first: {cut(last)}"
            remedy = f"Read the errors in {log}; to run these trials again, remove it."
        raise InputError(f"objective: expected a number from at least one trial, got none ({ends}). {remedy}")
    return max(finished, key=lambda line: line["value"])  # the first of equal ones
