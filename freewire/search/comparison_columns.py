# SPDX-License-Identifier: MIT
"""The axes of a comparison's picture: each is a parameter of the searches, a range of numbers or a list of choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from freewire.graph.arguments import FloatArray
from freewire.search.recorded_trials import as_number, as_text
from freewire.search.search_report import SearchReport

__all__ = ["Column", "columns_of"]

#: The most axes that a picture has.
MOST = 12
_CHOICES = 20  # a parameter of more different texts is no axis
_TICKS = 5


@dataclass(frozen=True)
class Column:
    """One axis.

    Attributes:
        name: The parameter.
        choices: Its values as text; empty where it is a number.
        low: The lowest number; 0 for choices.
        high: The highest; the last place for choices.
    """

    name: str
    choices: tuple[str, ...]
    low: float
    high: float

    def positions(self, values: Sequence[Any]) -> FloatArray:
        """Numbers, or the places of choices; NaN where a trial has no such parameter ``[n]``."""
        if self.choices:
            place = {text: float(i) for i, text in enumerate(self.choices)}
            return np.array([place.get(as_text(value), np.nan) if value is not ... else np.nan for value in values])
        numbers = [as_number(value) for value in values]
        return np.array([np.nan if number is None else number for number in numbers], np.float64)

    def places(self, values: Sequence[Any]) -> FloatArray:
        """Where values are on an axis from 0 to 1; in the middle where all are the same ``[n]``."""
        positions = self.positions(values)
        if self.high == self.low:
            return np.where(np.isnan(positions), np.nan, 0.5)
        return np.asarray((positions - self.low) / (self.high - self.low), np.float64)

    def ticks(self) -> list[tuple[float, str]]:
        """Places on an axis from 0 to 1, and what is written there."""
        if self.high == self.low:
            return [(0.5, self.choices[0] if self.choices else as_text(self.low))]
        if self.choices:
            return [(i / self.high, text) for i, text in enumerate(self.choices)]
        at = np.linspace(0, 1, _TICKS)
        return [(float(place), f"{self.low + place * (self.high - self.low):.3g}") for place in at]


def columns_of(reports: Mapping[str, SearchReport]) -> tuple[list[Column], int]:
    """The axes for some searches: their parameters, then the numbers that describe their wirings.

    Args:
        reports: The report of each log, by the log's name.

    Returns:
        At most `MOST` axes, and how many there would be.
    """
    names = dict.fromkeys(name for each in reports.values() for name in each.features)
    columns = []
    for name in names:
        values = [each.feature(line, name) for each in reports.values() for line in each.ranked]
        column = _column(name, [value for value in values if value is not ...])
        if column is not None:
            columns.append(column)
    return columns[:MOST], len(columns)


def _column(name: str, values: Sequence[Any]) -> Column | None:
    numbers = [as_number(value) for value in values]
    found = [number for number in numbers if number is not None]
    if found and len(found) == len(values):
        return Column(name, (), min(found), max(found))
    texts = dict.fromkeys(as_text(value) for value in values)
    if not 0 < len(texts) <= _CHOICES:
        return None
    return Column(name, tuple(sorted(texts)), 0.0, len(texts) - 1.0)
