# SPDX-License-Identifier: MIT
"""The tools that build the native libraries: a C++ compiler, nvcc and ninja, and the flags that all libraries share.

Tools are found by environment variables and on PATH, and tried. Where one is missing or does not work, a `BuildError`
says how to get it. `setup.py` uses this module before anything is installed, so it imports only the standard library.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from freewire.errors import BuildError, cut, shown

MIN_TORCH = (2, 11)
# The oldest torch that can load the libraries, encoded as in torch/headeronly/version.h: one byte per part.
TORCH_TARGET_VERSION = f"0x{MIN_TORCH[0]:02x}{MIN_TORCH[1]:02x}000000000000"
CXX_FLAGS = ("-std=c++20", "-O3", "-g0", "-fvisibility=hidden", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}")

MIN_NVCC = (12, 0)  # the first one that compiles C++20

INSTALL_COMPILER = (
    "Install one: `apt install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora), "
    "`xcode-select --install` (macOS), `conda install -c conda-forge cxx-compiler` (conda); "
    "or set CXX to one that is already here."
)
INSTALL_NVCC = (
    "Install it: `pip install ninja 'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-cccl==13.0.*'` (pip), "
    "`conda install -c conda-forge ninja cuda-nvcc` (conda), or NVIDIA's toolkit "
    "(https://developer.nvidia.com/cuda-downloads); or set CUDA_HOME to one that is already here."
)

#: Where nvcc may be if it is not on PATH: in pip's packages, and where NVIDIA's toolkit is installed.
NVCC_FOLDERS = (sysconfig.get_path("platlib") + "/nvidia/cu*/bin", "/usr/local/cuda/bin")

# Needs the C++20 standard library as well as the language.
CXX20_PROBE = """\
#include <concepts>
#include <span>
template <std::integral T> T twice(std::span<const T> x) { return x[0] + x[0]; }
int main() { const int one[1] = {1}; return twice<int>(one) - 2; }
"""


def find_compiler() -> str:
    """Return the name of the C++ compiler: that in CXX, or else the first of the usual ones that is on PATH."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen and Path(chosen[0]).name in ("ccache", "sccache"):
        del chosen[0]  # torch adds it itself
    if len(chosen) > 1:  # torch treats all of CXX as the name of one program
        raise BuildError(
            f"C++ compiler: expected CXX to name one program, got CXX={shown(os.environ['CXX'])}. Move its "
            "arguments to CXXFLAGS."
        )
    for name in chosen or ("c++", "g++", "clang++"):
        if shutil.which(name):
            return name
    if chosen:
        raise BuildError(
            f"C++ compiler: expected CXX to name one, got CXX={shown(os.environ['CXX'])}, which is not on PATH. "
            f"{INSTALL_COMPILER}"
        )
    raise BuildError(f"C++ compiler: expected c++, g++ or clang++ on PATH, got none. {INSTALL_COMPILER}")


def check_compiler() -> str:
    """Return the name of a compiler that compiles C++20.

    Raises:
        BuildError: There is none.
    """
    compiler = find_compiler()
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.cpp")
        probe.write_text(CXX20_PROBE)
        done = subprocess.run(
            [compiler, "-std=c++20", "-c", str(probe), "-o", str(probe.with_suffix(".o"))],
            capture_output=True,
            text=True,
            errors="replace",
        )
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), "no message").strip()
        raise BuildError(
            f"C++ compiler: expected C++20 (gcc 10, clang 13 or newer), got {shown(compiler)}, which fails with "
            f"{cut(repr(reason), 500)}. {INSTALL_COMPILER}"
        )
    return compiler


@dataclass(frozen=True)
class Nvcc:
    """CUDA's compiler.

    Attributes:
        path: Path of the program.
        version: Version of CUDA, major and minor.
        gpus: Compute capabilities that it compiles for, major and minor, oldest first.
    """

    path: str
    version: tuple[int, int]
    gpus: tuple[tuple[int, int], ...] = ()

    @property
    def compiler_options(self) -> list[str]:
        """Options that name the host compiler, unless the environment names one to nvcc itself."""
        own = " ".join(os.environ.get(f"NVCC_{name}", "") for name in ("PREPEND_FLAGS", "APPEND_FLAGS"))
        named = os.environ.get("NVCC_CCBIN") or re.search(r"-ccbin|--compiler-bindir", own)
        return [] if named else ["-ccbin", find_compiler()]

    @property
    def runtime_folders(self) -> list[str]:
        """The folder of CUDA's static runtime in pip's packages, where nvcc does not look; else empty."""
        folder = Path(self.path).resolve().parents[1] / "lib"
        return [str(folder)] if (folder / "libcudart_static.a").is_file() else []

    def __str__(self) -> str:
        return f"nvcc {self.version[0]}.{self.version[1]}"


def find_nvcc() -> Nvcc:
    """Return CUDACXX, else CUDA_HOME's nvcc, else the first on PATH, in pip's packages or in /usr/local/cuda.

    Raises:
        BuildError: There is none, or one too old for C++20.
    """
    for source, path in _nvcc_candidates():
        if found := shutil.which(path):
            return _checked_nvcc(found)
        if source:
            raise BuildError(
                f"nvcc: expected {source} to point to it, got {path}, which is not a program. {INSTALL_NVCC}"
            )
    raise BuildError(
        "nvcc: expected CUDA's compiler in CUDA_HOME, on PATH, among this Python's packages or in /usr/local/cuda, got "
        f"none. {INSTALL_NVCC}"
    )


def _nvcc_candidates() -> Iterator[tuple[str, str]]:
    """Yield where nvcc may be: the variable that says so, or "", and the path."""
    if chosen := os.environ.get("CUDACXX"):
        yield "CUDACXX", chosen
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(name):
            yield name, str(Path(home, "bin", "nvcc"))
    yield "", "nvcc"
    for pattern in NVCC_FOLDERS:
        for folder in sorted(glob.glob(pattern), reverse=True):  # the newest first
            yield "", str(Path(folder, "nvcc"))


def _checked_nvcc(path: str) -> Nvcc:
    ((major, minor),) = _ask(path, "--version", r"release (\d+)\.(\d+)")
    version = (int(major), int(minor))
    if version < MIN_NVCC:
        raise BuildError(f"nvcc: expected 12.0 or newer, for C++20, got {major}.{minor} ({path}). {INSTALL_NVCC}")
    gpus = _ask(path, "--list-gpu-arch", r"compute_(\d+)(\d)\b")
    return Nvcc(path, version, tuple(sorted((int(major), int(minor)) for major, minor in gpus)))


def _ask(path: str, option: str, pattern: str) -> list[tuple[str, str]]:
    """Run nvcc with an option, and return the two groups of every match in its output."""
    done = subprocess.run([path, option], capture_output=True, text=True, errors="replace")
    found = re.findall(pattern, done.stdout)
    if done.returncode or not found:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise BuildError(
            f"nvcc: expected the usual output of `{path} {option}`, got {cut(repr(said), 500)}. {INSTALL_NVCC}"
        )
    return found


def find_ninja() -> list[str]:
    """Return the command that runs ninja, with MAX_JOBS jobs at once where that is set.

    Raises:
        BuildError: There is none.
    """
    if importlib.util.find_spec("ninja"):
        command = [sys.executable, "-m", "ninja"]
    elif found := shutil.which("ninja"):
        command = [found]
    else:
        raise BuildError("ninja: expected it in this Python's packages or on PATH, got none. Run `pip install ninja`.")
    jobs = os.environ.get("MAX_JOBS")
    return [*command, "-j", jobs] if jobs else command
