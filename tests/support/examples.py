# SPDX-License-Identifier: MIT
"""Import the modules of examples/, which are scripts and not a package."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["EXAMPLES", "REPEATS", "imported"]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: Networks that the tests of the wiring search train in each trial.
REPEATS = 2


@contextmanager
def imported(name: str) -> Iterator[types.ModuleType]:
    """A module of examples/, until the end of the ``with``; then it and what it imports from there are forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        try:
            yield importlib.import_module(name)
        finally:
            for own in EXAMPLES.glob("*.py"):
                sys.modules.pop(own.stem, None)
