# SPDX-License-Identifier: MIT
"""The operators of recurrent networks as torch sees them: fake kernels and autograd.

`run_sequence` is a whole sequence as one differentiable call: it takes x, the states, the parameters of a step and its
packed plan, and returns the results of all steps and the last states. The schemas are in csrc/library.cpp. Inside
``torch.func`` and forward mode, and for derivatives of the backward, it runs in plain torch operations. A program that
``torch.export`` or ``torch.jit.trace`` makes calls ``freewire::recurrent``, which is differentiable by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

import freewire.ops.library  # noqa: F401 (loading it registers the operators)
from freewire._native.planner import planner
from freewire.ops.autograd import (
    below_autograd,
    forward_mode_active,
    gradients,
    launch_header,
    program_is_recorded,
    register_autograd_kernel,
    requires_gradient,
    transforms_active,
)
from freewire.ops.dtypes import autocast, compute_dtype
from freewire.ops.eager import eager
from freewire.ops.fake import check_devices, empty_gradient
from freewire.ops.network_reference import Wiring, node_values, plan_words
from freewire.plan.packed import PackedPlan

__all__ = ["run_sequence", "sequence_reference"]

_PADDING = planner.padded_batch(1)

_sequence = torch.ops.freewire.sequence.default
_backward = torch.ops.freewire.sequence_backward.default
_recorded = torch.ops.freewire.recurrent.default


@torch.library.register_fake("freewire::sequence")
def _sequence_fake(
    x: Tensor,
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plan: Tensor,
    header: Sequence[int] | None,
    num_results: int,
    tape_rows: int,
    every: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    check_devices(x=x, states=states, weight=weight, bias=bias, plan=plan)
    steps, batch = x.shape[:2]
    padded = _few_columns(batch) if header is None else (batch + _PADDING - 1) // _PADDING * _PADDING  # as on a CPU
    rows = (steps + every - 1) // every * states.shape[1] if every else steps * tape_rows
    return (
        x.new_empty(steps, batch, num_results),
        x.new_empty(batch, states.shape[1]),
        x.new_empty(rows * padded if keep else 0),
    )


def _few_columns(batch: Any) -> Any:
    """`few_columns` of csrc/allocations.h, without a condition on the batch, which may be symbolic."""
    fours, sixteens = (batch + 3) // 4 * 4, (batch + 15) // 16 * 16
    one, many = torch.sym_min(batch, 1) - torch.sym_min(batch // 2, 1), torch.sym_min(batch // 9, 1)
    return fours - 3 * one + (sixteens - fours) * many


@torch.library.register_fake("freewire::sequence_backward")
def _backward_fake(
    grad_y: Tensor,
    grad_last: Tensor,
    kept: Tensor,
    x: Tensor,
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plan: Tensor,
    header: Sequence[int] | None,
    every: int,
    need_x: bool,
    need_states: bool,
    need_parameters: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_devices(
        grad_y=grad_y, grad_last=grad_last, kept=kept, x=x, states=states, weight=weight, bias=bias, plan=plan
    )
    return (
        empty_gradient(x, need_x),
        empty_gradient(states, need_states),
        empty_gradient(weight, need_parameters),
        weight.new_empty(0) if bias is None else empty_gradient(bias, need_parameters),
    )


@torch.library.register_fake("freewire::recurrent")
def _recurrent_fake(*arguments: Any) -> tuple[Tensor, Tensor]:
    return _sequence_fake(*arguments, False)[:2]


@register_flop_formula([torch.ops.freewire.sequence, torch.ops.freewire.recurrent])
def _forward_flops(x: Sequence[int], states: Any, weight: Sequence[int], *_: Any, **__: Any) -> int:
    """A multiplication and an addition per edge, step and sample, as `freewire.ops.network` counts."""
    return 2 * x[0] * x[1] * weight[0]


@register_flop_formula(torch.ops.freewire.sequence_backward)
def _backward_flops(
    grad_y: Sequence[int], grad_last: Any, kept: Any, x: Any, states: Any, weight: Sequence[int], *_: Any, **__: Any
) -> int:
    return 4 * grad_y[0] * grad_y[1] * weight[0]


class _Sequence(torch.autograd.Function):
    """(x, states, weight, bias) -> (y, last states)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None, *call: Any
    ) -> tuple[Tensor, Tensor]:
        y, last, kept = _sequence(x, states, weight, bias, *call, True)
        ctx.call = call[1:]
        ctx.save_for_backward(x, states, weight, bias, call[0], kept)
        return y, last

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Any, ...]:
        x, states, weight, bias, packed_plan, kept = ctx.saved_tensors
        primals = (x, states, weight) if bias is None else (x, states, weight, bias)
        need = list(ctx.needs_input_grad[: len(primals)])
        need[2] = need[2] and weight.shape[0] > 0  # FSDP cannot divide an empty gradient; None it passes over
        header, num_results, _, every = ctx.call
        plain = not torch.is_grad_enabled() and not transforms_active()
        if torch.compiler.is_dynamo_compiling() or plain:
            wanted = need[0], need[1], any(need[2:])
            all_found = _backward(grad_y, grad_last, kept, x, states, weight, bias, packed_plan, header, every, *wanted)
            found = [grad if needed else None for grad, needed in zip(all_found, need, strict=False)]
        else:
            # Both results as one vector, for what takes derivatives of the backward.
            whole = torch.cat((grad_y.flatten(), grad_last.flatten()))
            backward = partial(_run_backward, tuple(need), header, every, grad_y.shape)
            reference = partial(_reference, num_results)
            found = gradients(backward, reference, need, whole, (*primals, packed_plan), (kept,))
        return *found, *(None,) * (9 - len(found))


