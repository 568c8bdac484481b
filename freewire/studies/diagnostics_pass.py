# SPDX-License-Identifier: MIT
"""The extra passes of a measurement: a network's loss, gradients and node values at any parameters.

They call the operators directly. Nothing is written to the network or to ``.grad``, and the autograd of a small
network, which takes longer than its arithmetic, is avoided. Gradients of parts of a batch cost little more than that of
the whole: each part is a forward and a backward of its own, and the loss is computed once, on the outputs of all parts.
Thus the parts' gradients sum up to that of the batch's loss, whatever the loss does with the samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from freewire.errors import InputError, shown
from freewire.nn import Network
from freewire.nn.checks import check_input
from freewire.nn.placement import PlacedPlan, pack, place
from freewire.ops.dtypes import autocast
from freewire.plan import make_plan

__all__ = ["Gradients", "LossFunction", "Parameters", "Passes"]

#: (outputs, targets) -> the loss, one number
LossFunction = Callable[[Tensor, Any], Tensor]


class Parameters(NamedTuple):
    """One number per parameter: the parameters themselves, a gradient, or a step."""

    weight: Tensor  # [E]
    bias: Tensor | None  # [computed nodes]


class Gradients(NamedTuple):
    """Of one batch at one point: the loss, and what each part of the batch contributes to its gradient."""

    loss: Tensor  # one number
    parts: list[Parameters]


class Passes:
    """Runs a network at any parameters.

    Args:
        net: The network; its plan is packed a second time, and a third time with all nodes as outputs.
    """

    def __init__(self, net: Network) -> None:
        self._net = net
        self._outputs = pack(net.plan)
        self._every_node = pack(make_plan(net.graph, every_node=True))

    def gradients(
        self, x: Tensor, y: Any, loss_fn: LossFunction, at: Parameters, sizes: Sequence[int] | None
    ) -> Gradients:
        """The loss of a batch and its gradient, divided into what parts of the batch contribute.

        Args:
            x: ``[B, ..., I]``, or ``[I]``.
            y: The second argument of ``loss_fn``.
            loss_fn: ``loss_fn(outputs, y)`` returns the loss.
            at: The parameters.
            sizes: Samples (entries of x's first dimension) in each part; they sum up to B. None: the loss alone.

        Raises:
            InputError: x does not fit the network, or the result of ``loss_fn`` is not a loss.
        """
        with torch.inference_mode(False), torch.no_grad():
            self._outputs, rows, cast = self._prepare(self._outputs, x, at)
            placed = self._outputs
            header = placed.header if rows.is_cuda else ()  # kernels on the CPU read it from the plan
            per_sample = math.prod(x.shape[1:-1])
            parts = rows.split([size * per_sample for size in sizes]) if sizes else (rows,)
            keep = placed.tape_rows if sizes else 0
            runs = [
                torch.ops.freewire.forward.default(part, *cast, placed.words, header, placed.num_outputs, keep)
                for part in parts
            ]
            outputs = torch.cat([y for y, _ in runs]).reshape(*x.shape[:-1], placed.num_outputs)
            with torch.random.fork_rng([x.device] if x.is_cuda else []):  # loss_fn may draw random numbers
                if not sizes:
                    return Gradients(_checked(loss_fn(outputs, y)), [])
                with torch.enable_grad():
                    loss = _checked(loss_fn(outputs.requires_grad_(), y), outputs)
                    (grad_y,) = torch.autograd.grad(loss, outputs)
            num_biases = 0 if cast.bias is None else len(cast.bias)
            found = []
            for (_, tape), grad in zip(
                runs, grad_y.reshape(-1, placed.num_outputs).split([len(part) for part in parts]), strict=True
            ):
                _, weight, bias = torch.ops.freewire.backward.default(
                    grad.contiguous(),
                    tape,
                    cast.weight,
                    placed.words,
                    header,
                    placed.num_inputs,
                    num_biases,
                    False,
                    True,
                )
                found.append(Parameters(weight, None if cast.bias is None else bias))
            return Gradients(loss.detach(), found)

    def node_values(self, x: Tensor, at: Parameters) -> Tensor:
        """The values of all nodes ``[rows, N]`` in node order; rows are the leading dimensions of x as one."""
        with torch.inference_mode(False), torch.no_grad():
            self._every_node, rows, cast = self._prepare(self._every_node, x, at)
            placed = self._every_node
            header = placed.header if rows.is_cuda else ()
            return torch.ops.freewire.forward.default(rows, *cast, placed.words, header, placed.num_outputs, 0)[0]

    def _prepare(self, placed: PlacedPlan, x: Tensor, at: Parameters) -> tuple[PlacedPlan, Tensor, Parameters]:
        """The plan on the parameters' device, x as rows ``[B, I]``, and the parameters; cast if autocast is enabled."""
        check_input(x, at.weight, placed.num_inputs)
        if placed.words.device != x.device:
            placed = place(placed, x.device)
        rows = x.detach().reshape(-1, placed.num_inputs)
        if torch.is_autocast_enabled(x.device.type):
            target = torch.get_autocast_dtype(x.device.type)
            rows = autocast(rows, target)
            at = Parameters(autocast(at.weight, target), None if at.bias is None else autocast(at.bias, target))
        return placed, rows, at


def _checked(loss: Any, outputs: Tensor | None = None) -> Tensor:
    """What ``loss_fn`` returned, or an `InputError` unless it is one number, which depends on ``outputs``."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        got = f"{loss.dtype} of shape {list(loss.shape)}" if isinstance(loss, Tensor) else shown(loss)
        raise InputError(
            f"loss_fn: expected a function that returns the loss, a tensor of one number, got {got}. "
            "Average over the samples, as training does."
        )
    if outputs is not None and not loss.requires_grad:
        raise InputError(
            "loss_fn: expected a loss that is computed from the first argument, the network's outputs, got one without "
            "a gradient. Pass the function that training minimises: loss_fn(outputs, y)."
        )
    return loss.reshape(())
