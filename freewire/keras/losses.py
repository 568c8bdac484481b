# SPDX-License-Identifier: MIT
"""Losses by name, torch's loss modules and functions, and any callable; and the targets that each of them reads.

A `Loss` says what it is applied to. crossentropy reads logits, so softmax outputs go into it as they are before the
softmax, and are normalised once. Targets are checked as a whole before training: a column for one output, labels in
their range, and never a shape that torch would broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freewire.errors import InputError, shown

__all__ = ["LOSSES", "Loss", "Outputs", "find_loss", "known_losses", "read_targets"]


@dataclass(frozen=True)
class Outputs:
    """The outputs of a Model.

    Attributes:
        activations: The name of each output's activation, as the graph has it: linear for softmax.
        softmax: Places of those that are softmax.
    """

    activations: tuple[str, ...]
    softmax: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Their number, ``O``."""
        return len(self.activations)

    def normalise(self, raw: Tensor) -> Tensor:
        """What the Model returns for its network's outputs ``[..., O]``: probabilities where they are softmax."""
        if not self.softmax:
            return raw
        if len(self.softmax) == self.count:
            return raw.softmax(-1)
        places = torch.tensor(self.softmax, device=raw.device)
        return raw.index_copy(-1, places, raw.index_select(-1, places).softmax(-1))


@dataclass(frozen=True)
class Loss:
    """A loss of a whole batch.

    Attributes:
        name: For errors.
        function: ``function(outputs, targets)``, a tensor of one number.
        kind: What it reads. ``"values"``: targets of the outputs' shape. ``"bce"``: such targets from 0 to 1, and
            outputs that are probabilities; ``"bce on logits"``: linear outputs. ``"crossentropy"``: a class or
            probabilities for each sample, and outputs before the softmax. ``"any"``: not known.
        ignored: A label that is no class and allowed, as torch's ``ignore_index``.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    kind: Literal["values", "bce", "bce on logits", "crossentropy", "any"] = "values"
    ignored: int | None = None

    def value(self, raw: Tensor, targets: Tensor, outputs: Outputs) -> Tensor:
        """The loss of a batch, given the network's outputs ``[B, O]`` before any softmax."""
        loss = self.function(raw if self.kind == "crossentropy" else outputs.normalise(raw), targets)
        if not isinstance(loss, Tensor) or loss.dim():
            got = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"loss: expected one number as a tensor from {self.name}, got {got}. Return the mean.")
        return loss


#: By name in lower case, without underscores and without "loss" at its end.
LOSSES = {
    "mse": Loss("mse", F.mse_loss),
    "mae": Loss("mae", F.l1_loss),
    "huber": Loss("huber", F.huber_loss),
    "smoothl1": Loss("smooth_l1", F.smooth_l1_loss),
    "crossentropy": Loss("crossentropy", F.cross_entropy, "crossentropy"),
    "bce": Loss("bce", F.binary_cross_entropy, "bce"),
}
_ALIASES = {
    "meansquarederror": "mse",
    "meanabsoluteerror": "mae",
    "l1": "mae",
    "categoricalcrossentropy": "crossentropy",
    "sparsecategoricalcrossentropy": "crossentropy",
    "binarycrossentropy": "bce",
}
_WITH_LOGITS = Loss("bce", F.binary_cross_entropy_with_logits, "bce on logits")
#: torch's modules and functions that freewire knows more about than that they can be called.
_MODULES: dict[type[nn.Module], Loss] = {
    nn.MSELoss: LOSSES["mse"],
    nn.L1Loss: LOSSES["mae"],
    nn.HuberLoss: LOSSES["huber"],
    nn.SmoothL1Loss: LOSSES["smoothl1"],
    nn.CrossEntropyLoss: LOSSES["crossentropy"],
    nn.BCELoss: LOSSES["bce"],
    nn.BCEWithLogitsLoss: _WITH_LOGITS,
}
_FUNCTIONS = {loss.function: loss for loss in (*LOSSES.values(), _WITH_LOGITS)}


def known_losses() -> str:
    """The names of losses, for errors and help."""
    return ", ".join(sorted([*LOSSES, *_ALIASES]))


