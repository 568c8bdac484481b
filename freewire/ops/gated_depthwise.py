# SPDX-License-Identifier: MIT
"""A gated sum and the depthwise convolution that reads it, as one differentiable call on the CPU.

`gated_depthwise` reads feature maps of one shape in channels_last and returns one more; `can_fuse` returns whether it
may replace the two calls. The schemas are in csrc/library.cpp. The kernel computes the sum row by row, where the
convolution reads it, forward and backward, so neither the sum nor its gradient is ever written to memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from freewire.ops import library  # noqa: F401 (loading it registers the operators)
from freewire.ops.autograd import (
    forward_mode_active,
    gradients,
    program_is_recorded,
    requires_gradient,
    transforms_active,
)
from freewire.ops.dtypes import DTYPES, compute_dtype
from freewire.ops.fake import check_devices, empty_gradient
from freewire.ops.gated_sum import plain_gated_sum, with_strides_of

__all__ = ["can_fuse", "gated_depthwise", "is_changed"]

_forward = torch.ops.freewire.gated_depthwise.default
_backward = torch.ops.freewire.gated_depthwise_backward.default
_TAPS = 9


@torch.library.register_fake("freewire::gated_depthwise")
def _forward_fake(xs: Sequence[Tensor], weight: Tensor, relu: bool, kernel: Tensor) -> Tensor:
    check_devices(xs=xs[0], weight=weight, kernel=kernel)
    return torch.empty_like(xs[0])


@torch.library.register_fake("freewire::gated_depthwise_backward")
def _backward_fake(
    grad_y: Tensor,
    xs: Sequence[Tensor],
    weight: Tensor,
    relu: bool,
    kernel: Tensor,
    need_weight: bool,
    need_kernel: bool,
) -> tuple[list[Tensor], Tensor, Tensor]:
    return [torch.empty_like(x) for x in xs], empty_gradient(weight, need_weight), empty_gradient(kernel, need_kernel)


@register_flop_formula(torch.ops.freewire.gated_depthwise)
def _forward_flops(xs: Sequence[Any], *_: Any, **__: Any) -> int:
    """Those of the convolution; sums count for nothing, as everywhere in torch's counter."""
    return 2 * _TAPS * torch.Size(xs[0]).numel()


@register_flop_formula(torch.ops.freewire.gated_depthwise_backward)
def _backward_flops(grad_y: Any, *_: Any, **__: Any) -> int:
    return 4 * _TAPS * torch.Size(grad_y).numel()


def can_fuse(xs: Sequence[Tensor], convolution: nn.Module) -> bool:
    """Whether `gated_depthwise` may replace ``convolution(gated_sum(xs, ...))``: same values, and no hook in between.

    Args:
        xs: The tensors to be summed.
        convolution: Any module. It must be a depthwise 3x3 convolution of stride 1, without bias, hooks and
            parametrizations.
    """
    if any(type(x) is not Tensor for x in xs):  # nor what torch.fx or torch.export has in its place
        return False
    if program_is_recorded():  # it may be run with other layouts, on other devices
        return False
    if transforms_active() or torch.is_autocast_enabled("cpu"):
        return False
    if type(convolution) is not nn.Conv2d or is_changed(convolution):
        return False
    kernel, first = convolution.weight, xs[0]
    same = (first.dtype, first.device)
    return (
        first.dim() == 4
        and first.device.type == "cpu"
        and first.dtype in DTYPES
        and all(x.shape == first.shape and (x.dtype, x.device) == same for x in xs)
        and all(x.is_contiguous(memory_format=torch.channels_last) for x in xs)
        and kernel.shape == (first.shape[1], 1, 3, 3)
        and type(kernel) in (Tensor, nn.Parameter)
        and (kernel.dtype, kernel.device) == same
        and (convolution.stride, convolution.padding, convolution.dilation) == ((1, 1), (1, 1), (1, 1))
        and convolution.groups == len(kernel)
        and (convolution.bias, convolution.padding_mode) == (None, "zeros")
    )


def is_changed(module: nn.Module) -> bool:
    """Whether calling a module does more than its type's forward, or something else: hooks, another ``forward``."""
    own = vars(module)  # written for speed: a stage asks for a hundred modules in each call
    hooked = own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]
    return bool(hooked) or "forward" in own or own.get("_compiled_call_impl") is not None


class _GatedDepthwise(torch.autograd.Function):
    """(relu, weight, kernel, *xs) -> y; keeps its arguments only."""

    @staticmethod
    def forward(relu: bool, weight: Tensor, kernel: Tensor, *xs: Tensor) -> Tensor:
        return _forward(xs, weight, relu, kernel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.relu, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
        need = ctx.needs_input_grad[1:]
        run, reference = partial(_run_backward, ctx.relu, need[0], need[1]), partial(_reference, ctx.relu)
        return None, *gradients(run, reference, need, grad_y, ctx.saved_tensors, returns_list=True)


def _run_backward(
    relu: bool, need_weight: bool, need_kernel: bool, grad_y: Tensor, weight: Tensor, kernel: Tensor, *xs: Tensor
) -> tuple[Tensor, ...]:
    grad_y = with_strides_of(xs[0], grad_y)
    grad_xs, grad_weight, grad_kernel = _backward(grad_y, xs, weight, relu, kernel, need_weight, need_kernel)
    return grad_weight, grad_kernel, *grad_xs


def _reference(relu: bool, weight: Tensor, kernel: Tensor, *xs: Tensor) -> Tensor:
    return functional.conv2d(plain_gated_sum(xs, weight, relu), kernel, padding=1, groups=len(kernel))


def gated_depthwise(xs: Sequence[Tensor], weight: Tensor, relu: bool, kernel: Tensor) -> Tensor:
    """``conv2d(gated_sum(xs, weight, relu), kernel, padding=1, groups=C)``, keeping its arguments only.

    Args:
        xs: At least one tensor ``[B, C, H, W]``, for which `can_fuse` is true.
        weight: ``[len(xs)]``.
        relu: Whether a relu follows the sum.
        kernel: ``[C, 1, 3, 3]``.

    Returns:
        A tensor of the shape, type and layout of each of xs.
    """
    weight = weight.to(compute_dtype(xs[0].dtype))
    if forward_mode_active(weight, kernel, *xs):
        return _reference(relu, weight, kernel, *xs)
    if requires_gradient(weight, kernel, *xs):
        return _GatedDepthwise.apply(relu, weight, kernel, *xs)
    return _forward(xs, weight, relu, kernel)
