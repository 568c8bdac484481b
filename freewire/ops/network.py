# SPDX-License-Identifier: MIT
"""The operators of networks of neurons as torch sees them: fake kernels and autograd.

`run_packed_plan` is a whole network as one differentiable call: it takes x, the parameters and a packed plan, and
returns the outputs. The schemas are in csrc/library.cpp. Forward mode and derivatives of the backward run in the plain
torch operations of freewire/ops/network_reference.py; everything else is one operator call per pass. A program that
``torch.export`` or ``torch.jit.trace`` makes calls ``freewire::network``, which is differentiable by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

import freewire.ops.library  # noqa: F401 (loading it registers the operators)
from freewire._native.planner import planner
from freewire.ops.autograd import (
    below_autograd,
    called_plainly,
    forward_mode_active,
    gradients,
    launch_header,
    per_sample,
    program_is_recorded,
    register_autograd_kernel,
    requires_gradient,
    transforms_active,
)
from freewire.ops.dtypes import autocast
from freewire.ops.fake import check_devices, empty_gradient
from freewire.ops.network_reference import reference_of_packed_plan

__all__ = ["run_packed_plan", "run_plainly"]

_TAPE_PADDING = planner.padded_batch(1)  # samples; a number, since the fake kernels see symbolic batches

_inference = torch.ops.freewire.inference.default
_forward = torch.ops.freewire.forward.default
_backward = torch.ops.freewire.backward.default
_recorded = torch.ops.freewire.network.default


@torch.library.register_fake("freewire::forward")
def _forward_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plan: Tensor,
    header: Sequence[int] | None,
    num_outputs: int,
    tape_rows: int,
) -> tuple[Tensor, Tensor]:
    check_devices(x=x, weight=weight, bias=bias, plan=plan)
    padded = (x.shape[0] + _TAPE_PADDING - 1) // _TAPE_PADDING * _TAPE_PADDING
    if header is None:  # as on a CPU
        padded = torch.sym_min(padded, planner.few_padding * x.shape[0])
    return x.new_empty(x.shape[0], num_outputs), x.new_empty(tape_rows * padded)


@torch.library.register_fake("freewire::inference")
def _inference_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plan: Tensor,
    header: Sequence[int] | None,
    num_outputs: int,
) -> Tensor:
    check_devices(x=x, weight=weight, bias=bias, plan=plan)
    return x.new_empty(x.shape[0], num_outputs)


@torch.library.register_fake("freewire::backward")
def _backward_fake(
    grad_y: Tensor,
    tape: Tensor,
    weight: Tensor,
    plan: Tensor,
    header: Sequence[int] | None,
    num_inputs: int,
    num_biases: int,
    need_x: bool,
    need_parameters: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    check_devices(grad_y=grad_y, weight=weight, tape=tape, plan=plan)
    return (
        weight.new_empty(grad_y.shape[0] if need_x else 0, num_inputs),
        empty_gradient(weight, need_parameters),
        weight.new_empty(num_biases if need_parameters else 0),
    )


@torch.library.register_fake("freewire::network")
def _network_fake(*arguments: Any) -> Tensor:
    return _inference_fake(*arguments[:-2])


@register_flop_formula([torch.ops.freewire.inference, torch.ops.freewire.forward, torch.ops.freewire.network])
def _forward_flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """A multiplication and an addition per edge and sample; biases and activations count for nothing, as in torch."""
    return 2 * x[0] * weight[0]


@register_flop_formula(torch.ops.freewire.backward)
def _backward_flops(grad_y: Sequence[int], tape: Any, weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 4 * grad_y[0] * weight[0]


class _TransformableNetwork(torch.autograd.Function):
    """(x, weight, bias) -> (y, tape), under torch.func and Dynamo; the tape is for the backward, not differentiable."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        packed_plan: Tensor,
        header: Sequence[int] | None,
        num_outputs: int,
        tape_rows: int,
        keep_tape: bool,
    ) -> tuple[Tensor, Tensor]:
        return _forward(x, weight, bias, packed_plan, header, num_outputs, tape_rows if keep_tape else 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, weight, bias, packed_plan, header, num_outputs, tape_rows, _ = inputs
        ctx.sizes = header, num_outputs, tape_rows
        ctx.save_for_backward(x, weight, bias, packed_plan, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, _: Any) -> tuple[Any, ...]:
        return _found_gradients(ctx, grad_y)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
    ) -> tuple[Any, ...]:
        packed_plan, header, num_outputs, tape_rows, _ = rest
        # A tape cannot be split by sample, so none is kept and the backward makes its own.
        if in_dims[1] is None and in_dims[2] is None:  # one network, many batches: one longer batch
            batches = x.movedim(in_dims[0], 0)
            flat = batches.flatten(0, 1)
            y, tape = _TransformableNetwork.apply(
                flat, weight, bias, packed_plan, header, num_outputs, tape_rows, False
            )
            return (y.reshape(*batches.shape[:2], num_outputs), tape), (0, None)
        ys = []
        for sample in per_sample(info.batch_size, in_dims[:3], (x, weight, bias)):
            y, tape = _TransformableNetwork.apply(*sample, packed_plan, header, num_outputs, tape_rows, False)
            ys.append(y)
        return (torch.stack(ys), tape), (0, None)


