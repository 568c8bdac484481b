# SPDX-License-Identifier: MIT
"""Load the compiled kernels into torch.

Loading a library registers its operators as `torch.ops.freewire.*`. `setup.py` builds `libfreewire_cpu.so` and, where
nvcc is found, `libfreewire_cuda.so` into the folder of `freewire._native`, in regular and editable installs alike.
Importing this module loads the CPU library. The GPU library is loaded when a module first moves to a GPU.
"""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import torch

from freewire import _native
from freewire._native.planner import BUILD_REMEDY
from freewire.errors import BuildError, cut
from freewire.ops import cuda_cache

_BUILT = Path(_native.__path__[0])
CPU_LIBRARY = _BUILT / "libfreewire_cpu.so"
CUDA_LIBRARY = _BUILT / "libfreewire_cuda.so"

_cuda_lock = threading.Lock()
_cuda_is_loaded = False


def load_library(path: Path) -> None:
    """Load one library of operators; loading it a second time does nothing.

    Args:
        path: Path of the shared library.

    Raises:
        BuildError: There is no such file, or this torch or machine cannot load it.
    """
    if not path.is_file():
        raise BuildError(f"compiled kernels: expected {path.name} in {path.parent}, got no such file. {BUILD_REMEDY}")
    try:
        torch.ops.load_library(path)
    except OSError as error:
        why = error.__cause__ or error  # torch's error names the library, its cause says what is wrong with it
        raise BuildError(
            f"compiled kernels: expected {path} to load into torch {torch.__version__}, got {cut(why, 500)}. "
            f"{BUILD_REMEDY}"
        ) from error


def load_cuda() -> None:
    """Load the CUDA kernels, building them first where there are none; does nothing once they are loaded.

    Raises:
        BuildError: There are none and they cannot be built, or this torch or machine cannot load them.
    """
    global _cuda_is_loaded
    with _cuda_lock:
        if not _cuda_is_loaded:
            load_library(cuda_cache.find_or_build(CUDA_LIBRARY))
            _cuda_is_loaded = True


def instruction_set() -> str:
    """The instruction set that the CPU kernels use here: ``"base"``, ``"avx2"`` or ``"avx512"``.

    It is the widest that there are kernels for and the processor has, unless FREEWIRE_ISA names a narrower one.
    """
    return _name("freewire_isa")


def matrix_unit() -> str:
    """What multiplies matrices of bfloat16 numbers here: ``"amx"``, ``"avx512bf16"`` or ``"none"``.

    It is the fastest that the processor has and the system lets this process use, unless FREEWIRE_MATRIX names a slower
    one. With ``"none"`` products are computed in float32.
    """
    return _name("freewire_matrix_unit")


def _name(function: str) -> str:
    call = getattr(ctypes.CDLL(str(CPU_LIBRARY)), function)
    call.restype = ctypes.c_char_p
    name: bytes = call()
    return name.decode()


load_library(CPU_LIBRARY)
