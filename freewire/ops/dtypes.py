# SPDX-License-Identifier: MIT
"""The number types that there are kernels for, and the type in which each of them is computed."""

from __future__ import annotations

import torch
from torch import Tensor

from freewire.errors import InputError, shown

__all__ = ["DTYPES", "autocast", "check_dtype", "compute_dtype"]

#: As FREEWIRE_FOR_EACH_TYPE in csrc/number.h.
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of sums, activations and node gradients where tensors are of type ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def autocast(tensor: Tensor, target: torch.dtype) -> Tensor:
    """Cast an argument as autocast does, which leaves float64, integers and booleans alone."""
    return tensor.to(target) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def check_dtype(dtype: torch.dtype, argument: str) -> None:
    """Raise `InputError`, naming the argument, unless there are kernels for the type."""
    if dtype not in DTYPES:
        *others, last = map(str, DTYPES)
        raise InputError(
            f"{argument}: expected {', '.join(others)} or {last}, got {shown(dtype)}. "
            "There are kernels for these types only: convert with net.float()."
        )
