# SPDX-License-Identifier: MIT
"""What only a GPU can show: ``make test-gpu``.

Enters: a GPU, the python whose torch can use it, both libraries built beside the package, pytest. Leaves: one line a
step, exit status 0 or 1. The steps are the tests marked gpu, then small cases under each tool of compute-sanitizer,
where that is there, and bugs injected to show that the tools report. A step that fails does not keep the next from
running: such machines are seldom at hand.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.support.gpu_cases import BUGS
from tests.support.native import ROOT

TOOLS = ("memcheck", "initcheck", "racecheck", "synccheck")
_FOUND = 86  # a tool's exit status where it has something to report
_LONGEST = 100  # seconds a tool may take


def gpu_tests() -> list[str]:
    """The files with a test marked gpu; the others may import what only a development environment has."""
    marked = re.compile(r"mark\.gpu|device: str")
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if marked.search(path.read_text())
    ]


def run_tests(arguments: Sequence[str]) -> bool:
    """Run pytest. What the pinned torch warns of is an error elsewhere; another torch's warnings are only shown."""
    options = ["-m", "gpu", "-q", "-W", "default", "-p", "no:cacheprovider", "--durations=5"]
    return (
        subprocess.run([sys.executable, "-m", "pytest", *options, *gpu_tests(), *arguments], cwd=ROOT).returncode == 0
    )


def find_sanitizer() -> str | None:
    """compute-sanitizer, on PATH or where nvcc is."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parents[1], "/usr/local/cuda"]
    places = [os.environ.get("PATH", ""), *(str(Path(home, "bin")) for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def sanitize(program: str, tool: str, arguments: Sequence[str] = ()) -> tuple[int | None, str]:
    """Run tests/support/gpu_cases.py under a tool.

    Each allocation has bounds of its own, which torch's caching allocator would hide.

    Returns:
        The exit status, None where it took too long and was killed with all that it had started, and all that was
        printed.
    """
    command = [program, "--tool", tool, "--error-exitcode", str(_FOUND), "--print-limit", "5", sys.executable]
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "-m", "tests.support.gpu_cases", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=_LONGEST)
            return process.returncode, output
        except BaseException as error:  # an interrupt too: it does not reach another session
            # The tool alone would leave its child, the Python, on the GPU.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            output, _ = process.communicate()  # with what it had read before
            return None, output


def run_sanitizers(program: str) -> bool:
    """Every tool over the cases, then the injected bugs; whether all went as it should."""
    good = True
    for tool in TOOLS:
        start = time.perf_counter()
        status, output = sanitize(program, tool)
        if re.search("device not supported", output, re.IGNORECASE):
            print("compute-sanitizer: left out, it says that it does not support this device", flush=True)
            return good
        counted = next((line for line in output.splitlines() if " cases on " in line), None)
        clean = status == 0 and counted is not None
        said = f"{counted}; clean" if clean else f"FAILED with status {status}\n{output[-4000:]}"
        print(f"{tool:9}  {said} ({time.perf_counter() - start:.0f} s)", flush=True)
        good &= clean
    for bug, (tool, words) in BUGS.items():
        status, output = sanitize(program, tool, ["--inject", bug])
        reported = status == _FOUND and words in output
        said = "reported" if reported else f"expected a report with {words!r}, got status {status}\n{output[-4000:]}"
        print(f"{tool:9}  injected {bug}: {said}", flush=True)
        good &= reported
    return good


def main(arguments: Sequence[str]) -> int:
    """Run the steps; arguments go to pytest. ``--sanitize`` alone leaves the tests out."""
    start = time.perf_counter()
    if not torch.cuda.is_available():
        print("test-gpu: expected a GPU that this torch can use, got none. Run it where there is one.", file=sys.stderr)
        return 1
    good = True
    if arguments != ["--sanitize"]:
        print("== tests marked gpu", flush=True)
        good = run_tests(arguments)
    print(f"== compute-sanitizer ({time.perf_counter() - start:.0f} s so far)", flush=True)
    program = find_sanitizer()
    if program is None:
        print("compute-sanitizer: left out, it is neither on PATH nor beside nvcc")
    else:
        good &= run_sanitizers(program)
    print(f"test-gpu: {'passed' if good else 'FAILED'} ({time.perf_counter() - start:.0f} s)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
