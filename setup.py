# SPDX-License-Identifier: MIT
"""Build the native libraries and the planner from `csrc/` into `freewire/_native/`.

Three things are built: `libfreewire_cpu.so` and, where nvcc is found, `libfreewire_cuda.so`, which
`freewire/ops/library.py` loads into torch; and `_planner`, a Python module without torch. A wheel also carries the
sources of the CUDA library (`freewire/_native/csrc/`), so that it can be built at first use. The rest of the package's
description is in `pyproject.toml`.

The libraries use LibTorch's stable ABI: they register operators with torch, contain no Python, and one build serves
every Python and every torch from 2.11 on. So they are named as plain shared libraries and not as Python modules, which
nobody could import. The planner is a module of one Python version, and so a wheel is built for one too.

FREEWIRE_CUDA=1 requires the CUDA library and FREEWIRE_CUDA=0 skips it. If the variable is unset, the library is built
where nvcc is found and torch has CUDA; a failure then skips it, and first use tries again and reports the reason.

Only the standard library is imported at module level, so that a bare interpreter can run `check_compiler` (the Makefile
does, before it downloads anything) and the tests can load this file by its path.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent


def load_by_path(name: str) -> Any:
    """Load one module of the package without the package, whose `__init__` needs the libraries that are built here."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT.joinpath(*name.split(".")).with_suffix(".py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)  # modules loaded later import it by this name
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


BuildError = load_by_path("freewire.errors").BuildError
toolchain = load_by_path("freewire._native.toolchain")
cuda_build = load_by_path("freewire._native.cuda_build")

LIBRARY_SUFFIX = ".so"  # on every platform: it is opened by its full path, never searched for
PLANNER = "freewire._native._planner"
CUDA_LIBRARY = f"freewire._native.{cuda_build.LIBRARY.removesuffix(LIBRARY_SUFFIX)}"

# Commands that compile; the others (sdist, metadata) must work without torch or a compiler.
BUILDING_COMMANDS = {"build", "build_ext", "bdist_wheel", "editable_wheel", "develop", "install"}

INSTALL_TORCH = "Run `pip install 'torch>=2.11'`, then `pip install --no-build-isolation .` again."


def check_torch() -> None:
    """Raise `BuildError` unless a torch that has our part of the stable ABI can be imported."""
    try:
        import torch
    except ImportError as error:
        raise BuildError(
            f"torch: expected 2.11 or newer at build time, got no usable torch ({error}). {INSTALL_TORCH}"
        ) from error
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < toolchain.MIN_TORCH:
        raise BuildError(f"torch: expected 2.11 or newer at build time, got {torch.__version__}. {INSTALL_TORCH}")


def cpu_library() -> Any:
    """The extension `libfreewire_cpu`: operator schemas and CPU kernels."""
    from torch.utils.cpp_extension import CppExtension

    sources = [ROOT / "csrc" / "library.cpp", *sorted((ROOT / "csrc" / "cpu").rglob("*.cpp"))]
    library = CppExtension(
        "freewire._native.libfreewire_cpu",
        [str(source.relative_to(ROOT)) for source in sources],  # setuptools requires relative paths
        include_dirs=[str(ROOT / "csrc")],
        # No -march: instruction sets are chosen at run time, inside the sources. No -ffast-math: NaN and
        # infinity must behave as torch's do. The two -fno flags are the part of it that changes no result.
        extra_compile_args=[
            *toolchain.CXX_FLAGS,
            "-fno-math-errno",
            "-fno-trapping-math",
            "-ffp-contract=fast",  # GCC's default; clang would fuse nothing across Vec's operators
        ],
        # An undefined symbol fails here, not at the first call on another torch. An ELF linker's flag.
        extra_link_args=["-Wl,-z,defs"] if sys.platform.startswith("linux") else [],
        py_limited_api=True,  # tells torch not to link libtorch_python
    )
    # The stable ABI is in libtorch_cpu. libc10 is not linked on purpose: its symbols are not stable, and the linker
    # would take parts of the C++ standard library from it.
    library.libraries = ["torch_cpu"]
    return library


def pybind11_include() -> str:
    """The folder of pybind11's headers: the installed package's, or else torch's copy.

    Raises:
        BuildError: There are neither.
    """
    try:
        import pybind11

        return str(pybind11.get_include())
    except ImportError:
        from torch.utils.cpp_extension import include_paths

    for folder in include_paths():
        if Path(folder, "pybind11", "numpy.h").is_file():
            say(f"pybind11 is not installed: building the planner with the copy of its headers in {folder}")
            return str(folder)
    raise BuildError(
        "pybind11: expected it in this Python's packages or its headers in torch's, got neither. "
        "Run `pip install 'pybind11>=3.0'`."
    )


def planner_module() -> Any:
    """The extension `freewire._native._planner`: levels, orders and edge lists in numpy arrays, without torch."""
    from setuptools import Extension

    return Extension(
        PLANNER,
        [str(source.relative_to(ROOT)) for source in sorted((ROOT / "csrc" / "planner").glob("*.cpp"))],
        include_dirs=[str(ROOT / "csrc"), pybind11_include()],
        extra_compile_args=["-std=c++20", "-O3", "-g0", "-fvisibility=hidden"],
        language="c++",
    )


