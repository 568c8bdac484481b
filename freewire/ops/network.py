# SPDX-License-Identifier: MIT
"""The compiled operators as torch sees them: fake kernels, autograd, vmap.

Enters: tensors and a packed plan. Leaves: `evaluate`, the whole network as one differentiable call. The schemas
stand in csrc/library.cpp. Autograd is done here and not by ``register_autograd``, which would break ``torch.func`` and
make forward-mode silently zero; where torch needs more than a forward and a backward (see `_needs_reference`) the plain
torch operations of `_reference` stand in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    get_unwrapped,
    is_functorch_wrapped_tensor,
)
from torch.autograd import forward_ad

import freewire.ops.library  # noqa: F401 (loading it registers the operators)
from freewire.errors import InputError
from freewire.ops import reference

__all__ = ["evaluate"]

_TAPE_PADDING = 64  # samples; kTapePadding in csrc/checks.h

_forward = torch.ops.freewire.forward.default
_backward = torch.ops.freewire.backward.default


def _check_together(x: Tensor, **others: Tensor | None) -> None:
    # One tensor on `meta` is enough to bring a call here, and what a fake kernel makes would be taken for results.
    for name, tensor in others.items():
        if tensor is not None and tensor.device != x.device:
            raise InputError(
                f"{name}: expected device {x.device}, x's, got {tensor.device}. Move the network as a whole."
            )


@torch.library.register_fake("freewire::forward")
def _forward_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plan: Tensor,
    header: Sequence[int],
    num_outputs: int,
    tape_rows: int,
) -> tuple[Tensor, Tensor]:
    _check_together(x, weight=weight, bias=bias, plan=plan)
    padded = (x.shape[0] + _TAPE_PADDING - 1) // _TAPE_PADDING * _TAPE_PADDING
    return x.new_empty(x.shape[0], num_outputs), x.new_empty(tape_rows * padded)


@torch.library.register_fake("freewire::backward")
def _backward_fake(
    grad_y: Tensor,
    tape: Tensor,
    weight: Tensor,
    plan: Tensor,
    header: Sequence[int],
    num_inputs: int,
    num_biases: int,
    need_x: bool,
    need_parameters: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    _check_together(grad_y, weight=weight, tape=tape, plan=plan)
    return (
        weight.new_empty(grad_y.shape[0] if need_x else 0, num_inputs),
        weight.new_empty(weight.shape[0] if need_parameters else 0),
        weight.new_empty(num_biases if need_parameters else 0),
    )


class _Forward(torch.autograd.Function):
    """(x, weight, bias) -> (y, tape); the tape is the backward's, not differentiable."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        plan: Tensor,
        header: Sequence[int],
        num_outputs: int,
        tape_rows: int,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        return _forward(x, weight, bias, plan, header, num_outputs, tape_rows if keep else 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, weight, bias, plan, ctx.header, ctx.num_outputs, ctx.tape_rows, _ = inputs
        ctx.save_for_backward(x, weight, bias, plan, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, _: Any) -> tuple[Any, ...]:
        if grad_y is None:
            return (None,) * 8
        x, weight, bias, plan, tape = ctx.saved_tensors
        need_x = ctx.needs_input_grad[0]
        need_parameters = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        grad_x, grad_weight, grad_bias = _Backward.apply(
            grad_y, x, weight, bias, plan, ctx.header, tape, ctx.num_outputs, ctx.tape_rows, need_x, need_parameters
        )
        return (
            grad_x if need_x else None,
            grad_weight if ctx.needs_input_grad[1] else None,
            grad_bias if ctx.needs_input_grad[2] else None,
            *(None,) * 5,
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
    ) -> tuple[Any, ...]:
        plan, header, num_outputs, tape_rows, _ = rest
        # A tape cannot be split by sample, so none is kept and the backward makes its own.
        if in_dims[1] is None and in_dims[2] is None:  # one network, many batches: one longer batch
            batches = x.movedim(in_dims[0], 0)
            y, tape = _Forward.apply(batches.flatten(0, 1), weight, bias, plan, header, num_outputs, tape_rows, False)
            return (y.reshape(*batches.shape[:2], num_outputs), tape), (0, None)
        ys = []
        for one in _unbind(info.batch_size, in_dims[:3], (x, weight, bias)):
            y, tape = _Forward.apply(*one, plan, header, num_outputs, tape_rows, False)
            ys.append(y)
        return (torch.stack(ys), tape), (0, None)


class _Backward(torch.autograd.Function):
    """(grad_y, x, weight, bias) -> (grad_x, grad_weight, grad_bias); itself differentiable, through the reference."""

    @staticmethod
    def forward(
        grad_y: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        plan: Tensor,
        header: Sequence[int],
        tape: Tensor,
        num_outputs: int,
        tape_rows: int,
        need_x: bool,
        need_parameters: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if tape.shape[0] == 0 and tape_rows:  # checkpointed, or mapped: run the forward once more
            tape = _forward(x, weight, bias, plan, header, num_outputs, tape_rows)[1]  # y is freed at once
        num_biases = 0 if bias is None else bias.shape[0]
        return _backward(grad_y, tape, weight, plan, header, x.shape[1], num_biases, need_x, need_parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        grad_y, x, weight, bias, plan, _, _, _, _, ctx.need_x, ctx.need_parameters = inputs
        ctx.save_for_backward(grad_y, x, weight, bias, plan)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad_y, x, weight, bias, plan = ctx.saved_tensors
        run = _reference_of(plan)
        parameters = (x, weight) if bias is None else (x, weight, bias)
        need = (ctx.need_x, ctx.need_parameters, ctx.need_parameters)

        def gradients(grad_y: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
            _, pull = torch.func.vjp(run, *parameters)  # type: ignore[misc]
            return tuple(g for g, wanted in zip(pull(grad_y), need, strict=False) if wanted)

        _, pull = torch.func.vjp(gradients, grad_y, *parameters)  # type: ignore[misc]
        wanted = tuple(g for g, n in zip(grads[: len(parameters)], need, strict=False) if n)
        through = pull(wanted)
        return (*through, *(None,) * (11 - len(through)))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, ...]:
        outputs: list[Any] = [_Backward.apply(*one) for one in _unbind(info.batch_size, in_dims, arguments)]
        return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True)), (0, 0, 0)


def _unbind(size: int, dims: tuple[Any, ...], arguments: tuple[Any, ...]) -> list[list[Any]]:
    """Each mapped sample's arguments."""
    return [
        [a.select(dim, i) if isinstance(dim, int) else a for a, dim in zip(arguments, dims, strict=True)]
        for i in range(size)
    ]


@torch.compiler.disable  # it reads the plan with numpy
def _reference_of(plan: Tensor) -> Callable[..., Tensor]:
    """The network of a packed plan in plain torch operations: (x, weight, bias=None) -> y."""
    while is_functorch_wrapped_tensor(plan):
        plan = get_unwrapped(plan)
    with torch._C._DisableFuncTorch():  # inside a transform even .cpu() gives a wrapped tensor, which has no memory
        wiring, outputs = reference.Wiring.of_plan(plan.cpu().numpy())

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        # As in the kernels: where 16 bits store the numbers sums are float32, and every node's value is rounded.
        wide = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        biases = None if bias is None else bias.to(wide)
        values = reference.evaluate(wiring, x.to(wide), weight.to(wide), biases, stored=x.dtype)
        return values.index_select(1, torch.as_tensor(outputs, device=x.device)).to(x.dtype)

    return run


@torch.compiler.disable  # Dynamo does not know the interpreter stack
def _mapped_forward() -> bool:
    """Whether a torch.func transform takes forward-mode derivatives (jvp, jacfwd, ...)."""
    return any(level.key() == TransformType.Jvp for level in get_interpreter_stack() or ())


def _needs_reference() -> bool:
    """Whether forward-mode derivatives are being taken, which a Function without jvp cannot carry."""
    return forward_ad._current_level >= 0 or (torch._C._are_functorch_transforms_active() and _mapped_forward())


def evaluate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plan: Tensor,
    header: Sequence[int],
    num_outputs: int,
    tape_rows: int,
    checkpoint: bool = False,
) -> Tensor:
    """The network's outputs, ``[B, O]``: one operator call, and one more in the backward.

    Args:
        x: ``[B, I]``, float32, float64, bfloat16 or float16.
        weight: ``[E]``, x's type.
        bias: ``[computed nodes]``, x's type, or None.
        plan: `Plan.pack`'s array as a tensor, on x's device.
        header: `plan_header` of it where x is on a GPU, else empty.
        num_outputs: ``Plan.num_outputs``.
        tape_rows: ``Plan.tape_rows``.
        checkpoint: Keep no tape; the backward runs the forward once more.
    """
    transformed = torch._C._are_functorch_transforms_active()
    if torch.compiler.is_compiling():
        if transformed:
            # Dynamo would lose the Function's gradient here, in silence. Where it may, it answers a raise by running
            # the whole frame eagerly, which is right; with fullgraph=True the caller reads this.
            raise RuntimeError(
                "freewire: expected no torch.func transform inside torch.compile(fullgraph=True), got one. "
                "Compile without fullgraph."
            )
    elif _needs_reference():
        return _reference_of(plan)(x, weight, bias)
    wants_gradient = torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    )
    if not wants_gradient and not transformed:  # a Function costs more than a small network, and keeps a tape
        return _forward(x, weight, bias, plan, header, num_outputs, 0)[0]
    return _Forward.apply(x, weight, bias, plan, header, num_outputs, tape_rows, not checkpoint)[0]
