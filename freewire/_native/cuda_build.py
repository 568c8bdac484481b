# SPDX-License-Identifier: MIT
"""Compile and link the CUDA kernels: libfreewire_cuda.so.

The library is compiled from ``csrc/*.h`` and ``csrc/cuda/`` by nvcc, a C++ compiler and ninja, with torch's headers. It
depends on torch's libraries only, since CUDA's runtime is inside it. A stamp in it says what it was built from, so that
a library of other sources, or for other GPUs, is recognised before it is loaded. It is built by `setup.py`, or at first
use (`freewire/ops/cuda_cache.py`). torch is not imported until `visible_gpus` is called.

For a torch without CUDA the library is linked against a stub called libtorch_cuda.so. It is the same otherwise, and
loads into a torch that has CUDA.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from freewire._native.toolchain import CXX_FLAGS, Nvcc, find_compiler, find_ninja
from freewire.errors import BuildError, cut, shown

LIBRARY = "libfreewire_cuda.so"
STUB = "libtorch_cuda.so"
#: torch's C functions for CUDA, which are in libtorch_cuda; those of other names are in libtorch_cpu.
STUBBED = re.compile(r"(aoti_)?torch_\w*cuda")

#: Compute capabilities to build for where torch sees no GPU and TORCH_CUDA_ARCH_LIST is unset: Turing to Blackwell.
DEFAULT_GPUS = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
OLDEST_GPU = DEFAULT_GPUS[0]

# A runtime of our own keeps its own last error, so that torch reports the errors of its own launches, and it works with
# a torch for any version of CUDA. It holds no context: both use the driver's.
_LINK_FLAGS = ("-shared", "--cudart=static", "--no-device-link", "-Xlinker", "-z,defs,--exclude-libs,ALL")
_HOST_FLAGS = ("-Xcompiler", "-fPIC,-fvisibility=hidden,-g0")
_SMALL = ("-Xfatbin", "-compress-all")  # a fraction of the size; a kernel is decompressed at its first use
_NVCC_FLAGS = ("-std=c++20", "-O3", "--expt-relaxed-constexpr", *_HOST_FLAGS, *_SMALL)
_CXX_FLAGS = (*CXX_FLAGS, "-fPIC", "-DUSE_CUDA")

#: Sources that take longest. Where there are cores for it, each is compiled once per number type of csrc/number.h, side
#: by side; that is a third more work.
_BY_TYPE = ("resident_backward.cu", "resident_forward.cu")
_MANY_CORES = 8
_NUMBER_TYPE = re.compile(r"^#define FREEWIRE_(\w+)\(X\) X\(", re.MULTILINE)

_STAMP = re.compile(rb"freewire_cuda_library sources=(\w+) cuda=(\d+)\.(\d+) architectures=([\w.+,]+);")


class Stamp(NamedTuple):
    """What a library was built from."""

    sources: str  # source_hash()
    cuda: tuple[int, int]  # version of nvcc, and of the runtime inside
    architectures: tuple[str, ...]  # as in TORCH_CUDA_ARCH_LIST

    def __str__(self) -> str:
        major, minor = self.cuda
        return (
            f"freewire_cuda_library sources={self.sources} cuda={major}.{minor} "
            f"architectures={','.join(self.architectures)};"
        )


def read_stamp(library: Path) -> Stamp | None:
    """The stamp of a library; None where it has none."""
    found = _STAMP.search(library.read_bytes())
    if not found:
        return None
    sources, major, minor, architectures = (group.decode() for group in found.groups())
    return Stamp(sources, (int(major), int(minor)), tuple(architectures.split(",")))


# ------------------------------------------------------------------------------- sources


def source_folder() -> Path | None:
    """The folder of C++ sources: the installation's copy, else the checkout's; None where there is neither."""
    here = Path(__file__).resolve().parent
    return next((folder for folder in (here / "csrc", here.parents[1] / "csrc") if (folder / "cuda").is_dir()), None)


def source_files(csrc: Path) -> list[Path]:
    """All files that the library is compiled from, except torch's and CUDA's headers."""
    kinds = {".h", ".cuh", ".cu", ".cpp"}
    return sorted(p for p in (*csrc.glob("*.h"), *(csrc / "cuda").rglob("*")) if p.suffix in kinds)


def source_hash(csrc: Path) -> str:
    """A hash of the sources' names and contents and of the flags: equal hashes mean equal libraries."""
    digest = hashlib.sha256(repr((_NVCC_FLAGS, _CXX_FLAGS, _LINK_FLAGS)).encode())
    for path in source_files(csrc):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(csrc).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


# ------------------------------------------------------------------------------- what is requested


def requested() -> bool | None:
    """Whether FREEWIRE_CUDA requests the kernels (True) or forbids building them (False); None where it is unset."""
    asked = os.environ.get("FREEWIRE_CUDA", "")
    if asked not in ("", "0", "1"):
        raise BuildError(
            f"FREEWIRE_CUDA: expected 1 (build the CUDA kernels) or 0 (never build them), got {shown(asked)}. Set "
            "it to one of these, or unset it to build them where that is possible."
        )
    return None if asked == "" else asked == "1"


