# SPDX-License-Identifier: MIT
"""Compile and link the CUDA kernels: libfreewire_cuda.so.

What enters: `csrc/*.h` and `csrc/cuda/`, nvcc, a C++ compiler, ninja and torch's headers. What leaves: a library of
operators that depends on torch's libraries alone, with CUDA's runtime inside it. It bears a stamp of what it was built
from, so that one built from other sources, or for other GPUs, is told before it is loaded. `setup.py` builds it here,
and so does first use (`freewire/ops/cuda_cache.py`). No torch is imported until the GPUs are asked for.

On a torch without CUDA the library is linked against a stub in libtorch_cuda.so's name, and is the same otherwise: it
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
from freewire.errors import BuildError

LIBRARY = "libfreewire_cuda.so"
STUB = "libtorch_cuda.so"
#: torch's C functions of CUDA lie in libtorch_cuda, all others of this name in libtorch_cpu.
STUBBED = re.compile(r"(aoti_)?torch_\w*cuda")

#: Compute capabilities to build for where no GPU is in sight and TORCH_CUDA_ARCH_LIST is unset: Turing to Blackwell.
DEFAULT_GPUS = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
OLDEST_GPU = DEFAULT_GPUS[0]

# Errors of torch's own launches are torch's to report: a runtime of our own keeps its own last error, and serves
# every torch, whatever CUDA that was built for. It holds no context; both work in the driver's.
_LINK_FLAGS = ("-shared", "--cudart=static", "--no-device-link", "-Xlinker", "-z,defs,--exclude-libs,ALL")
_HOST_FLAGS = ("-Xcompiler", "-fPIC,-fvisibility=hidden,-g0")
_SMALL = ("-Xfatbin", "-compress-all")  # a fraction of the size; a kernel is unpacked when it is first used
_NVCC_FLAGS = ("-std=c++20", "-O3", "--expt-relaxed-constexpr", *_HOST_FLAGS, *_SMALL)
_CXX_FLAGS = (*CXX_FLAGS, "-fPIC", "-DUSE_CUDA")

_STAMP = re.compile(rb"freewire_cuda_library sources=(\w+) cuda=(\d+)\.(\d+) architectures=([\w.+,]+);")


class Stamp(NamedTuple):
    """What a library says it was built from."""

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
    """What the library was built from; None where it does not say."""
    found = _STAMP.search(library.read_bytes())
    if not found:
        return None
    sources, major, minor, architectures = (group.decode() for group in found.groups())
    return Stamp(sources, (int(major), int(minor)), tuple(architectures.split(",")))


# ------------------------------------------------------------------------------- sources


def source_folder() -> Path | None:
    """The C++ sources: those an installation carries, else the checkout's; None where there are none."""
    here = Path(__file__).resolve().parent
    return next((folder for folder in (here / "csrc", here.parents[1] / "csrc") if (folder / "cuda").is_dir()), None)


def source_files(csrc: Path) -> list[Path]:
    """All that the library is compiled from, torch's and CUDA's headers aside."""
    kinds = {".h", ".cuh", ".cu", ".cpp"}
    return sorted(p for p in (*csrc.glob("*.h"), *(csrc / "cuda").rglob("*")) if p.suffix in kinds)


def source_hash(csrc: Path) -> str:
    """Names and contents of the sources, and the flags: equal hashes, equal libraries."""
    digest = hashlib.sha256(repr((_NVCC_FLAGS, _CXX_FLAGS, _LINK_FLAGS)).encode())
    for path in source_files(csrc):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(csrc).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


# ------------------------------------------------------------------------------- what is asked for


def wish() -> bool | None:
    """What FREEWIRE_CUDA asks for: True to build the kernels, False not to, None to decide by what is there."""
    asked = os.environ.get("FREEWIRE_CUDA", "")
    if asked not in ("", "0", "1"):
        raise BuildError(
            f"FREEWIRE_CUDA: expected 1 (build the CUDA kernels) or 0 (never build them), got {asked!r}. Set one of "
            "those, or unset it to build them where that is possible."
        )
    return None if asked == "" else asked == "1"


