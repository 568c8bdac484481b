# SPDX-License-Identifier: MIT
"""Parameters whose number of elements changes, with the state that an optimizer keeps for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from freewire.errors import InputError

__all__ = ["Piece", "Resized", "check_optimizer"]

#: Consecutive elements of a changed parameter: whether they are new, and where they are in the old or in the new ones.
Piece = tuple[bool, slice]


def check_optimizer(optimizer: Any, parameters: Iterable[nn.Parameter]) -> None:
    """Raise `InputError` unless it is None, or an optimizer of the parameters that keeps its state by element."""
    if optimizer is None:
        return
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__name__}. Omit it if there is none."
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError(
            "optimizer: expected one that keeps its state element by element, got LBFGS. Make a new one afterwards."
        )
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(id(parameter) in known for parameter in parameters):
        raise InputError(
            "optimizer: expected the one that trains these parameters, got another. Pass that, or omit it if there is "
            "none."
        )


class Resized:
    """A change of the number of elements of a parameter, computed first and made by `apply`.

    Args:
        parameter: A vector.
        new: The new elements.
        pieces: What the parameter will be made of, in order.
        optimizer: What it keeps for each element is changed likewise. For new elements it starts as the optimizer
            starts it: from 0, but for Rprop's step sizes and Adagrad's sums. Other state, such as the number of steps,
            stays.
    """

    def __init__(
        self, parameter: nn.Parameter, new: Tensor, pieces: Sequence[Piece], optimizer: torch.optim.Optimizer | None
    ) -> None:
        def joined(old: Tensor, new: Tensor) -> Tensor:
            parts = [(new if is_new else old)[where] for is_new, where in pieces]
            return torch.cat(parts) if parts else old.new_empty(0)

        self._parameter = parameter
        self._state: dict[str, Any] = {}
        self._new_state: dict[str, Tensor] = {}
        with torch.no_grad():
            if optimizer is not None:
                self._state = optimizer.state.get(parameter, {})
                first = _starts(optimizer, parameter)
                for name, value in self._state.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim():
                        start = torch.full_like(new, first.get(name, 0.0), dtype=value.dtype)
                        self._new_state[name] = joined(value, start)
            self._data = joined(parameter.detach(), new)

    def apply(self) -> None:
        """Make the change. The parameter stays the same object, without a gradient."""
        parameter = self._parameter
        self._state.update(self._new_state)
        with torch.no_grad():
            # A graph that was recorded before must not run its backward with the new values. torch notices by the
            # parameter's version.
            parameter.mul_(1)
            parameter.grad = None
            # The node that adds up its gradients knows the old shape, and lives as long as such a graph. Torch makes
            # another where the type changes.
            other = torch.float64 if self._data.dtype != torch.float64 else torch.float32
            parameter.data = self._data.new_empty(0, dtype=other)
            parameter.data = self._data


def _starts(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, float]:
    """What an optimizer starts its state for an element with, where it is not 0."""
    for group in optimizer.param_groups:
        if any(parameter is own for own in group["params"]):
            if isinstance(optimizer, torch.optim.Rprop):
                return {"step_size": float(group["lr"])}
            if isinstance(optimizer, torch.optim.Adagrad):
                return {"sum": float(group["initial_accumulator_value"])}
    return {}
