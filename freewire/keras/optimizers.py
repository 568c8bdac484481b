# SPDX-License-Identifier: MIT
"""Optimizers by name, class, function or instance: what `Model.compile` accepts, as one torch optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from freewire.errors import InputError, cut, shown

__all__ = ["find_optimizer", "known_optimizers"]

#: torch's optimizers that cannot train a vector of weights: one needs sparse gradients, the other matrices.
_UNFIT = {"SparseAdam", "Muon"}


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
    trained = {id(parameter) for group in made.param_groups for parameter in group["params"]}
    if not any(id(parameter) in trained for parameter in own):
        raise InputError(
            "optimizer: expected one of this Model's parameters, got one that has none of them. Make it with "
            "model.parameters(), or pass its name."
        )
    return made
