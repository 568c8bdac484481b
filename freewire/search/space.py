# SPDX-License-Identifier: MIT
"""The space that a search draws parameters from: a dictionary from names to choices and ranges.

``{"k": [2, 4, 6], "p": (0.0, 1.0), "n": (8, 64)}``: a list is of choices, and a pair the ends of a range, both
included, of whole numbers where both ends are whole numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from freewire.errors import InputError, shown
from freewire.generators.draws import Draws
from freewire.graph.arguments import check_number, whole

__all__ = ["Choices", "Floats", "Integers", "Space"]

_SPAN = 2**53  # the most whole numbers that `Draws` can draw from


@dataclass(frozen=True)
class Choices:
    """One of several JSON values."""

    values: tuple[Any, ...]

    def draw(self, draws: Draws) -> Any:
        """A value."""
        return self.values[draws.one_below(len(self.values))]

    def mutate(self, value: Any, step: float, draws: Draws) -> Any:
        """Another value."""
        place = [_text(other) for other in self.values].index(_text(value))
        return self.values[(place + 1 + draws.one_below(len(self.values) - 1)) % len(self.values)]

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one value."""
        return len(self.values) == 1

    @property
    def json(self) -> list[Any]:
        """The range as the log's header has it."""
        return list(self.values)


@dataclass(frozen=True)
class Floats:
    """A float from ``low`` to ``high``."""

    low: float
    high: float

    def draw(self, draws: Draws) -> float:
        """A value."""
        return self._at(float(draws.uniform(1)[0]))

    def mutate(self, value: float, step: float, draws: Draws) -> float:
        """Another value, at most ``step`` of the range away; what would leave the range is reflected at its end."""
        place = (value - self.low) / (self.high - self.low) + step * (2 * float(draws.uniform(1)[0]) - 1)
        return self._at(abs(place) if place < 1 else 2 - place)

    def _at(self, place: float) -> float:
        return min(self.high, self.low + place * (self.high - self.low))

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one value."""
        return self.low == self.high

    @property
    def json(self) -> dict[str, Any]:
        """The range as the log's header has it."""
        return {"type": "float", "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Integers:
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int

    def draw(self, draws: Draws) -> int:
        """A value."""
        return self.low + draws.one_below(self.high - self.low + 1)

    def mutate(self, value: int, step: float, draws: Draws) -> int:
        """Another value, at most ``step`` of the range, or 1, away; what would leave the range is reflected."""
        most = max(1, int(step * (self.high - self.low)))
        moved = value + (1 + draws.one_below(most)) * (1 if draws.one_below(2) else -1)
        if not self.low <= moved <= self.high:
            moved = 2 * (self.low if moved < self.low else self.high) - moved
        if moved == value:  # reflected to where it was: then by 1, to the side where there is room
            moved += 1 if value < self.high else -1
        return moved

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one value."""
        return self.low == self.high

    @property
    def json(self) -> dict[str, Any]:
        """The range as the log's header has it."""
        return {"type": "int", "low": self.low, "high": self.high}


class Space:
    """The ranges of all parameters.

    Args:
        given: From names to lists of choices and pairs of numbers. Choices are numbers, text, booleans, None, and
            lists and dictionaries of these, since the log is JSON.

    Attributes:
        ranges: The range of each parameter, by name.

    Raises:
        InputError: It is empty, or a parameter's range is not one; the message names it.

    Example:
        >>> Space({"k": [2, 4], "p": (0, 0.5), "n": (8, 64)}).ranges["p"]
        Floats(low=0.0, high=0.5)
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping) or not given:
            raise InputError(
                f"space: expected a dictionary of parameters, got {shown(given)}. Write it as "
                '{"k": [2, 4, 6], "p": (0.0, 1.0), "n": (8, 64)}.'
            )
        for name in given:
            if not isinstance(name, str):
                raise InputError(f"space: expected names that are text, got {shown(name)}. Rename that parameter.")
        self.ranges = {name: _range(f"space[{shown(name)}]", value) for name, value in given.items()}

    def draw(self, draws: Draws) -> dict[str, Any]:
        """Draw every parameter, each value of a range with the same probability."""
        return {name: each.draw(draws) for name, each in self.ranges.items()}

    def mutate(self, params: Mapping[str, Any], step: float, draws: Draws) -> dict[str, Any]:
        """Change one parameter, chosen at random among those that can change.

        Args:
            params: A value for each parameter.
            step: The farthest that a number moves, as a share of its range.
            draws: The stream.
        """
        free = [name for name, each in self.ranges.items() if not each.is_fixed]
        if not free:
            return dict(params)
        name = free[draws.one_below(len(free))]
        return {**params, name: self.ranges[name].mutate(params[name], step, draws)}

    @property
    def json(self) -> dict[str, Any]:
        """The space as the log's header has it."""
        return {name: each.json for name, each in self.ranges.items()}


def _range(name: str, given: Any) -> Choices | Floats | Integers:
    if isinstance(given, list):
        return _choices(name, given)
    if not isinstance(given, tuple) or len(given) != 2:
        raise InputError(f"{name}: expected a list of choices or a pair (low, high), got {shown(given)}. Correct it.")
    low, high = (whole(end) for end in given)
    if low is not None and high is not None:
        if not 0 <= high - low < _SPAN:
            raise InputError(
                f"{name}: expected (low, high) with low <= high, less than 2**53 apart, got {shown(given)}. Correct it."
            )
        return Integers(low, high)
    remedy = "Correct it."
    ends = [check_number(name, end, "(low, high) of two numbers", remedy, InputError) for end in given]
    if not 0 <= ends[1] - ends[0] < math.inf:
        raise InputError(f"{name}: expected (low, high) with low <= high, both finite, got {shown(given)}. {remedy}")
    return Floats(*ends)


def _choices(name: str, given: list[Any]) -> Choices:
    values = [_plain(value) for value in given]
    try:
        if json.loads(json.dumps(values, allow_nan=False)) != values:
            raise TypeError
        different = len({_text(value) for value in values})
    except (TypeError, ValueError, RecursionError):
        raise InputError(
            f"{name}: expected choices that JSON can hold (numbers, text, True, False, None, lists), got "
            f"{shown(given)}. Choose among names or indices instead."
        ) from None
    if not len(values) == different > 0:
        raise InputError(f"{name}: expected one or more different choices, got {shown(given)}. Correct them.")
    return Choices(tuple(values))


def _plain(value: Any) -> Any:
    """Numpy's numbers, which JSON does not know, as Python's."""
    return value.item() if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0 else value


def _text(value: Any) -> str:
    """A text that differs for different choices; True and 1, and 1 and 1.0, are equal in Python only."""
    return json.dumps(value, sort_keys=True)
