# SPDX-License-Identifier: MIT
"""The list of number types in csrc/number.h: its order, and objects that hold the kernels of one type."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import native
from tests.support.tensors import DTYPES

CSRC = native.ROOT / "csrc"
LISTED = re.findall(r'^#define (FREEWIRE_\w+)\(X\) X\((\w+), \w+, "(\w+)"\)$', (CSRC / "number.h").read_text(), re.M)
SOURCE = CSRC / "cuda" / "network" / "pack.cu"


def instances(folder: Path, *flags: str) -> set[str]:
    """The functions that an object of SOURCE, compiled for the CPU shim, defines for each type."""
    compiled = folder / "pack.o"
    command = [native.compiler(), "-std=c++20", "-w", *flags, f"-I{CSRC}", "-x", "c++", "-c", str(SOURCE)]
    subprocess.run([*command, "-o", str(compiled)], check=True)
    names = subprocess.run(["nm", "-C", "--defined-only", str(compiled)], capture_output=True, text=True, check=True)
    return {f"{name}<{of}>" for name, of in re.findall(r"::(pack_\w+ward)<(?:freewire::)?(\w+)>\(", names.stdout)}


def test_the_list_is_that_of_the_tests() -> None:
    """Case files name a type by its place in the list."""
    assert [f"torch.{name}" for _, _, name in LISTED] == [str(dtype) for dtype in DTYPES]


@pytest.mark.slow
def test_one_type_per_object(tmp_path: Path) -> None:
    """FREEWIRE_ONLY_TYPE: the objects of the single types together define what the unrestricted one does."""
    single = [instances(tmp_path, f"-DFREEWIRE_ONLY_TYPE={macro}") for macro, _, _ in LISTED]
    assert single == [{f"pack_forward<{name}>", f"pack_backward<{name}>"} for _, name, _ in LISTED]
    assert set.union(*single) == instances(tmp_path)