def visible_gpus() -> list[tuple[int, int]]:
    """Compute capabilities, without duplicates, of the GPUs that torch sees and that the kernels support."""
    import torch

    found = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    return sorted(gpu for gpu in found if gpu >= OLDEST_GPU)


def capability(gpu: tuple[int, int]) -> str:
    """A compute capability as NVIDIA writes it."""
    return f"{gpu[0]}.{gpu[1]}"


def architectures(nvcc: Nvcc, gpus: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The architectures to compile for, written as in TORCH_CUDA_ARCH_LIST.

    Args:
        nvcc: The compiler.
        gpus: What `visible_gpus` returned. Where there are some, the build is for those and the list is ignored: it
            often comes with a container and names chips that the machine does not have. `ignored_list` says so.

    Returns:
        The architectures of ``gpus``; without GPUs those of the list; without a list all of `DEFAULT_GPUS` that nvcc
        compiles for, and PTX for newer ones.

    Raises:
        BuildError: The list is wrong, or nvcc does not compile for a GPU.
    """
    known, asked = nvcc.gpus, _requested_list()
    if gpus:
        return tuple(dict.fromkeys(_architecture(gpu, nvcc) for gpu in gpus))
    for part in asked:
        found = _parse(part)
        if found is None or found[0] not in known:
            raise BuildError(
                f"TORCH_CUDA_ARCH_LIST: expected a list such as '8.0;9.0+PTX' of architectures that {nvcc} compiles "
                f"for ({', '.join(map(capability, known))}), got {shown(part)}. Change it, or unset it."
            )
    if asked:
        return tuple(dict.fromkeys(asked))
    names = [capability(gpu) for gpu in DEFAULT_GPUS if gpu in known]
    return (*names[:-1], *(name + "+PTX" for name in names[-1:]))


def ignored_list(built_for: Sequence[str], gpus: Sequence[tuple[int, int]]) -> str | None:
    """A sentence for the user where TORCH_CUDA_ARCH_LIST is set and `architectures` ignored it; else None."""
    asked = _requested_list()
    if not gpus or not asked or set(asked) == set(built_for):
        return None
    return (
        f"TORCH_CUDA_ARCH_LIST={shown(os.environ['TORCH_CUDA_ARCH_LIST'])} is ignored, since torch sees a GPU here; "
        "hide it with CUDA_VISIBLE_DEVICES= to build for the list"
    )


def _requested_list() -> list[str]:
    """The entries of TORCH_CUDA_ARCH_LIST; empty where it is unset, or "native"."""
    asked = [part for part in re.split(r"[\s;,]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "")) if part]
    return [] if asked == ["native"] else asked


def _architecture(gpu: tuple[int, int], nvcc: Nvcc) -> str:
    older = [each for each in nvcc.gpus if each <= gpu]
    if not older:
        raise BuildError(
            f"nvcc: expected one that compiles for compute capability {capability(gpu)}, got {nvcc}, which compiles "
            f"for {', '.join(map(capability, nvcc.gpus))}. Set CUDA_HOME to another CUDA toolkit."
        )
    # The driver compiles PTX of the newest chip that nvcc knows for a GPU that is newer.
    return capability(older[-1]) + ("" if older[-1] == gpu else "+PTX")


def covers(built_for: Iterable[str], gpu: tuple[int, int]) -> bool:
    """Whether code for these architectures runs on the GPU.

    Example:
        >>> covers(["8.0"], (8, 6)), covers(["8.6"], (8, 0)), covers(["8.0"], (9, 0)), covers(["8.0+PTX"], (9, 0))
        (True, False, False, True)
    """
    for name in built_for:
        parsed = _parse(name)
        if parsed is None:
            continue
        built, special, ptx = parsed
        if built == gpu or (not special and built <= gpu and (ptx or built[0] == gpu[0])):
            return True
    return False


def _parse(name: str) -> tuple[tuple[int, int], bool, bool] | None:
    """'9.0a+PTX' as its number, whether it has a letter (and runs on that chip only), and whether it has PTX."""
    found = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", name)
    return found and ((int(found[1]), int(found[2])), bool(found[3]), bool(found[4]))


def _target_flags(names: Iterable[str]) -> list[str]:
    flags = []
    for name in names:
        number = name.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if name.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


# ------------------------------------------------------------------------------- building


def build(csrc: Path, torch_folder: Path, work: Path, log: Path, nvcc: Nvcc, built_for: Sequence[str]) -> Path:
    """Compile and link what is not up to date.

    Args:
        csrc: Folder of the sources.
        torch_folder: Folder of the package torch.
        work: Folder for objects and the library; created if need be.
        log: File for the output of the tools; overwritten.
        nvcc: The compiler.
        built_for: Architectures, as `architectures` returns them.

    Returns:
        The path of the library, in ``work``.

    Raises:
        BuildError: A tool is missing or fails.
    """
    compiler = find_compiler()
    work.mkdir(parents=True, exist_ok=True)
    has_stub = not (torch_folder / "lib" / STUB).is_file()
    stamp = Stamp(source_hash(csrc), nvcc.version, tuple(built_for))
    exported = 'extern "C" __attribute__((visibility("default")))'
    _write_if_changed(work / "stamp.cpp", f'{exported} const char* freewire_cuda_stamp() {{ return "{stamp}"; }}\n')
    compiled = _compiled(csrc, work)
    objects = [each.name for each in compiled]

    def rule(name: str, command: Sequence[str], end: str, *lines: str) -> list[str]:
        return [f"rule {name}", f"  command = {shlex.join(command).replace('$', '$$')} {end}", *lines]

    includes = [f"-I{csrc}", "-isystem", str(torch_folder / "include")]
    cxx = [compiler, *_CXX_FLAGS, *includes, *shlex.split(os.environ.get("CXXFLAGS", ""))]
    kernels = [nvcc.path, *nvcc.compiler_options, *_NVCC_FLAGS, f"-I{csrc}", *_target_flags(built_for)]
    folders = [*(["."] if has_stub else []), str(torch_folder / "lib"), *nvcc.runtime_folders]
    link = [nvcc.path, *nvcc.compiler_options, *_LINK_FLAGS, *(f"-L{folder}" for folder in folders)]
    depends = ("  depfile = $out.d", "  deps = gcc")
    lines = [
        *rule("cpp", cxx, "-MD -MF $out.d -c $in -o $out", *depends),
        *rule("cu", kernels, "$only -MD -MF $out.d -c $in -o $out", *depends),
        *rule("stub", [compiler, "-shared", "-fPIC", f"-Wl,-soname,{STUB}"], "$in -o $out"),
        *rule("link", link, "$in -o $out -ltorch_cpu -ltorch_cuda"),
    ]
    for name, source, only in compiled:
        escaped = re.sub(r"[$ :]", r"$\g<0>", str(source))
        lines += [f"build {name}: {source.suffix[1:]} {escaped}", f"  only = {only}"]
    lines += [f"build objects: phony {' '.join(objects)}", f"build {STUB}: stub stub.cpp"]
    lines.append(f"build {LIBRARY}: link {' '.join(objects)}" + (f" | {STUB}" if has_stub else ""))
    _write_if_changed(work / "build.ninja", "\n".join(lines) + "\n")

    log.write_text("")
    tools = f"{nvcc} ({nvcc.path}) and {compiler}"
    if has_stub:
        _ninja(work, "objects", log, tools)
        called = undefined_symbols([work / name for name in objects], compiler)
        stubs = sorted(filter(STUBBED.match, called))
        _write_if_changed(work / "stub.cpp", "".join(f'extern "C" void {name}() {{}}\n' for name in stubs))
    _ninja(work, LIBRARY, log, tools)
    return work / LIBRARY


class _Object(NamedTuple):
    name: str
    source: Path
    only: str  # what restricts it to one number type, or ""


def _compiled(csrc: Path, work: Path) -> list[_Object]:
    """The objects of the library, those that take longest first."""
    by_type = _BY_TYPE if (os.cpu_count() or 1) >= _MANY_CORES else ()
    found = [_Object("stamp.cpp.o", work / "stamp.cpp", "")]
    for path in source_files(csrc):
        if path.name in by_type:
            types = _NUMBER_TYPE.findall((csrc / "number.h").read_text())
            names = [f"{path.stem}.{each.lower()}.cu.o" for each in types]
            only = [f"-DFREEWIRE_ONLY_TYPE=FREEWIRE_{each}" for each in types]
            found[:0] = [_Object(name, path, define) for name, define in zip(names, only, strict=True)]
        elif path.suffix in (".cu", ".cpp"):
            found.append(_Object(f"{path.name}.o", path, ""))
    return found


def undefined_symbols(objects: Iterable[Path], compiler: str) -> set[str]:
    """Functions that any of the objects calls and does not define itself."""
    nm = subprocess.run([compiler, "-print-prog-name=nm"], capture_output=True, text=True, check=True).stdout.strip()
    listed = subprocess.run([nm, "-u", *map(str, objects)], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^\s+[Uw] (\w+)", listed, re.MULTILINE))


def _write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def _ninja(work: Path, target: str, log: Path, tools: str) -> None:
    with log.open("a") as output:
        command = [*find_ninja(), "-C", str(work), "-v", target]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    if done.returncode:
        said = log.read_text(errors="replace").splitlines()
        failures = r"\berror\b.*:|: error|\bfatal\b *:|undefined reference|not found"
        line = next((each for each in said if re.search(failures, each)), said[-1] if said else "no message").strip()
        raise BuildError(
            f"CUDA kernels: expected {tools} to compile them, got {cut(repr(line), 500)}. The full output is in {log}; "
            "to use another compiler, set CUDA_HOME or CXX."
        )
