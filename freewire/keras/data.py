# SPDX-License-Identifier: MIT
"""Reading what a Model is given: features and targets as lists, arrays or tensors, which become tensors of its device.

What does not fit is an `InputError` that names the argument, so that no array is broadcast or cut in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from freewire.errors import InputError, cut, shown
from freewire.graph.arguments import as_array, is_tensor

__all__ = ["Data", "batches", "check_together", "read_sample", "read_samples", "read_tensor"]

_LOOP = "To load batch by batch, write a loop of your own: a Model is an nn.Module."


class Data(NamedTuple):
    """Samples that fit a Model.

    Attributes:
        x: Features ``[B, I]``, of the Model's type and device.
        y: Targets as the loss reads them, ``[B]`` or ``[B, O]``, on the same device.
    """

    x: Tensor
    y: Tensor


def read_tensor(given: Any, what: str) -> Tensor:
    """The numbers of argument ``what``, a tensor or what numpy converts, as a tensor of any type and shape."""
    if is_tensor(given):
        if given.dtype.is_complex:
            raise InputError(f"{what}: expected real numbers, got {cut(given.dtype)}. Pass their real parts.")
        return given if given.layout == torch.strided else given.to_dense()
    if isinstance(given, DataLoader | Dataset):
        raise InputError(f"{what}: expected numbers, got a {type(given).__name__}. {_LOOP}")
    array = as_array(given, what, InputError)
    if array.dtype == object:
        remedy = "Convert it: numpy.array(values, dtype=float)." if array.ndim else _LOOP
        raise InputError(f"{what}: expected numbers in a tensor, an array or lists, got {shown(given)}. {remedy}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what}: expected numbers, got {cut(array.dtype)}. Convert it: values.astype(float).")
    dtype: Any = array.dtype.newbyteorder("=")
    if array.dtype.itemsize > 8:  # longdouble, which torch does not have
        dtype = np.float64
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:  # torch computes little with those
        dtype = np.int64
    return torch.from_numpy(np.array(array, dtype))  # a copy, as torch would warn about an array that is read-only


def read_sample(given: Any, num_inputs: int, like: Tensor, what: str = "x") -> Tensor:
    """What `Model.forward` is given: ``[..., I]``, or ``[I]`` as one sample, which becomes ``[1, I]``.

    Args:
        given: Tensor, array or list; a tensor's gradient is kept.
        num_inputs: ``I``.
        like: A parameter of the Model, whose type and device the result has.
        what: The argument's name.
    """
    x = read_tensor(given, what)
    if x.dim() == 0 or x.shape[-1] != num_inputs:
        raise InputError(
            f"{what}: expected shape [batch, {num_inputs}], or [{num_inputs}] for one sample, got {list(x.shape)}. "
            f"Give each sample one number per input{_flatten(x)}."
        )
    return (x.unsqueeze(0) if x.dim() == 1 else x).to(like)


def read_samples(given: Any, what: str, num_inputs: int, like: Tensor) -> Tensor:
    """The samples of argument ``what``, ``[B, I]``, for `Model.fit` and its like; see `read_sample`."""
    x = read_tensor(given, what)
    if x.dim() != 2 or x.shape[1] != num_inputs:
        one = f" For one input: numpy.reshape({what}, (-1, 1))." if x.dim() == 1 and num_inputs == 1 else ""
        raise InputError(
            f"{what}: expected shape [samples, {num_inputs}], one number per input of the network, got "
            f"{list(x.shape)}. Give each sample a row{_flatten(x)}.{one}"
        )
    if not len(x):
        raise InputError(f"{what}: expected at least one sample, got none. Pass data.")
    x = x.detach().to(like)
    if not bool(torch.isfinite(x).all()):
        sample, feature = (~torch.isfinite(x)).nonzero()[0].tolist()
        raise InputError(
            f"{what}: expected finite numbers, got {x[sample, feature].item()} at sample {sample}, feature {feature}. "
            "Remove or replace it: it would turn every weight into NaN."
        )
    return x


def check_together(x: Tensor, y: Tensor, name_x: str, name_y: str) -> None:
    """Raise `InputError` unless there are as many targets as samples."""
    got = len(y) if y.dim() else "one number"
    if got != len(x):
        raise InputError(
            f"{name_y}: expected {len(x)} targets, one per sample of {name_x}, got {got}. Check how they were made."
        )


def batches(data: Data, size: int, shuffle: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of ``size`` samples, the last one perhaps smaller; shuffled by torch's generator, or in order."""
    if not shuffle:
        yield from zip(data.x.split(size), data.y.split(size), strict=True)
        return
    order = torch.randperm(len(data.x)).to(data.x.device)  # the same on every device
    for picked in order.split(size):
        yield data.x.index_select(0, picked), data.y.index_select(0, picked)


def _flatten(x: Tensor) -> str:
    return ", and flatten images: x.reshape(len(x), -1)" if x.dim() > 2 else ""
