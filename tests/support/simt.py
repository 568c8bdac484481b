# SPDX-License-Identifier: MIT
"""CUDA sources on the CPU, by the SIMT shim (csrc/testing/simt/simt.h): programs of them, plain and under sanitizers.

`build` compiles unedited .cu files together with host code into build/simt/, and `program` runs the result. `started`
reads which kernels ran from what a program prints of `simt::launches()`; a kernel that the sources define (`kernels`)
and that did not start was never checked. To find races, run the "thread" program twice, as it is and with
FREEWIRE_SIMT_RACES=blocks (csrc/testing/simt/simt_fiber.h says why). Nothing here imports torch.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.support import native

BUILD = native.ROOT / "build" / "simt"

# Also used for a library, whose symbols must not replace those of another library in the same process.
_PLAIN = "-O2 -fPIC -fvisibility=hidden -fvisibility-inlines-hidden"
#: From a kind of program to its flags. "fallback" switches fibers as on CPUs other than x86-64.
KINDS = {"plain": _PLAIN, "fallback": _PLAIN}
KINDS |= {kind: f"{flags} -DFREEWIRE_TWO_TILES" for kind, flags in native.SANITIZERS.items()}
# Must not be compiled for ThreadSanitizer and does not need the other sanitizers: one build serves every kind.
RUNTIME = ("csrc/testing/simt/simt_runtime.cpp", "csrc/testing/simt/simt_launch.cpp")
KERNEL_FLAGS = "-x c++ -Wpedantic -Wno-unknown-pragmas"

#: Bug of csrc/testing/simt/simt_injected.cu to what reports it: kind of program, and words of the report.
BUGS: dict[str, dict[str, tuple[str, ...]]] = {
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


def objects(sources: Iterable[str], kind: str) -> native.Objects:
    """Return the objects of sources and of the shim for a kind of program; programs that share a source share them."""
    runtime = {"plain": _PLAIN, "fallback": f"{_PLAIN} -DFREEWIRE_SIMT_UCONTEXT"}
    of_runtime = kind if kind in runtime else "plain"
    found = {compiled(source, of_runtime): (source, runtime[of_runtime]) for source in RUNTIME}
    for source in sources:
        language = KERNEL_FLAGS if source.endswith(".cu") else ""
        found[compiled(source, kind)] = (source, f"{KINDS[kind]} {language}")
    return found


def compiled(source: str, kind: str) -> str:
    """The path of a source's object, relative to `BUILD`."""
    return f"{kind}/{Path(*Path(source).parts[1:])}.o"


def build(programs: Mapping[str, Sequence[str]], kinds: Iterable[str]) -> None:
    """Build programs, given by name and sources (relative to the repository), of some kinds; see `program`."""
    every: native.Objects = {}
    linked = {}
    for kind in kinds:
        for name, sources in programs.items():
            parts = objects(sources, kind)
            every |= parts
            linked[_built(name, kind)] = (KINDS[kind], list(parts))
    native.build(BUILD, every, linked)


def program(name: str, kind: str) -> native.Program:
    """The program that `build` built."""
    return native.Program(BUILD / _built(name, kind))


def build_spoilt(
    sources: Sequence[str], source: str, file: str, right: str, wrong: str, folder: Path
) -> native.Program:
    """Build a plain program with a bug injected: one source is compiled with other text in a file of csrc/.

    Args:
        sources: The program's sources.
        source: The one to recompile, which includes the file or is it.
        file: The file to change, relative to csrc/.
        right: Its text.
        wrong: What replaces that text.
        folder: Where the copy of csrc/ and the program go.
    """
    right_objects = objects([each for each in sources if each != source], "plain")
    native.build(BUILD, right_objects, {})
    csrc = shutil.copytree(native.ROOT / "csrc", folder / "csrc")
    text = (csrc / file).read_text()
    if right not in text:
        raise native.NativeError(f"{file}: expected {right!r} in it, got none. Name the present text.")
    (csrc / file).write_text(text.replace(right, wrong))
    language = KERNEL_FLAGS if source.endswith(".cu") else ""
    flags = f"{native.FLAGS} -fPIC {language} -w".split()
    made = str(folder / "spoilt.o")
    command = [native.compiler(), *flags, f"-I{csrc}", "-c", str(folder / source), "-o", made]
    subprocess.run(command, check=True)
    parts = [str(BUILD / name) for name in right_objects]
    subprocess.run([native.compiler(), "-pthread", made, *parts, "-o", str(folder / "spoilt")], check=True)
    return native.Program(folder / "spoilt")


def _built(name: str, kind: str) -> str:
    return f"{kind}/bin/{name}"


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


def instances(output: str) -> dict[str, int]:
    """`started` with template arguments, named as in docs/kernels.md: ``zero_kernel<float>``."""
    found = (re.fullmatch(r"([\w:]+_kernel(?:<.*>)?) (\d+)", line) for line in output.splitlines())
    return {re.sub(r"\w+::", "", each[1]): int(each[2]) for each in found if each}


def started(output: str) -> dict[str, int]:
    """Read `simt::launches()` of a program's output: how often each kernel ran, by name without template arguments."""
    counts: dict[str, int] = {}
    for line in output.splitlines():
        if found := re.fullmatch(r"(?:\w+::)*(\w+)(?:<.*>)? (\d+)", line):
            counts[found[1]] = counts.get(found[1], 0) + int(found[2])
    return counts
