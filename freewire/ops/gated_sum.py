# SPDX-License-Identifier: MIT
"""A node of blocks: what it hears, weighted and summed, as one differentiable call.

Enters: feature maps of one shape. Leaves: `gated_sum`. The schemas stand in csrc/library.cpp. As in `ops`, autograd is
done here and not by ``register_autograd``, and what torch asks beyond a forward and a backward (derivatives of the
backward, forward mode, transforms of ``torch.func``) runs in plain torch operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad

from freewire.errors import InputError
from freewire.ops import library  # loading it registers the operators

__all__ = ["computed_in", "gated_sum", "heard_again", "laid_out_as", "plain_gated_sum"]

_top_hooks = torch._C._autograd._top_saved_tensors_default_hooks
_hooks_allowed = torch._C._autograd._saved_tensors_hooks_is_enabled  # type: ignore[attr-defined]
_forward = torch.ops.freewire.gated_sum.default
_backward = torch.ops.freewire.gated_sum_backward.default


@torch.library.register_fake("freewire::gated_sum")
def _forward_fake(xs: Sequence[Tensor], weight: Tensor | None, relu: bool) -> Tensor:
    return torch.empty_like(xs[0])


@torch.library.register_fake("freewire::gated_sum_backward")
def _backward_fake(
    grad_y: Tensor, xs: Sequence[Tensor], weight: Tensor | None, relu: bool, need_weight: bool
) -> tuple[list[Tensor], Tensor]:
    like = grad_y if weight is None else weight
    return [torch.empty_like(x) for x in xs], like.new_empty(len(xs) if need_weight else 0)


def plain_gated_sum(xs: Sequence[Tensor], weight: Tensor | None = None, relu: bool = False) -> Tensor:
    """`gated_sum` in plain torch operations: what it is tested against."""
    if weight is None:
        total = reduce(torch.add, xs) / len(xs)
    else:
        gates = torch.sigmoid(weight.to(computed_in(xs[0].dtype)))
        total = reduce(torch.add, (gate * x for gate, x in zip(gates, xs, strict=True)))
    return (torch.relu(total) if relu else total).to(xs[0].dtype)


class _GatedSum(torch.autograd.Function):
    """(weight, relu, *xs) -> y; keeps nothing but its inputs."""

    @staticmethod
    def forward(weight: Tensor | None, relu: bool, *xs: Tensor) -> Tensor:
        return _forward(xs, weight, relu)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, ctx.relu, *xs = inputs
        ctx.save_for_backward(weight, *xs)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
        weight, *xs = ctx.saved_tensors
        need_weight = ctx.needs_input_grad[0]
        # Dynamo cannot trace a Function of any number of arguments inside another, nor derivatives of a backward.
        run = _Backward.apply
        if torch.compiler.is_compiling():
            run = _Backward.forward
        elif is_legacy_batchedtensor(grad_y):  # many gradients at once: torch loops over no operator that gives a list
            run = _plain_backward
        *grad_xs, grad_weight = run(grad_y, weight, ctx.relu, need_weight, *xs)
        return grad_weight if need_weight else None, None, *grad_xs


class _Backward(torch.autograd.Function):
    """(grad_y, weight, relu, need_weight, *xs) -> (*grad_xs, grad_weight); itself differentiable, in plain torch."""

    @staticmethod
    def forward(
        grad_y: Tensor, weight: Tensor | None, relu: bool, need_weight: bool, *xs: Tensor
    ) -> tuple[Tensor, ...]:
        grad_xs, grad_weight = _backward(laid_out_as(grad_y, xs[0]), xs, weight, relu, need_weight)
        return *grad_xs, grad_weight

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        grad_y, weight, ctx.relu, ctx.need_weight, *xs = inputs
        ctx.save_for_backward(grad_y, weight, *xs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad_y, weight, *xs = ctx.saved_tensors
        count = len(xs)
        gates = () if weight is None else (weight,)

        def gradients(grad_y: Tensor, *primals: Tensor) -> tuple[Tensor, ...]:
            _, pull = torch.func.vjp(_of_leaves(count, ctx.relu), *primals)  # type: ignore[misc]
            return pull(grad_y)

        _, pull = torch.func.vjp(gradients, grad_y, *xs, *gates)  # type: ignore[misc]
        wanted = grads[:count]
        if gates:
            wanted = (*wanted, grads[count] if ctx.need_weight else torch.zeros_like(weight))
        through_grad, *through = pull(wanted)
        return through_grad, through[count] if gates else None, None, None, *through[:count]


def _plain_backward(
    grad_y: Tensor, weight: Tensor | None, relu: bool, need_weight: bool, *xs: Tensor
) -> tuple[Tensor, ...]:
    """`_Backward` in plain torch operations."""
    if relu:
        grad_y = torch.where(plain_gated_sum(xs, weight) <= 0, 0, grad_y)
    if weight is None:
        return *([grad_y / len(xs)] * len(xs)), grad_y.new_zeros(0)
    gates = weight.sigmoid()
    dots = torch.stack([(grad_y * x).to(weight.dtype).sum() for x in xs])
    return *((gate * grad_y).to(grad_y.dtype) for gate in gates), dots * gates * (1 - gates)


def _of_leaves(count: int, relu: bool) -> Callable[..., Tensor]:
    """`plain_gated_sum` of ``count`` tensors, perhaps followed by their weights."""
    return lambda *leaves: plain_gated_sum(leaves[:count], leaves[count] if len(leaves) > count else None, relu)


def computed_in(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def laid_out_as(x: Tensor, like: Tensor) -> Tensor:
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def _is_dense(x: Tensor) -> bool:
    if x.is_contiguous():
        return True
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()])


def _together(xs: Sequence[Tensor]) -> list[Tensor]:
    """One type, to which all are promoted; shapes and devices must be one already."""
    first = xs[0]
    for x in xs[1:]:
        if x.shape != first.shape:
            raise InputError(
                f"xs: expected tensors of one shape, got {list(first.shape)} and {list(x.shape)}. "
                "Give all nodes the same number of channels, and a stride to those alone that hear the stage's input."
            )
        if x.device != first.device:
            raise InputError(
                f"xs: expected tensors on one device, got {first.device} and {x.device}. Move them to one."
            )
    dtype = reduce(torch.promote_types, (x.dtype for x in xs))
    return [x.to(dtype) for x in xs]


def _alike(xs: Sequence[Tensor]) -> list[Tensor]:
    """One layout without gaps: that of the first, if it has none."""
    first = xs[0] if _is_dense(xs[0]) else xs[0].contiguous()
    return [first, *(laid_out_as(x, first) for x in xs[1:])]


def heard_again(heard: Tensor, xs: Sequence[Tensor], weight: Tensor, relu: bool) -> AbstractContextManager[object]:
    """While it lasts nobody keeps ``gated_sum(xs, weight, relu)`` for the backward: it is computed once more there.

    A convolution keeps its input, and a stage has as many of those as nodes, beside the results that they are sums of,
    which are kept anyway. A second sum costs a few hundredths of a node's time. Hooks that are in force already, those
    of activation checkpointing for one, are left alone, and so is what somebody has written to.

    Args:
        heard: The sum.
        xs: What `gated_sum` was called with.
        weight: Likewise.
        relu: Likewise.
    """
    # Neither what torch.fx or a transform has in a tensor's place, nor tensors without memory of their own.
    plain = type(heard) is Tensor and not torch._C._are_functorch_transforms_active() and heard.device.type != "meta"
    if not plain or torch.compiler.is_compiling() or not heard.requires_grad:
        return nullcontext()
    if not _hooks_allowed() or _top_hooks(False) is not None:
        return nullcontext()
    place, layout = heard.data_ptr(), (heard.dtype, heard.shape, heard.stride())
    arguments = [x.detach() for x in xs], weight.detach(), relu
    versions = [x._version for x in (*xs, weight)]

    def pack(tensor: Tensor) -> Any:
        if type(tensor) is not Tensor or tensor.layout != torch.strided or tensor._version != 0:
            return tensor
        same = (tensor.dtype, tensor.shape, tensor.stride()) == layout and tensor.data_ptr() == place
        return arguments if same else tensor

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        if [x._version for x in (*arguments[0], arguments[1])] != versions:  # detached, they count alike
            raise RuntimeError(
                "backward: expected what a node hears and the edges' weights as they were in the forward, got one that "
                "was modified in place since. Clone it first, or make the stage with recompute_sums=False."
            )
        return gated_sum(*packed)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def gated_sum(xs: Sequence[Tensor], weight: Tensor | None = None, relu: bool = False) -> Tensor:
    """Sum tensors, each times the sigmoid of its weight: one pass over memory, forward and backward.

    The aggregation of a node in Xie et al. (2019), with the relu that follows it. For the backward nothing is kept but
    the arguments. Sums are float32 where 16 bits store the tensors.

    Args:
        xs: At least one tensor; of one shape, any layout. Types are promoted to a common one, and so are layouts, to
            that of the first, if need be by a copy.
        weight: ``[len(xs)]``, or None: the mean.
        relu: Put 0 for what is less.

    Returns:
        A tensor of the first's shape and layout.

    Raises:
        InputError: No tensors, or tensors of several shapes or devices; weights of another number.

    Example:
        >>> import torch
        >>> from freewire.models import gated_sum
        >>> gated_sum([torch.tensor([2.0, -4.0]), torch.tensor([4.0, 2.0])], torch.zeros(2), relu=True)
        tensor([3., 0.])
    """
    if isinstance(xs, Tensor):
        raise InputError("xs: expected a list of tensors, got one tensor. Put it into a list, or use unbind().")
    if not xs:
        raise InputError("xs: expected at least one tensor, got none. Leave the sum out where there is nothing to add.")
    tensors = _together(xs)
    if weight is not None:
        if weight.shape != (len(xs),):
            raise InputError(
                f"weight: expected shape [{len(xs)}], a number a tensor, got {list(weight.shape)}. Give one for each."
            )
        weight = weight.to(computed_in(tensors[0].dtype))
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return plain_gated_sum(tensors, weight, relu)
    tensors = _alike(tensors)
    if tensors[0].is_cuda and not torch.compiler.is_compiling():
        library.load_cuda()
    needs = torch.is_grad_enabled() and (
        any(x.requires_grad for x in tensors) or (weight is not None and weight.requires_grad)
    )
    return _GatedSum.apply(weight, relu, *tensors) if needs else _forward(tensors, weight, relu)
