# SPDX-License-Identifier: MIT
"""Results in float64, and how far rounding may take those of a kernel from them; for the programs of tests/support."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Rounding errors that a result may have, in units in the last place; inputs are changed by as much to see the effect.
# Numbers stored in 16 bits are rounded once.
_ROUNDING, _NARROW_ROUNDING = 16, 4


def with_tolerances(
    run: Callable[[Sequence[Tensor]], list[Tensor]], parameters: Sequence[Tensor], dtype: torch.dtype
) -> list[tuple[float, Tensor]]:
    """The results of ``run(parameters)``, each with its tolerance: how much it changes if they do by some roundings.

    This distinguishes a wrong kernel from a network that is badly conditioned, or has a node so near a kink that
    rounding decides on which side it falls. Both directions are tried, so that no kink is missed.

    Args:
        run: From parameters in float64 to results in float64.
        parameters: In float64.
        dtype: The type that the kernel stores numbers in.
    """
    eps = torch.finfo(dtype).eps * (_ROUNDING if dtype.itemsize >= 4 else _NARROW_ROUNDING)
    exact = run(parameters)
    tolerances = [eps * (1 + float(e.abs().max())) if e.numel() else 0.0 for e in exact]
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        moves = [torch.randn(p.shape, generator=generator, dtype=p.dtype) * eps for p in parameters]
        for sign in (1, -1):
            moved = [p * (1 + sign * move) for p, move in zip(parameters, moves, strict=True)]
            for i, (a, e) in enumerate(zip(run(moved), exact, strict=True)):
                if e.numel():
                    tolerances[i] = max(tolerances[i], float((a - e).abs().max()))
    return list(zip(tolerances, exact, strict=True))
