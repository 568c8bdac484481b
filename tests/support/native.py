# SPDX-License-Identifier: MIT
"""Build and run C++ programs, plain or under sanitizers; tests/support/sanitize.py and tests/support/simt.py use it.

The compiler is $CXX, else c++, g++ or clang++; sanitizers need its runtimes. Programs go into a folder of build/ and
are rebuilt only where a source changed. `Program` runs them. Nothing here imports torch.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from tests.support import ROOT

#: Sanitizer to the flags of its programs.
SANITIZERS = {"address": "-fsanitize=address,undefined", "thread": "-fsanitize=thread"}
# setup.py's flags with -O1 instead, for readable reports and so that every load is kept. Python's own flags are not
# used: -fwrapv among them would hide overflow.
FLAGS = (
    "-std=c++20 -O1 -g1 -pthread -Wall -Wextra -fno-omit-frame-pointer -fno-math-errno -fno-trapping-math "
    "-fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS"
)
# Fresh memory is filled with NaN, so that a kernel that reads what it never wrote gives a wrong result.
OPTIONS = {
    "ASAN_OPTIONS": f"detect_leaks={int(sys.platform == 'linux')}:detect_stack_use_after_return=1"
    ":max_malloc_fill_size=1073741824:malloc_fill_byte=255",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


#: From the name of an object to its source (relative to the repository) and its flags.
Objects = dict[str, tuple[str, str]]


class NativeError(Exception):
    """A program could not be built or run."""


def compiler() -> str:
    """Return $CXX, or the first of c++, g++ and clang++ on PATH."""
    found = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if found is None:
        raise NativeError("C++ compiler: expected c++, g++ or clang++ on PATH, got none. Install one or set CXX.")
    return found


def build(
    folder: Path,
    objects: Objects,
    programs: Mapping[str, tuple[str, Sequence[str]]],
    wanted: Iterable[str] = (),
) -> None:
    """Compile objects and link programs, those that are out of date.

    Args:
        folder: Where they go.
        objects: The objects, by name.
        programs: From the name of a program to its flags and the names of its objects.
        wanted: Names of what to build, with all that it needs; everything if empty.
    """
    there = os.path.relpath(ROOT, folder)
    lines = [
        "rule compile",
        f"  command = {compiler()} {FLAGS} $flags -I{there}/csrc -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {compiler()} {FLAGS} $flags $in -o $out",
    ]
    for name, (source, flags) in objects.items():
        lines += [f"build {name}: compile {there}/{source}", f"  flags = {flags}"]
    for name, (flags, parts) in programs.items():
        lines += [f"build {name}: link {' '.join(parts)}", f"  flags = {flags}"]
    folder.mkdir(parents=True, exist_ok=True)
    jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
    command = [sys.executable, "-m", "ninja", "-C", str(folder), "-j", jobs, "--quiet", *wanted]
    with FileLock(folder / ".lock"):  # tests run in several processes
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")
        failed = subprocess.run(command).returncode
    if failed:
        raise NativeError(
            "build: expected a compiler that builds with -fsanitize=address,undefined and -fsanitize=thread, got the "
            "messages above. Install its sanitizer runtimes (libasan, libubsan, libtsan) or set CXX."
        )


class Program:
    """A program, and how to start it on this machine."""

    def __init__(self, path: Path) -> None:
        self.command = [str(path)]
        self.environment = {**OPTIONS, **os.environ}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it; if its sanitizer cannot work in this environment, adapt the environment and run it again."""
        done = self._run(arguments, environment)
        if "unexpected memory mapping" in done.stderr and shutil.which("setarch") and self.command[0] != "setarch":
            # The kernel scatters memory more than this runtime expects.
            self.command = ["setarch", platform.machine(), "-R", *self.command]
            done = self._run(arguments, environment)
        if "LeakSanitizer has encountered a fatal error" in done.stderr:  # no ptrace here, as in some containers
            self.environment["ASAN_OPTIONS"] += ":detect_leaks=0"
            done = self._run(arguments, environment)
        return done

    def _run(self, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        everything = {**self.environment, **environment}
        return subprocess.run([*self.command, *arguments], env=everything, capture_output=True, text=True)
