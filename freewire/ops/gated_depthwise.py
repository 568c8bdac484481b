# SPDX-License-Identifier: MIT
"""A gated sum and the depthwise convolution that hears it, as one differentiable call, on the CPU.

Enters: feature maps of one shape, channels_last. Leaves: `gated_depthwise`, and `takes`, which says what it is for. The
schemas stand in csrc/library.cpp. Why: the sum is made row by row where the convolution reads it, forward and backward,
and neither it nor its gradient is ever written to memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from freewire.ops import library  # noqa: F401 (loading it registers the operators)
from freewire.ops.gated_sum import computed_in, gated_sum, laid_out_as

__all__ = ["gated_depthwise", "is_changed", "takes"]

_forward = torch.ops.freewire.gated_depthwise.default
_backward = torch.ops.freewire.gated_depthwise_backward.default
_TAPS = 9
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@torch.library.register_fake("freewire::gated_depthwise")
def _forward_fake(xs: Sequence[Tensor], weight: Tensor, relu: bool, kernel: Tensor) -> Tensor:
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
    grad_kernel = kernel.new_empty(len(kernel) if need_kernel else 0, 1, 3, 3)
    return [torch.empty_like(x) for x in xs], weight.new_empty(len(xs) if need_weight else 0), grad_kernel


@register_flop_formula(torch.ops.freewire.gated_depthwise)
def _forward_flops(xs: Sequence[Any], *_: Any, **__: Any) -> int:
    """The convolution's; sums count for nothing, as everywhere in torch's counter."""
    return 2 * _TAPS * torch.Size(xs[0]).numel()


@register_flop_formula(torch.ops.freewire.gated_depthwise_backward)
def _backward_flops(grad_y: Any, *_: Any, **__: Any) -> int:
    return 4 * _TAPS * torch.Size(grad_y).numel()


def takes(xs: Sequence[Tensor], convolution: nn.Module) -> bool:
    """Whether `gated_depthwise` computes what ``convolution(gated_sum(xs, ...))`` would, and nobody looks between.

    Args:
        xs: What is heard.
        convolution: A depthwise one of 3x3 at stride 1, without bias, hooks and parametrisations.
    """
    if any(type(x) is not Tensor for x in xs):  # nor what torch.fx or torch.export has in its place
        return False
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if tracing or torch.compiler.is_exporting():  # what comes of it may hear other layouts, on other devices
        return False
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    if type(convolution) is not nn.Conv2d or is_changed(convolution):
        return False
    kernel, first = convolution.weight, xs[0]
    same = (first.dtype, first.device)
    return (
        first.dim() == 4
        and first.device.type == "cpu"
        and first.dtype in _DTYPES
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
    """Whether a call of a module does more than its type's forward, or something else."""
    heard = any(getattr(module, hooks) for hooks in _HOOKS)
    return heard or "forward" in vars(module) or module._compiled_call_impl is not None


class _GatedDepthwise(torch.autograd.Function):
    """(weight, relu, kernel, *xs) -> y; keeps nothing but its inputs."""

    @staticmethod
    def forward(weight: Tensor, relu: bool, kernel: Tensor, *xs: Tensor) -> Tensor:
        return _forward(xs, weight, relu, kernel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, ctx.relu, kernel, *xs = inputs
        ctx.save_for_backward(weight, kernel, *xs)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
        weight, kernel, *xs = ctx.saved_tensors
        need_weight, _, need_kernel, *_ = ctx.needs_input_grad
        if not torch.compiler.is_compiling() and (torch.is_grad_enabled() or is_legacy_batchedtensor(grad_y)):
            return _plain_backward(ctx, grad_y)  # to be differentiated again, or many gradients at once
        grad_xs, grad_weight, grad_kernel = _backward(
            laid_out_as(grad_y, xs[0]), xs, weight, ctx.relu, kernel, need_weight, need_kernel
        )
        return grad_weight if need_weight else None, None, grad_kernel if need_kernel else None, *grad_xs


def _plain_backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
    """By torch's own derivatives of the two calls."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Of these calls alone: one of xs may have been made of another one.
        weight, kernel, *xs = (tensor.view_as(tensor) for tensor in ctx.saved_tensors)
        y = functional.conv2d(gated_sum(xs, weight, ctx.relu), kernel, padding=1, groups=len(kernel))
    leaves = [x for x in (weight, kernel, *xs) if x.requires_grad]
    grads = iter(torch.autograd.grad(y, leaves, grad_y, create_graph=create_graph))
    found = [next(grads) if x.requires_grad else None for x in (weight, kernel, *xs)]
    return found[0], None, *found[1:]


def gated_depthwise(xs: Sequence[Tensor], weight: Tensor, relu: bool, kernel: Tensor) -> Tensor:
    """``conv2d(gated_sum(xs, weight, relu), kernel, padding=1, groups=C)``, of which nothing but arguments is kept.

    Args:
        xs: At least one, ``[B, C, H, W]``, as `takes` wants them.
        weight: ``[len(xs)]``.
        relu: As `gated_sum`'s.
        kernel: ``[C, 1, 3, 3]``.

    Returns:
        A tensor like each of xs.
    """
    weight = weight.to(computed_in(xs[0].dtype))
    needs = torch.is_grad_enabled() and any(x.requires_grad for x in (weight, kernel, *xs))
    return _GatedDepthwise.apply(weight, relu, kernel, *xs) if needs else _forward(xs, weight, relu, kernel)