def find_loss(given: Any, outputs: Outputs) -> Loss:
    """The loss that `Model.compile` was given, checked against the Model's outputs.

    Args:
        given: A name, in any case and with underscores or without; a loss of torch.nn (a module, its class, or a
            function of torch.nn.functional, also as a `functools.partial`); or any callable of outputs and targets.
        outputs: The Model's.

    Raises:
        InputError: An unknown name, or outputs that the loss has no meaning for.
    """
    if isinstance(given, str):
        name = given.lower().replace("_", "").replace("-", "").removesuffix("loss")
        name = _ALIASES.get(name, name)
        if name not in LOSSES:
            raise InputError(
                f"loss: expected one of {known_losses()}, or a function, got {shown(given)}. Choose one of those."
            )
        loss = LOSSES[name]
        if name == "bce" and set(outputs.activations) == {"linear"} and not outputs.softmax:
            loss = _WITH_LOGITS
    else:
        loss = _callable_loss(given)
    if loss.kind == "crossentropy" and outputs.count < 2:
        raise InputError(
            "loss: expected two outputs or more for crossentropy, one per class, got 1, whose probability is always 1. "
            "Use 'bce' with a sigmoid output."
        )
    if loss.kind == "crossentropy" and 0 < len(outputs.softmax) < outputs.count:
        raise InputError(
            f"loss: expected softmax at all outputs or at none for crossentropy, got {len(outputs.softmax)} of "
            f"{outputs.count}. Give all outputs the same activation."
        )
    legal = {"bce": {"sigmoid", "hard_sigmoid"}, "bce on logits": {"linear"}}.get(loss.kind)
    if legal is not None and (outputs.softmax or not set(outputs.activations) <= legal):
        got = sorted(set(outputs.activations)) if not outputs.softmax else ["softmax"]
        raise InputError(
            f"loss: expected outputs that are all {' or '.join(sorted(legal))} for {loss.kind}, got {', '.join(got)}. "
            "Change their activation, or choose another loss."
        )
    return loss


def _callable_loss(given: Any) -> Loss:
    function: Any = given.func if isinstance(given, partial) else given
    if isinstance(function, type) and issubclass(function, nn.Module):
        given = function = given()
    if not callable(given):
        raise InputError(
            f"loss: expected a name or a function of outputs and targets, got {shown(given)}. The names are "
            f"{known_losses()}."
        )
    if isinstance(function, nn.NLLLoss) or function is F.nll_loss:
        raise InputError(
            "loss: expected a loss of probabilities or logits, got torch's nll_loss, which reads their logarithms. Use "
            "'crossentropy': it does that for softmax and for linear outputs."
        )
    known = _FUNCTIONS.get(function) if hasattr(function, "__code__") else None
    for kind, loss in _MODULES.items():
        known = loss if isinstance(function, kind) else known
    if known is not None:
        options = given.keywords if isinstance(given, partial) else vars(given)
        return replace(known, function=given, ignored=options.get("ignore_index"))
    name = getattr(given, "__name__", type(given).__name__)
    return Loss(name, given, "any")


def read_targets(y: Tensor, loss: Loss, num_outputs: int, like: Tensor, what: str = "y") -> Tensor:
    """The targets of a loss.

    Args:
        y: As the caller has them: ``[B]`` or ``[B, O]``.
        loss: What reads them.
        num_outputs: ``O``.
        like: A parameter of the Model, whose type (but for labels) and device the result has.
        what: The argument's name.

    Returns:
        ``[B, O]`` for values, where ``[B]`` for one output has become a column; int64 ``[B]`` for labels.

    Raises:
        InputError: Another shape, a label out of range or not whole, NaN, or a probability below 0 or above 1.
    """
    y = y.detach().to(like.device)
    if y.is_floating_point() and not bool(torch.isfinite(y).all()):
        sample = int((~torch.isfinite(y)).nonzero()[0][0])
        raise InputError(f"{what}: expected finite numbers, got another at sample {sample}. Remove or replace it.")
    if loss.kind == "crossentropy" and (y.dim() == 1 or y.shape[1:] == (1,)):
        return _labels(y.reshape(-1), loss, num_outputs, what)
    if y.dim() == 1 and num_outputs == 1:
        y = y.unsqueeze(1)  # beside outputs [B, 1] torch would broadcast it to [B, B]
    if loss.kind == "any":
        return y.to(like.dtype) if y.is_floating_point() or y.dtype == torch.bool else y
    if y.dim() != 2 or y.shape[1] != num_outputs:
        labels = " or [samples], a class each" if loss.kind == "crossentropy" else ""
        raise InputError(
            f"{what}: expected shape [samples, {num_outputs}], a number per output{labels}, for {loss.name}, got "
            f"{list(y.shape)}. Reshape it, or choose another loss."
        )
    y = y.to(like.dtype)
    if loss.kind != "values" and (bool((y < 0).any()) or bool((y > 1).any())):
        raise InputError(
            f"{what}: expected probabilities from 0 to 1 for {loss.name}, got values from {y.min().item():g} to "
            f"{y.max().item():g}. Scale them, or choose another loss."
        )
    return y


def _labels(y: Tensor, loss: Loss, classes: int, what: str) -> Tensor:
    labels = y.to(torch.int64)
    if y.is_floating_point() and not torch.equal(labels.to(y.dtype), y):
        sample = int((labels.to(y.dtype) != y).nonzero()[0])
        raise InputError(
            f"{what}: expected classes from 0 to {classes - 1}, whole numbers, got {y[sample].item():g} at sample "
            f"{sample}. For numbers use a loss such as 'mse'."
        )
    wrong = (labels < 0) | (labels >= classes)
    if loss.ignored is not None:
        wrong &= labels != loss.ignored
    if bool(wrong.any()):
        sample = int(wrong.nonzero()[0])
        raise InputError(
            f"{what}: expected classes from 0 to {classes - 1}, as the network has {classes} outputs, got "
            f"{labels[sample].item()} at sample {sample}. Number the classes from 0, or add outputs."
        )
    return labels
