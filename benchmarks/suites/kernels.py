# SPDX-License-Identifier: MIT
"""What nvcc makes of each CUDA kernel: registers, shared memory, spills. No GPU is needed.

``python -m benchmarks.suites.kernels`` compiles csrc/cuda/*.cu for each of `ARCHITECTURES` and writes docs/kernels.md.
tests/cuda/test_library.py reads what nvcc prints with `VERBOSE` when it builds the library, and fails where the page is
out of date: for one architecture in ``make test``, for all of them in ``make test-cuda-all``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.command import write_text

__all__ = [
    "ARCHITECTURES",
    "PAGE",
    "VERBOSE",
    "CompileError",
    "Resources",
    "compile_reports",
    "nvcc_version",
    "outdated",
    "page",
    "page_kernels",
    "read_reports",
]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "kernels.md"
#: A100; H100 and H200; B200.
ARCHITECTURES = ("8.0", "9.0", "10.0")
#: Makes nvcc print each kernel's resources.
VERBOSE = "-Xptxas -v"

_COMPILE = ("nvcc", "-std=c++20", "-O3", "--expt-relaxed-constexpr", *VERBOSE.split(), f"-I{ROOT / 'csrc'}")
_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>.+?)' for 'sm_(?P<sm>\d+)\w*'.*\n(?P<report>(?:.*\n)*?)(?=.*Compiling|.*\Z)"
)
_WARNING = re.compile(r"\bwarning\b( #[\w-]+)? *:")


class Resources(NamedTuple):
    """Resources of one kernel.

    Attributes:
        registers: Registers per thread.
        shared: Static shared memory per block, in bytes.
        stack: Stack per thread, in bytes.
        spilled: Spilled registers per thread, stores and loads, in bytes.
    """

    registers: int
    shared: int
    stack: int
    spilled: int


class CompileError(Exception):
    """nvcc refused a source, or warned about it; the message is its output."""


def read_reports(output: str) -> dict[str, dict[str, Resources]]:
    """Read what nvcc printed with `VERBOSE`.

    Returns:
        For each architecture, each kernel's resources by its name without namespaces: ``zero_kernel<float>``.

    Raises:
        CompileError: It warned.
    """
    if warning := _WARNING.search(output):
        raise CompileError(output[max(0, warning.start() - 2000) : warning.end() + 2000])
    names = subprocess.run(["c++filt"], input=output, capture_output=True, text=True, check=True).stdout
    reports: dict[str, dict[str, Resources]] = {}
    for found in _ENTRY.finditer(names):
        architecture = f"{found['sm'][:-1]}.{found['sm'][-1]}"
        reports.setdefault(architecture, {})[_short(found["name"])] = _resources(found["report"])
    return reports


def compile_reports(source: Path, architectures: Sequence[str] = ARCHITECTURES) -> dict[str, dict[str, Resources]]:
    """Compile one source alone; see `read_reports`.

    Raises:
        CompileError: It does not compile, or not without a warning.
    """
    numbers = [architecture.replace(".", "") for architecture in architectures]
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
    """The version as ``nvcc --version`` prints it, such as 13.0."""
    output = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"release ([\d.]+)", output)[0]


def page(reports: Mapping[str, Mapping[str, Resources]], nvcc: str) -> str:
    """The text of docs/kernels.md, from reports for `ARCHITECTURES` and nvcc's version."""
    names = [f"sm_{architecture.replace('.', '')}" for architecture in reports]
    lines = [
        "<!-- SPDX-License-Identifier: MIT -->",
        "# The CUDA kernels as compiled",
        "",
        f"Written by `python -m benchmarks.suites.kernels`, with nvcc {nvcc}. Registers per thread on each",
        "architecture, static shared memory per block; none spills. Lanes are `Lanes<type, columns per tile, lanes",
        "per node, edges per chunk>`. Resident kernels also use `resident_bytes` (csrc/cuda/network/workspace.h) of",
        "dynamic shared memory. The stack is scratch of sin and cos for huge arguments.",
        "",
        "Populations have one kernel each way, and one that adds up the gradients of several blocks per member;",
        "`population_forward_kernel<columns per tile, type>` chooses among lanes per node at run time, by member.",
        "Their dynamic shared memory is what `population_tiling` (csrc/cuda/network/population_workspace.h) allots: a",
        "plan's header, rows of a tile, and copies of the member's nodes (24 bytes each; 28 per slot in the backward)",
        "and edges (8; 12 in the backward), in float32. It is at most a fourth of a block's, unless two columns of the",
        "largest member take more.",
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


def page_kernels() -> set[str]:
    """Every instance of every kernel that docs/kernels.md has."""
    return set(_rows(PAGE.read_text()))


def _rows(text: str) -> dict[str, list[str]]:
    return {line.split("`")[1]: line.split("|") for line in text.splitlines() if line.startswith("| `")}


def outdated(text: str, reports: Mapping[str, Mapping[str, Resources]]) -> list[str]:
    """Kernels that a page misses or gives other registers than these reports, of some architectures, do."""
    rows, found = _rows(text), []
    for architecture, kernels in reports.items():
        column = 2 + ARCHITECTURES.index(architecture)
        for name, resources in kernels.items():
            written = rows[name][column].strip() if name in rows else "no row"
            if written != str(resources.registers):
                found.append(f"{name} on {architecture}: expected {resources.registers} registers, got {written}")
    return found


def main() -> None:
    """Compile everything and write the page."""
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(compile_reports, sorted((ROOT / "csrc" / "cuda").rglob("*.cu"))))
    reports = {a: {k: v for each in done for k, v in each.get(a, {}).items()} for a in ARCHITECTURES}
    spilling = {name for report in reports.values() for name, each in report.items() if each.spilled}
    if spilling:
        sys.exit(f"kernels: expected none to spill registers, got {', '.join(sorted(spilling))}.")
    write_text(PAGE, page(reports, nvcc_version()))


if __name__ == "__main__":
    main()
