# SPDX-License-Identifier: MIT
"""Kinds of fields: the type of a field's array, its value where an element has none, and how values are read.

What does not fit raises `GraphError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire.errors import GraphError, shown
from freewire.graph.arguments import as_array, as_number, check_ordered, whole

Role = Literal["parameter", "wiring", "constraint"]


@dataclass(frozen=True)
class Field(ABC):
    """One thing that every edge, or every node, may carry.

    Attributes:
        name: The attribute in networkx and files, the argument of constructors, the property of `Graph`.
        element: ``"edge"`` or ``"node"``.
        role: Who sets it and what it is part of. ``"parameter"``: the start value of something a network learns, which
            `Graph.with_values` and `Network.to_networkx` replace; an input must have none, or 0. ``"wiring"``: what
            the caller alone sets and outputs depend on, so it is in `Graph.wiring_hash` and in saved networks; an
            input's is not read. ``"constraint"``: what the caller alone sets about how a weight may change, which
            `freewire.constraints` applies; it is in saved networks, but not in `Graph.wiring_hash`.
    """

    name: str
    element: Literal["edge", "node"]
    role: Role

    #: numpy's type of the array that holds one value per element.
    dtype: ClassVar[Any]
    #: What that array holds where an element has no value.
    missing: ClassVar[Any]
    #: The value of elements that have none, in every `Graph`; None: they simply have none. A field that is added later
    #: must have None: a default would change every wiring hash, and older files do not hold it.
    default: ClassVar[Any] = None

    @property
    @abstractmethod
    def expected(self) -> str:
        """The legal values, in words for an error."""

    @abstractmethod
    def legal(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Which entries of an array of numbers are values of this field, bool of the same shape."""

    def joined(self, parts: list[NDArray[Any]]) -> NDArray[Any]:
        """The arrays of several graphs as that of their union."""
        return np.concatenate(parts)

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """Convert one value as users and files write it; ValueError, TypeError or OverflowError if it is none."""

    def empty(self, length: int) -> NDArray[Any]:
        """An array ``[length]`` without values."""
        return np.full(length, self.missing, self.dtype)

    def is_missing(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Which entries hold no value, bool of the same shape."""
        return np.isnan(array) if self.missing != self.missing else array == self.missing

    def read_array(
        self, given: ArrayLike, length: int, show_element: Callable[[int], str] = lambda _: ""
    ) -> NDArray[Any]:
        """Convert an argument that holds one value per element.

        Args:
            given: Numbers ``[length]``, without missing ones.
            length: Number of elements.
            show_element: Added to an element's number in an error.
        """
        array = as_array(given, self.name)
        if array.size and array.dtype.kind not in ("biuf" if self.dtype is np.bool_ else "iuf"):  # as in `parse`
            convert = array.dtype == object
            remedy = "Convert it: values.astype(float)." if convert else f"Pass one number per {self.element}."
            raise GraphError(f"{self.name}: expected numbers, got {shown(given)}. {remedy}")
        if array.shape != (length,):
            raise GraphError(
                f"{self.name}: expected shape [{length}], one per {self.element}, got {list(array.shape)}. "
                "Check its length."
            )
        legal = self.legal(array)
        if not legal.all():
            first = int(np.flatnonzero(~legal)[0])
            raise GraphError(
                f"{self.name}: expected {self.expected}, got {array[first]} at {self.element} {first}"
                f"{show_element(first)}. Correct it or omit {self.name}."
            )
        return array.astype(self.dtype)

    def to_list(self, array: NDArray[Any]) -> list[Any]:
        """The values as networkx and files hold them, None where an element has none."""
        values: list[Any] = array.tolist()
        for i in np.flatnonzero(self.is_missing(array)).tolist():
            values[i] = None
        return values


@dataclass(frozen=True)
class Number(Field):
    """A float64 of any size; NaN is no value."""

    dtype = np.float64
    missing = np.nan

    @property
    def expected(self) -> str:
        """In words."""
        return "a number"

    def legal(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """All but NaN."""
        return ~np.isnan(array)

    def parse(self, value: Any) -> float:
        """Accept what ``float`` does but NaN and booleans; graph files hold numbers as text."""
        return as_number(value)


@dataclass(frozen=True)
class Rate(Number):
    """A float64 above 0 and at most 1; one number may stand for all elements."""

    @property
    def expected(self) -> str:
        """In words."""
        return "a number above 0 and at most 1"

    def legal(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Above 0, up to 1."""
        return (array > 0) & (array <= 1)

    def parse(self, value: Any) -> float:
        """Accept a number in that range."""
        if not 0 < (found := as_number(value)) <= 1:
            raise ValueError(value)
        return found

    def read_array(
        self, given: ArrayLike, length: int, show_element: Callable[[int], str] = lambda _: ""
    ) -> NDArray[Any]:
        """Convert one value per element, or one for all."""
        return super().read_array(_for_all(given, length), length, show_element)


@dataclass(frozen=True)
class Steps(Field):
    """A whole number of time steps, 0 or more; one number may stand for all elements."""

    dtype = np.int64
    missing = -1
    #: The most that a delay may be: delayed values are kept for as long.
    most: ClassVar[int] = 65535

    @property
    def expected(self) -> str:
        """In words."""
        return f"a whole number from 0 to {self.most}"

    def legal(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Whole numbers in that range."""
        return (array >= 0) & (array <= self.most) & (array == np.floor(array))

    def parse(self, value: Any) -> int:
        """Accept a number, or plain text of one."""
        found = as_number(value)
        if not (0 <= found <= self.most and found == int(found)):
            raise ValueError(value)
        return int(found)

    def read_array(
        self, given: ArrayLike, length: int, show_element: Callable[[int], str] = lambda _: ""
    ) -> NDArray[Any]:
        """Convert one value per element, or one for all."""
        return super().read_array(_for_all(given, length), length, show_element)


def _for_all(given: Any, length: int) -> Any:
    """An argument that may be one number for all elements, as one for each."""
    is_number = isinstance(given, int | float | np.number) and not isinstance(given, bool)
    return np.full(length, given) if is_number else given


@dataclass(frozen=True)
class Sign(Field):
    """-1, 0 or 1; 0, free, counts as no value."""

    dtype = np.int8
    missing = 0

    @property
    def expected(self) -> str:
        """In words."""
        return "-1, 0 or 1"

    def legal(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """-1, 0 and 1."""
        return np.isin(array, (-1, 0, 1))

    def parse(self, value: Any) -> int:
        """Accept a number."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or value not in (-1, 0, 1):
            raise ValueError(value)
        return int(value)


@dataclass(frozen=True)
class Flag(Field):
    """True or false; false counts as no value."""

    dtype = np.bool_
    missing = False

    @property
    def expected(self) -> str:
        """In words."""
        return "true or false"

    def legal(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Booleans, 0 and 1."""
        return np.isin(array, (0, 1))

    def parse(self, value: Any) -> bool:
        """Accept a boolean, 0 or 1."""
        if not isinstance(value, bool | np.bool_) and whole(value) not in (0, 1):
            raise ValueError(value)
        return bool(value)


@dataclass(frozen=True)
class Group(Field):
    """The number of a group, 0 or more; -1, in no group, counts as no value."""

    dtype = np.int64
    missing = -1
    #: One more than the largest number: CSV and JSON hold smaller ones exactly, whoever reads them.
    limit: ClassVar[int] = 2**53

    @property
    def expected(self) -> str:
        """In words."""
        return "a whole number of at least 0, or -1 for no group"

    def legal(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Whole numbers from -1."""
        return (array >= -1) & (array < self.limit) & (np.floor(array) == array)

    def joined(self, parts: list[NDArray[Any]]) -> NDArray[Any]:
        """Groups of different graphs stay apart: the numbers of each graph are larger than those before."""
        moved, first = [], 0
        for part in parts:
            if first + int(part.max(initial=-1)) >= self.limit:
                raise GraphError(
                    f"{self.name}: expected numbers whose sum over all graphs is below 2**53, got {part.max()} after "
                    f"{first - 1}. Number the groups from 0."
                )
            moved.append(np.where(part < 0, part, part + first))
            first = max(first, int(moved[-1].max(initial=-1)) + 1)
        return np.concatenate(moved)

    def parse(self, value: Any) -> int:
        """Accept a whole number, also as a float."""
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            raise ValueError(value)
        number = int(value)
        if number != value or not -1 <= number < self.limit:
            raise ValueError(value)
        return number


@dataclass(frozen=True)
class Choice(Field):
    """One of several names, stored as its index among them.

    Attributes:
        names: At most 255; the first is the default.
    """

    names: tuple[str, ...]

    dtype = np.uint8
    missing = 255
    default = 0

    @property
    def expected(self) -> str:
        """All names."""
        return f"one of {', '.join(self.names)}"

    def legal(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Codes of names."""
        return array < len(self.names)

    def parse(self, value: Any) -> int:
        """Accept a name."""
        return self.names.index(value)

    def to_list(self, array: NDArray[Any]) -> list[Any]:
        """The names of codes."""
        return [None if code is None else self.names[code] for code in super().to_list(array)]

    def code(self, name: Any, argument: str) -> int:
        """The code of an argument that is one name."""
        try:
            return self.parse(name)
        except ValueError:
            raise GraphError(f"{argument}: expected {self.expected}, got {shown(name)}. Choose one of those.") from None

    def read_array(
        self, given: Any, length: int, show_element: Callable[[int], str] = lambda _: ""
    ) -> NDArray[np.uint8]:
        """Convert one name for all elements, or a list of one name per element, to codes."""
        if isinstance(given, str):
            return np.full(length, self.code(given, self.name), np.uint8)
        check_ordered(given, self.name)
        if isinstance(given, np.ndarray):
            given = given.tolist()
        if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
            raise GraphError(
                f"{self.name}: expected a name or a list of names, got {shown(given)}. The names are "
                f"{', '.join(self.names)}."
            )
        names, where = np.unique(np.asarray(given, dtype=str), return_inverse=True)
        if where.shape != (length,):
            raise GraphError(
                f"{self.name}: expected one name or {length}, one per {self.element}, got {where.size}. "
                "Check its length."
            )
        return np.array([self.code(str(name), self.name) for name in names], np.uint8)[where]
