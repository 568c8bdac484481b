# SPDX-License-Identifier: MIT
"""freewire.timm if timm is missing or broken; tests/vision/ tests it with timm."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

import freewire as fw
from tests.support import ROOT
from tests.support.messages import assert_refused


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Make the process look as if it had imported neither."""
    for name in [name for name in sys.modules if name in ("timm", "freewire.timm") or name.startswith("timm.")]:
        monkeypatch.delitem(sys.modules, name)


def test_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for _ in range(2):  # a failed import leaves nothing behind
        assert_refused(
            lambda: importlib.import_module("freewire.timm"),
            "timm: expected it to be installed, got none. Run `pip install timm`.",
            fw.BuildError,
        )
    assert issubclass(fw.BuildError, ImportError)


def test_broken(monkeypatch, tmp_path):
    (tmp_path / "timm.py").write_text("import a_package_that_timm_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert_refused(
        lambda: importlib.import_module("freewire.timm"),
        "timm: expected .* got one that cannot be imported .*a_package_that_timm_needs",
        fw.BuildError,
    )


def test_the_package_imports_none():
    assert "timm" not in re.findall(r"^from freewire import (\w+)", Path(fw.__file__).read_text(), re.MULTILINE)
    assert "timm" not in sys.modules


def pins(name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith("#"):
            package, version = line.split("==", 1)
            found.setdefault(package, set()).add(version)
    return found


def test_both_environments_have_the_same_packages():
    """Except torch."""
    usual, vision = pins("constraints.txt"), pins("constraints-vision.txt")
    common = usual.keys() & vision.keys()
    assert {"numpy", "pytest", "networkx", "safetensors", "setuptools", "pybind11", "ninja", "torch"} <= common
    assert {package for package in common if usual[package] != vision[package]} == {"torch"}
