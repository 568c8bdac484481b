# SPDX-License-Identifier: MIT
"""A whole stage of separable convolutions as one call on the CPU.

`stage_inference` runs a stage without a backward: feature maps stay in the cache between the nodes, and what follows a
node's convolutions, its batch norm, is folded into them. `stage` runs it with batch norms and is differentiable; it
keeps one feature map per node. The schemas are in csrc/library.cpp. Derivatives of the backward run in plain torch
operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from freewire.ops import library  # noqa: F401 (loading it registers the operators)
from freewire.ops.autograd import gradients, requires_gradient
from freewire.ops.dtypes import compute_dtype
from freewire.ops.fake import check_devices

__all__ = ["StageWiring", "stage", "stage_inference"]

_inference = torch.ops.freewire.stage_inference.default
_forward = torch.ops.freewire.stage_forward.default
_backward = torch.ops.freewire.stage_backward.default
_TAPS = 9
#: Channels of what the forward keeps are padded to a multiple of it, as in csrc/cpu/stages/stage_kernels.h.
_CHANNEL_BLOCK = 16


class StageWiring(NamedTuple):
    """A stage's edges, its nodes numbered in an order in which each follows its sources.

    Attributes:
        in_ptr: ``[N + 1]``: where the in-edges of each node begin. Nodes without any come first.
        in_src: ``[E]``: each in-edge's source.
        stride: Stride of the nodes without in-edges.
        relu: Whether a relu precedes every node.
    """

    in_ptr: list[int]
    in_src: list[int]
    stride: int
    relu: bool


def _output(x: Tensor, pointwise: Sequence[Tensor], stride: int) -> Tensor:
    """A stage's result, without values."""
    batch, _, height, width = x.shape
    size = (batch, pointwise[0].shape[0], -(-height // stride), -(-width // stride))
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@torch.library.register_fake("freewire::stage_inference")
def _inference_fake(
    x: Tensor,
    weight: Tensor,
    depthwise: Sequence[Tensor],
    pointwise: Sequence[Tensor],
    scale: Tensor | None,
    shift: Tensor,
    in_ptr: Sequence[int],
    in_src: Sequence[int],
    stride: int,
    relu: bool,
) -> Tensor:
    check_devices(x=x, weight=weight, depthwise=depthwise[0], pointwise=pointwise[0], scale=scale, shift=shift)
    return _output(x, pointwise, stride)


@torch.library.register_fake("freewire::stage_forward")
def _forward_fake(
    x: Tensor,
    weight: Tensor,
    depthwise: Sequence[Tensor],
    pointwise: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    epsilon: Sequence[float],
    mean: Tensor | None,
    variance: Tensor | None,
    in_ptr: Sequence[int],
    in_src: Sequence[int],
    stride: int,
    relu: bool,
) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    check_devices(x=x, weight=weight, depthwise=depthwise[0], pointwise=pointwise[0], gamma=gamma)
    check_devices(x=x, beta=beta, mean=mean, variance=variance)
    y = _output(x, pointwise, stride)
    batch, channels, height, width = y.shape
    padded = -(-channels // _CHANNEL_BLOCK) * _CHANNEL_BLOCK
    kept = [x.new_empty(batch, height, width, padded) for _ in pointwise]
    return y, kept, torch.empty_like(gamma), torch.empty_like(gamma)


@torch.library.register_fake("freewire::stage_backward")
def _backward_fake(
    grad_y: Tensor,
    x: Tensor,
    results: Sequence[Tensor],
    mean: Tensor,
    variance: Tensor,
    weight: Tensor,
    depthwise: Sequence[Tensor],
    pointwise: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    epsilon: Sequence[float],
    in_ptr: Sequence[int],
    in_src: Sequence[int],
    stride: int,
    relu: bool,
    batch_statistics: bool,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    of_depthwise, of_pointwise = ([torch.empty_like(k.contiguous()) for k in part] for part in (depthwise, pointwise))
    grad_x = torch.empty_like(x) if need_x else x.new_empty(0)
    grad_weight, grad_gamma, grad_beta = (torch.empty_like(each) for each in (weight, gamma, beta))
    return grad_x, grad_weight, grad_gamma, grad_beta, of_depthwise, of_pointwise


def _convolution_flops(pointwise: Sequence[Any], shape: Any) -> int:
    """Those of the convolutions; sums count for nothing, as everywhere in torch's counter."""
    batch, _, height, width = shape
    return sum(2 * batch * height * width * (_TAPS * k[1] + k[0] * k[1]) for k in pointwise)


@register_flop_formula(torch.ops.freewire.stage_inference)
def _inference_flops(x: Any, weight: Any, depthwise: Any, pointwise: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return _convolution_flops(pointwise, out_shape)


@register_flop_formula(torch.ops.freewire.stage_forward)
def _forward_flops(x: Any, weight: Any, depthwise: Any, pointwise: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return _convolution_flops(pointwise, out_shape[0])


@register_flop_formula(torch.ops.freewire.stage_backward)
def _backward_flops(
    grad_y: Any,
    x: Any,
    results: Any,
    mean: Any,
    variance: Any,
    weight: Any,
    depthwise: Any,
    pointwise: Any,
    *_: Any,
    **__: Any,
) -> int:
    return 2 * _convolution_flops(pointwise, grad_y)


def _in_channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def stage_inference(
    x: Tensor,
    weight: Tensor,
    depthwise: Sequence[Tensor],
    pointwise: Sequence[Tensor],
    scale: Tensor | None,
    shift: Tensor,
    wiring: StageWiring,
) -> Tensor:
    """Run a stage whose nodes are separable convolutions, without autograd.

    Args:
        x: Feature maps ``[B, in_channels, H, W]``, of any layout.
        weight: ``[E]`` of the edges; their gates are its sigmoid.
        depthwise: ``[channels, 1, 3, 3]`` of each node, in the type of x.
        pointwise: ``[out_channels, channels, 1, 1]`` of each node, in the type of x.
        scale: What follows a node's convolutions, ``y = scale * x + shift``: ``[N, out_channels]``, or None for 1.
        shift: ``[N, out_channels]``.
        wiring: The edges.

    Returns:
        The mean of the nodes of out-degree 0, ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``, in x's memory
        format.
    """
    wide = compute_dtype(x.dtype)
    y = _inference(
        _in_channels_last(x),
        weight.to(wide).contiguous(),
        depthwise,
        pointwise,
        None if scale is None else scale.to(wide).contiguous(),
        shift.to(wide).contiguous(),
        *wiring,
    )
    return _like(x, y)


def _like(x: Tensor, y: Tensor) -> Tensor:
    """The result in the memory format that torch's convolutions would choose for x."""
    last = x.stride(1) == 1 and (x.shape[1] > 1 or not x.is_contiguous())
    return y if last else y.contiguous()


def stage(
    x: Tensor,
    weight: Tensor,
    depthwise: Sequence[Tensor],
    pointwise: Sequence[Tensor],
    gamma: Tensor,
    beta: Tensor,
    epsilon: Sequence[float],
    statistics: tuple[Tensor, Tensor] | None,
    wiring: StageWiring,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a stage whose nodes are separable convolutions, each with a batch norm after it.

    Args:
        x: Feature maps ``[B, in_channels, H, W]``, of any layout.
        weight: ``[E]`` of the edges; their gates are its sigmoid.
        depthwise: ``[channels, 1, 3, 3]`` of each node, in the type of x.
        pointwise: ``[out_channels, channels, 1, 1]`` of each node, in the type of x.
        gamma: The norms' weights ``[N, out_channels]``. A caller who stacks them copies them, so that autograd does
            not notice where one is modified in place before the backward.
        beta: The norms' biases ``[N, out_channels]``.
        epsilon: What each norm adds to the variance.
        statistics: Mean and variance ``[N, out_channels]`` that the norms use, or None for those of the batch.
        wiring: The edges.

    Returns:
        The mean of the nodes of out-degree 0, ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``, in x's memory
        format; and the mean and the (biased) variance that were used.
    """
    wide = compute_dtype(x.dtype)
    vectors = [each.to(wide).contiguous() for each in (weight, gamma, beta)]
    tensors = (_in_channels_last(x), *vectors, *depthwise, *pointwise)
    mean, variance = (None, None) if statistics is None else (each.to(wide).contiguous() for each in statistics)
    settings = wiring, tuple(epsilon)
    if requires_gradient(*tensors):
        y, *used = _Stage.apply(*settings, mean, variance, *tensors)[:3]
    else:
        y, *used = _run_forward(*settings, mean, variance, *tensors)[:3]
    return _like(x, y), *used


def _halves(kernels: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The depthwise and the pointwise kernels."""
    return kernels[: len(kernels) // 2], kernels[len(kernels) // 2 :]


def _run_forward(
    wiring: StageWiring,
    epsilon: tuple[float, ...],
    mean: Tensor | None,
    variance: Tensor | None,
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *kernels: Tensor,
) -> tuple[Tensor, ...]:
    y, kept, *used = _forward(x, weight, *_halves(kernels), gamma, beta, list(epsilon), mean, variance, *wiring)
    return y, *used, *kept


class _Stage(torch.autograd.Function):
    """(wiring, epsilon, mean, variance, x, weight, gamma, beta, *kernels) -> y, mean, variance, what nodes keep."""

    @staticmethod
    def forward(
        wiring: StageWiring,
        epsilon: tuple[float, ...],
        mean: Tensor | None,
        variance: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        return _run_forward(wiring, epsilon, mean, variance, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.wiring, ctx.epsilon, mean, _, *tensors = inputs
        ctx.batch_statistics = mean is None
        _, *kept = output
        ctx.mark_non_differentiable(*kept)
        ctx.set_materialize_grads(False)  # or zeros would be made for what is kept
        ctx.save_for_backward(*tensors, *kept)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, *_: Any) -> tuple[Any, ...]:
        need = ctx.needs_input_grad[4:]
        if grad_y is None:
            return None, None, None, None, *(None,) * len(need)
        saved = ctx.saved_tensors
        tensors, results = saved[: len(need) + 2], saved[len(need) + 2 :]
        settings = ctx.wiring, ctx.epsilon, ctx.batch_statistics
        run, reference = partial(_run_backward, settings, need[0]), partial(_reference, settings)
        found = gradients(run, reference, need, grad_y, tensors, results, returns_list=True)
        return None, None, None, None, *found


#: wiring, epsilon, and whether the norms use the statistics of the batch
_Settings = tuple[StageWiring, tuple[float, ...], bool]


def _run_backward(settings: _Settings, need_x: bool, grad_y: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    wiring, epsilon, batch_statistics = settings
    nodes = len(epsilon)
    x, weight, gamma, beta, *kernels = tensors[: 4 + 2 * nodes]
    mean, variance, *results = tensors[4 + 2 * nodes :]
    halves = _halves(kernels)
    *found, of_depthwise, of_pointwise = _backward(
        _in_channels_last(grad_y),
        x,
        results,
        mean,
        variance,
        weight,
        *halves,
        gamma,
        beta,
        list(epsilon),
        *wiring,
        batch_statistics,
        need_x,
    )
    return *found, *of_depthwise, *of_pointwise


def _reference(settings: _Settings, *tensors: Tensor) -> Tensor:
    """Y in plain torch operations."""
    wiring, epsilon, batch_statistics = settings
    x, weight, gamma, beta, *kernels, mean, variance = tensors
    gates = torch.sigmoid(weight)
    results: list[Tensor] = []
    for node, (depthwise, pointwise) in enumerate(zip(*_halves(kernels), strict=True)):
        edges = range(wiring.in_ptr[node], wiring.in_ptr[node + 1])
        total = reduce(torch.add, [gates[edge] * results[wiring.in_src[edge]] for edge in edges]) if edges else x
        total = (torch.relu(total) if wiring.relu else total).to(x.dtype)
        stride = 1 if edges else wiring.stride
        total = functional.conv2d(functional.conv2d(total, depthwise, None, stride, 1, 1, len(depthwise)), pointwise)
        used = None if batch_statistics else mean[node], None if batch_statistics else variance[node]
        results.append(
            functional.batch_norm(total, *used, gamma[node], beta[node], batch_statistics, 0.0, epsilon[node])
        )
    sinks = [result for node, result in enumerate(results) if node not in wiring.in_src]
    return reduce(torch.add, sinks) / len(sinks)
