# SPDX-License-Identifier: MIT
"""`make gpu-smoke` and `make test-gpu` without a GPU: tests/support/gpu.py, gpu_cases.py and processes.py."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.suites import kernels
from tests.conftest import GPU_FILES
from tests.support import gpu, gpu_cases, native, processes, simt_torch, tools
from tests.support.graphs import CASES


@pytest.fixture
def shim() -> Iterator[None]:
    """The CUDA operators on CPU tensors."""
    with simt_torch.played():
        yield


@pytest.mark.usefixtures("shim")
class TestCases:
    def test_they_are_right_on_the_shim(self) -> None:
        everything = list(gpu_cases.cases())
        assert {case.graph for case in everything} == set(CASES)
        for case in everything[::6]:
            gpu_cases.run(case, "cpu")

    def test_the_smoke_test_runs_every_instance_of_every_kernel(self) -> None:
        before = simt_torch.instances()
        for case in gpu_cases.smoke_cases():
            gpu_cases.run(case, "cpu")
        for gated in gpu_cases.GATED_SUMS:
            gpu_cases.run_gated_sum(*gated, "cpu")
        for sequence in gpu_cases.SEQUENCES:
            gpu_cases.run_sequence(*sequence, "cpu")
        for population in gpu_cases.POPULATIONS:
            gpu_cases.run_population(*population, "cpu")
        ran = {name for name, times in simt_torch.instances().items() if times > before.get(name, 0)}
        assert ran == kernels.page_kernels()


class TestFiles:
    def test_every_file_with_a_test_marked_gpu_runs(self, request: pytest.FixtureRequest) -> None:
        """Of the files that this run was asked for."""
        marked = {str(path.relative_to(native.ROOT)) for path in request.config.stash[GPU_FILES]}
        assert marked <= set(gpu.gpu_tests())
        assert {"tests/cuda/test_gpu_network.py", "tests/ops/test_ops.py", *gpu.ALONE} <= set(gpu.gpu_tests())

    @pytest.fixture
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
        """Writes test files that `run_tests` takes for all there are."""

        def write(texts: dict[str, str]) -> None:
            for name, text in texts.items():
                (tmp_path / name).write_text(f"import os, pytest\npytestmark = pytest.mark.gpu\n{text}\n")
            (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
            option = "def pytest_addoption(parser): parser.addoption('--gpu', action='store_true')\n"
            (tmp_path / "conftest.py").write_text(option)
            monkeypatch.setattr(gpu, "gpu_tests", lambda: list(texts))
            monkeypatch.setattr(gpu, "ROOT", tmp_path)
            monkeypatch.setattr(gpu, "ALONE", ("test_last.py",))

        return write

    GOOD = "def test_good(): pass"

    def test_each_in_a_process_of_its_own(self, files, capfd) -> None:
        """A process that dies takes no other file's tests with it, and no file runs beside one that is to run alone."""
        files({"test_bad.py": "def test_bad(): os._exit(9)", "test_last.py": self.GOOD, "test_good.py": self.GOOD})
        assert not gpu.run_tests([])
        said = capfd.readouterr().out
        assert "test_bad.py: FAILED with status 9" in said
        assert "test_good.py: 1 passed" in said
        assert said.rstrip().rpartition("\n")[2].startswith("test_last.py: 1 passed")

    def test_arguments_choose(self, files, capfd) -> None:
        files({"test_a.py": self.GOOD, "test_last.py": "def test_bad(): assert False"})
        assert not gpu.run_tests([])
        assert gpu.run_tests(["-k", "good"])
        assert not gpu.run_tests(["-k", "nothing"])

    def test_a_file_without_a_test_is_a_failure(self, files) -> None:
        files({"test_a.py": self.GOOD, "test_last.py": ""})
        assert not gpu.run_tests([])


