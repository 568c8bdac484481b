# SPDX-License-Identifier: MIT
"""Build the native libraries.

What enters: `csrc/`. What leaves: `freewire/libfreewire_cpu.so`, loaded by `freewire/_library.py`. Everything
that is not about compiling stands in `pyproject.toml`.

The library uses LibTorch's stable ABI: it registers operators with torch, contains no Python, and one build
serves every Python and every torch from 2.11 on. It is therefore named as what it is, a plain shared library,
and not as a Python module (`*.cpython-311-*.so` would tie it to one Python, and `*.abi3.so` would invite an
`import` that fails).

Only the standard library is imported at the top, so that a bare interpreter can ask for `check_compiler` (the
Makefile does, before it downloads anything) and the tests can load this file by its path.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
LIBRARY_SUFFIX = ".so"  # on every platform: it is opened by its full path, never searched for
MIN_TORCH = (2, 11)
# The oldest torch the library may be loaded into, as torch/headeronly/version.h lays it out: one byte a part.
TORCH_TARGET_VERSION = f"0x{MIN_TORCH[0]:02x}{MIN_TORCH[1]:02x}000000000000"

# Commands that compile; the others (sdist, metadata) must work without torch or a compiler.
BUILDING_COMMANDS = {"build", "build_ext", "bdist_wheel", "editable_wheel", "develop", "install"}

INSTALL_COMPILER = (
    "Install one: `apt install g++` (Debian, Ubuntu), `dnf install gcc-c++` (Fedora), "
    "`xcode-select --install` (macOS), `conda install -c conda-forge cxx-compiler` (conda); "
    "or set CXX to one that is already here."
)
INSTALL_TORCH = "Run `pip install 'torch>=2.11'`, then `pip install --no-build-isolation .` again."

# Needs the C++20 standard library as well as the language.
CXX20_PROBE = """\
#include <concepts>
#include <span>
template <std::integral T> T twice(std::span<const T> x) { return x[0] + x[0]; }
int main() { const int one[1] = {1}; return twice<int>(one) - 2; }
"""


class MissingToolError(Exception):
    """Something the build needs is not there; the message is one sentence and a remedy."""


def find_compiler() -> str:
    """Return the C++ compiler's name: CXX's, or else the first of the usual ones that is on PATH."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen and Path(chosen[0]).name in ("ccache", "sccache"):
        del chosen[0]  # torch puts it in front itself
    if len(chosen) > 1:  # torch takes all of CXX for the name of one program
        raise MissingToolError(
            f"C++ compiler: expected CXX to name one program, got CXX={os.environ['CXX']!r}. Move its "
            "arguments to CXXFLAGS."
        )
    for name in chosen or ("c++", "g++", "clang++"):
        if shutil.which(name):
            return name
    if chosen:
        raise MissingToolError(
            f"C++ compiler: expected CXX to name one, got CXX={os.environ['CXX']!r}, which is not on PATH. "
            f"{INSTALL_COMPILER}"
        )
    raise MissingToolError(f"C++ compiler: expected c++, g++ or clang++ on PATH, got none. {INSTALL_COMPILER}")


def check_compiler() -> str:
    """Return the name of a compiler that compiles C++20, or raise `MissingToolError`."""
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
        raise MissingToolError(
            f"C++ compiler: expected C++20 (gcc 10, clang 13 or newer), got {compiler!r}, which fails with "
            f"{reason!r}. {INSTALL_COMPILER}"
        )
    return compiler


def check_torch() -> None:
    """Raise `MissingToolError` unless a torch that has our part of the stable ABI can be imported."""
    try:
        import torch
    except ImportError as error:
        raise MissingToolError(
            f"torch: expected 2.11 or newer at build time, got no usable torch ({error}). {INSTALL_TORCH}"
        ) from error
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < MIN_TORCH:
        raise MissingToolError(f"torch: expected 2.11 or newer at build time, got {torch.__version__}. {INSTALL_TORCH}")


def cpu_library() -> Any:
    """Describe `libfreewire_cpu`: operator schemas, CPU kernels. Another backend is another such function."""
    from torch.utils.cpp_extension import CppExtension

    sources = [ROOT / "csrc" / "library.cpp", *sorted((ROOT / "csrc" / "cpu").glob("*.cpp"))]
    library = CppExtension(
        "freewire.libfreewire_cpu",
        [str(source.relative_to(ROOT)) for source in sources],  # setuptools wants them relative
        include_dirs=[str(ROOT / "csrc")],
        # No -march: instruction sets are chosen at run time, inside the sources. No -ffast-math: NaN and
        # infinity must behave as torch's do. The two -fno flags are the part of it that changes no result.
        extra_compile_args=[
            "-std=c++20",
            "-O3",
            "-g0",
            "-fvisibility=hidden",
            "-fno-math-errno",
            "-fno-trapping-math",
            "-ffp-contract=fast",  # GCC's default; clang would fuse nothing across Vec's operators
            f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
        ],
        # An undefined symbol fails here, not at the first call on another torch. An ELF linker's flag.
        extra_link_args=["-Wl,-z,defs"] if sys.platform.startswith("linux") else [],
        py_limited_api=True,  # torch's way of saying: do not link libtorch_python
    )
    # The stable ABI lives in libtorch_cpu. libc10 is left out on purpose: what it exports is not stable, and
    # the linker would take parts of the C++ standard library from it.
    library.libraries = ["torch_cpu"]
    return library


def build_commands() -> dict[str, type]:
    """Return the setuptools commands, adjusted to libraries that are not Python modules."""
    from setuptools.command.bdist_wheel import bdist_wheel
    from torch.utils.cpp_extension import BuildExtension

    class BuildLibraries(BuildExtension):
        """torch's ninja build (it honours MAX_JOBS)."""

        def finalize_options(self) -> None:
            super().finalize_options()
            # pip gives each editable build a fresh temporary folder; ninja needs the last build's objects.
            self.build_temp = str(ROOT / "build" / f"objects-{sysconfig.get_platform()}")

        def get_ext_filename(self, ext_name: str) -> str:
            return os.path.join(*ext_name.split(".")) + LIBRARY_SUFFIX

        def get_export_symbols(self, ext: Any) -> list[str]:
            return []  # setuptools would ask for PyInit_*

    class PythonFreeWheel(bdist_wheel):
        """Tags the wheel py3-none-<platform>: it holds machine code, but none for a particular Python."""

        def get_tag(self) -> tuple[str, str, str]:
            return "py3", "none", super().get_tag()[2]

    return {"build_ext": BuildLibraries, "bdist_wheel": PythonFreeWheel}


def main() -> None:
    """Run setuptools; a missing tool ends it with one sentence instead of a traceback."""
    try:
        if sys.argv[1:] == ["check_compiler"]:  # asked by the Makefile, of an interpreter without setuptools
            check_compiler()
            return

        from setuptools import setup

        if BUILDING_COMMANDS.isdisjoint(sys.argv):
            setup()
            return
        # One compiler for compiling (torch asks CXX) and linking (setuptools would ask how Python was built).
        os.environ["CXX"] = check_compiler()
        check_torch()
    except MissingToolError as error:
        sys.exit(f"freewire cannot be built. {error}")
    # ninja installed beside this interpreter is found even if the environment was not activated.
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    setup(ext_modules=[cpu_library()], cmdclass=build_commands())


if __name__ == "__main__":
    main()
