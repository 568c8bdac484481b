# SPDX-License-Identifier: MIT
"""Wheels and source distributions, built from a small copy of the project: what they hold, and that it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools import find_packages
from setuptools.config.pyprojecttoml import read_configuration

from freewire._native import cuda_build
from tests.support import ROOT, tools

MODULE = f"_planner{sysconfig.get_config_var('EXT_SUFFIX')}"
MODULES = ("errors", "_native/__init__", "_native/toolchain", "_native/cuda_build")  # the modules that the build needs

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
# As little as a planner can be.
PLANNER = """\
#include <pybind11/numpy.h>
PYBIND11_MODULE(_planner, m) {
  m.def("total", [](const pybind11::array_t<double>& x) { return *x.data() + x.size(); });
}
"""
HEADER = "inline float twice(float x) { return x + x; }\n"


def run_pip(folder: Path, *arguments: str, **environment: str) -> None:
    options = ["--no-index", "--no-build-isolation", "--no-deps"]
    command = [sys.executable, "-m", "pip", *arguments, *options, "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Copy the project, with one small operator for its sources, and build wheels of it with CUDA and without."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("setup.py", "pyproject.toml", "LICENSE", "MANIFEST.in", *(f"freewire/{name}.py" for name in MODULES)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "README.md").write_text("# freewire\n")
    files = {
        "freewire/__init__.py": "",
        "freewire/py.typed": "",
        "freewire/_native/libstale.so": "left by an earlier build",
        "tests/test_nothing.py": "",
        "csrc/library.cpp": SCHEMA,
        "csrc/twice.h": HEADER,
        "csrc/cpu/twice.cpp": KERNEL,
        "csrc/planner/total.cpp": PLANNER,
        "freewire/_native/_planner.pyi": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    tools.write_sources(folder / "csrc")
    with pytest.MonkeyPatch.context() as environment:
        tools.play_nvcc(environment, folder / "bin")
        run_pip(folder, "wheel", "--wheel-dir=with", FREEWIRE_CUDA="1")
        (folder / "csrc" / "cuda" / "kernel.h").unlink()
        run_pip(folder, "wheel", "--wheel-dir=without", FREEWIRE_CUDA="0")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    (path,) = (checkout / "without").iterdir()
    return path


@pytest.mark.slow
class TestWheel:
    def content(self, wheel: Path) -> set[str]:
        names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        expected = {
            "__init__.py",
            "py.typed",
            "_native/libfreewire_cpu.so",
            "_native/_planner.pyi",
            f"_native/{MODULE}",
            *(f"{module}.py" for module in MODULES),
        }
        assert {f"freewire/{name}" for name in expected} <= names
        return {name.removeprefix("freewire/_native/") for name in names - {f"freewire/{name}" for name in expected}}

    def test_is_of_one_python(self, wheel: Path) -> None:
        """The planner is a module of the Python that built it; the libraries would fit every one."""
        version = f"cp{sys.version_info.major}{sys.version_info.minor}"
        assert wheel.name.split("-")[2:4] == [version, f"{version}{sys.abiflags}"]

    def test_planner_runs(self, wheel: Path, tmp_path: Path) -> None:
        zipfile.ZipFile(wheel).extract(f"freewire/_native/{MODULE}", tmp_path)
        script = "import numpy, _planner; print(_planner.total(numpy.full(2, 0.5)))"
        folder = tmp_path / "freewire" / "_native"
        done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
        assert done.stdout.strip() == "2.5", done.stderr

    def test_carries_the_sources_of_the_cuda_library(self, wheel: Path) -> None:
        sources = {"twice.h", *tools.SOURCES} - {"cuda/kernel.h"}  # which was there before
        assert self.content(wheel) == {f"csrc/{name}" for name in sources}

    def test_carries_the_cuda_library(self, checkout: Path, tmp_path: Path) -> None:
        (wheel,) = (checkout / "with").iterdir()
        assert self.content(wheel) == {
            "libfreewire_cuda.so",
            *(f"csrc/{name}" for name in ("twice.h", *tools.SOURCES)),
        }
        with zipfile.ZipFile(wheel) as file:
            file.extractall(tmp_path)
        stamp = cuda_build.read_stamp(tmp_path / "freewire" / "_native" / "libfreewire_cuda.so")
        assert stamp is not None
        assert stamp.sources == cuda_build.source_hash(tmp_path / "freewire" / "_native" / "csrc")

    def test_operator_runs(self, wheel: Path, tmp_path: Path) -> None:
        library = zipfile.ZipFile(wheel).extract("freewire/_native/libfreewire_cpu.so", tmp_path)
        load = f"import torch; torch.ops.load_library({library!r})"
        script = f"{load}; print(torch.ops.freewire.twice(torch.ones(2)))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout.strip() == "tensor([2., 2.])", done.stderr

    @pytest.mark.parametrize("command", [("in_place",), ("build_ext", "--inplace")], ids=["in_place", "build_ext"])
    def test_in_place(self, checkout: Path, command: tuple[str, ...]) -> None:
        """Ours with any setuptools: nothing is asked of pyproject.toml, which old ones refuse."""
        project = (checkout / "pyproject.toml").read_text()
        if command == ("in_place",):
            (checkout / "pyproject.toml").write_text("[project]\nlicense = 3\n")
        for path in (*(checkout / "freewire").rglob("libfreewire_*.so"), checkout / "freewire" / "_native" / MODULE):
            path.unlink(missing_ok=True)
        (checkout / "csrc" / "cuda" / "kernel.h").write_text(tools.SOURCES["cuda/kernel.h"])
        with pytest.MonkeyPatch.context() as environment:
            tools.clear_environment(environment)
            environment.setenv("CUDACXX", str(checkout / "bin" / "nvcc"))
            environment.setenv("FREEWIRE_CUDA", "1")
            done = subprocess.run([sys.executable, "setup.py", *command], cwd=checkout, capture_output=True, text=True)
        (checkout / "pyproject.toml").write_text(project)
        assert done.returncode == 0, done.stderr
        assert (checkout / "freewire" / "_native" / "libfreewire_cpu.so").is_file()
        assert (checkout / "freewire" / "_native" / MODULE).is_file()
        stamp = cuda_build.read_stamp(checkout / "freewire" / "_native" / "libfreewire_cuda.so")
        assert stamp is not None
        assert stamp.sources == cuda_build.source_hash(checkout / "csrc")
        assert not (checkout / "freewire" / "_native" / "csrc").exists()


class TestPackages:
    """A wheel and a source distribution of the real project hold every package; what is in `checkout` is an example."""

    def test_setuptools_finds_every_package(self) -> None:
        folders = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("freewire/**/__init__.py")}
        options = read_configuration(ROOT / "pyproject.toml", expand=False)["tool"]["setuptools"]["packages"]["find"]
        assert options.pop("namespaces") is False
        assert set(find_packages(str(ROOT), **options)) == folders

    def test_setuptools_finds_every_data_file(self) -> None:
        """Such as the sources of a page; built libraries come from setup.py."""
        data = read_configuration(ROOT / "pyproject.toml", expand=False)["tool"]["setuptools"]["package-data"]
        folders = {package: ROOT.joinpath(*package.split(".")) for package in data}
        found = {path for package, folder in folders.items() for name in data[package] for path in folder.glob(name)}
        files = {path for path in (ROOT / "freewire").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        assert found == {path for path in files if path.suffix not in (".py", ".so")}

    def test_source_distribution(self, checkout: Path) -> None:
        """It holds the package, the C++ sources and what builds them; no tests and nothing built."""
        shutil.copy(ROOT / "constraints.txt", checkout)
        shutil.copy(ROOT / "CHANGELOG.md", checkout)
        (checkout / "freewire" / "nn").mkdir()
        (checkout / "freewire" / "nn" / "__init__.py").touch()
        command = [sys.executable, "setup.py", "--quiet", "sdist"]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (path,) = (checkout / "dist").iterdir()
        with tarfile.open(path) as file:
            names = {name.partition("/")[2] for name in file.getnames()}
        assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "constraints.txt"} <= names
        assert {"freewire/nn/__init__.py", "freewire/_native/cuda_build.py", "freewire/_native/_planner.pyi"} <= names
        assert {f"csrc/{name}" for name in ("library.cpp", "twice.h", "cpu/twice.cpp", "cuda/kernel.cu")} <= names
        assert not any(name.startswith("tests") or name.endswith(".so") for name in names)
