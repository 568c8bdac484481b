# SPDX-License-Identifier: MIT
"""setup.py: its messages when something is missing, the libraries it describes, and how they are loaded."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from setuptools import Distribution, Extension
from setuptools.errors import CompileError

import freewire as fw
from freewire._native import _planner, toolchain
from freewire.errors import BuildError
from freewire.ops import library
from tests.support import ROOT, tools

MODULE = f"_planner{sysconfig.get_config_var('EXT_SUFFIX')}"


@pytest.fixture(scope="module")
def build() -> types.ModuleType:
    """Return setup.py as a module; loading it runs nothing."""
    spec = importlib.util.spec_from_file_location("freewire_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestTools:
    @pytest.fixture
    def bare_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Create an environment in which no program is found, and the one folder where it looks."""
        folder = tmp_path / "bin"
        folder.mkdir()
        tools.clear_environment(monkeypatch, folder)
        return folder

    def assert_ends_with_one_sentence(self, command: str, sentence: str) -> None:
        done = subprocess.run([sys.executable, "setup.py", command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(f"freewire cannot be built. {sentence}"), done.stderr
        assert done.stderr.count("\n") == 1

    @pytest.mark.usefixtures("bare_path")
    @pytest.mark.parametrize("command", ["check_compiler", "bdist_wheel", "build_ext", "editable_wheel"])
    def test_no_compiler(self, command: str) -> None:
        self.assert_ends_with_one_sentence(command, "C++ compiler: expected")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("environment", "sentence"),
        [
            (
                {"FREEWIRE_CUDA": "1", "CUDA_HOME": "/gone"},
                "nvcc: expected CUDA_HOME to point to it, got /gone",
            ),
            (
                {"FREEWIRE_CUDA": "on"},
                "FREEWIRE_CUDA: expected 1 (build the CUDA kernels) or 0 (never build them), got 'on'",
            ),
        ],
    )
    def test_cuda(
        self, environment: dict[str, str], sentence: str, bare_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tools.write_program(bare_path / "g++", "exit 0")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        self.assert_ends_with_one_sentence("build_ext", sentence)

    @pytest.mark.usefixtures("bare_path")
    def test_metadata_needs_none(self) -> None:
        command = [sys.executable, "setup.py", "--name"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip() == "freewire"

    def test_bare_interpreter_checks_the_compiler(self) -> None:
        command = [sys.executable, "-I", "-S", "setup.py", "check_compiler"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class TestTorch:
    def test_missing(self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(BuildError, match=r"got no usable torch .*`pip install 'torch>=2\.11'`"):
            build.check_torch()

    @pytest.mark.parametrize("version", ["1.13.1", "2.9.1", "2.10.0+cpu"])
    def test_too_old(self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__=version))
        with pytest.raises(BuildError, match=r"expected 2\.11 or newer at build time, got \d"):
            build.check_torch()

    @pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "2.14.0a0+git1a2b", "3.0.0"])
    def test_new_enough(self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__=version))
        build.check_torch()

    def test_oldest_torch_is_one_everywhere(self) -> None:
        assert toolchain.TORCH_TARGET_VERSION == "0x020b000000000000"
        requirements = [Requirement(text) for text in importlib.metadata.requires("freewire") or []]
        (torch,) = [each for each in requirements if each.name == "torch"]
        assert str(torch.specifier) == ">=" + ".".join(map(str, toolchain.MIN_TORCH))


class TestLibrary:
    def test_is_where_setup_puts_it(self, build: types.ModuleType) -> None:
        command = object.__new__(build.build_commands()["build_ext"])  # its name needs no distribution
        built = Path(command.get_ext_filename(build.cpu_library().name))
        loaded = library.CPU_LIBRARY
        assert built == Path("freewire", "_native", "libfreewire_cpu.so")
        assert loaded == Path(fw.__file__).parents[1] / built
        assert Path(command.get_ext_filename(build.CUDA_LIBRARY)).name == library.CUDA_LIBRARY.name

    @pytest.mark.parametrize("command", ["_planner", "freewire._native._planner"])
    def test_the_planner_is_a_python_module(self, build: types.ModuleType, command: str) -> None:
        """Setuptools asks with the package and without."""
        distribution = Distribution({"name": "x", "ext_modules": [build.planner_module()]})
        builder = build.build_commands()["build_ext"](distribution)
        builder.ensure_finalized()
        assert Path(builder.get_ext_filename(command)).name == MODULE
        assert builder.get_export_symbols(build.planner_module()) == ["PyInit__planner"]
        assert builder.get_export_symbols(build.cpu_library()) == []
        assert Path(_planner.__file__).name == MODULE

    def test_the_planner_needs_no_torch(self) -> None:
        assert b"torch" not in Path(_planner.__file__).read_bytes()

    def test_pybind11_from_torch(
        self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Where nothing can be installed, torch's copy of the headers is used; a torch without one is reported."""
        monkeypatch.setitem(sys.modules, "pybind11", None)
        assert Path(build.pybind11_include(), "pybind11", "numpy.h").is_file()
        assert "freewire: pybind11 is not installed: building the planner with" in capsys.readouterr().err
        monkeypatch.setattr("torch.utils.cpp_extension.include_paths", lambda: ["/gone"])
        with pytest.raises(BuildError, match=r"^pybind11: expected it in .* got neither\. Run `pip install 'pybind11"):
            build.pybind11_include()

    @pytest.mark.parametrize("name", [b"PyInit", b"_Py", b"libpython", b"libtorch_python", b"libc10"])
    def test_needs_no_python_and_only_the_stable_abi(self, name: bytes) -> None:
        assert name not in library.CPU_LIBRARY.read_bytes()

    def test_loads_twice(self) -> None:
        library.load_library(library.CPU_LIBRARY)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"expected gone\.so in .*, got no such file\. .*`make setup`"):
            library.load_library(tmp_path / "gone.so")

    def test_missing_is_an_import_error(self, tmp_path: Path) -> None:
        with pytest.raises(ImportError, match="pip install --no-build-isolation"):
            library.load_library(tmp_path / "gone.so")

    def test_not_loadable(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.so"
        path.write_bytes(b"not a library")
        with pytest.raises(BuildError, match=r"expected .*broken\.so to load into torch \d.*, got .*`make"):
            library.load_library(path)


class TestCuda:
    """Whether the CUDA library is part of a build, and what happens when that fails."""

    @pytest.fixture
    def calls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        return tools.play_nvcc(monkeypatch, tmp_path / "bin")

    @pytest.mark.parametrize(
        ("requested", "nvcc", "torch_cuda", "optional", "said"),
        [
            ("", "13.0", "13.0", True, ""),
            ("", "12.8", "13.0", True, ""),
            ("", "13.0", "12.8", True, "the CUDA kernels will need a driver for CUDA 13, torch one for 12.8"),
            ("", "13.0", None, None, r"skipping the CUDA kernels: torch \d.* has none"),
            ("", "", "13.0", None, "skipping the CUDA kernels: nvcc: expected CUDACXX to point to it, .*"),
            ("", "11.8", "13.0", None, r"skipping the CUDA kernels: nvcc: expected 12\.0 or newer, .*"),
            ("0", "13.0", "13.0", None, ""),
            ("1", "13.0", "13.0", False, ""),
            ("1", "13.0", None, False, ""),
        ],
    )
    def test_part_of_it(
        self,
        requested: str,
        nvcc: str,
        torch_cuda: str | None,
        optional: bool | None,
        said: str,
        calls: Path,
        build: types.ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(torch.version, "cuda", torch_cuda)
        monkeypatch.setenv("FREEWIRE_CUDA", requested)
        tools.write_nvcc(calls.parent, nvcc) if nvcc else (calls.parent / "nvcc").unlink()
        libraries = build.cuda_libraries()
        assert [(each.name, each.optional) for each in libraries] == (
            [] if optional is None else [("freewire._native.libfreewire_cuda", optional)]
        )
        assert re.fullmatch(f"freewire: {said}\n" if said else "", capsys.readouterr().err)

    @pytest.mark.parametrize(
        ("nvcc", "said"), [("11.8", r"nvcc: expected 12\.0"), ("", "nvcc: expected CUDACXX to point")]
    )
    def test_insisted_on_without_nvcc(
        self, nvcc: str, said: str, calls: Path, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA", "1")
        tools.write_nvcc(calls.parent, nvcc) if nvcc else (calls.parent / "nvcc").unlink()
        with pytest.raises(BuildError, match=f"^{said}"):
            build.cuda_libraries()

    @pytest.fixture
    def command(self, build: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path) -> Any:
        """build_ext of the CUDA library alone, of sources that do not compile."""
        monkeypatch.setattr(build, "ROOT", tmp_path)
        tools.write_sources(tmp_path / "csrc")
        (tmp_path / "csrc" / "cuda" / "kernel.cu").write_text("int kernel() { return missing; }\n")

        def make(optional: bool) -> Any:
            extension = Extension(build.CUDA_LIBRARY, sources=[], optional=optional)
            command = build.build_commands()["build_ext"](Distribution({"name": "x", "ext_modules": [extension]}))
            command.build_lib = str(tmp_path / "lib")
            command.ensure_finalized()
            return command

        return make

    def test_failure_of_a_required_library_ends_the_build(self, command: Any) -> None:
        with pytest.raises(CompileError, match=r"^CUDA kernels: expected nvcc 13\.0 .* got .*missing.*log"):
            command(optional=False).run()

    def test_failure_of_an_optional_library_skips_it(self, command: Any, tmp_path: Path) -> None:
        stale = tmp_path / "lib" / "freewire" / "_native" / "libfreewire_cuda.so"
        stale.parent.mkdir(parents=True)
        stale.touch()
        command(optional=True).run()
        assert not stale.exists()


def test_every_requirement_is_pinned() -> None:
    pins: dict[str, str] = {}
    texts = [(ROOT / name).read_text() for name in ("constraints-vision.txt", "constraints.txt")]  # the latter counts
    for line in "".join(texts).splitlines():
        requirement = Requirement(line) if line and not line.startswith("#") else None
        if requirement and (requirement.marker is None or requirement.marker.evaluate()):
            pins[requirement.name] = str(requirement.specifier).removeprefix("==")
    for text in importlib.metadata.requires("freewire") or []:
        requirement = Requirement(text)
        if "bench-peers" in text:
            continue  # no target installs them: they are whatever the user compares with
        assert requirement.specifier.contains(pins[requirement.name]), text


def test_one_version() -> None:
    assert importlib.metadata.version("freewire") == fw.__version__
