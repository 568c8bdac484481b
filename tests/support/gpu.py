# SPDX-License-Identifier: MIT
"""What only a GPU can show: ``make gpu-smoke`` and ``make test-gpu``.

``python -m tests.support.gpu [--smoke | --sanitize] [--tools "TOOL ..."] [pytest's arguments]`` needs a GPU, the python
whose torch can use it with pytest and hypothesis, and both libraries built beside the package. It prints a line per
step; the exit status is 0 or 1. ``--smoke`` runs a small case of each kernel in each type (tests/support/gpu_cases.py).
Otherwise the steps are the tests marked gpu, one process per file, then small cases under each tool of
compute-sanitizer where that is installed, and injected bugs to show that the tools report them. A step that fails does
not keep the next from running: such machines are seldom at hand.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from tests.support.gpu_cases import BUGS
from tests.support.native import ROOT
from tests.support.processes import Finished, run_side_by_side

TOOLS = ("memcheck", "initcheck", "racecheck", "synccheck")
#: Files that fill the GPU's memory, or measure it: nothing else runs meanwhile.
ALONE = ("tests/cuda/test_gpu.py",)
#: Seconds for the tests that run side by side, for each of `ALONE`, and for compute-sanitizer.
TESTS_LIMIT, ALONE_LIMIT, SANITIZERS_LIMIT = 240, 120, 210
_FOUND = 86  # a tool's exit status where it has something to report
_NO_TESTS = 5  # pytest's, where arguments chose none of a file


def gpu_tests() -> list[str]:
    """The files with a test marked gpu, the longest first; others may import what this python lacks."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "device: str" in path.read_text()]
    return [str(path.relative_to(ROOT)) for path in sorted(files, key=lambda path: (-path.stat().st_size, path))]


def run_tests(arguments: Sequence[str]) -> bool:
    """Run pytest on each file and return whether all passed.

    Several files run at a time, each in a process of its own: an error of CUDA's ends all work of its process. What the
    pinned torch warns of is an error elsewhere; another torch's warnings are only shown.
    """
    options = ["-m", "gpu", "--gpu", "-q", "--no-header", "--maxfail=5", "--tb=short", "-W", "default", "--durations=3"]
    command = [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider"]
    cores = os.cpu_count() or 1
    at_once = max(1, min(4, cores // 4))
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // at_once))}
    files = gpu_tests()
    groups = [([file for file in files if file not in ALONE], TESTS_LIMIT)]
    groups += [([file], ALONE_LIMIT) for file in ALONE]
    statuses = []
    for group, limit in groups:
        commands = {file: [*command, file, *arguments] for file in group}
        with closing(run_side_by_side(commands, at_once, limit, cwd=ROOT, env=environment)) as results:
            for done in results:
                statuses.append(done.status)
                if done.status == 0 or (done.status == _NO_TESTS and arguments):
                    print(f"{done.name}: {done.output.rstrip().rpartition(chr(10))[2]}", flush=True)
                else:
                    print(f"{done.output[-8000:]}\n{done.name}: FAILED with status {done.status}", flush=True)
    return 0 in statuses and set(statuses) <= {0, _NO_TESTS if arguments else 0}


def find_sanitizer() -> str | None:
    """compute-sanitizer, on PATH or beside nvcc."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parents[1], "/usr/local/cuda"]
    places = [os.environ.get("PATH", ""), *(str(Path(home, "bin")) for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def run_sanitizers(program: str, tools: Sequence[str]) -> bool:
    """Run the cases under each tool, and the injected bugs of those tools; return whether all went as it should.

    They run at the same time. Each allocation has bounds of its own, which torch's caching allocator would hide.
    """
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    commands = {}
    for tool in tools:
        command = [program, "--tool", tool, "--error-exitcode", str(_FOUND), "--print-limit", "5", sys.executable]
        command += ["-m", "tests.support.gpu_cases"]
        commands[tool] = command
        commands |= {
            f"{tool}, {bug} injected": [*command, "--inject", bug] for bug, (by, _) in BUGS.items() if by == tool
        }
    with closing(run_side_by_side(commands, len(commands), SANITIZERS_LIMIT, cwd=ROOT, env=environment)) as results:
        verdicts = [_judge(done) for done in results]
    return all(verdicts)


def _judge(done: Finished) -> bool:
    """Print what a run under compute-sanitizer shows; return whether that is as it should be."""
    failed = f"FAILED with status {done.status}\n{done.output[-4000:]}"
    _, _, bug = done.name.removesuffix(" injected").partition(", ")
    counted = next((line for line in done.output.splitlines() if " cases on " in line), None)
    if re.search("device not supported", done.output, re.IGNORECASE):
        good, verdict = True, "skipped, it does not support this device"
    elif bug:
        words = BUGS[bug][1]
        good = done.status == _FOUND and words in done.output
        verdict = "reported" if good else f"expected a report with {words!r}; {failed}"
    else:
        good = done.status == 0 and counted is not None
        verdict = f"{counted}; clean" if good else failed
    print(f"{done.name}: {verdict} ({done.seconds:.0f} s)", flush=True)
    return good


def main(arguments: Sequence[str]) -> int:
    """Run the steps that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.gpu", allow_abbrev=False)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--smoke", action="store_true", help="one small case of each kernel in each type, and no more")
    only.add_argument("--sanitize", action="store_true", help="only compute-sanitizer, no tests")
    parser.add_argument("--tools", default=" ".join(TOOLS), help="tools of compute-sanitizer, separated by spaces")
    options, for_pytest = parser.parse_known_args(arguments)
    tools = options.tools.split()
    if unknown := set(tools) - set(TOOLS):
        parser.error(f"--tools: expected some of {', '.join(TOOLS)}, got {', '.join(sorted(unknown))}")
    start = time.perf_counter()
    if not torch.cuda.is_available():
        print("test-gpu: expected a GPU that this torch can use, got none. Run it where there is one.", file=sys.stderr)
        return 1
    if options.smoke:
        return subprocess.run([sys.executable, "-m", "tests.support.gpu_cases", "--smoke"], cwd=ROOT).returncode
    good = True
    if not options.sanitize:
        print("== tests marked gpu", flush=True)
        good = run_tests(for_pytest)
    if tools:
        print(f"== compute-sanitizer ({time.perf_counter() - start:.0f} s so far)", flush=True)
        program = find_sanitizer()
        if program is None:
            print("compute-sanitizer: skipped, it is neither on PATH nor beside nvcc")
        else:
            good &= run_sanitizers(program, tools)
    print(f"test-gpu: {'passed' if good else 'FAILED'} ({time.perf_counter() - start:.0f} s)")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
