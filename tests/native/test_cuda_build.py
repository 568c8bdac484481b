# SPDX-License-Identifier: MIT
"""Compiling and linking the CUDA library: what is built when, and for which GPUs. The nvcc is a fake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from freewire._native import cuda_build, toolchain
from freewire.errors import BuildError
from tests.support import tools
from tests.support.messages import assert_refused

TORCH = Path(torch.__file__).parent


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Play an nvcc that compiles what is C++; returns the file that notes its calls."""
    return tools.play_nvcc(monkeypatch, tmp_path / "bin")


@pytest.fixture
def csrc(tmp_path: Path) -> Path:
    return tools.write_sources(tmp_path / "csrc")


class TestBuild:
    @pytest.fixture
    def again(self, calls: Path, csrc: Path, tmp_path: Path):
        """Build, and return the library's time and what nvcc was called for."""

        def build(*architectures: str) -> tuple[int, list[str]]:
            calls.write_text("")
            arguments = (tmp_path / "log", toolchain.find_nvcc(), architectures or ["8.0"])
            library = cuda_build.build(csrc, TORCH, tmp_path / "work", *arguments)
            return library.stat().st_mtime_ns, [line.split()[0] for line in calls.read_text().splitlines()]

        return build

    def test_incremental(self, again, csrc: Path) -> None:
        first, did = again()
        assert did == ["compile", "link"]
        assert again() == (first, [])
        (csrc / "answer.h").write_text("inline int answer() { return 42; }\n")
        assert again()[1] == ["compile", "link"]
        (csrc / "cuda" / "more.cu").write_text("int more() { return 1; }\n")
        assert again()[1] == ["compile", "link"]
        assert again("8.0", "9.0")[1] == ["compile", "compile", "link"]

    @pytest.mark.parametrize("cores", [7, 8])
    def test_heavy_sources_are_compiled_once_per_number_type(
        self, again, calls: Path, csrc: Path, cores: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a machine with many cores, where that saves time."""
        monkeypatch.setattr("os.cpu_count", lambda: cores)
        (csrc / "number.h").write_text(
            '#define FREEWIRE_FLOAT(X) X(float, "float32")\n#define FREEWIRE_HALF(X) X(Half, "float16")\n'
        )
        (csrc / "cuda" / "resident_forward.cu").write_text(
            '#include "number.h"\n#define NAME(type, name) run_##type\n'
            "#ifdef FREEWIRE_ONLY_TYPE\nint FREEWIRE_ONLY_TYPE(NAME)() { return 1; }\n#endif\n"
        )
        again()
        only = [re.search(r"-DFREEWIRE_ONLY_TYPE=(\w+) .* -o (\S+)$", line) for line in calls.read_text().splitlines()]
        assert (
            sorted(found.groups() for found in only if found)
            == [
                ("FREEWIRE_FLOAT", "resident_forward.float.cu.o"),
                ("FREEWIRE_HALF", "resident_forward.half.cu.o"),
            ][: 2 * (cores == 8)]
        )
        assert (csrc.parent / "work" / "resident_forward.cu.o").exists() == (cores == 7)

    def test_flags(self, again, calls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("CXXFLAGS", "-DFROM_ENVIRONMENT")
        again("8.0", "9.0a", "12.0+PTX")
        line = calls.read_text().splitlines()[0]
        targets = ["80,code=sm_80", "90a,code=sm_90a", "120,code=sm_120", "120,code=compute_120"]
        assert re.findall(r"-gencode=arch=compute_(\S+)", line) == targets
        assert "-fvisibility=hidden" in line
        text = (tmp_path / "work" / "build.ninja").read_text()
        assert re.search(r"^  command = .* -DUSE_CUDA .* -DFROM_ENVIRONMENT ", text, re.MULTILINE)
        assert f"-DTORCH_TARGET_VERSION={toolchain.TORCH_TARGET_VERSION}" in text

    def test_error(self, again, csrc: Path, tmp_path: Path) -> None:
        with (csrc / "cuda" / "kernel.cu").open("a") as file:
            file.write("int broken() { return missing; }\n")
        expected = f"CUDA kernels: expected nvcc 13.0 .* to compile them, got .*kernel.cu.*missing.*{tmp_path / 'log'}"
        assert_refused(again, expected, BuildError)
        assert "FAILED" in (tmp_path / "log").read_text()

    def test_undefined_function(self, again, csrc: Path) -> None:
        (csrc / "cuda" / "more.cu").write_text("int gone(); int more() { return gone(); }\n")
        assert_refused(again, r"CUDA kernels: expected .* got .*undefined reference to `gone", BuildError)

    def test_hash(self, csrc: Path) -> None:
        hashes = {cuda_build.source_hash(csrc)}
        for name in ("answer.h", "cuda/kernel.cu", "cuda/kernel.h", "cuda/binding.cpp", "cuda/new.cu"):
            with (csrc / name).open("a") as file:
                file.write("// changed\n")
            hashes.add(cuda_build.source_hash(csrc))
        (csrc / "cuda" / "notes.txt").touch()
        hashes.add(cuda_build.source_hash(csrc))
        assert len(hashes) == 6

    def test_stamp(self, tmp_path: Path) -> None:
        stamp = cuda_build.Stamp("0f", (12, 8), ("7.5", "9.0a", "12.0+PTX"))
        (tmp_path / "library").write_bytes(b"\0before\0" + str(stamp).encode() + b"\0after\0")
        assert cuda_build.read_stamp(tmp_path / "library") == stamp
        (tmp_path / "library").write_bytes(b"\0nothing\0")
        assert cuda_build.read_stamp(tmp_path / "library") is None

    def test_sources_of_a_checkout_or_an_installation(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert cuda_build.source_folder() == Path(cuda_build.__file__).parents[2] / "csrc"
        monkeypatch.setattr(cuda_build, "__file__", str(tmp_path / "site" / "freewire" / "_native" / "cuda_build.py"))
        assert cuda_build.source_folder() is None
        (tmp_path / "site" / "freewire" / "_native" / "csrc" / "cuda").mkdir(parents=True)
        assert cuda_build.source_folder() == tmp_path / "site" / "freewire" / "_native" / "csrc"


@pytest.mark.usefixtures("calls")
class TestArchitectures:
    @pytest.mark.parametrize(
        ("asked", "gpus", "expected"),
        [
            ("", [], "7.5 8.0 8.6 9.0 12.0+PTX"),  # of the default list, what this nvcc knows
            ("", [(8, 6), (9, 0)], "8.6 9.0"),
            ("", [(8, 9), (12, 1)], "8.6+PTX 12.0+PTX"),  # newer than this nvcc
            ("native", [(9, 0)], "9.0"),
            ("native", [], "7.5 8.0 8.6 9.0 12.0+PTX"),
            ("8.0", [(9, 0)], "9.0"),
            ("Hopper", [(9, 0)], "9.0"),  # wrong, but ignored
            ("8.0;9.0a 12.0+PTX,8.0", [], "8.0 9.0a 12.0+PTX"),
        ],
    )
    def test_chosen(self, asked: str, gpus: list, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", asked)
        assert " ".join(cuda_build.architectures(toolchain.find_nvcc(), gpus)) == expected

    @pytest.mark.parametrize(
        ("asked", "gpus", "ignored"),
        [
            ("", [(9, 0)], False),
            ("native", [(9, 0)], False),
            ("9.0", [(9, 0)], False),
            ("9.0;8.6", [(8, 6), (9, 0)], False),
            ("8.0;9.0+PTX", [(9, 0)], True),
            ("8.0", [], False),
        ],
    )
    def test_an_ignored_list_is_said(
        self, asked: str, gpus: list, ignored: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", asked)
        found = cuda_build.ignored_list(cuda_build.architectures(toolchain.find_nvcc(), gpus), gpus)
        said = f"TORCH_CUDA_ARCH_LIST={asked!r} is ignored, since torch sees a GPU here; hide it with "
        assert found == (said + "CUDA_VISIBLE_DEVICES= to build for the list" if ignored else None)

    @pytest.mark.parametrize("wrong", ["Hopper", "10.0", "sm_90", "9"])
    def test_wrong_list(self, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", f"8.0;{wrong}")
        expected = rf"TORCH_CUDA_ARCH_LIST: expected a list .* \(7\.5, 8\.0, 8\.6, 9\.0, 12\.0\), got '{wrong}'"
        assert_refused(lambda: cuda_build.architectures(toolchain.find_nvcc(), []), expected, BuildError)

    def test_gpu_older_than_nvcc_knows(self) -> None:
        expected = r"nvcc: expected one that compiles for compute capability 7\.2, got nvcc 13\.0"
        assert_refused(lambda: cuda_build.architectures(toolchain.find_nvcc(), [(7, 2)]), expected, BuildError)

    @pytest.mark.parametrize(
        ("built_for", "gpu", "runs"),
        [
            ("8.0", (8, 0), True),
            ("8.0", (8, 6), True),
            ("8.6", (8, 0), False),
            ("8.0", (9, 0), False),
            ("8.0+PTX", (9, 0), True),
            ("9.0+PTX", (8, 0), False),
            ("9.0a", (9, 0), True),
            ("10.0a+PTX", (10, 3), False),
            ("7.5 9.0", (9, 0), True),
        ],
    )
    def test_covers(self, built_for: str, gpu: tuple[int, int], runs: bool) -> None:
        assert cuda_build.covers(built_for.split(), gpu) is runs
