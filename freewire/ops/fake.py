# SPDX-License-Identifier: MIT
"""What the fake kernels of all operator families share.

A fake kernel gives the shapes of an operator's results to ``torch.compile``, ``torch.export`` and the meta device.
"""

from __future__ import annotations

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from freewire.errors import InputError

__all__ = ["check_devices", "empty_gradient", "is_abstract"]


def is_abstract(tensor: Tensor) -> bool:
    """Whether a tensor has a shape but no values: it is on the meta device, or fake."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def check_devices(**tensors: Tensor | None) -> None:
    """Raise `InputError` unless all tensors, given by the names that errors call them, are on the first one's device.

    One tensor on the meta device is enough to bring a call to the fake kernel, whose empty results would be taken for
    real ones.
    """
    (first, tensor), *others = tensors.items()
    assert tensor is not None
    for name, other in others:
        if other is not None and other.device != tensor.device:
            raise InputError(
                f"{name}: expected device {tensor.device}, that of {first}, got {other.device}. Move the module as a "
                "whole."
            )


def empty_gradient(parameter: Tensor, needed: bool) -> Tensor:
    """A gradient as the operators return it: of the parameter's shape, or without rows where it is not needed."""
    return parameter.new_empty(parameter.shape[0] if needed else 0, *parameter.shape[1:])
