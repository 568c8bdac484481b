# SPDX-License-Identifier: MIT
"""Autograd that all operator families share.

A family has a forward operator, a backward operator, and a reference that computes the same in plain torch operations.
Its `torch.autograd.Function` has a ``setup_context`` and asks `gradients` for its backward. torch's own
``register_autograd`` is not used: it breaks ``torch.func`` and makes forward-mode derivatives silently zero.

- Ordinary backward, eager or compiled: one call of the backward operator.
- Derivatives of the backward: by ``torch.func.vjp`` of the reference's backward.
- ``vmap`` over a backward: one call of the operator per sample.
- Forward mode has no operator: where `forward_mode_active` or, for families without a vmap rule, `transforms_active`,
  the family runs its reference instead.
- Programs that ``torch.export`` and ``torch.jit.trace`` make call an operator without the Python around it.
  `register_autograd_kernel` lets such an operator call the family's Function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _is_any_autocast_enabled, _is_tracing
from torch._C._functorch import TransformType, get_interpreter_stack, is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from freewire.ops.eager import eager

__all__ = [
    "Reference",
    "below_autograd",
    "called_plainly",
    "forward_mode_active",
    "gradients",
    "launch_header",
    "per_sample",
    "program_is_recorded",
    "register_autograd_kernel",
    "requires_gradient",
    "transforms_active",
]

#: Computes y from a family's tensors in plain torch operations.
Reference = Callable[..., Tensor]


def requires_gradient(*tensors: Tensor | None) -> bool:
    """Whether a call with these arguments is recorded for a backward."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def launch_header(x: Tensor, header: Sequence[int]) -> Sequence[int] | None:
    """The header, where a launch needs it. On the CPU kernels read it from the plan; a list would slow small calls."""
    return header if x.is_cuda else None


def called_plainly() -> bool:
    """Whether a call is the usual one: not compiled, recorded, transformed, autocast, nor inside a dual level.

    A quarter of a microsecond. Where it is False, the functions below say what else is to be done.
    """
    return not (
        is_dynamo_compiling()  # first: Dynamo cannot trace all of the others
        or _are_functorch_transforms_active()
        or _is_any_autocast_enabled()
        or _is_tracing()
        or forward_ad._current_level >= 0
        or torch.compiler._is_exporting_flag
    )


def transforms_active() -> bool:
    """Whether the call is inside a ``torch.func`` transform."""
    return torch._C._are_functorch_transforms_active()


def forward_mode_active(*tensors: Tensor | None) -> bool:
    """Whether forward-mode derivatives of this call are taken, which a Function without ``jvp`` cannot carry.

    torch's dual level is one for all threads, so an open level says nothing about a call: its tensors do.
    """
    if forward_ad._current_level >= 0 and any(tensor is not None and _has_tangent(tensor) for tensor in tensors):
        return True
    return transforms_active() and _inside_jvp()


def _has_tangent(tensor: Tensor) -> bool:
    return torch._VF._unpack_dual(tensor, level=0)[1] is not None  # 0 is the only level


def program_is_recorded() -> bool:
    """Whether ``torch.export`` or ``torch.jit.trace`` records the operators of this call, to run them elsewhere."""
    # Not is_exporting(): Dynamo of torch 2.11 takes that to be true in every function that it compiles.
    return torch.compiler._is_exporting_flag or torch.jit.is_tracing()  # type: ignore[attr-defined]


#: Holds the kernels: they would be removed with it.
_LIBRARY = torch.library.Library("freewire", "IMPL")


def register_autograd_kernel(
    name: str, differentiable: Callable[..., Any], cast: Callable[..., tuple[Any, ...]]
) -> None:
    """Make direct calls of the operator ``freewire::name`` differentiable, inside ``torch.func`` and autocast too.

    Args:
        name: The operator.
        differentiable: Accepts its arguments and calls the family's Function, or where no gradient is needed the
            operator itself inside `below_autograd`.
        cast: ``(target, *arguments)`` to the arguments as autocast to the type ``target`` casts them.
    """

    def under_autocast(device_type: str, call: Callable[..., Tensor], *arguments: Any) -> Tensor:
        arguments = cast(torch.get_autocast_dtype(device_type), *arguments)
        with torch.autocast(device_type, enabled=False):
            return call(*arguments)

    def under_transforms(*arguments: Any) -> Tensor:
        first = arguments[0] if isinstance(arguments[0], Tensor) else arguments[0][0]
        device_type = first.device.type
        if device_type != "meta" and torch.is_autocast_enabled(device_type):
            return under_autocast(device_type, differentiable, *arguments)
        return differentiable(*arguments)

    operator = getattr(torch.ops.freewire, name).default
    _LIBRARY.impl(name, differentiable, "Autograd")
    _LIBRARY.impl(name, partial(under_autocast, "cpu", operator), "AutocastCPU")
    _LIBRARY.impl(name, partial(under_autocast, "cuda", operator), "AutocastCUDA")
    # A transform would unwrap the arguments first, one level at a time, where a Function cannot run.
    _LIBRARY.impl(name, under_transforms, "FuncTorchDynamicLayerFrontMode")