class _Network(torch.autograd.Function):
    """(x, weight, bias) -> y, in a plain call: `_TransformableNetwork` without ``setup_context``.

    For a Function that has one, torch inspects its signature and binds the arguments to it at each call, which takes
    ten times as long as the rest.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        packed_plan: Tensor,
        header: Sequence[int] | None,
        num_outputs: int,
        tape_rows: int,
        keep_tape: bool,
    ) -> Tensor:
        y, tape = _forward(x, weight, bias, packed_plan, header, num_outputs, tape_rows if keep_tape else 0)
        ctx.sizes = header, num_outputs, tape_rows
        ctx.save_for_backward(x, weight, bias, packed_plan, tape)
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None) -> tuple[Any, ...]:
        return _found_gradients(ctx, grad_y)


def _found_gradients(ctx: Any, grad_y: Tensor | None) -> tuple[Any, ...]:
    """What the backward of both Functions returns, one value for each argument."""
    if grad_y is None:
        return (None,) * 8
    x, weight, bias, packed_plan, tape = ctx.saved_tensors
    primals = (x, weight) if bias is None else (x, weight, bias)
    need = list(ctx.needs_input_grad[: len(primals)])
    need[1] = need[1] and weight.shape[0] > 0  # FSDP cannot divide an empty gradient; None it passes over
    backward = partial(_run_backward, need[0], any(need[1:]), *ctx.sizes)
    reference = partial(_reference, ctx.sizes[1])
    found = gradients(backward, reference, need, grad_y, (*primals, packed_plan), (tape,))
    return *found, *(None,) * (8 - len(found))


def _run_backward(
    need_x: bool,
    need_parameters: bool,
    header: Sequence[int] | None,
    num_outputs: int,
    tape_rows: int,
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    *others: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients of x, weight and, where there is one, bias; ``others``: bias if any, packed plan, tape."""
    *biases, packed_plan, tape = others
    bias = biases[0] if biases else None
    if tape.shape[0] == 0 and tape_rows:  # checkpointed, or mapped: run the forward once more
        tape = _forward(x, weight, bias, packed_plan, header, num_outputs, tape_rows)[1]  # y is freed at once
    num_biases = 0 if bias is None else bias.shape[0]
    found = _backward(grad_y, tape, weight, packed_plan, header, x.shape[1], num_biases, need_x, need_parameters)
    return found if biases else found[:2]


def _reference(num_outputs: int, x: Tensor, weight: Tensor, *others: Tensor) -> Tensor:
    """The outputs in plain torch operations; ``others``: bias if there is one, packed plan."""
    *biases, packed_plan = others
    return reference_of_packed_plan(packed_plan, num_outputs)(x, weight, *biases)


def run_packed_plan(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    packed_plan: Tensor,
    header: Sequence[int],
    num_outputs: int,
    tape_rows: int,
    checkpoint: bool = False,
) -> Tensor:
    """The network's outputs, ``[B, O]``: one operator call, and one more in the backward.

    Args:
        x: ``[B, I]``, of a type in `freewire.ops.dtypes.DTYPES`.
        weight: ``[E]``, of x's type.
        bias: ``[computed nodes]``, of x's type, or None.
        packed_plan: The array of `Plan.pack` as a tensor, on x's device.
        header: `PackedPlan.header`, as a tuple.
        num_outputs: ``Plan.num_outputs``.
        tape_rows: ``Plan.tape_rows``.
        checkpoint: Keep no tape; the backward runs the forward once more.
    """
    if called_plainly():
        return run_plainly(x, weight, bias, packed_plan, header, num_outputs, tape_rows, checkpoint)
    if program_is_recorded():
        return _recorded(x, weight, bias, packed_plan, header, num_outputs, tape_rows, checkpoint)
    transformed = transforms_active()
    if torch.compiler.is_dynamo_compiling():
        if transformed:
            # Dynamo would lose the Function's gradient here, in silence. Where it may, it answers an exception by
            # running the whole frame eagerly, which is right; with fullgraph=True the caller reads this message.
            raise RuntimeError(
                "freewire: expected no torch.func transform inside torch.compile(fullgraph=True), got one. "
                "Compile without fullgraph."
            )
    elif forward_mode_active(x, weight, bias):
        return reference_of_packed_plan(packed_plan, num_outputs)(x, weight, bias)
    words = launch_header(x, header)
    if not transformed and not requires_gradient(x, weight, bias):
        return _inference(x, weight, bias, packed_plan, words, num_outputs)
    return _TransformableNetwork.apply(x, weight, bias, packed_plan, words, num_outputs, tape_rows, not checkpoint)[0]


def run_plainly(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    packed_plan: Tensor,
    header: Sequence[int],
    num_outputs: int,
    tape_rows: int,
    checkpoint: bool,
) -> Tensor:
    """`run_packed_plan` for a caller that knows that it is `called_plainly`."""
    words = launch_header(x, header)
    if requires_gradient(x, weight, bias):
        return _Network.apply(x, weight, bias, packed_plan, words, num_outputs, tape_rows, not checkpoint)
    return _inference(x, weight, bias, packed_plan, words, num_outputs)


def _run_recorded(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    packed_plan: Tensor,
    header: Sequence[int],
    num_outputs: int,
    tape_rows: int,
    checkpoint: bool,
) -> Tensor:
    """``freewire::network``, in a program that is run or recorded once more."""
    if forward_mode_active(x, weight, bias):
        return reference_of_packed_plan(packed_plan, num_outputs)(x, weight, bias)
    if not transforms_active() and not requires_gradient(x, weight, bias):
        with below_autograd():
            return _recorded(x, weight, bias, packed_plan, header, num_outputs, tape_rows, checkpoint)
    words = launch_header(x, header)
    return _TransformableNetwork.apply(x, weight, bias, packed_plan, words, num_outputs, tape_rows, not checkpoint)[0]


def _cast(target: torch.dtype, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Any, ...]:
    return autocast(x, target), autocast(weight, target), None if bias is None else autocast(bias, target), *rest


register_autograd_kernel("network", _run_recorded, _cast)
