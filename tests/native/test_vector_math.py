# SPDX-License-Identifier: MIT
"""Accuracy of csrc/cpu/simd/vector_math.h, by csrc/testing/vector_math_main.cpp, on each instruction set of this CPU.

The compiler is $CXX, else g++ or c++. Without one the test fails rather than skips, since the package could not be
built either.
"""

import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

CSRC = ROOT / "csrc"
FLAGS = ["-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
FEATURES = {
    "base": [],
    "avx2": ["avx2", "fma"],
    "avx512": ["avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma"],
}


def compiler() -> list[str]:
    named = os.environ.get("CXX")
    if named:
        return shlex.split(named)
    for name in ("g++", "c++"):
        if shutil.which(name):
            return [name]
    pytest.fail("CXX: expected a C++ compiler, got none on the path. Install g++ or set CXX.")


def build(source: str, program: Path, *options: str) -> None:
    command = [*compiler(), *FLAGS, *options, source, "-o", str(program)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}{result.stderr}"


def skip_unless_supported(features: list[str], folder: Path) -> None:
    """Asks the CPU through a program that is itself built without those features."""
    if not features:
        return
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{', '.join(features)} exist on x86-64 only, this is {platform.machine()}")
    probe = folder / "probe.cpp"
    supported = " && ".join(f'__builtin_cpu_supports("{feature}")' for feature in features)
    probe.write_text(f"int main() {{ __builtin_cpu_init(); return {supported} ? 0 : 1; }}\n")
    build(str(probe), folder / "probe")
    if subprocess.run([folder / "probe"]).returncode != 0:
        pytest.skip(f"this CPU lacks one of {', '.join(features)}")


@pytest.mark.parametrize("isa", FEATURES)
def test_every_function_is_within_its_bound(isa: str, tmp_path: Path) -> None:
    features = FEATURES[isa]
    skip_unless_supported(features, tmp_path)
    program = tmp_path / "vector_math"
    build(
        str(CSRC / "testing" / "vector_math_main.cpp"),
        program,
        f"-I{CSRC}",
        *(f"-m{feature}" for feature in features),
    )
    result = subprocess.run([program], capture_output=True, text=True)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(result.stdout.splitlines()) == 7
