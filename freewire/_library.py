# SPDX-License-Identifier: MIT
"""Load the compiled kernels into torch.

What enters: `libfreewire_cpu.so`, built by `setup.py` and lying next to this file in regular and editable
installs alike. What leaves: `torch.ops.freewire.*`, registered by the library as it loads. Importing this
module loads it, once a process.
"""

from __future__ import annotations

from pathlib import Path

import torch

from freewire.errors import BuildError

CUDA_LIBRARY = Path(__file__).with_name("libfreewire_cuda.so")
CPU_LIBRARY = Path(__file__).with_name("libfreewire_cpu.so")

_REMEDY = (
    "Build it with a C++ compiler: `make setup` in a checkout, or `pip install --no-build-isolation .` from "
    "the sources."
)


def load_library(path: Path) -> None:
    """Load one library of operators; loading it a second time does nothing.

    Args:
        path: the shared library.

    Raises:
        BuildError: the library is not there, or this torch or machine cannot load it.
    """
    if not path.is_file():
        raise BuildError(f"compiled kernels: expected {path.name} in {path.parent}, got no such file. {_REMEDY}")
    try:
        torch.ops.load_library(path)
    except OSError as error:
        raise BuildError(
            f"compiled kernels: expected {path} to load into torch {torch.__version__}, got {error}. {_REMEDY}"
        ) from error


def load_cuda() -> None:
    """Load the CUDA kernels.

    Raises:
        BuildError: they are not there, or this torch or machine cannot load them.
    """
    load_library(CUDA_LIBRARY)


load_library(CPU_LIBRARY)
