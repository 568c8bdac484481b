# SPDX-License-Identifier: MIT
"""The extra passes of a measurement: a network's loss, gradients and node values at any parameters.

They call the operators directly. Nothing is written to the network or to ``.grad``, and the autograd of a small
network, which takes longer than its arithmetic, is avoided. Gradients of parts of a batch cost little more than that of
the whole: each part is a forward and a backward of its own, and the loss is computed once, on the outputs of all parts.
Thus the parts' gradients sum up to that of the batch's loss, whatever the loss does with the samples.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from freewire.errors import InputError, shown
from freewire.nn import Network
from freewire.nn.checks import check_input
from freewire.nn.placement import PlacedPlan, pack, place
from freewire.ops.dtypes import autocast

__all__ = ["Batch", "Gradients", "LossFunction", "Parameters", "Passes"]

#: (outputs, targets) -> the loss, one number
LossFunction = Callable[[Tensor, Any], Tensor]


class Parameters(NamedTuple):
    """One number per parameter: the parameters themselves, or a gradient."""

    weight: Tensor  # [E]
    bias: Tensor | None  # [computed nodes]

    def copy(self) -> Parameters:
        """A copy of the numbers."""
        return Parameters(self.weight.clone(), None if self.bias is None else self.bias.clone())


class Gradients(NamedTuple):
    """Of one batch at one point: the loss, what each part of the batch contributes to its gradient, and node values.

    Attributes:
        loss: One number.
        parts: One gradient per part.
        values: Of the plan's nodes ``[samples, S]``, for evenly spaced samples of one part or both.
    """

    loss: Tensor
    parts: list[Parameters]
    values: Tensor


class Batch(NamedTuple):
    """What a loss is computed from.

    Attributes:
        x: ``[B, ..., I]``, or ``[I]``.
        y: The second argument of ``loss_fn``.
        loss_fn: Returns the loss.
        sizes: Samples in each part of the batch; they sum up to B.
    """

    x: Tensor
    y: Any
    loss_fn: LossFunction
    sizes: tuple[int, ...]


class Passes:
    """Runs a network at any parameters.

    Args:
        net: The network. Its plan is packed once more, with all its nodes as outputs.
        enough: For how many samples node values are wanted; there are less than twice as many.
    """

    def __init__(self, net: Network, enough: int) -> None:
        self._net, self._enough = net, enough
        slots = np.arange(net.plan.num_slots, dtype=net.plan.output_slot.dtype)
        # Only for calls that keep a tape: rows of others are reused by nodes that are no outputs in the original.
        self._all_slots = pack(dataclasses.replace(net.plan, output_slot=slots))
        self._output_slot = torch.from_numpy(net.plan.output_slot.astype(np.int64))
        first = int(net.plan.output_slot[0])
        are_neighbours = bool((net.plan.output_slot == first + np.arange(net.plan.num_outputs)).all())
        self._first_output = first if are_neighbours else None

    def gradients(self, batch: Batch, at: Parameters) -> Gradients:
        """The loss of a batch and its gradient, as the contributions of the batch's parts.

        Args:
            batch: The batch.
            at: The parameters.

        Raises:
            InputError: x does not fit the network, or the result of ``loss_fn`` is not a loss.
        """
        x, y, loss_fn, sizes = batch
        placed = self._outputs(x)
        rows, cast = _prepared(x, at, placed.num_inputs)
        per_sample = math.prod(x.shape[1:-1])
        lengths = [size * per_sample for size in sizes]
        runs: list[tuple[Tensor, Tensor]] = []
        values: list[Tensor] = []
        wanted = self._enough
        for part in _parts(rows, lengths):
            if wanted > 0:
                found, run = self._with_values(placed, part, cast, wanted)
                values.append(found)
                wanted -= found.shape[0]
            else:
                run = _forward(placed, part, cast)
            runs.append(run)
        outputs = torch.cat([outputs for outputs, _ in runs])
        if x.dim() != 2:
            outputs = outputs.reshape(*x.shape[:-1], placed.num_outputs)
        with _same_random_numbers(x.device), torch.enable_grad():
            loss = _checked(loss_fn(outputs.requires_grad_(), y))
            if not loss.requires_grad:
                raise InputError(
                    "loss_fn: expected a loss that is computed from the first argument, the network's outputs, got one "
                    "without a gradient. Pass the function that training minimises: loss_fn(outputs, y)."
                )
            (grad_y,) = torch.autograd.grad(loss, outputs)
        grad_y = grad_y.reshape(-1, placed.num_outputs).contiguous()
        header = placed.header if rows.is_cuda else None
        num_biases = 0 if cast.bias is None else cast.bias.shape[0]
        sizes_of_results = header, placed.num_inputs, num_biases, False, True
        gradients = []
        for (_, tape), grad in zip(runs, _parts(grad_y, lengths), strict=True):
            _, weight, bias = torch.ops.freewire.backward.default(
                grad, tape, cast.weight, placed.words, *sizes_of_results
            )
            gradients.append(Parameters(weight, bias if num_biases else None))
        return Gradients(loss.detach(), gradients, values[0] if len(values) == 1 else torch.cat(values))

    def loss(self, batch: Batch, at: Parameters) -> Tensor:
        """The loss alone; see `gradients`."""
        x, y, loss_fn, _ = batch
        placed = self._outputs(x)
        outputs, _ = _forward(placed, *_prepared(x, at, placed.num_inputs), keep=False)
        with _same_random_numbers(x.device):
            return _checked(loss_fn(outputs.reshape(*x.shape[:-1], placed.num_outputs), y))

    def _with_values(
        self, placed: PlacedPlan, rows: Tensor, at: Parameters, wanted: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Node values, and outputs and tape of a forward."""
        if self._all_slots.words.device != rows.device:
            self._all_slots = place(self._all_slots, rows.device)
            self._output_slot = self._output_slot.to(rows.device)
        spacing = max(1, rows.shape[0] // wanted)
        if rows.is_cuda:
            return _forward(self._all_slots, rows[::spacing], at)[0], _forward(placed, rows, at)
        # A tape holds the same numbers whatever the outputs are, so the backward of the network's own plan reads it.
        values, tape = _forward(self._all_slots, rows, at)
        if self._first_output is None:
            outputs = values.index_select(1, self._output_slot)
        else:  # a view, which is copied once, with those of the other part
            outputs = values.narrow(1, self._first_output, placed.num_outputs)
        return values[::spacing], (outputs, tape)

    def _outputs(self, x: Tensor) -> PlacedPlan:
        """The network's own packed plan: the kernels find it in the caches, which a copy would not be in."""
        placed = self._net._placed
        return placed if placed.words.device == x.device else place(placed, x.device)


def _parts(rows: Tensor, lengths: list[int]) -> list[Tensor]:
    """Consecutive rows, as ``rows.split(lengths)``, which takes three times as long."""
    ends = list(itertools.accumulate(lengths))
    return [rows[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def _forward(placed: PlacedPlan, rows: Tensor, at: Parameters, keep: bool = True) -> tuple[Tensor, Tensor]:
    """Outputs ``[B, O]``, and the tape, which is empty unless it is kept."""
    header = placed.header if rows.is_cuda else None  # kernels on the CPU read it from the plan
    tape_rows = placed.tape_rows if keep else 0
    return torch.ops.freewire.forward.default(rows, *at, placed.words, header, placed.num_outputs, tape_rows)


def _prepared(x: Tensor, at: Parameters, num_inputs: int) -> tuple[Tensor, Parameters]:
    """X as rows ``[B, I]``, and the parameters; cast if autocast is enabled."""
    check_input(x, at.weight, num_inputs)
    rows = x.detach()
    if x.dim() != 2:
        rows = rows.reshape(-1, num_inputs)
    if torch.is_autocast_enabled(x.device.type):
        target = torch.get_autocast_dtype(x.device.type)
        rows = autocast(rows, target)
        at = Parameters(autocast(at.weight, target), None if at.bias is None else autocast(at.bias, target))
    return rows, at


@contextmanager
def _same_random_numbers(device: torch.device) -> Iterator[None]:
    """Restore the random generators afterwards: the loss function is the user's, and may draw numbers."""
    state = torch.get_rng_state()
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device, device)


def _checked(loss: Any) -> Tensor:
    """What ``loss_fn`` returned, or an `InputError` unless it is one number."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        got = f"{loss.dtype} of shape {list(loss.shape)}" if isinstance(loss, Tensor) else shown(loss)
        raise InputError(
            f"loss_fn: expected a function that returns the loss, a tensor of one number, got {got}. "
            "Average over the samples, as training does."
        )
    return loss
