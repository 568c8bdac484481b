# SPDX-License-Identifier: MIT
"""Metrics by name, and any function of outputs and targets; what each is worth for a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from freewire.errors import InputError, shown
from freewire.graph.arguments import check_ordered
from freewire.keras.losses import Loss, Outputs

__all__ = ["Metric", "find_metrics"]


@dataclass(frozen=True)
class Metric:
    """A mean over the samples of a batch.

    Attributes:
        name: Its key in histories.
        function: ``function(outputs, targets)``, a number or a tensor of one.
    """

    name: str
    function: Callable[[Tensor, Tensor], Any]

    def value(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Its value for a batch: outputs ``[B, O]`` of the Model, and the targets that its loss reads."""
        given = self.function(outputs, targets)
        try:
            found = torch.as_tensor(given, device=outputs.device)
        except (TypeError, ValueError, RuntimeError):
            found = None
        if found is None or found.numel() != 1:
            got = shown(given) if found is None else f"shape {list(found.shape)}"
            raise InputError(f"metrics: expected one number from {self.name}, got {got}. Return the mean.")
        return found.detach().reshape(())


@dataclass(frozen=True)
class _Binary:
    """The share of outputs on the same side of a threshold as their targets are of 0.5."""

    threshold: float

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _check_shapes(outputs, targets)
        return ((outputs > self.threshold) == (targets > 0.5)).float().mean()


def _categorical(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of samples whose largest output is at their class, or at their largest target."""
    classes = targets if targets.dim() == 1 else targets.argmax(-1)
    return (outputs.argmax(-1) == classes).float().mean()


def _check_shapes(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        raise InputError(
            f"metrics: expected targets of the outputs' shape {list(outputs.shape)}, got {list(targets.shape)}. Use "
            "'accuracy' for classes."
        )


def _mae(outputs: Tensor, targets: Tensor) -> Tensor:
    _check_shapes(outputs, targets)
    return F.l1_loss(outputs, targets.to(outputs.dtype))


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    _check_shapes(outputs, targets)
    return F.mse_loss(outputs, targets.to(outputs.dtype))


_NAMES = ("accuracy", "binary_accuracy", "categorical_accuracy", "mae", "mse")
_ALIASES = {"acc": "accuracy", "sparse_categorical_accuracy": "categorical_accuracy"}


def find_metrics(given: Any, loss: Loss, outputs: Outputs) -> tuple[Metric, ...]:
    """The metrics that `Model.compile` was given.

    Args:
        given: A list of names and functions, or one, or None. ``"accuracy"`` is, as in Keras, that of single outputs
            for one output or for bce, and that of the largest output otherwise.
        loss: The Model's.
        outputs: The Model's.

    Raises:
        InputError: An unknown name, two metrics of one name, or something else.
    """
    check_ordered(given, "metrics", InputError)
    entries = [given]
    if given is None or (isinstance(given, Iterable) and not isinstance(given, str)):
        entries = list(given or ())
    found = tuple(_find(entry, loss, outputs) for entry in entries)
    names = ["loss", *(metric.name for metric in found)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"metrics: expected different names, got {shown(name)} twice. Rename one of the functions."
            )
    return found


def _find(given: Any, loss: Loss, outputs: Outputs) -> Metric:
    if callable(given):
        return Metric(getattr(given, "__name__", type(given).__name__), given)
    name = _ALIASES.get(given, given) if isinstance(given, str) else None
    if name not in _NAMES:
        raise InputError(
            f"metrics: expected names of {', '.join([*_NAMES, *_ALIASES])}, or functions, got {shown(given)}. Choose "
            "one of those."
        )
    binary = _Binary(0.0 if loss.kind == "bce on logits" else 0.5)
    is_binary = outputs.count == 1 or loss.kind in ("bce", "bce on logits")
    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "accuracy": binary if is_binary else _categorical,
        "binary_accuracy": binary,
        "categorical_accuracy": _categorical,
        "mae": _mae,
        "mse": _mse,
    }
    return Metric(given, functions[name])
