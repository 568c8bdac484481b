# SPDX-License-Identifier: MIT
"""Files that were made to take much time or memory: both stay proportional to the file, and messages short."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import CASES, measure
from tests.support.messages import FORM

MIB = 2**20
#: What does not grow with the file: the first rows, a tag, the interpreter's own.
CONSTANT = 16 * MIB


#: Those of which each reader's bounds depend.
QUICK = (
    "commas.csv",
    "cells.csv",
    "columns.csv",
    "numbers.csv",
    "names.csv",
    "lists.json",
    "keys.json",
    "colliding numbers.json",
    "colliding marks.json",
    "neat connections.json",
    "neat colliding numbers.json",
    "a comment.graphml",
    "an id.graphml",
    "depth.graphml",
    "nodes.graphml",
    "colliding marks.graphml",
)


def measured(folder: Path, names: Iterable[str], size: int) -> dict[str, dict[str, Any]]:
    paths = []
    for name in names:
        make, _ = CASES[name]
        paths.append(folder / name)
        paths[-1].write_text(make(size))
    found = measure(paths)
    for path, each in zip(paths, found, strict=True):
        each["size"] = path.stat().st_size
        path.unlink()
    return {path.name: each for path, each in zip(paths, found, strict=True)}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return measured(tmp_path_factory.mktemp("quick"), QUICK, MIB)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return measured(tmp_path_factory.mktemp("small"), CASES, MIB)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return measured(tmp_path_factory.mktemp("large"), CASES, 12 * MIB)


def assert_in_proportion(name: str, found: dict[str, Any]) -> None:
    assert found["bytes"] <= CASES[name][1] * found["size"] + CONSTANT
    assert found["error"] is None or (FORM.fullmatch(found["error"]) and len(found["error"]) < 800)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_memory_and_messages(name, quick):
    """Time has a wide bound: half a minute was usual."""
    assert_in_proportion(name, quick[name])
    assert quick[name]["seconds"] < 10


@pytest.mark.nightly
@pytest.mark.parametrize("name", CASES)
def test_time_is_linear(name, small, large):
    """From 1 to 12 MiB: quadratic time would grow by 144."""
    assert_in_proportion(name, small[name])
    assert_in_proportion(name, large[name])
    assert large[name]["seconds"] < 40 * max(small[name]["seconds"], 0.05)
