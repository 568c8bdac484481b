# SPDX-License-Identifier: MIT
"""Correctness before speed: compare a candidate's outputs and gradients with `freewire.reference`.

`check` raises `WrongResultError` where they differ. The candidate computes the whole batch, but the loss reads only
some rows of it, spread evenly: the reference, which is slow and needs much memory, then computes only those, and the
other rows' gradients must be exactly 0.

Errors are Euclidean norms, relative to the norm of the expected result. In float64 everything must agree to rounding.
What is timed runs in float32, so that is checked as well: outputs to a multiple of the float32 reference's own error,
gradients more loosely, since a relu within rounding of its kink may switch sides.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import freewire as fw

__all__ = ["DTYPES", "ROWS", "Gradients", "WrongResultError", "Yardstick", "check"]

DTYPES = (torch.float64, torch.float32)
ROWS = 24  # rows of the batch that the loss reads
_ROUNDING = 1e-10  # float64, relative
_FACTOR = 20.0  # float32 outputs: times the reference's own error
_FLIPPED = 2e-2  # float32 gradients, relative

Gradients = Callable[[Any], tuple[Tensor, Tensor]]


class WrongResultError(AssertionError):
    """A candidate does not compute what `freewire.reference` does."""


@dataclass(frozen=True)
class Yardstick:
    """The reference's results for a network and a batch, computed once since that is slow."""

    net: fw.Network
    #: The batch, ``[B, I]``, float64 values that float32 holds exactly, on the CPU like all tensors here.
    x: Tensor
    #: Rows of the batch that the loss reads.
    rows: Tensor
    #: Outputs and gradients by name, computed in float64 and in float32.
    exact: dict[str, Tensor]
    rounded: dict[str, Tensor]

    @classmethod
    def of(cls, net: fw.Network, batch: int, rows: int = ROWS) -> Yardstick:
        """Run the reference on a random batch, of which the loss reads ``rows`` rows, or all if there are fewer."""
        x = torch.randn(batch, len(net.graph.inputs), generator=_generator(1)).double()
        read = torch.linspace(0, batch - 1, min(batch, rows)).round().long().unique()
        exact, rounded = (
            _reference(copy.deepcopy(net).to(dtype), x[read].to(dtype)) for dtype in (torch.float64, torch.float32)
        )
        return cls(net, x, read, exact, rounded)

    def allowed(self, what: str, dtype: torch.dtype) -> float:
        """The largest relative error allowed for a quantity."""
        if dtype == torch.float64:
            return _ROUNDING
        return _FLIPPED if what != "outputs" else _FACTOR * _error(self.rounded[what], self.exact[what]) + 1e-6


def check(
    label: str,
    make: Callable[[fw.Network], nn.Module],
    gradients: Gradients | None,
    yardstick: Yardstick,
    device: torch.device | str = "cpu",
    dtypes: Sequence[torch.dtype] = DTYPES,
) -> None:
    """Compare one candidate with the reference.

    Args:
        label: The candidate's name, for the message.
        make: Builds the candidate for a network.
        gradients: Reads the gradients of the weights ``[E]`` and of the biases, in freewire's order, from the built
            candidate after a backward. If None, only its outputs are compared.
        yardstick: The reference's results.
        device: Where the candidate runs.
        dtypes: Which of `DTYPES` it is compared in; one that does not support float64 may omit it.

    Raises:
        WrongResultError: Outputs or a gradient differ.
    """
    rows = yardstick.rows
    unread = torch.ones(len(yardstick.x), dtype=torch.bool)
    unread[rows] = False
    for dtype in dtypes:
        candidate = make(copy.deepcopy(yardstick.net).to(device, dtype))
        x = yardstick.x.to(device, dtype, copy=True).requires_grad_()
        with torch.no_grad():
            inference = candidate(x)
        _compare(label, yardstick, dtype, {"outputs": inference[rows]})
        if gradients is None:
            continue
        y = candidate(x)
        _loss(y[rows]).backward()
        assert x.grad is not None
        if x.grad[unread].any():
            raise WrongResultError(
                f"{label}: expected zero gradients of samples that the loss does not read, got nonzero ones."
            )
        grad_weight, grad_bias = gradients(candidate)
        found = {"outputs": y[rows], "gradient of x": x.grad[rows]}
        found |= {"gradient of weight": grad_weight, "gradient of bias": grad_bias}
        _compare(label, yardstick, dtype, found)


def _compare(label: str, yardstick: Yardstick, dtype: torch.dtype, found: dict[str, Tensor]) -> None:
    for what, value in found.items():
        error, allowed = _error(value, yardstick.exact[what]), yardstick.allowed(what, dtype)
        if not error <= allowed:  # a NaN fails too
            raise WrongResultError(
                f"{label}: expected the reference's {what} within {allowed:.1e} in {dtype}, got a relative "
                f"error of {error:.1e}. Nothing is timed until they agree."
            )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _loss(y: Tensor) -> Tensor:
    """A random combination of the outputs, so that errors cannot cancel."""
    return (y * torch.randn(y.shape, dtype=torch.float64, generator=_generator(2)).to(y)).sum()


def _reference(net: fw.Network, x: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    y = fw.reference(net, x)
    assert net.bias is not None
    grads = torch.autograd.grad(_loss(y), (x, net.weight, net.bias))
    return {
        "outputs": y.detach(),
        **dict(zip(("gradient of x", "gradient of weight", "gradient of bias"), grads, strict=True)),
    }


def _error(value: Tensor, expected: Tensor) -> float:
    if value.shape != expected.shape:
        return float("inf")
    expected = expected.double()
    scale = expected.norm().clamp_min(torch.finfo(torch.float64).tiny)
    return float((value.detach().cpu().double() - expected).norm() / scale)
