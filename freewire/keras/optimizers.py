# SPDX-License-Identifier: MIT
"""Optimizers by name, class, function or instance: what `Model.compile` accepts, as one torch optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from freewire.errors import InputError, cut, shown

__all__ = ["find_optimizer", "known_optimizers", "prepare_optimizer"]

#: torch's optimizers that cannot train a vector of weights: one needs sparse gradients, the other matrices.
_UNFIT = {"SparseAdam", "Muon"}  # for sparse gradients, and for matrices: a Model has neither


def _by_name() -> dict[str, type[Optimizer]]:
    classes = {name: value for name, value in vars(torch.optim).items() if isinstance(value, type)}
    return {
        name.lower(): value
        for name, value in classes.items()
        if issubclass(value, Optimizer) and value is not Optimizer and name not in _UNFIT
    }


def known_optimizers() -> str:
    """The names of optimizers, for errors and help."""
    return ", ".join(sorted(_by_name()))


def find_optimizer(given: Any, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of a Model.

    Args:
        given: A name of torch.optim, in any case, with torch's settings but for ``"sgd"``, whose learning rate is
            0.01; a class, or a function of the parameters (`functools.partial` of a class); or an optimizer that has
            the Model's parameters.
        parameters: The Model's.

    Raises:
        InputError: An unknown name, something else, or an optimizer of other parameters.
    """
    own = list(parameters)
    if isinstance(given, str):
        classes = _by_name()
        if given.lower() not in classes:
            raise InputError(
                f"optimizer: expected one of {known_optimizers()}, or an optimizer, got {shown(given)}. Choose one of "
                "those."
            )
        chosen: Any = classes[given.lower()]
        made = chosen(own, lr=0.01) if given.lower() == "sgd" else chosen(own)
    elif isinstance(given, Optimizer):
        made = given
    elif callable(given):
        try:
            made = given(own)
        except TypeError as error:
            raise InputError(
                f"optimizer: expected a function of the parameters, got one that fails ({cut(error)}). Pass an "
                "optimizer, or functools.partial of its class."
            ) from error
    else:
        raise InputError(
            f"optimizer: expected a name or an optimizer, got {shown(given)}. The names are {known_optimizers()}."
        )
    if not isinstance(made, Optimizer):
        raise InputError(
            f"optimizer: expected a torch.optim.Optimizer from the function, got {type(made).__name__}. Return one."
        )
    check_parameters(made, own)
    return made


def check_parameters(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Raise `InputError` for an optimizer that has none of a Model's parameters."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(id(parameter) in trained for parameter in parameters):
        raise InputError(
            "optimizer: expected one of this Model's parameters, got one that has none of them. Make it with "
            "model.parameters(), or pass its name; where the parameters were replaced, compile the Model once more."
        )


def prepare_optimizer(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Check an optimizer before a training, as the parameters may be others than when the Model was compiled.

    Where they have another type or device since, what the optimizer remembers is converted to that.

    Raises:
        InputError: The optimizer has none of the parameters any more, or nothing is trainable.
    """
    own = list(parameters)
    check_parameters(optimizer, own)
    if not any(parameter.requires_grad for parameter in own):
        raise InputError(
            "model: expected a parameter that requires a gradient, got none. Call model.requires_grad_() first."
        )
    for parameter, state in optimizer.state.items():
        for value in state.values():
            kept = isinstance(value, Tensor) and value.dim() and value.is_floating_point()
            if kept and (value.dtype, value.device) != (parameter.dtype, parameter.device):
                optimizer.load_state_dict(optimizer.state_dict())  # converts all of it
                return
