# SPDX-License-Identifier: MIT
"""The exceptions that freewire raises.

A message says in a sentence or two what was expected, what was given and what to do about it. Every class also derives
from the builtin exception that a caller would expect, so that ``except ValueError`` works too.
"""

from __future__ import annotations

import reprlib

__all__ = [
    "BuildError",
    "FileFormatError",
    "FreewireError",
    "GraphError",
    "InputError",
    "OutOfMemoryError",
    "cut",
    "shown",
]

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 80


def shown(value: object) -> str:
    """The repr of a caller's value or of a file's, for an error: the middle of what is long is an ellipsis."""
    try:
        return _SHOWN.repr(value)
    except (
        Exception
    ):  # the caller must read our message, no matter what is shown: a number of more than 4,300 digits, a
        # class that reprlib takes for another by its name, a broken __repr__ in a container of the caller's.
        return f"<{type(value).__name__}, which cannot be shown>"


def cut(text: object, length: int = 200) -> str:
    """Text of others for an error, such as another library's message, cut to ``length`` characters."""
    text = str(text)
    return text if len(text) <= length else f"{text[: length - 3]}..."


class FreewireError(Exception):
    """Base of every error that freewire raises on purpose."""


class GraphError(FreewireError, ValueError):
    """A graph that freewire cannot represent: a cycle, an unknown node, an input with in-edges, a NaN weight."""


class InputError(FreewireError, ValueError):
    """A tensor or an option that does not fit the network."""


class FileFormatError(FreewireError, ValueError):
    """A file that is damaged, cut short or of another format."""


class OutOfMemoryError(FreewireError, MemoryError):
    """A call that needs more memory than is available; raised before anything is allocated."""


class BuildError(FreewireError, ImportError):
    """Compiled code is missing or was built for another version of freewire, or an optional package is missing."""
