# SPDX-License-Identifier: MIT
"""Node names in files, as JSON and as plain text, so that a reader restores the same names.

Whoever writes a file chooses its names. Python hashes texts with a secret of the process, but numbers, and tuples of
them, without: a dictionary of numbers that were chosen to collide takes quadratic time. So names of a file are looked
up in a `NameIndex`, whose keys are texts, and names that share one hash are refused by `check_hashes`, since networkx
and callers put them into dictionaries later.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from freewire.errors import FreewireError, GraphError, shown
from freewire.graph.arguments import IntArray

#: The most names that may share one hash. Among names that nobody chose to collide, about 30 floats do.
MAX_COLLISIONS = 100


class NameIndex(Mapping[Hashable, int]):
    """The index of each name, in the order in which they were added; linear in time for any names.

    Names are equal where Python finds them equal: 1, 1.0 and True are one name.
    """

    def __init__(self, names: Iterable[Hashable] = ()) -> None:
        self._found: dict[Hashable, int] = {}
        for name in names:
            self.add(name)

    def add(self, name: Hashable) -> bool:
        """Give a name the next index; false if it has one."""
        before = len(self._found)
        return self._found.setdefault(_key(name), before) == before

    def __getitem__(self, name: Hashable) -> int:
        return self._found[_key(name)]

    def __iter__(self) -> Iterator[Hashable]:
        raise TypeError("a NameIndex holds no names")

    def __len__(self) -> int:
        return len(self._found)


def _key(name: Hashable) -> Hashable:
    """The dictionary key of a name: itself if it is text, else bytes, which are hashed with the secret too."""
    return name if isinstance(name, str) else _text(name).encode("utf-8", "surrogatepass")


def _text(name: Hashable) -> str:
    """Text that only equal names have, among the names that a file can hold."""
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, str):
        return f"{len(name)}:{name}"
    if isinstance(name, int):
        return f"{name:x}"  # linear, unlike decimals
    if isinstance(name, float):
        return f"{int(name):x}" if name.is_integer() else name.hex()
    if isinstance(name, tuple):
        return f"({','.join(map(_text, name))})"
    return "?"


def repeated(names: Iterable[Hashable]) -> Hashable:
    """The first name that equals an earlier one, else None; linear in time for any names of a file."""
    index = NameIndex()
    return next((name for name in names if not index.add(name)), None)


def check_hashes(names: Sequence[Hashable], error: type[FreewireError] = GraphError, what: str = "node names") -> None:
    """Raise for names so many of which share a hash that dictionaries of them would be slow."""
    hashes = np.sort(np.fromiter((hash(name) for name in names if not isinstance(name, str)), np.int64))
    if (hashes[MAX_COLLISIONS:] == hashes[: max(0, len(hashes) - MAX_COLLISIONS)]).any():
        raise error(
            f"{what}: expected names that dictionaries tell apart, got more than {MAX_COLLISIONS:,} of one hash value. "
            "Rename them."
        )


def encoded(names: Sequence[Hashable], error: type[FreewireError]) -> list[Any]:
    """Convert node names to what JSON can hold; ``error`` for names that a reader would not restore, or would refuse.

    A text with the two halves of a character as surrogates is an example: JSON writes the whole character so.
    """
    check_hashes(names, error)
    found = [_encoded(name, error) for name in names]
    for name, again in zip(names, json.loads(json.dumps(found)), strict=True):
        if not _is_restored(name, again):
            raise error(
                f"node names: expected names that are equal when read back, got {shown(name)}. Rename it, for "
                "example with Graph.with_names."
            )
    return found


def _is_restored(name: Hashable, again: Any) -> bool:
    try:
        return bool(decoded(again) == name)
    except ValueError:  # a NaN, which equals nothing
        return False


def _encoded(name: Any, error: type[FreewireError]) -> Any:
    """Convert one node name to what JSON can hold: tuples become lists, numpy scalars the Python values they equal."""
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, tuple):
        return [_encoded(part, error) for part in name]
    if isinstance(name, int) and name.bit_length() > 10_000:  # Python reads no number of more than 4,300 digits
        raise error(f"node names: expected numbers of at most 3,000 digits, got {shown(name)}. Use a string.")
    if isinstance(name, str | int | float):  # bool is an int
        return name
    raise error(
        f"node name: expected str, int, float, bool or a tuple of them, got {shown(name)} ({type(name).__name__}). "
        "Rename it before saving; Graph.with_names() numbers the nodes."
    )


def decoded(value: Any) -> Hashable:
    """Convert what JSON holds to a node name; ValueError if it cannot be one."""
    if isinstance(value, list):
        return tuple(decoded(part) for part in value)
    if isinstance(value, str | int | float) and value == value:  # a NaN does not even equal itself
        return value
    raise ValueError(f"{shown(value)} is not a node name")


def integers(texts: Sequence[str]) -> IntArray | None:
    """Convert texts to numbers if all are integers of 64 bits as Python writes them ("7", not "07"), else None."""
    try:
        numbers = list(map(int, texts))
        array = np.array(numbers, np.int64)
    except (ValueError, OverflowError):
        return None
    return array if list(map(str, numbers)) == list(texts) else None


def texts(names: Iterable[Hashable]) -> list[str]:
    """Convert node names to text; GraphError if a reader would make other names of it."""
    given: list[Any] = list(names)
    remedy = "Write .json, which keeps them, or rename them with Graph.with_names."
    if all(isinstance(name, int | np.integer) and not isinstance(name, bool) for name in given):
        if large := [name for name in given if not -(2**63) <= name < 2**63]:
            raise GraphError(
                f"node names: expected integers of 64 bits in a text file, got {shown(large[0])}. {remedy}"
            )
        return list(map(str, given))
    found = [name if isinstance(name, str) else "" for name in given]
    for name in given:
        if not isinstance(name, str):
            raise GraphError(
                "node names: expected only strings or only integers in a text file, got "
                f"{shown(name)} ({type(name).__name__}). {remedy}"
            )
        if not name:
            raise GraphError(f"node names: expected a name that is not empty, got {shown(name)}. {remedy}")
        if name != str(name).strip() or not printable(name):  # the str of an enum differs from its value
            raise GraphError(
                "node names: expected text without control characters and surrounding spaces in a text file, got "
                f"{shown(name)}. {remedy}"
            )
    if integers(found) is not None:
        raise GraphError(
            f"node names: expected integers or at least one string that does not look like one, got only strings such "
            f"as {shown(found[0])}, which would be read as integers. {remedy}"
        )
    return found


def printable(name: str) -> bool:
    """Whether XML and UTF-8 can hold it: no control characters, surrogates or noncharacters."""
    return name.isprintable() or not any(
        c < " " or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" for c in name
    )
