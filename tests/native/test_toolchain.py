# SPDX-License-Identifier: MIT
"""The tools of a build: which is taken, and what is said when there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from freewire._native import toolchain
from freewire.errors import BuildError
from tests.support import tools
from tests.support.messages import assert_refused


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an environment in which no program is found, and the one folder where it looks."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tools.clear_environment(monkeypatch, folder)
    monkeypatch.setattr(toolchain, "NVCC_FOLDERS", ())
    return folder


class TestCompiler:
    def test_this_machine_has_one(self) -> None:
        assert toolchain.check_compiler()

    @pytest.mark.usefixtures("bare_path")
    def test_none(self) -> None:
        with pytest.raises(BuildError, match=r"expected c\+\+, g\+\+ or clang\+\+ on PATH, got"):
            toolchain.check_compiler()

    @pytest.mark.usefixtures("bare_path")
    @pytest.mark.parametrize("system", ["Debian, Ubuntu", "Fedora", "macOS", "conda"])
    def test_none_says_how_to_get_one(self, system: str) -> None:
        with pytest.raises(BuildError, match=rf"`[^`]+` \({system}\)"):
            toolchain.check_compiler()

    def test_cxx_names_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(BuildError, match="got CXX='no-such-compiler', which is not on PATH"):
            toolchain.check_compiler()

    def test_cxx_with_arguments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "g++ -O1")
        with pytest.raises(BuildError, match=r"got CXX='g\+\+ -O1'\. Move its arguments to CXXFLAGS"):
            toolchain.check_compiler()

    def test_too_old(self, bare_path: Path) -> None:
        tools.write_program(bare_path / "g++", "echo \"g++: error: unrecognized option '-std=c++20'\" >&2; exit 1")
        with pytest.raises(BuildError, match=r"expected C\+\+20 .*, got 'g\+\+', .*unrecognized"):
            toolchain.check_compiler()

    @pytest.mark.parametrize("cxx", ["good", "ccache good", "/usr/bin/sccache good"])
    def test_cxx(self, bare_path: Path, monkeypatch: pytest.MonkeyPatch, cxx: str) -> None:
        tools.write_program(bare_path / "good", "exit 0")
        monkeypatch.setenv("CXX", cxx)
        assert toolchain.check_compiler() == "good"

    @pytest.mark.parametrize("name", ["c++", "g++", "clang++"])
    def test_usual_names(self, bare_path: Path, name: str) -> None:
        tools.write_program(bare_path / name, "exit 0")
        assert toolchain.check_compiler() == name


class TestNvcc:
    @pytest.mark.usefixtures("bare_path")
    @pytest.mark.parametrize("way", [r"`[^`]+` \(pip\)", r"`[^`]+` \(conda\)", "NVIDIA's toolkit"])
    def test_none_says_how_to_get_one(self, way: str) -> None:
        with pytest.raises(BuildError, match=rf"^nvcc: expected CUDA's compiler in CUDA_HOME, .*, got none\. .*{way}"):
            toolchain.find_nvcc()

    @pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH", "CUDACXX"])
    def test_variable_leads_nowhere(
        self, variable: str, bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tools.write_nvcc(bare_path)
        monkeypatch.setenv(variable, str(tmp_path / "gone"))
        expected = f"nvcc: expected {variable} to point to it, got {tmp_path / 'gone'}"
        assert_refused(toolchain.find_nvcc, expected, BuildError)

    def test_too_old(self, bare_path: Path) -> None:
        tools.write_nvcc(bare_path, release="11.8")
        assert_refused(toolchain.find_nvcc, r"nvcc: expected 12\.0 or newer, for C\+\+20, got 11\.8 \(", BuildError)

    @pytest.mark.parametrize("option", ["--version", "--list-gpu-arch"])
    def test_no_answer(self, option: str, bare_path: Path) -> None:
        answer = "echo release 13.0, V13.0.88" if option != "--version" else ""
        script = f'case "$1" in {option}) echo "nvcc fatal: nothing" >&2; exit 1;; esac; {answer}'
        tools.write_program(bare_path / "nvcc", script)
        expected = rf"nvcc: expected the usual output of `.*/nvcc {option}`, got 'nvcc fatal: nothing'"
        assert_refused(toolchain.find_nvcc, expected, BuildError)

    def test_order(self, bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        homes = {name: tmp_path / name for name in ("packages", "CUDA_PATH", "CUDA_HOME", "CUDACXX")}
        for home in homes.values():
            (home / "bin").mkdir(parents=True)
            tools.write_nvcc(home / "bin")
        monkeypatch.setattr(toolchain, "NVCC_FOLDERS", (str(homes["packages"] / "bin"),))
        assert toolchain.find_nvcc().path == str(homes["packages"] / "bin" / "nvcc")
        tools.write_nvcc(bare_path)
        assert toolchain.find_nvcc().path == str(bare_path / "nvcc")
        for name in ("CUDA_PATH", "CUDA_HOME"):
            monkeypatch.setenv(name, str(homes[name]))
            assert toolchain.find_nvcc().path == str(homes[name] / "bin" / "nvcc")
        monkeypatch.setenv("CUDACXX", str(homes["CUDACXX"] / "bin" / "nvcc"))
        assert toolchain.find_nvcc().path == str(homes["CUDACXX"] / "bin" / "nvcc")

    def test_what_it_says_of_itself(self, bare_path: Path) -> None:
        tools.write_nvcc(bare_path, release="12.8")
        nvcc = toolchain.find_nvcc()
        assert (str(nvcc), nvcc.version) == ("nvcc 12.8", (12, 8))
        assert nvcc.gpus == ((7, 5), (8, 0), (8, 6), (9, 0), (12, 0))

    def test_host_compiler(self, bare_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tools.write_program(bare_path / "g++", "exit 0")
        nvcc = toolchain.Nvcc("nvcc", (13, 0))
        assert nvcc.compiler_options == ["-ccbin", "g++"]
        for name, value in {"NVCC_CCBIN": "clang++", "NVCC_PREPEND_FLAGS": "-ccbin=/opt/g++ -O2"}.items():
            with monkeypatch.context() as environment:
                environment.setenv(name, value)
                assert nvcc.compiler_options == []

    def test_runtime_of_pips_packages(self, tmp_path: Path) -> None:
        nvcc = toolchain.Nvcc(str(tmp_path / "cu13" / "bin" / "nvcc"), (13, 0))
        assert nvcc.runtime_folders == []
        (tmp_path / "cu13" / "lib").mkdir(parents=True)
        (tmp_path / "cu13" / "lib" / "libcudart_static.a").touch()
        assert nvcc.runtime_folders == [str(tmp_path / "cu13" / "lib")]


class TestNinja:
    def test_package_before_path(self, bare_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tools.write_program(bare_path / "ninja", "exit 0")
        assert toolchain.find_ninja()[1:] == ["-m", "ninja"]
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert toolchain.find_ninja() == [str(bare_path / "ninja")]

    @pytest.mark.usefixtures("bare_path")
    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert_refused(toolchain.find_ninja, "ninja: expected it in .* `pip install ninja`", BuildError)

    @pytest.mark.usefixtures("bare_path")
    def test_jobs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "-j" not in toolchain.find_ninja()
        monkeypatch.setenv("MAX_JOBS", "3")
        assert toolchain.find_ninja()[-2:] == ["-j", "3"]
