# SPDX-License-Identifier: MIT
"""What nvcc makes of each CUDA kernel: registers, shared memory, spills. No GPU is needed.

``python -m benchmarks.suites.kernels`` writes docs/kernels.md; tests/cuda/test_library.py holds that page to the sources.
Enters: csrc/cuda/*.cu and nvcc, or what nvcc said with `VERBOSE`. Leaves: `Resources` of every instance of every
kernel, and the page.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "ARCHITECTURES",
    "PAGE",
    "VERBOSE",
    "CompileError",
    "Resources",
    "compile_reports",
    "nvcc_version",
    "page",
    "read_reports",
]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "kernels.md"
#: A100; H100 and H200; B200.
ARCHITECTURES = ("8.0", "9.0", "10.0")
#: What makes nvcc tell.
VERBOSE = "-Xptxas -v"

_COMPILE = ("nvcc", "-std=c++20", "-O3", "--expt-relaxed-constexpr", *VERBOSE.split(), f"-I{ROOT / 'csrc'}")
_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>.+?)' for 'sm_(?P<sm>\d+)\w*'.*\n(?P<report>(?:.*\n)*?)(?=.*Compiling|.*\Z)"
)
_WARNING = re.compile(r"\bwarning\b( #[\w-]+)? *:")


class Resources(NamedTuple):
    """Of one kernel: a thread's registers and stack, a block's static shared memory, spills; bytes but the first."""

    registers: int
    shared: int
    stack: int
    spilled: int


class CompileError(Exception):
    """nvcc refused a source, or warned about it; the message is what it said."""


def read_reports(said: str) -> dict[str, dict[str, Resources]]:
    """What nvcc, asked with `VERBOSE`, says of the kernels that it compiles for `ARCHITECTURES`.

    Returns:
        By architecture each kernel's resources, by its name without namespaces: ``zero_kernel<float>``.

    Raises:
        CompileError: It warned.
    """
    if warning := _WARNING.search(said):
        raise CompileError(said[max(0, warning.start() - 2000) : warning.end() + 2000])
    names = subprocess.run(["c++filt"], input=said, capture_output=True, text=True, check=True).stdout
    reports: dict[str, dict[str, Resources]] = {architecture: {} for architecture in ARCHITECTURES}
    for found in _ENTRY.finditer(names):
        architecture = f"{found['sm'][:-1]}.{found['sm'][-1]}"
        reports[architecture][_short(found["name"])] = _resources(found["report"])
    return reports


def compile_reports(source: Path) -> dict[str, dict[str, Resources]]:
    """Compile one source alone; see `read_reports`.

    Raises:
        CompileError: It does not compile, or not without a warning.
    """
    numbers = [architecture.replace(".", "") for architecture in ARCHITECTURES]
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in numbers]
    with tempfile.TemporaryDirectory() as folder:
        command = [*_COMPILE, *targets, "-fatbin", "-o", str(Path(folder, "out")), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stdout + done.stderr)
    return read_reports(done.stdout + done.stderr)


def _short(name: str) -> str:
    name = re.sub(r"\w+::|\(anonymous namespace\)::|^void ", "", name)
    return re.sub(r"\(.*", "", name)


def _resources(report: str) -> Resources:
    def number(pattern: str) -> int:
        return max(map(int, re.findall(pattern, report)), default=0)

    spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
    return Resources(
        number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), number(r"(\d+) bytes stack"), spilled
    )


def nvcc_version() -> str:
    """As ``nvcc --version`` says it: 13.0."""
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"release ([\d.]+)", said)[0]


def page(reports: Mapping[str, Mapping[str, Resources]], nvcc: str) -> str:
    """docs/kernels.md: reports by architecture, then kernel."""
    names = [f"sm_{architecture.replace('.', '')}" for architecture in reports]
    lines = [
        "<!-- SPDX-License-Identifier: MIT -->",
        "# The CUDA kernels as compiled",
        "",
        f"Written by `python -m benchmarks.suites.kernels`, with nvcc {nvcc}. Registers a thread on each architecture, static",
        "shared memory a block; none spills. `Lanes<type, columns of a tile, lanes a node, edges a chunk>`. Resident",
        "kernels have in dynamic shared memory what `resident_bytes` (csrc/cuda/network/resident.h) says. Stack is scratch of",
        "sin and cos for huge arguments.",
        "",
        "| kernel | " + " | ".join(names) + " | shared | stack |",
        "|---" * (len(reports) + 3) + "|",
    ]
    first = next(iter(reports.values()))
    for name in sorted(first):
        each = [reports[architecture][name] for architecture in reports]
        numbers = [one.registers for one in each] + [max(one.shared for one in each), max(one.stack for one in each)]
        lines.append(f"| `{name}` | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compile everything and write the page."""
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(compile_reports, sorted((ROOT / "csrc" / "cuda").rglob("*.cu"))))
    reports = {architecture: {k: v for each in done for k, v in each[architecture].items()} for architecture in done[0]}
    spilling = {name for report in reports.values() for name, each in report.items() if each.spilled}
    if spilling:
        sys.exit(f"kernels: expected none to spill registers, got {', '.join(sorted(spilling))}.")
    PAGE.write_text(page(reports, nvcc_version()))


if __name__ == "__main__":
    main()
