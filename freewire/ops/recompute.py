# SPDX-License-Identifier: MIT
"""Sums that are recomputed in the backward instead of kept for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from freewire.ops.autograd import program_is_recorded, transforms_active
from freewire.ops.gated_sum import gated_sum

__all__ = ["recompute_in_backward"]

_top_hooks = torch._C._autograd._top_saved_tensors_default_hooks
_hooks_allowed = torch._C._autograd._saved_tensors_hooks_is_enabled  # type: ignore[attr-defined]


def _place(tensor: Tensor) -> tuple[int, int | torch.SymInt]:
    """Where a tensor's values are, or would be: a fake tensor has a storage, but no address."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset()


def recompute_in_backward(
    total: Tensor, xs: Sequence[Tensor], weight: Tensor, relu: bool
) -> AbstractContextManager[object]:
    """Inside the context no operation keeps ``gated_sum(xs, weight, relu)`` for its backward, which recomputes it.

    A convolution keeps its input. A stage has as many of those as nodes, and keeps the tensors that they are sums of
    anyway. A second sum costs a few hundredths of a node's time. Saved-tensor hooks that are active already, such as
    those of activation checkpointing, are left alone, and so is a sum that has been modified in place.

    Args:
        total: The sum.
        xs: The arguments of `gated_sum` that made it.
        weight: See ``xs``.
        relu: See ``xs``.
    """
    # A tensor of torch.fx or of a transform is of no use here, nor is one without memory of its own. A fake one is as
    # good as a real one: it shows how much memory a call would use.
    plain = type(total) in (Tensor, FakeTensor) and not transforms_active() and total.device.type != "meta"
    if not plain or torch.compiler.is_compiling() or program_is_recorded() or not total.requires_grad:
        return nullcontext()
    if not _hooks_allowed() or _top_hooks(False) is not None:
        return nullcontext()
    place, kind, layout = _place(total), type(total), (total.dtype, total.shape, total.stride())
    arguments = [x.detach() for x in xs], weight.detach(), relu
    versions = [x._version for x in (*xs, weight)]

    def pack(tensor: Tensor) -> Any:
        if type(tensor) is not kind or tensor.layout != torch.strided or tensor._version != 0:
            return tensor
        same = (tensor.dtype, tensor.shape, tensor.stride()) == layout and _place(tensor) == place
        return arguments if same else tensor

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        if [x._version for x in (*arguments[0], arguments[1])] != versions:  # a detached tensor shares its counter
            raise RuntimeError(
                "backward: expected a node's inputs and edge weights to be unchanged since the forward, got one that "
                "was modified in place. Clone it first, or build the stage with recompute_sums=False."
            )
        return gated_sum(*packed)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
