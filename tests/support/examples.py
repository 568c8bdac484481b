# SPDX-License-Identifier: MIT
"""Import the modules of examples/, which are scripts and not a package."""

from __future__ import annotations

import importlib
import os
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
    """A module of examples/, such as "digits" or "imagenet/train", until the end of the ``with``.

    Then it and what it imports from there are forgotten.
    """
    path = EXAMPLES / name
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        patch.syspath_prepend(str(path.parent))
        try:
            yield importlib.import_module(path.name)
        finally:
            for other, module in list(sys.modules.items()):
                if (getattr(module, "__file__", None) or "").startswith(f"{EXAMPLES}{os.sep}"):
                    del sys.modules[other]
