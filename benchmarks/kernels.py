# SPDX-License-Identifier: MIT
"""What nvcc makes of each CUDA kernel: registers, shared memory, spills. No GPU is needed.

``python -m benchmarks.kernels`` writes docs/kernels.md; tests/test_cuda_kernels.py holds that page to the sources.
Enters: csrc/cuda/*.cu, nvcc. Leaves: `Resources` of every instance of every kernel, and the page.
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

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kernels.md"
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
#: A100; H100 and H200; B200.
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")

_COMPILE = ("nvcc", "-std=c++20", "-O3", "--expt-relaxed-constexpr", "-Xptxas", "-v", f"-I{ROOT / 'csrc'}")
_ENTRY = re.compile(r"Compiling entry function '(?P<name>.+?)' for .*?\n(?P<report>(?:.*\n)*?)(?=.*Compiling|.*\Z)")


class Resources(NamedTuple):
    """Of one kernel: a thread's registers and stack, a block's static shared memory, spills; bytes but the first."""

    registers: int
    shared: int
    stack: int
    spilled: int


class CompileError(Exception):
    """nvcc refused a source, or warned about it; the message is what it said."""


def compile_report(source: Path, architecture: str) -> dict[str, Resources]:
    """Compile one source alone; every kernel in it by name, without namespaces: ``zero_kernel<float>``.

    Raises:
        CompileError: It does not compile, or not without a warning.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [*_COMPILE, f"-arch={architecture}", "-cubin", "-o", str(Path(folder, "out")), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode or "warning" in said:
        raise CompileError(said)
    names = subprocess.run(["c++filt"], input=said, capture_output=True, text=True, check=True).stdout
    return {_short(found["name"]): _resources(found["report"]) for found in _ENTRY.finditer(names)}


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
    lines = [
        "<!-- SPDX-License-Identifier: MIT -->",
        "# The CUDA kernels as compiled",
        "",
        f"Written by `python -m benchmarks.kernels`, with nvcc {nvcc}. Registers a thread on each architecture, static",
        "shared memory a block; none spills. `Lanes<type, columns of a tile, lanes a node, edges a chunk>`. Resident",
        "kernels have in dynamic shared memory what `resident_bytes` (csrc/cuda/resident.h) says. Stack is scratch of",
        "sin and cos for huge arguments.",
        "",
        "| kernel | " + " | ".join(reports) + " | shared | stack |",
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
    jobs = [(architecture, source) for architecture in ARCHITECTURES for source in SOURCES]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda job: compile_report(job[1], job[0]), jobs))
    reports: dict[str, dict[str, Resources]] = {architecture: {} for architecture in ARCHITECTURES}
    for (architecture, _), report in zip(jobs, done, strict=True):
        reports[architecture].update(report)
    spilling = {name for report in reports.values() for name, each in report.items() if each.spilled}
    if spilling:
        sys.exit(f"kernels: expected none to spill registers, got {', '.join(sorted(spilling))}.")
    PAGE.write_text(page(reports, nvcc_version()))


if __name__ == "__main__":
    main()
