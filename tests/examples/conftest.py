# SPDX-License-Identifier: MIT
"""What the tests of the searches share."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import pytest

from tests.support.examples import REPEATS, imported


@pytest.fixture(scope="module")
def example() -> Iterator[types.SimpleNamespace]:
    """The modules of the wiring search: trial, strategies, report, wiring."""
    with imported("search_wiring") as wiring:
        wiring.REPEATS = REPEATS
        others = {name: sys.modules[f"search_{name}"] for name in ("trial", "strategies", "report")}
        yield types.SimpleNamespace(wiring=wiring, **others)


@pytest.fixture(scope="module")
def quick(example):
    """The settings of ``--quick``."""
    return example.trial.Settings(**example.wiring.QUICK)
