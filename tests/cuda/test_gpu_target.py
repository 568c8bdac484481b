# SPDX-License-Identifier: MIT
"""tests/support/gpu.py where a tool hangs: nothing that it started stays on the GPU. The rest is in test_cuda_binding.py."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.support import gpu, tools


class TestSanitize:
    @pytest.fixture
    def child(self, tmp_path: Path) -> Path:
        """Where the tool below notes its child's process id."""
        return tmp_path / "child"

    @pytest.fixture
    def program(self, tmp_path: Path, child: Path) -> str:
        """A tool that starts a child, as compute-sanitizer does, and waits for it."""
        program = tmp_path / "compute-sanitizer"
        tools.write_program(program, f"echo before\nsleep 60 &\necho $! > {child}.new\nmv {child}.new {child}\nwait")
        return str(program)

    def assert_gone(self, child: Path) -> None:
        """The child has ended; it may still wait for init to take note (a zombie)."""
        status, end = Path("/proc", child.read_text().strip(), "stat"), time.monotonic() + 10
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX":
            assert time.monotonic() < end, status.read_text()
            time.sleep(0.01)

    def test_a_tool_that_hangs_is_killed_with_its_child(
        self, program: str, child: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu, "_LONGEST", 1.0)
        assert gpu.sanitize(program, "memcheck") == (None, "before\n")
        self.assert_gone(child)

    def test_so_it_is_where_the_run_is_interrupted(
        self, program: str, child: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(process: subprocess.Popen, timeout: float) -> None:
            while not child.exists():
                time.sleep(0.01)
            raise KeyboardInterrupt

        monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gpu.sanitize(program, "memcheck")
        self.assert_gone(child)
