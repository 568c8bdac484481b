# SPDX-License-Identifier: MIT
"""Accuracy over a loader of labelled images: reading batches, counting correct images, and checks of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from freewire.errors import InputError, cut

__all__ = ["Metric", "check_counts", "check_labels", "read_batches", "top1"]

#: (outputs, labels) -> (number of correct images, number of images)
Metric = Callable[[Any, Tensor], tuple[Any, Any]]


def top1(outputs: Any, labels: Tensor) -> tuple[Tensor, int]:
    """Count the images whose largest output is at their label: the default metric of `damage`.

    Args:
        outputs: Scores ``[B, classes]``.
        labels: Classes ``[B]``, integers from 0.

    Returns:
        The number of images that are classified correctly, and B.

    Raises:
        InputError: Shapes or types are different.

    Example:
        >>> import torch
        >>> top1(torch.eye(3), torch.tensor([0, 1, 1]))
        (tensor(2), 3)
    """
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        got = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(f"model: expected outputs of shape [batch, classes], got {got}. Pass a metric for others.")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != outputs.shape[:1] or not whole:
        raise InputError(
            f"loader: expected integer labels of shape [{len(outputs)}], one per image, got "
            f"{labels.dtype} {list(labels.shape)}. Pass a metric for others."
        )
    return (outputs.argmax(dim=1) == labels).sum(), len(labels)


def check_labels(outputs: Any, labels: Tensor) -> None:
    """Check that labels are classes of the network: others would silently lower every accuracy.

    Args:
        outputs: Scores ``[B, classes]``.
        labels: Classes ``[B]``.

    Raises:
        InputError: A label is not a class, or `top1` rejects the arguments.
    """
    top1(outputs, labels)
    if not labels.numel():
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= outputs.shape[1]:
        raise InputError(
            f"loader: expected labels from 0 to {outputs.shape[1] - 1}, as the network has {outputs.shape[1]} outputs, "
            f"got {low if low < 0 else high}. Number the classes from 0, or pass a metric."
        )


def check_counts(result: Any) -> tuple[Any, Any]:
    """A metric's result, or an `InputError` if it is not a pair."""
    if isinstance(result, tuple | list) and len(result) == 2:
        return result[0], result[1]
    raise InputError(
        f"metric: expected a pair (correct images, images), got {type(result).__name__}. "
        "Return two numbers, sums over the batch."
    )


def read_batches(loader: Iterable[Any], names: str = "images, labels") -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over a loader's batches.

    Args:
        loader: An iterable of pairs of tensors: images, and labels or other targets.
        names: What the two are called in errors.

    Raises:
        InputError: The loader or a batch is something else.
    """
    if not isinstance(loader, Iterable):
        raise InputError(
            f"loader: expected an iterable of ({names}), got {type(loader).__name__}. Put one batch in a list."
        )
    for batch in loader:
        pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(each, Tensor) for each in batch)
        if not pair:
            got = type(batch).__name__
            if isinstance(batch, tuple | list):
                got += cut(f" of {', '.join(type(each).__name__ for each in batch) or 'nothing'}")
            raise InputError(f"loader: expected batches ({names}), two tensors, got {got}. Change what it yields.")
        yield batch[0], batch[1]
