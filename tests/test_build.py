# SPDX-License-Identifier: MIT
"""The build: what it says when something is missing, what it makes, and how that is loaded."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import freewire as fw
from freewire import _library
from freewire.errors import BuildError

ROOT = Path(__file__).resolve().parents[1]

# The smallest operator that needs all the build gives: both kinds of source, a header, torch's threads.
SCHEMA = """\
#include <torch/csrc/stable/library.h>
STABLE_TORCH_LIBRARY(freewire, m) { m.def("twice(Tensor x) -> Tensor"); }
"""
KERNEL = """\
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include "twice.h"
static torch::stable::Tensor twice_cpu(const torch::stable::Tensor& x) {
  torch::stable::Tensor y = torch::stable::empty_like(x);
  const float* from = x.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  torch::stable::parallel_for(0, x.numel(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = twice(from[i]);
  });
  return y;
}
STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) { m.impl("twice", TORCH_BOX(&twice_cpu)); }
"""
HEADER = "inline float twice(float x) { return x + x; }\n"


@pytest.fixture(scope="module")
def build() -> types.ModuleType:
    """Give setup.py as a module; loading it runs nothing."""
    spec = importlib.util.spec_from_file_location("freewire_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an environment in which no program is found, and the one folder where it looks."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    return folder


def write_compiler(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class TestCompiler:
    def test_this_machine_has_one(self, build: types.ModuleType) -> None:
        assert build.check_compiler()

    @pytest.mark.usefixtures("bare_path")
    def test_none(self, build: types.ModuleType) -> None:
        with pytest.raises(build.MissingToolError, match=r"expected c\+\+, g\+\+ or clang\+\+ on PATH, got"):
            build.check_compiler()

    @pytest.mark.usefixtures("bare_path")
    @pytest.mark.parametrize("system", ["Debian, Ubuntu", "Fedora", "macOS", "conda"])
    def test_none_says_how_to_get_one(self, build: types.ModuleType, system: str) -> None:
        with pytest.raises(build.MissingToolError, match=rf"`[^`]+` \({system}\)"):
            build.check_compiler()

    def test_cxx_names_none(self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(build.MissingToolError, match="got CXX='no-such-compiler', which is not on PATH"):
            build.check_compiler()

    def test_cxx_with_arguments(self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "g++ -O1")
        with pytest.raises(build.MissingToolError, match=r"got CXX='g\+\+ -O1'\. Move its arguments to CXXFLAGS"):
            build.check_compiler()

    def test_too_old(self, build: types.ModuleType, bare_path: Path) -> None:
        write_compiler(bare_path / "g++", "echo \"g++: error: unrecognized option '-std=c++20'\" >&2; exit 1")
        with pytest.raises(build.MissingToolError, match=r"expected C\+\+20 .*, got 'g\+\+', .*unrecognized"):
            build.check_compiler()

    @pytest.mark.parametrize("cxx", ["good", "ccache good", "/usr/bin/sccache good"])
    def test_cxx(self, build: types.ModuleType, bare_path: Path, monkeypatch: pytest.MonkeyPatch, cxx: str) -> None:
        write_compiler(bare_path / "good", "exit 0")
        monkeypatch.setenv("CXX", cxx)
        assert build.check_compiler() == "good"

    @pytest.mark.parametrize("name", ["c++", "g++", "clang++"])
    def test_usual_names(self, build: types.ModuleType, bare_path: Path, name: str) -> None:
        write_compiler(bare_path / name, "exit 0")
        assert build.check_compiler() == name

    @pytest.mark.usefixtures("bare_path")
    @pytest.mark.parametrize("command", ["check_compiler", "bdist_wheel", "build_ext", "editable_wheel"])
    def test_installing_ends_with_one_sentence(self, command: str) -> None:
        done = subprocess.run([sys.executable, "setup.py", command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("freewire cannot be built. C++ compiler: expected")
        assert done.stderr.count("\n") == 1

    @pytest.mark.usefixtures("bare_path")
    def test_metadata_needs_none(self) -> None:
        command = [sys.executable, "setup.py", "--name"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.strip() == "freewire"


class TestTorch:
    def test_missing(self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(build.MissingToolError, match=r"got no usable torch .*`pip install 'torch>=2\.11'`"):
            build.check_torch()

    @pytest.mark.parametrize("version", ["1.13.1", "2.9.1", "2.10.0+cpu"])
    def test_too_old(self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__=version))
        with pytest.raises(build.MissingToolError, match=r"expected 2\.11 or newer at build time, got \d"):
            build.check_torch()

    @pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "2.14.0a0+git1a2b", "3.0.0"])
    def test_new_enough(self, build: types.ModuleType, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__=version))
        build.check_torch()

    def test_oldest_torch_is_one_everywhere(self, build: types.ModuleType) -> None:
        assert build.TORCH_TARGET_VERSION == "0x020b000000000000"
        requirements = [Requirement(text) for text in importlib.metadata.requires("freewire") or []]
        (torch,) = [each for each in requirements if each.name == "torch"]
        assert str(torch.specifier) == ">=" + ".".join(map(str, build.MIN_TORCH))


class TestLibrary:
    def test_is_where_setup_puts_it(self, build: types.ModuleType) -> None:
        command = object.__new__(build.build_commands()["build_ext"])  # its name needs no distribution
        built = Path(command.get_ext_filename(build.cpu_library().name))
        loaded = _library.CPU_LIBRARY
        assert built == Path("freewire", "libfreewire_cpu.so")
        assert loaded == Path(_library.__file__).parent / built.name

    @pytest.mark.parametrize("name", [b"PyInit", b"_Py", b"libpython", b"libtorch_python", b"libc10"])
    def test_needs_no_python_and_only_the_stable_abi(self, name: bytes) -> None:
        assert name not in _library.CPU_LIBRARY.read_bytes()

    def test_loads_twice(self) -> None:
        _library.load_library(_library.CPU_LIBRARY)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"expected gone\.so in .*, got no such file\. .*`make setup`"):
            _library.load_library(tmp_path / "gone.so")

    def test_missing_is_an_import_error(self, tmp_path: Path) -> None:
        with pytest.raises(ImportError, match="pip install --no-build-isolation"):
            _library.load_library(tmp_path / "gone.so")

    def test_not_loadable(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.so"
        path.write_bytes(b"not a library")
        with pytest.raises(BuildError, match=r"expected .*broken\.so to load into torch \d.*, got .*`make"):
            _library.load_library(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build a wheel of a copy of the project whose sources are one small operator."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    (folder / "README.md").write_text("# freewire\n")
    files = {
        "freewire/__init__.py": "",
        "freewire/py.typed": "",
        "freewire/libstale.so": "left by an earlier build",
        "tests/test_nothing.py": "",
        "csrc/library.cpp": SCHEMA,
        "csrc/twice.h": HEADER,
        "csrc/cpu/twice.cpp": KERNEL,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir=dist"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "dist").iterdir()
    yield path
    shutil.rmtree(folder)


@pytest.mark.slow
class TestWheel:
    def test_fits_every_python(self, wheel: Path) -> None:
        assert wheel.name.split("-")[2:4] == ["py3", "none"]

    def test_content(self, wheel: Path) -> None:
        names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        assert names == {"freewire/__init__.py", "freewire/libfreewire_cpu.so", "freewire/py.typed"}

    def test_operator_runs(self, wheel: Path, tmp_path: Path) -> None:
        library = zipfile.ZipFile(wheel).extract("freewire/libfreewire_cpu.so", tmp_path)
        load = f"import torch; torch.ops.load_library({library!r})"
        script = f"{load}; print(torch.ops.freewire.twice(torch.ones(2)))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout.strip() == "tensor([2., 2.])", done.stderr


def test_every_requirement_is_pinned() -> None:
    pins: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        requirement = Requirement(line) if line and not line.startswith("#") else None
        if requirement and (requirement.marker is None or requirement.marker.evaluate()):
            pins[requirement.name] = str(requirement.specifier).removeprefix("==")
    for text in importlib.metadata.requires("freewire") or []:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name]), text


def test_one_version() -> None:
    written = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert fw.__version__ == written
