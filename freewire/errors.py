# SPDX-License-Identifier: MIT
"""The exceptions that freewire raises.

A message says in a sentence or two what was expected, what was given and what to do about it. Every class also derives
from the builtin exception that a caller would expect, so that ``except ValueError`` works too.
"""

from __future__ import annotations


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
