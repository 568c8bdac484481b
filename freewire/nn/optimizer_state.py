# SPDX-License-Identifier: MIT
"""Parameters whose number of elements changes, with the state that an optimizer keeps for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from freewire.errors import InputError

__all__ = ["Piece", "check_optimizer", "resize_parameter"]


def check_optimizer(optimizer: Any) -> None:
    """Raise `InputError` unless it is an optimizer or None."""
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__name__}. Omit it if there is none."
        )


#: Consecutive elements of a changed parameter: whether they are new, and where they are in the old or in the new ones.
Piece = tuple[bool, slice]


def resize_parameter(
    parameter: nn.Parameter, new: Tensor, pieces: Sequence[Piece], optimizer: torch.optim.Optimizer | None
) -> None:
    """Change the elements of a parameter in place, and likewise what an optimizer keeps for each of them.

    The parameter stays the same object, so optimizers and other owners keep it. Its gradient is removed.

    Args:
        parameter: A vector.
        new: The new elements.
        pieces: What the parameter is made of, in order.
        optimizer: Its state for new elements is 0. Other state, such as the number of steps, stays.
    """

    def joined(old: Tensor, new: Tensor) -> Tensor:
        parts = [(new if is_new else old)[where] for is_new, where in pieces]
        return torch.cat(parts) if parts else old.new_empty(0)

    with torch.no_grad():
        state = {} if optimizer is None else optimizer.state.get(parameter, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim():
                state[name] = joined(value, torch.zeros_like(new, dtype=value.dtype))
        parameter.grad = None
        parameter.data = joined(parameter.data, new)