def visible_gpus() -> list[tuple[int, int]]:
    """Compute capabilities of the GPUs that torch sees and the kernels run on, each once."""
    import torch

    found = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    return sorted(gpu for gpu in found if gpu >= OLDEST_GPU)


def capability(gpu: tuple[int, int]) -> str:
    """A compute capability as NVIDIA writes it."""
    return f"{gpu[0]}.{gpu[1]}"


def architectures(nvcc: Nvcc, gpus: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """What to compile for, as in TORCH_CUDA_ARCH_LIST: that if set, else these GPUs, else all there are.

    Raises:
        BuildError: The list is none, or nvcc is too old for it.
    """
    known = nvcc.gpus
    asked = [part for part in re.split(r"[\s;,]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "")) if part]
    if asked and asked != ["native"]:
        for part in asked:
            found = _parse(part)
            if found is None or found[0] not in known:
                raise BuildError(
                    f"TORCH_CUDA_ARCH_LIST: expected a list such as '8.0;9.0+PTX' of what {nvcc} compiles for "
                    f"({', '.join(map(capability, known))}), got {part!r}. Change it, or unset it."
                )
        return tuple(dict.fromkeys(asked))
    names = []
    for gpu in gpus:
        older = [each for each in known if each <= gpu]
        if not older:
            raise BuildError(
                f"nvcc: expected one that compiles for compute capability {capability(gpu)}, got {nvcc}, which "
                f"compiles for {', '.join(map(capability, known))}. Set CUDA_HOME to another CUDA."
            )
        # A GPU newer than nvcc runs the newest that nvcc knows, by the driver's compiler.
        names.append(capability(older[-1]) + ("" if older[-1] == gpu else "+PTX"))
    if not names:
        names = [capability(gpu) for gpu in DEFAULT_GPUS if gpu in known]
        names[-1:] = [name + "+PTX" for name in names[-1:]]
    return tuple(dict.fromkeys(names))


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
    """'9.0a+PTX' as its number, whether it has a letter (and runs on that chip alone), whether it has PTX."""
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
    """Compile and link; what is up to date is left alone.

    Args:
        csrc: The sources.
        torch_folder: Where the package torch is.
        work: A folder for objects and the library; made if need be.
        log: A file for what the tools say; replaced.
        nvcc: The compiler.
        built_for: What `architectures` returned.

    Returns:
        The library, in `work`.

    Raises:
        BuildError: A tool is missing, or fails.
    """
    compiler = find_compiler()
    work.mkdir(parents=True, exist_ok=True)
    has_stub = not (torch_folder / "lib" / STUB).is_file()
    stamp = Stamp(source_hash(csrc), nvcc.version, tuple(built_for))
    exported = 'extern "C" __attribute__((visibility("default")))'
    _write_if_changed(work / "stamp.cpp", f'{exported} const char* freewire_cuda_stamp() {{ return "{stamp}"; }}\n')
    sources = [*(path for path in source_files(csrc) if path.suffix in (".cu", ".cpp")), work / "stamp.cpp"]
    objects = [f"{path.name}.o" for path in sources]

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
        *rule("cu", kernels, "-MD -MF $out.d -c $in -o $out", *depends),
        *rule("stub", [compiler, "-shared", "-fPIC", f"-Wl,-soname,{STUB}"], "$in -o $out"),
        *rule("link", link, "$in -o $out -ltorch_cpu -ltorch_cuda"),
    ]
    for source, name in zip(sources, objects, strict=True):
        escaped = re.sub(r"[$ :]", r"$\g<0>", str(source))
        lines.append(f"build {name}: {source.suffix[1:]} {escaped}")
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


def undefined_symbols(objects: Iterable[Path], compiler: str) -> set[str]:
    """What the objects call and do not define, each for itself."""
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
            f"CUDA kernels: expected {tools} to compile them, got {line!r}. Read all of it in {log}; another compiler "
            "may do, named by CUDA_HOME or CXX."
        )