class TestSanitizers:
    @pytest.fixture
    def tool(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
        """Makes a compute-sanitizer of a few lines of shell, which know the tool and whether a bug is injected."""

        def make(body: str) -> str:
            program = tmp_path / "compute-sanitizer"
            tools.write_program(program, f'tool="$2"; case "$*" in *--inject*) bug=1;; *) bug=;; esac\n{body}')
            monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
            found = gpu.find_sanitizer()
            assert found == str(program)
            return found

        return make

    REPORT = 'if [ "$bug" ]; then echo "Invalid __global__ read of Uninitialized"; exit 86; fi\n'
    HONEST = REPORT + 'echo "9 cases on X"; exit 0'

    @pytest.mark.parametrize(
        ("body", "good", "said"),
        [
            (HONEST, True, "racecheck: 9 cases on X; clean"),
            ('if [ "$tool" = racecheck ]; then echo "a race"; exit 86; fi\n' + HONEST, False, "status 86\na race"),
            ('if [ ! "$bug" ]; then exit 0; fi\n' + HONEST, False, "memcheck: FAILED with status 0"),
            (
                'echo "9 cases on X"; exit 0',
                False,
                "memcheck, wild_plan injected: expected a report with 'Invalid __global__ read'",
            ),
            ('echo "Device not supported"; exit 1', True, "it does not support this device"),
        ],
    )
    def test_what_they_report_counts(self, tool, capfd, body: str, good: bool, said: str) -> None:
        assert gpu.run_sanitizers(tool(body), gpu.TOOLS) is good
        assert said in capfd.readouterr().out

    def test_a_choice_of_tools(self, tool, capfd) -> None:
        assert gpu.run_sanitizers(tool(self.HONEST), ["initcheck"])
        said = capfd.readouterr().out.splitlines()
        assert sorted(line.partition(":")[0] for line in said) == ["initcheck", "initcheck, unwritten_tape injected"]
        with pytest.raises(SystemExit):
            gpu.main(["--tools", "memcheck wildcheck"])
        assert (
            "--tools: expected some of memcheck, initcheck, racecheck, synccheck, got wildcheck"
            in capfd.readouterr().err
        )

    def test_a_tool_that_hangs_fails(self, tool, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu, "SANITIZERS_LIMIT", 0.2)
        monkeypatch.setattr(gpu, "BUGS", {})
        assert not gpu.run_sanitizers(tool("exec sleep 5"), ["memcheck"])
        assert "memcheck: FAILED with status None" in capfd.readouterr().out


class TestSideBySide:
    """tests/support/processes.py."""

    @staticmethod
    def run(commands: dict[str, str], at_once: int = 2, limit: float = 60.0) -> list[processes.Finished]:
        return list(processes.run_side_by_side({k: ["sh", "-c", v] for k, v in commands.items()}, at_once, limit))

    def test_as_they_end(self) -> None:
        one, two = self.run({"slow": "sleep 0.5; echo a; exit 3", "quick": "echo b >&2"})
        assert (one.name, one.status, one.output) == ("quick", 0, "b\n")
        assert (two.name, two.status, two.output) == ("slow", 3, "a\n")
        assert two.seconds >= 0.5

    def test_so_many_at_once(self) -> None:
        done = self.run({"one": "sleep 0.3", "two": "echo"}, at_once=1)
        assert [each.name for each in done] == ["one", "two"]

    def test_the_limit_is_for_all_of_them(self) -> None:
        start = time.monotonic()
        one, two = self.run({"one": "echo a; sleep 60", "two": "echo b"}, at_once=1, limit=0.3)
        assert (one.name, one.status, one.output) == ("one", None, "a\n")
        assert (two.name, two.status) == ("two", None)
        assert time.monotonic() - start < 30

    @pytest.fixture
    def child(self, tmp_path: Path) -> Path:
        """Where the tool below writes its child's process id."""
        return tmp_path / "child"

    @pytest.fixture
    def program(self, tmp_path: Path, child: Path) -> str:
        """A tool that starts a child, as compute-sanitizer does, and waits for it."""
        program = tmp_path / "tool"
        tools.write_program(program, f"echo before\nsleep 60 &\necho $! > {child}.new\nmv {child}.new {child}\nwait")
        return str(program)

    def assert_gone(self, child: Path) -> None:
        """The child has ended; it may still wait for init to take note (a zombie)."""
        status, end = Path("/proc", child.read_text().strip(), "stat"), time.monotonic() + 10
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX":
            assert time.monotonic() < end, status.read_text()
            time.sleep(0.01)

    def test_a_program_that_hangs_is_killed_with_its_child(self, program: str, child: Path) -> None:
        (done,) = processes.run_side_by_side({"tool": [program]}, 1, 1.0)
        assert (done.status, done.output) == (None, "before\n")
        self.assert_gone(child)

    def test_so_it_is_where_the_run_is_interrupted(
        self, program: str, child: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sleep = time.sleep

        def interrupted(seconds: float) -> None:
            while not child.exists():
                sleep(0.01)
            raise KeyboardInterrupt

        monkeypatch.setattr(processes.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(processes.run_side_by_side({"tool": [program]}, 1, 60.0))
        monkeypatch.undo()
        self.assert_gone(child)


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows the message where there is no GPU")
@pytest.mark.parametrize("target", ["test-gpu", "gpu-smoke", "bench-gpu"])
def test_without_a_gpu_it_ends_with_a_sentence(target: str) -> None:
    done = subprocess.run(
        ["make", "--silent", target, f"PYTHON={sys.executable}"], cwd=native.ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("GPU: expected one that torch in ")
    assert "Traceback" not in done.stderr
