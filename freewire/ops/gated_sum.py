# SPDX-License-Identifier: MIT
"""The sum in front of a node of blocks: feature maps, each times a gate, added up in one differentiable call.

`gated_sum` reads tensors of one shape and returns one more of it. The schemas are in csrc/library.cpp. Forward mode,
transforms of ``torch.func`` and derivatives of the backward run in plain torch operations. ``freewire::gated_sum``,
which programs of ``torch.export`` and ``torch.jit.trace`` call, is differentiable by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from freewire.errors import InputError
from freewire.ops import library  # loading it registers the operators
from freewire.ops.autograd import (
    below_autograd,
    forward_mode_active,
    gradients,
    program_is_recorded,
    register_autograd_kernel,
    requires_gradient,
    transforms_active,
)
from freewire.ops.dtypes import compute_dtype
from freewire.ops.fake import check_devices, empty_gradient

__all__ = ["gated_sum", "plain_gated_sum", "with_strides_of"]

_forward = torch.ops.freewire.gated_sum.default
_backward = torch.ops.freewire.gated_sum_backward.default


@torch.library.register_fake("freewire::gated_sum")
def _forward_fake(xs: Sequence[Tensor], weight: Tensor | None, relu: bool) -> Tensor:
    check_devices(xs=xs[0], weight=weight)
    return torch.empty_like(xs[0])


@torch.library.register_fake("freewire::gated_sum_backward")
def _backward_fake(
    grad_y: Tensor, xs: Sequence[Tensor], weight: Tensor | None, relu: bool, need_weight: bool
) -> tuple[list[Tensor], Tensor]:
    grad_weight = grad_y.new_empty(0) if weight is None else empty_gradient(weight, need_weight)
    return [torch.empty_like(x) for x in xs], grad_weight


def plain_gated_sum(xs: Sequence[Tensor], weight: Tensor | None = None, relu: bool = False) -> Tensor:
    """`gated_sum` in plain torch operations."""
    if weight is None:
        total = reduce(torch.add, xs) / len(xs)
    else:
        gates = torch.sigmoid(weight.to(compute_dtype(xs[0].dtype)))
        total = reduce(torch.add, (gate * x for gate, x in zip(gates, xs, strict=True)))
    return (torch.relu(total) if relu else total).to(xs[0].dtype)


class _GatedSum(torch.autograd.Function):
    """(relu, weight, *xs) -> y; keeps its arguments only."""

    @staticmethod
    def forward(relu: bool, weight: Tensor | None, *xs: Tensor) -> Tensor:
        with below_autograd():
            return _forward(xs, weight, relu)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.relu, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
        tensors, need = ctx.saved_tensors, ctx.needs_input_grad[1:]  # saved tensors may be unpacked only once
        gated = tensors[0] is not None
        if not gated:
            tensors, need = tensors[1:], need[1:]
        run, reference = partial(_run_backward, ctx.relu, gated, need[0]), partial(_reference, ctx.relu, gated)
        found = gradients(run, reference, need, grad_y, tensors, returns_list=True)
        return None, *(() if gated else (None,)), *found


def _run_backward(relu: bool, gated: bool, need_weight: bool, grad_y: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the weight, if ``gated``, and of xs."""
    weight, xs = (tensors[0], tensors[1:]) if gated else (None, tensors)
    grad_xs, grad_weight = _backward(with_strides_of(xs[0], grad_y), xs, weight, relu, gated and need_weight)
    return (grad_weight, *grad_xs) if gated else tuple(grad_xs)


def _reference(relu: bool, gated: bool, *tensors: Tensor) -> Tensor:
    return plain_gated_sum(tensors[1:], tensors[0], relu) if gated else plain_gated_sum(tensors, None, relu)


