# SPDX-License-Identifier: MIT
"""Programs of raw C++, built under sanitizers and run: what tests/support/sanitize.py and tests/support/simt.py share.

Enters: a C++ compiler ($CXX, else c++, g++ or clang++), for sanitizers with their runtimes. Leaves: programs in a
folder of build/, built again only where a source changed, and `Program` to run them. No torch here.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Sanitizer to the flags of its programs.
SANITIZERS = {"address": "-fsanitize=address,undefined", "thread": "-fsanitize=thread"}
# As setup.py builds, but for -O1 (readable reports, every load kept). Python's own flags (-fwrapv among them, which
# would hide overflow) stay out.
FLAGS = (
    "-std=c++20 -O1 -g1 -pthread -Wall -Wextra -fno-omit-frame-pointer -fno-math-errno -fno-trapping-math "
    "-fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS"
)
# Memory from new starts as NaN, so that a kernel which reads what it never wrote gives a wrong result.
OPTIONS = {
    "ASAN_OPTIONS": f"detect_leaks={int(sys.platform == 'linux')}:detect_stack_use_after_return=1"
    ":max_malloc_fill_size=1073741824:malloc_fill_byte=255",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


#: Name of an object to its source, from the repository's root, and its flags.
Objects = dict[str, tuple[str, str]]


class NativeError(Exception):
    """A program could not be built or run; the message says it all."""


def compiler() -> str:
    """$CXX, or the first of the usual ones that is there."""
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
    """Compile objects (name to source and flags), link programs (name to flags and names of objects) in a folder.

    Sources are named from the repository's root. Ninja leaves alone what is up to date, and what nothing wanted needs;
    with none wanted, all are.
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
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")
        failed = subprocess.run(command).returncode
    if failed:
        raise NativeError(
            "build: expected a compiler that builds with -fsanitize=address,undefined and -fsanitize=thread, got the "
            "messages above. Install its sanitizer runtimes (libasan, libubsan, libtsan) or set CXX."
        )


class Program:
    """A program, and how it must be started on this machine."""

    def __init__(self, path: Path) -> None:
        self.command = [str(path)]
        self.environment = {**OPTIONS, **os.environ}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it; where its sanitizer cannot work as things stand here, change them and run it again."""
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
