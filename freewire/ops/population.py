# SPDX-License-Identifier: MIT
"""The operators of populations as torch sees them: fake kernels and autograd.

`run_population` is all members of a population as one differentiable call: it takes x, the parameters of all members
one after the other, and their packed plans. The schemas are in csrc/library.cpp. Inside ``torch.func`` and forward
mode, and for derivatives of the backward, the members run one after the other in plain torch operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

import freewire.ops.library  # noqa: F401 (loading it registers the operators)
from freewire._native.planner import planner
from freewire.ops.autograd import forward_mode_active, gradients, requires_gradient, transforms_active
from freewire.ops.fake import check_devices, empty_gradient
from freewire.ops.network_reference import reference_of_members

__all__ = ["PackedMembers", "run_population"]

_PADDING = planner.padded_batch(1)

_inference = torch.ops.freewire.population_inference.default
_forward = torch.ops.freewire.population_forward.default
_backward = torch.ops.freewire.population_backward.default


class PackedMembers(NamedTuple):
    """The plans of a population's members as the kernels receive them."""

    #: Packed plans, each as `Plan.pack` makes it, anywhere in one vector, int64, on the parameters' device.
    plans: Tensor
    #: First word, first weight, first bias and first tape row of each member, int64 [P, 4], on the same device.
    table: Tensor
    #: P, the tape rows of all members, the largest of each size of csrc/plan_layout.h, the edges and biases of all.
    limits: tuple[int, ...]
    num_inputs: int
    num_outputs: int


@torch.library.register_fake("freewire::population_inference")
def _inference_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plans: Tensor,
    table: Tensor,
    limits: Sequence[int],
    num_outputs: int,
) -> Tensor:
    check_devices(x=x, weight=weight, bias=bias, plans=plans, table=table)
    return x.new_empty(table.shape[0], x.shape[1], num_outputs)


@torch.library.register_fake("freewire::population_forward")
def _forward_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plans: Tensor,
    table: Tensor,
    limits: Sequence[int],
    num_outputs: int,
) -> tuple[Tensor, Tensor]:
    y = _inference_fake(x, weight, bias, plans, table, limits, num_outputs)
    padded = (x.shape[1] + _PADDING - 1) // _PADDING * _PADDING
    if not x.is_cuda:
        padded = torch.sym_min(padded, planner.few_padding * x.shape[1])
    return y, x.new_empty(limits[1] * padded)


@torch.library.register_fake("freewire::population_backward")
def _backward_fake(
    grad_y: Tensor,
    tape: Tensor,
    weight: Tensor,
    plans: Tensor,
    table: Tensor,
    limits: Sequence[int],
    num_inputs: int,
    num_biases: int,
    need_x: bool,
    need_parameters: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    check_devices(grad_y=grad_y, weight=weight, tape=tape, plans=plans, table=table)
    return (
        weight.new_empty(table.shape[0] if need_x else 0, grad_y.shape[1], num_inputs),
        empty_gradient(weight, need_parameters),
        weight.new_empty(num_biases if need_parameters else 0),
    )


@register_flop_formula([torch.ops.freewire.population_inference, torch.ops.freewire.population_forward])
def _forward_flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """A multiplication and an addition per edge and sample, as `freewire.ops.network` counts."""
    return 2 * x[1] * weight[0]


@register_flop_formula(torch.ops.freewire.population_backward)
def _backward_flops(grad_y: Sequence[int], tape: Any, weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 4 * grad_y[1] * weight[0]


class _Population(torch.autograd.Function):
    """(x, weight, bias) -> y; the other arguments are those of `PackedMembers`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        plans: Tensor,
        table: Tensor,
        limits: tuple[int, ...],
        num_inputs: int,
        num_outputs: int,
    ) -> Tensor:
        y, tape = _forward(x, weight, bias, plans, table, limits, num_outputs)
        ctx.sizes = limits, num_inputs, num_outputs
        ctx.save_for_backward(x, weight, bias, plans, table, tape)
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None) -> tuple[Any, ...]:
        if grad_y is None:
            return (None,) * 8
        x, weight, bias, plans, table, tape = ctx.saved_tensors
        primals = (x, weight) if bias is None else (x, weight, bias)
        need = list(ctx.needs_input_grad[: len(primals)])
        backward = partial(_run_backward, need[0], any(need[1:]), *ctx.sizes[:2])
        reference = partial(_reference, *ctx.sizes)
        found = gradients(backward, reference, need, grad_y, (*primals, plans, table), (tape,))
        return *found, *(None,) * (8 - len(found))


def _run_backward(
    need_x: bool,
    need_parameters: bool,
    limits: tuple[int, ...],
    num_inputs: int,
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    *others: Tensor,
) -> tuple[Tensor, ...]:
    """The gradients of x, weight and, where there is one, bias; ``others``: bias if any, plans, table, tape."""
    *biases, plans, table, tape = others
    num_biases = biases[0].shape[0] if biases else 0
    grad_x, grad_weight, grad_bias = _backward(
        grad_y, tape, weight, plans, table, limits, num_inputs, num_biases, need_x, need_parameters
    )
    if need_x and x.shape[0] != table.shape[0]:  # all members read the same x
        grad_x = grad_x.sum(0, keepdim=True)
    return (grad_x, grad_weight, grad_bias) if biases else (grad_x, grad_weight)


def _reference(
    limits: tuple[int, ...], num_inputs: int, num_outputs: int, x: Tensor, weight: Tensor, *others: Tensor
) -> Tensor:
    """The outputs in plain torch operations; ``others``: bias if there is one, plans, table."""
    *biases, plans, table = others
    found = reference_of_members(plans, table, num_outputs)
    if found is None:  # as many outputs that depend on every argument
        total = x.sum(-1, keepdim=True) + weight.sum() + sum(bias.sum() for bias in biases)
        return torch.sin(total).expand(limits[0], x.shape[1], num_outputs)
    x = x.expand(limits[0], *x.shape[1:])
    return torch.stack(
        [run(x[i], weight[edges], *(bias[nodes] for bias in biases)) for i, (run, edges, nodes) in enumerate(found)]
    )


def run_population(x: Tensor, weight: Tensor, bias: Tensor | None, members: PackedMembers) -> Tensor:
    """The outputs of all members, ``[P, B, O]``: one operator call, and one more in the backward.

    Args:
        x: ``[P, B, I]``, or ``[1, B, I]`` for all members.
        weight: Those of the members, one after the other, of x's type.
        bias: Likewise, or None.
        members: Their plans.
    """
    plans, table, limits, num_inputs, num_outputs = members
    if transforms_active() or forward_mode_active(x, weight, bias):
        primals = (x, weight) if bias is None else (x, weight, bias)
        return _reference(limits, num_inputs, num_outputs, *primals, plans, table)
    if requires_gradient(x, weight, bias):
        return _Population.apply(x, weight, bias, plans, table, limits, num_inputs, num_outputs)
    return _inference(x, weight, bias, plans, table, limits, num_outputs)