def below_autograd() -> AbstractContextManager[object]:
    """A context in which operators run their kernels without the autograd around them."""
    if torch.compiler.is_dynamo_compiling():  # it cannot trace the guard; what it makes runs the autograd kernel
        return nullcontext()
    return torch._C._AutoDispatchBelowAutograd()


@eager  # Dynamo does not know the interpreter stack
def _inside_jvp() -> bool:
    return any(level.key() == TransformType.Jvp for level in get_interpreter_stack() or ())


def gradients(
    backward: Callable[..., tuple[Tensor, ...]],
    reference: Reference,
    need: Sequence[bool],
    grad_y: Tensor,
    tensors: Sequence[Tensor],
    tape: Sequence[Tensor] = (),
    *,
    returns_list: bool = False,
) -> list[Tensor | None]:
    """The gradients of one operator call, themselves differentiable where grad mode is on.

    Args:
        backward: Calls the backward operator: ``(grad_y, *tensors, *tape)`` to one gradient for each of the first
            ``len(need)`` tensors, any tensor where it is not needed.
        reference: Computes y from ``tensors``.
        need: Whether the gradient of each differentiable tensor is needed.
        grad_y: The gradient of y.
        tensors: The differentiable arguments of the forward, then those that have no gradient.
        tape: Tensors that only the operator reads. They are not kept for derivatives of the backward.
        returns_list: Whether the operator returns a list, which the vmap behind ``is_grads_batched=True`` cannot loop
            over. The reference's backward is run there instead.

    Returns:
        A gradient for each of the first ``len(need)`` tensors, None where it is not needed.
    """
    found: Sequence[Tensor]
    if torch.compiler.is_dynamo_compiling():  # it cannot trace a Function of any number of arguments inside another one
        found = backward(grad_y, *tensors, *tape)
    elif returns_list and is_legacy_batchedtensor(grad_y):
        return _reference_gradients(reference, need, grad_y, tensors)
    elif torch.is_grad_enabled() or transforms_active():
        found = _Backward.apply(backward, reference, tuple(need), len(tensors), grad_y, *tensors, *tape)
    else:
        found = backward(grad_y, *tensors, *tape)
    return [grad if needed else None for grad, needed in zip(found, need, strict=True)]


class _Backward(torch.autograd.Function):
    """(grad_y, tensors, tape) -> gradients, by the operator; itself differentiable, through the reference."""

    @staticmethod
    def forward(
        backward: Callable[..., tuple[Tensor, ...]],
        reference: Reference,
        need: tuple[bool, ...],
        kept: int,
        grad_y: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        return backward(grad_y, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, ctx.reference, ctx.need, kept, grad_y, *tensors = inputs
        ctx.num_inputs = len(inputs)
        ctx.save_for_backward(grad_y, *tensors[:kept])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad_y, *tensors = ctx.saved_tensors
        need = ctx.need
        primals, constants = tensors[: len(need)], tensors[len(need) :]

        def needed(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(value for value, is_needed in zip(values, need, strict=True) if is_needed)

        def first_derivatives(grad_y: Tensor, *primals: Tensor) -> tuple[Tensor, ...]:
            _, pull_back = torch.func.vjp(lambda *xs: ctx.reference(*xs, *constants), *primals)  # type: ignore[misc]
            return needed(pull_back(grad_y))

        _, pull_back = torch.func.vjp(first_derivatives, grad_y, *primals)  # type: ignore[misc]
        found = (None, None, None, None, *pull_back(needed(grads)))
        return *found, *(None,) * (ctx.num_inputs - len(found))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, ...]:
        results: list[Any] = [_Backward.apply(*sample) for sample in per_sample(info.batch_size, in_dims, arguments)]
        stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
        return stacked, (0,) * len(stacked)


def per_sample(size: int, in_dims: Sequence[Any], arguments: Sequence[Any]) -> list[list[Any]]:
    """The arguments of each of ``size`` samples of a vmap."""
    return [
        [a.select(dim, i) if isinstance(dim, int) else a for a, dim in zip(arguments, in_dims, strict=True)]
        for i in range(size)
    ]


def _reference_gradients(
    reference: Reference, need: Sequence[bool], grad_y: Tensor, tensors: Sequence[Tensor]
) -> list[Tensor | None]:
    """`gradients` by torch's own backward of the reference."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        views = [x.view_as(x) for x in tensors]  # one of the tensors may have been computed from another
        y = reference(*views)
    leaves = [x for x, needed in zip(views, need, strict=False) if needed]
    grads = iter(torch.autograd.grad(y, leaves, grad_y, create_graph=create_graph))
    return [next(grads) if needed else None for needed in need]
