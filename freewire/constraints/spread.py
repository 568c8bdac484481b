# SPDX-License-Identifier: MIT
"""Spreading one number per group over millions of edges, and summing the edges' gradients per group.

In plain operations this is ``(table.index_select(0, index) * base).to(dtype)``. Of many edges on the CPU most of its
time goes into tensors ``[E]`` that are written to memory and read again. So there the product is computed in place, and
the backward runs in blocks of edges that stay in a core's cache. torch adds such sums on one thread, edge by edge in
order: they have the same bits in every run. Blocks are so small that the operations around it take no second thread
either, since on a busy machine threads wait for each other at the end of each operation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from freewire.ops.autograd import called_plainly

__all__ = ["BLOCK", "spread"]

#: Edges in a block: just below the 2**15 from which torch divides an operation among threads.
BLOCK = (1 << 15) - 64


def spread(table: Tensor, index: Tensor, base: Tensor | None, dtype: torch.dtype) -> Tensor:
    """``table[index] * base``, differentiable with respect to the table.

    Args:
        table: Floats ``[T]``.
        index: Integers ``[E]``.
        base: Floats ``[E]`` of the table's type; None: 1.
        dtype: The result's type.

    Returns:
        ``[E]``.
    """
    if table.device.type == "cpu" and len(index) > BLOCK and base is not None and called_plainly():
        return _Spread.apply(table, index, base, dtype)
    values = table.index_select(0, index)
    return (values if base is None else values * base).to(dtype)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, base: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(index, base)
        ctx.table = len(table)
        return table.index_select(0, index).mul_(base).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        index, base = ctx.saved_tensors
        grad_table = torch.zeros(ctx.table, dtype=base.dtype)
        if torch.is_grad_enabled():  # the gradient may be differentiated again
            return grad_table.index_add(0, index, grad * base), None, None, None
        for part, i, b in zip(grad.split(BLOCK), index.split(BLOCK), base.split(BLOCK), strict=True):
            grad_table.index_add_(0, i, part * b)
        return grad_table, None, None, None
