# SPDX-License-Identifier: MIT
"""CUDA sources on the CPU, by the SIMT shim (csrc/testing/simt.h): programs of them, plain and under sanitizers.

Enters: unedited .cu files beside host code. Leaves: build/simt/ and programs to run. A program that prints
`simt::launches()` says what it `started`; what the sources define, `kernels`, and it did not start was never checked.
Races: run the "thread" program twice, as it is and with FREEWIRE_SIMT_RACES=blocks (csrc/testing/simt_fiber.h says
why). No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests import native

BUILD = native.ROOT / "build" / "simt"

#: Kind of program to the flags of the kernels. "fallback" switches fibers as a CPU other than x86-64 does.
KINDS = {"plain": "-O2", "fallback": "-O2", **native.SANITIZERS}
# Never compiled for ThreadSanitizer, and without need of the others: one build serves every kind.
RUNTIME = ("csrc/testing/simt_runtime.cpp", "csrc/testing/simt_launch.cpp")
KERNEL_FLAGS = "-x c++ -Wpedantic -Wno-unknown-pragmas"

#: Bug of csrc/testing/simt_plants.cu to what reports it: kind of program, and words of the report.
PLANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "global_read": {"address": ("heap-buffer-overflow", "READ of size 4", "global_read_kernel")},
    "global_write": {"address": ("heap-buffer-overflow", "WRITE of size 4", "global_write_kernel")},
    "dynamic_shared": {"address": ("heap-buffer-overflow", "WRITE of size 4", "dynamic_shared_kernel")},
    "static_shared": {"address": ("heap-buffer-overflow", "READ of size 4", "static_shared_kernel")},
    "misaligned": {"address": ("misaligned address", "requires 16 byte alignment", "misaligned_kernel")},
    "unwritten_shared": {kind: ("unwritten_shared: expected y[63] = 0, got ", "nan.") for kind in ("plain", "address")},
    "missing_barrier": {"thread": ("data race", "missing_barrier_kernel"), "plain": ("missing_barrier: expected y[",)},
    "early_overwrite": {"thread": ("data race", "early_overwrite_kernel"), "plain": ("early_overwrite: expected y[",)},
    "missing_warp_barrier": {
        "thread": ("data race", "missing_warp_barrier_kernel"),
        "plain": ("missing_warp_barrier: expected y[",),
    },
    "block_race": {"thread": ("data race", "block_race_kernel"), "plain": ("block_race: expected y[",)},
    "block_chain": {"thread": ("data race", "block_chain_kernel"), "plain": ("block_chain: expected y[",)},
    "missing_grid_barrier": {
        "thread": ("data race", "missing_grid_barrier_kernel"),
        "plain": ("missing_grid_barrier: expected y[",),
    },
    "lone_grid_barrier": {"plain": ("missing_grid_barrier_kernel, block (", "needs launch_cooperative.")},
    "divergent_barrier": {
        kind: ("divergent_barrier_kernel, block (", "waits in __syncthreads() at", "does not come: it waits in")
        for kind in KINDS
    },
    "early_return": {
        kind: ("early_return_kernel, block (", "thread (63,0,0) does not come: it has returned.") for kind in KINDS
    },
    "crossed_barriers": {
        "plain": (
            "no thread can go on: thread (0,0,0) waits in a shuffle",
            "thread (1,0,0) waits in __syncthreads() at",
        )
    },
    "missing_lane": {
        kind: ("missing_lane_kernel, block (", "waits in a shuffle of mask 0xffffffff at", "it has returned.")
        for kind in KINDS
    },
    "outside_mask": {"plain": ("reads lane 20 at", "which is not in the mask 0x0000ffff.")},
}


def build(programs: Mapping[str, Sequence[str]], kinds: Iterable[str], folder: Path = BUILD) -> None:
    """Build programs (name to sources, from the repository's root) of the kinds named; see `program`."""
    runtime = {f"runtime/{Path(source).stem}.o": (source, "-O2") for source in RUNTIME}
    fallback = {f"fallback/{Path(source).stem}.o": (source, "-O2 -DFREEWIRE_SIMT_UCONTEXT") for source in RUNTIME}
    objects, linked = {**runtime, **fallback}, {}
    for kind, flags in KINDS.items():
        for name, sources in programs.items():
            parts = {
                f"{kind}/{name}/{Path(source).stem}.o": (
                    source,
                    f"{flags} {KERNEL_FLAGS}" if source.endswith(".cu") else flags,
                )
                for source in sources
            }
            objects.update(parts)
            linked[f"{kind}/{name}/{name}"] = (flags, [*parts, *(fallback if kind == "fallback" else runtime)])
    wanted = [f"{kind}/{name}/{name}" for kind in kinds for name in programs]
    native.build(folder, objects, linked, wanted)


def program(name: str, kind: str, folder: Path = BUILD) -> native.Program:
    """The program that `build` built."""
    return native.Program(folder / kind / name / name)


def kernels(sources: Iterable[Path]) -> set[str]:
    """Names of the kernels that CUDA sources define."""
    names = set()
    for source in sources:
        text = re.sub(r"//.*", "", source.read_text())
        text = re.sub(r"__launch_bounds__\s*\([^()]*\)", "", text)
        found = re.findall(r"__global__\s+void\s+(\w+)\s*\(", text)
        if len(found) != text.count("__global__"):
            raise native.NativeError(
                f"{source.name}: expected every kernel to start with `__global__ void name(`, launch bounds aside, got "
                f"{text.count('__global__')} kernels, {len(found)} of them so."
            )
        names.update(found)
    return names


def started(output: str) -> dict[str, int]:
    """Kernels, without namespace and template arguments, and how often: the lines of a program's `simt::launches()`."""
    counts: dict[str, int] = {}
    for line in output.splitlines():
        if found := re.fullmatch(r"(?:\w+::)*(\w+)(?:<.*>)? (\d+)", line):
            counts[found[1]] = counts.get(found[1], 0) + int(found[2])
    return counts
