# SPDX-License-Identifier: MIT
"""tests/conftest.py: which tests run by default, and which by ``-m``; and that no `make` target's tests are lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import LONG, ON_REQUEST
from tests.support.native import ROOT

TESTS = """\
import pytest

def test_plain(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.slow
@pytest.mark.nightly
def test_nightly(): pass

@pytest.mark.parametrize("kind", ["plain", pytest.param("address", marks=pytest.mark.sanitize)])
def test_kind(kind): pass

@pytest.mark.gpu
def test_gpu(): pass

def test_anywhere(device): pass

@pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
def test_kernels(device): pass
"""
# Collects the file once for each list of arguments, with tests/conftest.py as a plugin.
COLLECT = """\
import json, sys
import pytest
from tests import conftest

class Names:
    def pytest_collection_finish(self, session):
        self.found = [item.name.removeprefix("test_") for item in session.items]

found = []
for arguments in json.loads(sys.argv[1]):
    names = Names()
    status = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *arguments], plugins=[conftest, names])
    found.append([int(status), getattr(names, "found", [])])
print("FOUND", json.dumps(found))
"""
USUAL = ["plain", "slow", "kind[plain]", "anywhere[cpu]", "anywhere[simt]", "anywhere[streamed]", "kernels[simt]"]
#: From arguments to what they collect, without a GPU.
CHOICES: dict[tuple[str, ...], list[str]] = {
    (): USUAL,
    ("-m", "not slow"): [name for name in USUAL if name != "slow"],
    ("-m", "nightly"): ["nightly"],
    ("-m", "nightly or slow"): ["slow", "nightly"],
    ("-m", "sanitize"): ["kind[address]"],
    ("-m", "not slow and not compiler and not gpu"): ["plain", "kind[plain]", "anywhere[cpu]"],
    ("-m", "gpu"): [],
    ("-k", "kind"): ["kind[plain]"],
}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[int, list[str]]], str]:
    folder = tmp_path_factory.mktemp("collected")
    (folder / "test_file.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n compiler\n gpu\n nightly\n sanitize\n")
    runs = [[str(folder), *arguments] for arguments in (*CHOICES, ("--gpu",))]
    command = [sys.executable, "-c", COLLECT, json.dumps(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    return json.loads(line.removeprefix("FOUND ")), done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what is collected without a GPU")
class TestChoice:
    @pytest.mark.parametrize("arguments", CHOICES, ids=" ".join)
    def test_by_marks(self, arguments: tuple[str, ...], collected: tuple[list[tuple[int, list[str]]], str]) -> None:
        status, names = collected[0][list(CHOICES).index(arguments)]
        assert sorted(names) == sorted(CHOICES[arguments])
        assert status == (pytest.ExitCode.OK if names else pytest.ExitCode.NO_TESTS_COLLECTED)

    def test_a_missing_gpu_is_an_error_if_asked_for(self, collected: tuple[list[tuple[int, list[str]]], str]) -> None:
        assert collected[0][-1] == [pytest.ExitCode.USAGE_ERROR, []]
        assert "--gpu: expected a GPU that this torch can use, got none." in collected[1]


def test_every_mark_on_request_has_a_target() -> None:
    """Or its tests would never run; and a target that names files names those which have such tests."""
    makefile = (ROOT / "Makefile").read_text()
    for mark in ON_REQUEST:
        command = re.search(rf"pytest -m {mark}\b(.*)|\$\(PYTEST\) -m {mark}\b(.*)", makefile, re.IGNORECASE)
        assert command, mark
        named = re.findall(r"tests/\S+\.py", command[0])
        marked = [p for p in (ROOT / "tests").rglob("test_*.py") if f"pytest.mark.{mark}" in p.read_text()]
        marked = sorted(str(path.relative_to(ROOT)) for path in marked if path != Path(__file__))
        assert named == [] or sorted(named) == marked


def test_the_long_files_are_there() -> None:
    assert [name for name in LONG if not (ROOT / "tests" / name).is_file()] == []