def cuda_libraries() -> list[Any]:
    """The extension `libfreewire_cuda`, compiled by `_native/cuda_build.py`; an empty list where it is not built."""
    import torch
    from setuptools import Extension

    requested = cuda_build.requested()
    if requested is False:
        return []
    reason = None if requested or torch.version.cuda else f"torch {torch.__version__} has none"
    try:
        nvcc = toolchain.find_nvcc()
    except BuildError as error:
        if requested:
            raise
        reason = reason or str(error)
    if reason:
        say(f"skipping the CUDA kernels: {reason}")
        return []
    # The two need not be of one version, as the library has a CUDA runtime of its own; but that needs its driver.
    if torch.version.cuda and nvcc.version[0] > int(torch.version.cuda.partition(".")[0]):
        say(f"the CUDA kernels will need a driver for CUDA {nvcc.version[0]}, torch one for {torch.version.cuda}")
    return [Extension(CUDA_LIBRARY, sources=[], optional=not requested)]


def say(what: str) -> None:
    """Print a line that `pip install -v` shows."""
    print(f"freewire: {what}", file=sys.stderr, flush=True)


def library_builder() -> type:
    """Return `build_ext` for two libraries that are not Python modules and one extension that is."""
    from setuptools.errors import CompileError
    from torch.utils.cpp_extension import BuildExtension

    class BuildLibraries(BuildExtension):
        """torch's ninja build (it honours MAX_JOBS), and ours for CUDA."""

        def finalize_options(self) -> None:
            super().finalize_options()
            # pip uses a fresh temporary folder for each editable build; ninja needs the last build's objects.
            self.build_temp = str(ROOT / "build" / f"objects-{sysconfig.get_platform()}")

        def run(self) -> None:
            # An earlier build's library would end up in the wheel of a build that skips it.
            Path(self.build_lib, self.get_ext_filename(CUDA_LIBRARY)).unlink(missing_ok=True)
            super().run()

        def build_extension(self, ext: Any) -> None:
            if ext.name != CUDA_LIBRARY:
                super().build_extension(ext)
                return
            import torch

            try:
                nvcc = toolchain.find_nvcc()
                gpus = cuda_build.visible_gpus()
                built_for = cuda_build.architectures(nvcc, gpus)
                if ignored := cuda_build.ignored_list(built_for, gpus):
                    say(ignored)
                work = ROOT / "build" / f"cuda-{nvcc.version[0]}.{nvcc.version[1]}-{sysconfig.get_platform()}"
                say(f"building {cuda_build.LIBRARY} for {', '.join(built_for)} with {nvcc} in {work}")
                torch_folder = Path(torch.__file__).parent
                library = cuda_build.build(ROOT / "csrc", torch_folder, work, work / "build.log", nvcc, built_for)
            except BuildError as error:
                raise CompileError(str(error)) from error  # ends the build, unless the extension is optional
            target = Path(self.get_ext_fullpath(ext.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)

        def get_ext_filename(self, ext_name: str) -> str:
            if ext_name in (
                PLANNER,
                PLANNER.rpartition(".")[2],
            ):  # an in-place build passes the name without the package
                return str(super().get_ext_filename(ext_name))
            return os.path.join(*ext_name.split(".")) + LIBRARY_SUFFIX

        def get_export_symbols(self, ext: Any) -> list[str]:
            # setuptools would expect PyInit_* in all of them.
            return list(super().get_export_symbols(ext)) if ext.name == PLANNER else []

    return BuildLibraries


def build_commands() -> dict[str, type]:
    """Return the setuptools commands of an installation."""
    from setuptools.command.build_py import build_py

    class BuildPackage(build_py):
        """The package with the sources of the CUDA library; an editable install uses the checkout's."""

        def run(self) -> None:
            super().run()
            if self.editable_mode:
                return
            shutil.rmtree(self._csrc(), ignore_errors=True)  # files that an earlier build copied may no longer exist
            for source, copy in self._copies().items():
                self.mkpath(str(copy.parent))
                self.copy_file(str(source), str(copy))

        def get_outputs(self, include_bytecode: bool = True) -> list[str]:
            copies = [] if self.editable_mode else map(str, self._copies().values())
            return [*super().get_outputs(include_bytecode), *copies]

        def _csrc(self) -> Path:
            return Path(self.build_lib, "freewire", "_native", "csrc")

        def _copies(self) -> dict[Path, Path]:
            csrc = ROOT / "csrc"
            return {path: self._csrc() / path.relative_to(csrc) for path in cuda_build.source_files(csrc)}

    return {"build_ext": library_builder(), "build_py": BuildPackage}


def build_in_place(libraries: list[Any]) -> None:
    """Build all of them inside the source tree, without reading pyproject.toml, which an old setuptools refuses."""
    from setuptools import Distribution
    from setuptools.errors import BaseError

    distribution = Distribution({"name": "freewire", "packages": ["freewire"], "ext_modules": libraries})
    builder = library_builder()(distribution)
    builder.inplace = True
    builder.ensure_finalized()
    try:
        builder.run()
    except BaseError as error:
        sys.exit(f"freewire cannot be built. {error}")


def main() -> None:
    """Run setuptools; a missing tool ends it with one sentence instead of a traceback."""
    try:
        if sys.argv[1:] == ["check_compiler"]:  # run by the Makefile in an interpreter without setuptools
            toolchain.check_compiler()
            return

        from setuptools import setup

        in_place = sys.argv[1:] == ["in_place"]  # run by the Makefile with the python that has torch
        if BUILDING_COMMANDS.isdisjoint(sys.argv) and not in_place:
            setup()
            return
        # One compiler for compiling (torch reads CXX) and linking (setuptools would use the one that built Python).
        os.environ["CXX"] = toolchain.check_compiler()
        check_torch()
        # ninja installed beside this interpreter is found even if the environment was not activated.
        os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
        libraries = [cpu_library(), planner_module(), *cuda_libraries()]
    except BuildError as error:
        sys.exit(f"freewire cannot be built. {error}")
    if in_place:
        build_in_place(libraries)
    else:
        setup(ext_modules=libraries, cmdclass=build_commands())


if __name__ == "__main__":
    main()
