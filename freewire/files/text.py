# SPDX-License-Identifier: MIT
"""What all files share: they are written whole or not at all, and node names come back as they were.

Enters: a path, node names. Leaves: a place to write to, and names as JSON or as plain text can hold them.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from freewire.errors import FreewireError, GraphError, InputError
from freewire.graph.arguments import IntArray


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path to write to in place of ``path``, which it replaces at the end; an error leaves any older file whole.

    Raises:
        FileNotFoundError: No such folder.
    """
    path = os.fsdecode(path)
    partial = f"{path}.{os.getpid()}.partial"
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"path: expected an existing folder, got {folder!r}. Make it first.")
    try:
        with open(partial, "wb") as file:  # the caller's umask; some writers make their files private
            mode = os.fstat(file.fileno()).st_mode
        yield partial
        os.chmod(partial, mode)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def encodable(name: Any, error: type[FreewireError] = InputError) -> Any:
    """A node name as JSON can hold it: tuples become lists, numpy scalars what they are equal to."""
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
    """A node name from what JSON holds; ValueError where that is none."""
    if isinstance(value, list):
        return tuple(decoded(part) for part in value)
    if isinstance(value, str | int | float):
        return value
    raise ValueError(f"{value!r} is no node name")


def integers(texts: Sequence[str]) -> IntArray | None:
    """The texts as numbers where all are integers as Python writes them and of 64 bits ("7", not "07"), else None."""
    try:
        numbers = list(map(int, texts))
        array = np.array(numbers, np.int64)
    except (ValueError, OverflowError):
        return None
    return array if list(map(str, numbers)) == list(texts) else None


def texts(names: Iterable[Hashable]) -> list[str]:
    """Node names as text that a reader takes for the same names; GraphError where it would not."""
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
                "node names: expected all strings or all integers in a text file, got "
                f"{name!r} ({type(name).__name__}). {remedy}"
            )
        if not name or name != str(name).strip() or not _printable(name):  # an enum's str is not what it equals
            raise GraphError(
                "node names: expected text without control characters and outer spaces in a text file, got "
                f"{name!r}. {remedy}"
            )
    if integers(found) is not None:
        raise GraphError(
            f"node names: expected integers, or a string among them that is none, got strings such as {found[0]!r} "
            f"only, which are read as integers. {remedy}"
        )
    return found


def _printable(name: str) -> bool:
    """Whether XML and UTF-8 can hold it: no control character, surrogate or noncharacter."""
    return name.isprintable() or not any(
        c < " " or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" for c in name
    )
