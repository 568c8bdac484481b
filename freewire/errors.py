# SPDX-License-Identifier: MIT
"""The exceptions freewire raises.

Nothing enters, classes leave. Each message is one sentence or two: what was expected, what came, what to do.
Every class also derives from the builtin a caller would expect, so ``except ValueError`` works too.
"""

from __future__ import annotations


class FreewireError(Exception):
    """Base of every error that freewire raises on purpose."""


class GraphError(FreewireError, ValueError):
    """A wiring that is no freewire graph: a cycle, an unknown node, an input with in-edges, a NaN weight."""


class InputError(FreewireError, ValueError):
    """A tensor or an option that does not fit the network it was given to."""


class FileFormatError(FreewireError, ValueError):
    """A file that is not a whole freewire file."""


class OutOfMemoryError(FreewireError, MemoryError):
    """A call that would take more memory than there is; told before anything is allocated."""


class BuildError(FreewireError, ImportError):
    """The compiled kernels are missing, or were built for another freewire; or an optional package is missing."""
