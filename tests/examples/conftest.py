# SPDX-License-Identifier: MIT
"""What the tests of the wiring search share."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import pytest

from tests.support.examples import REPEATS, imported


@pytest.fixture(scope="module")
def example() -> Iterator[types.SimpleNamespace]:
    """The example's modules: trial, log, report, wiring."""
    with imported("search_wiring") as wiring:
        wiring.REPEATS = REPEATS
        others = {name: sys.modules[f"search_{name}"] for name in ("trial", "log", "report")}
        yield types.SimpleNamespace(wiring=wiring, **others)


@pytest.fixture(scope="module")
def quick(example):
    """The settings of ``--quick``."""
    return example.trial.Settings(**example.wiring.QUICK)
