# SPDX-License-Identifier: MIT
"""Stand-ins for the tools of a build, so that its messages about them can be tested without them.

They are written into a folder for PATH: an nvcc that compiles .cu files of plain C++ and records its calls, and a small
csrc/ for it. `clear_environment` makes sure that no other tool is found.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

#: Variables that name tools, or change what they do.
VARIABLES = ("CXX", "CXXFLAGS", "CUDACXX", "CUDA_HOME", "CUDA_PATH", "NVCC_CCBIN", "NVCC_PREPEND_FLAGS")
VARIABLES += ("NVCC_APPEND_FLAGS", "TORCH_CUDA_ARCH_LIST", "MAX_JOBS", "FREEWIRE_CUDA")

NVCC = """\
#!{python} -IS
import os, subprocess, sys, time
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("nvcc: NVIDIA (R) Cuda compiler driver\\nCuda compilation tools, release {release}, V{release}.1")
elif arguments == ["--list-gpu-arch"]:
    print("compute_75\\ncompute_80\\ncompute_86\\ncompute_90\\ncompute_120")
else:
    kind = "link" if "-shared" in arguments else "compile"
    with open("{calls}", "a") as calls:
        print(kind, *arguments, file=calls)
    {then}
    kept, before = [], ""
    for word in arguments:
        if before == "-Xlinker":
            kept.append("-Wl," + word)
        elif not before.startswith(("-ccbin", "-X")) and not word.startswith(("--", "-gencode", "-ccbin", "-X")):
            kept.append(word)
        before = word
    language = [] if kind == "link" else ["-x", "c++", "-fPIC"]
    compiler = arguments[arguments.index("-ccbin") + 1]
    sys.exit(subprocess.run([compiler, *language, *kept]).returncode)
"""

SOURCES = {
    "answer.h": "inline int answer() { return 41; }\n",
    "cuda/kernel.cu": '#include "answer.h"\nint kernel() { return answer(); }\n',
    "cuda/kernel.h": "int kernel();\n",
    "cuda/binding.cpp": """\
#include "cuda/kernel.h"
extern "C" int aoti_torch_get_current_cuda_stream(int, void**);
extern "C" __attribute__((visibility("default"))) int freewire_answer(int device) {
  return device < 0 ? kernel() : aoti_torch_get_current_cuda_stream(device, nullptr);
}
""",
}


def write_program(path: Path, script: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def write_nvcc(folder: Path, release: str = "13.0", then: str = "pass") -> Path:
    """Write an nvcc into a folder.

    Args:
        folder: Where it goes.
        release: Its version.
        then: Python code that it runs before it compiles or links.

    Returns:
        A file with one line per call: "compile" or "link", and the arguments.
    """
    calls = folder / "nvcc.calls"
    path = folder / "nvcc"
    path.write_text(NVCC.format(python=sys.executable, release=release, calls=calls, then=then))
    path.chmod(0o755)
    calls.touch()
    return calls


def write_sources(csrc: Path) -> Path:
    """Write sources of a library that this nvcc compiles; return the folder."""
    for name, text in SOURCES.items():
        (csrc / name).parent.mkdir(parents=True, exist_ok=True)
        (csrc / name).write_text(text)
    return csrc


def clear_environment(monkeypatch: pytest.MonkeyPatch, path: Path | None = None) -> None:
    """Unset the variables that name tools, and set PATH to a folder if one is given."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if path is not None:
        monkeypatch.setenv("PATH", str(path))


def play_nvcc(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Put `write_nvcc`'s nvcc into a new folder and make it the one that is found; return what `write_nvcc` returns."""
    clear_environment(monkeypatch)
    folder.mkdir()
    monkeypatch.setenv("CUDACXX", str(folder / "nvcc"))
    return write_nvcc(folder)
