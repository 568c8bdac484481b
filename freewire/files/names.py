# SPDX-License-Identifier: MIT
"""Node names in files, as JSON and as plain text, so that a reader restores the same names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from freewire.errors import FreewireError, GraphError, InputError
from freewire.graph.arguments import IntArray


def encodable(name: Any, error: type[FreewireError] = InputError) -> Any:
    """Convert a node name to what JSON can hold: tuples become lists, numpy scalars the Python values they equal."""
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, tuple):
        return [encodable(part, error) for part in name]
    if isinstance(name, str | int | float):  # bool is an int
        return name
    raise error(
        f"node name: expected str, int, float, bool or a tuple of them, got {name!r} ({type(name).__name__}). "
        "Rename it before saving, for example with networkx.relabel_nodes."
    )


def decoded(value: Any) -> Hashable:
    """Convert what JSON holds to a node name; ValueError if it cannot be one."""
    if isinstance(value, list):
        return tuple(decoded(part) for part in value)
    if isinstance(value, str | int | float):
        return value
    raise ValueError(f"{value!r} is not a node name")


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
    names = list(names)
    remedy = "Write .json, which keeps them, or rename them with networkx.relabel_nodes."
    found = [str(name) for name in names]
    if all(isinstance(name, int | np.integer) for name in names) and not {"True", "False"} & set(found):
        if integers(found) is None:
            large = next(text for text in found if integers([text]) is None)
            raise GraphError(f"node names: expected integers of 64 bits in a text file, got {large}. {remedy}")
        return found
    for name in names:
        if not isinstance(name, str):
            raise GraphError(
                "node names: expected only strings or only integers in a text file, got "
                f"{name!r} ({type(name).__name__}). {remedy}"
            )
        if not name or name != str(name).strip() or not _printable(name):  # the str of an enum differs from its value
            raise GraphError(
                "node names: expected text without control characters and surrounding spaces in a text file, got "
                f"{name!r}. {remedy}"
            )
    if integers(found) is not None:
        raise GraphError(
            f"node names: expected integers or at least one string that does not look like one, got only strings such "
            f"as {found[0]!r}, which would be read as integers. {remedy}"
        )
    return found


def _printable(name: str) -> bool:
    """Whether XML and UTF-8 can hold it: no control characters, surrogates or noncharacters."""
    return name.isprintable() or not any(
        c < " " or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" for c in name
    )