def _run_backward(
    need: tuple[bool, ...],
    header: Sequence[int] | None,
    every: int,
    shape: torch.Size,
    whole: Tensor,
    x: Tensor,
    states: Tensor,
    weight: Tensor,
    *others: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients of x, states, weight and, where there is one, bias; ``others``: bias if any, packed plan, kept."""
    *biases, packed_plan, kept = others
    bias = biases[0] if biases else None
    grad_y, grad_last = whole.split((shape.numel(), states.numel()))
    wanted = need[0], need[1], any(need[2:])
    found = _backward(
        grad_y.view(shape),
        grad_last.view_as(states),
        kept,
        x,
        states,
        weight,
        bias,
        packed_plan,
        header,
        every,
        *wanted,
    )
    return found if biases else found[:3]


def _reference(num_results: int, x: Tensor, states: Tensor, weight: Tensor, *others: Tensor) -> Tensor:
    """Both results as one vector, in plain torch operations; ``others``: bias if there is one, packed plan."""
    *biases, packed_plan = others
    y, last = sequence_reference(packed_plan, num_results)(x, states, weight, *biases)
    return torch.cat((y.flatten(), last.flatten()))


@eager  # it reads the plan with numpy
def sequence_reference(packed_plan: Tensor, num_results: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """A recurrent network in plain torch operations: ``(x, states, weight, bias=None)`` to y and the last states.

    As in the kernels, sums are float32 where 16 bits store the numbers, and every node's value is rounded.
    """
    words = plan_words(packed_plan)
    if words is None:
        return partial(_shapes_only, num_results)
    wiring, outputs = Wiring.of_plan(words)
    sources = PackedPlan(words).sections["state_source"]

    def run(x: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        wide = compute_dtype(x.dtype)
        rows = [torch.as_tensor(row, dtype=torch.int64, device=x.device) for row in (outputs[:num_results], sources)]
        biases = None if bias is None else bias.to(wide)
        now, weights, ys = states.to(wide), weight.to(wide), []
        for frame in x.to(wide).unbind(0):
            values = node_values(wiring, torch.cat((frame, now), 1), weights, biases, stored=x.dtype)
            ys.append(values.index_select(1, rows[0]))
            now = values.index_select(1, rows[1])
        y = torch.stack(ys) if ys else x.new_empty(0, x.shape[1], num_results)
        return y.to(x.dtype), now.to(x.dtype)

    return run


def _shapes_only(
    num_results: int, x: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Tensors of the results' shapes of which every derivative depends on every argument."""
    total = x.sum((0, 2)) + states.sum(1) + weight.sum() + (0 if bias is None else bias.sum())
    return (
        torch.sin(total)[None, :, None].repeat(x.shape[0], 1, num_results),
        torch.sin(total)[:, None].repeat(1, states.shape[1]),
    )


def run_sequence(
    x: Tensor,
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    packed_plan: Tensor,
    header: Sequence[int],
    num_results: int,
    tape_rows: int,
    every: int = 0,
) -> tuple[Tensor, Tensor]:
    """All steps of a recurrent network: one operator call, and one more in the backward.

    Args:
        x: ``[T, B, I - V]``, of a type in `freewire.ops.dtypes.DTYPES`.
        states: ``[B, V]``, before the first step.
        weight: ``[E]`` of the plan, of x's type.
        bias: ``[Plan.num_biases]``, of x's type, or None.
        packed_plan: The array of `Plan.pack` as a tensor, on x's device.
        header: `PackedPlan.header`, as a tuple.
        num_results: ``Plan.num_results``.
        tape_rows: ``Plan.tape_rows``.
        every: Keep the states before every so many steps, from which the backward runs the forward once more; 0: keep
            the values of all nodes at all steps.

    Returns:
        The results of all steps ``[T, B, num_results]``, and the states after the last ``[B, V]``.
    """
    if program_is_recorded():  # by Dynamo too, where a Function would lose its gradient
        return _recorded(x, states, weight, bias, packed_plan, header, num_results, tape_rows, every)
    transformed = transforms_active()
    if torch.compiler.is_dynamo_compiling():
        if transformed:
            raise RuntimeError(
                "freewire: expected no torch.func transform inside torch.compile(fullgraph=True), got one. "
                "Compile without fullgraph."
            )
    elif transformed or forward_mode_active(x, states, weight, bias):
        return sequence_reference(packed_plan, num_results)(x, states, weight, bias)
    return _run(x, states, weight, bias, packed_plan, header, num_results, tape_rows, every)


def _run(x: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None, *call: Any) -> tuple[Tensor, Tensor]:
    packed_plan, header, *sizes = call
    words = launch_header(x, header)
    if requires_gradient(x, states, weight, bias):
        return _Sequence.apply(x, states, weight, bias, packed_plan, words, *sizes)
    return _sequence(x, states, weight, bias, packed_plan, words, *sizes, False)[:2]


def _run_recorded(x: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None, *call: Any) -> tuple[Tensor, Tensor]:
    """``freewire::recurrent``, in a program that is run or recorded once more."""
    if transforms_active() or forward_mode_active(x, states, weight, bias):
        return sequence_reference(call[0], call[2])(x, states, weight, bias)
    if not requires_gradient(x, states, weight, bias):
        with below_autograd():
            return _recorded(x, states, weight, bias, *call)
    return _run(x, states, weight, bias, *call)


def _cast(
    target: torch.dtype, x: Tensor, states: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> tuple[Any, ...]:
    cast = [None if tensor is None else autocast(tensor, target) for tensor in (x, states, weight, bias)]
    return *cast, *rest


register_autograd_kernel("recurrent", _run_recorded, _cast)