def with_strides_of(like: Tensor, x: Tensor) -> Tensor:
    """x, copied where its strides are not those of ``like``, a tensor of its shape without gaps in memory."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def _is_dense(x: Tensor) -> bool:
    if x.is_contiguous():
        return True
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()])


def _promoted(xs: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one shape and device, promoted to a common type."""
    first = xs[0]
    for x in xs[1:]:
        if x.shape != first.shape:
            raise InputError(
                f"xs: expected tensors of one shape, got {list(first.shape)} and {list(x.shape)}. Give all nodes the "
                "same number of channels, and a stride only to those that receive the stage's input."
            )
        if x.device != first.device:
            raise InputError(
                f"xs: expected tensors on one device, got {first.device} and {x.device}. Move them to one."
            )
    dtype = reduce(torch.promote_types, (x.dtype for x in xs))
    # Not x.to() of the same type: torch.export would record a check of the type, which autocast may change.
    return [x if x.dtype == dtype else x.to(dtype) for x in xs]


def _aligned(xs: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of equal strides without gaps: those of the first one, where it has no gaps."""
    first = xs[0] if _is_dense(xs[0]) else xs[0].contiguous()
    return [first, *(with_strides_of(first, x) for x in xs[1:])]


def gated_sum(xs: Sequence[Tensor], weight: Tensor | None = None, relu: bool = False) -> Tensor:
    """Sum tensors, each times the sigmoid of its weight: one pass over memory, forward and backward.

    The aggregation of a node in Xie et al. (2019), with the relu that follows it. Only the arguments are kept for the
    backward. Sums are float32 where 16 bits store the tensors.

    Args:
        xs: At least one tensor; all of one shape, any layout. Types are promoted to a common one. Layouts become that
            of the first tensor, by a copy if need be.
        weight: ``[len(xs)]``, or None for the mean.
        relu: Whether a relu follows the sum.

    Returns:
        A tensor of the first one's shape and layout.

    Raises:
        InputError: No tensors; tensors of several shapes or devices; another number of weights than tensors.

    Example:
        >>> import torch
        >>> from freewire.models import gated_sum
        >>> gated_sum([torch.tensor([2.0, -4.0]), torch.tensor([4.0, 2.0])], torch.zeros(2), relu=True)
        tensor([3., 0.])
    """
    if isinstance(xs, Tensor):
        raise InputError("xs: expected a list of tensors, got one tensor. Put it into a list, or use unbind().")
    if not xs:
        raise InputError("xs: expected at least one tensor, got none. Skip the call where there is nothing to add.")
    tensors = _promoted(xs)
    if weight is not None:
        if weight.shape != (len(xs),):
            raise InputError(
                f"weight: expected shape [{len(xs)}], one number per tensor, got {list(weight.shape)}. Give each "
                "tensor its weight."
            )
        weight = weight.to(compute_dtype(tensors[0].dtype))
    if transforms_active() or forward_mode_active(weight, *tensors):
        return plain_gated_sum(tensors, weight, relu)
    tensors = _aligned(tensors)
    if program_is_recorded():
        return _forward(tensors, weight, relu)
    if tensors[0].is_cuda and not torch.compiler.is_compiling():
        library.load_cuda()
    return _differentiable(tensors, weight, relu)


def _differentiable(xs: Sequence[Tensor], weight: Tensor | None, relu: bool) -> Tensor:
    if requires_gradient(weight, *xs):
        return _GatedSum.apply(relu, weight, *xs)
    with below_autograd():
        return _forward(xs, weight, relu)


def _run_recorded(xs: Sequence[Tensor], weight: Tensor | None, relu: bool) -> Tensor:
    """``freewire::gated_sum``, in a program that is run or recorded once more."""
    if transforms_active() or forward_mode_active(weight, *xs):
        return plain_gated_sum(xs, weight, relu)
    return _differentiable(xs, weight, relu)


def _cast(_: torch.dtype, xs: Sequence[Tensor], weight: Tensor | None, relu: bool) -> tuple[Any, ...]:
    """Autocast changes the types of what is summed; sums are not cast to another type."""
    return _promoted(xs), weight, relu


register_autograd_kernel("gated_sum", _run_recorded, _cast)
