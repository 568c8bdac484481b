# SPDX-License-Identifier: MIT
"""Checks of a network's input, and of arguments of modules, with the messages for what they cannot be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from freewire.errors import GraphError, InputError
from freewire.graph import Graph, arguments
from freewire.ops.dtypes import DTYPES, check_dtype
from freewire.ops.fake import is_abstract

__all__ = [
    "DEVICES",
    "check_device",
    "check_features",
    "check_graph",
    "check_input",
    "check_number",
    "check_probability",
    "check_values",
    "check_whole",
]

#: Types of devices that have kernels; those of meta are fake.
DEVICES = ("cpu", "cuda", "meta")


def check_graph(graph: Any) -> None:
    """Raise `GraphError` unless it is a `Graph`."""
    if not isinstance(graph, Graph):
        raise GraphError(
            f"graph: expected a freewire Graph, got {type(graph).__name__}. "
            "Convert it first, for example with Graph.from_networkx."
        )


def check_features(x: Tensor, num_inputs: int) -> None:
    """Raise `InputError` unless x is a tensor ``[..., num_inputs]``."""
    if not isinstance(x, Tensor):
        raise InputError(f"x: expected a torch.Tensor, got {type(x).__name__}. Convert it: torch.as_tensor(x).")
    if x.dim() == 0 or x.shape[-1] != num_inputs:
        raise InputError(
            f"x: expected shape [..., {num_inputs}], one feature per input, got {list(x.shape)}. "
            "Put the features last; net.graph.inputs names them in order."
        )


def check_input(x: Tensor, weight: Tensor, num_inputs: int) -> None:
    """Raise `InputError` unless there are kernels for x, and it has the type and device of the network's weights."""
    check_features(x, num_inputs)
    check_dtype(weight.dtype, "network")
    if x.dtype != weight.dtype:
        other = f", or net.to({x.dtype})" if x.dtype in DTYPES else ""
        raise InputError(
            f"x: expected {weight.dtype}, the network's type, got {x.dtype}. Convert it: x.to({weight.dtype}){other}."
        )
    if x.device != weight.device:
        raise InputError(
            f"x: expected device {weight.device}, the network's, got {x.device}. Move one of them with .to()."
        )
    check_device(x.device, "x")


def check_device(device: torch.device, argument: str) -> None:
    """Raise `InputError`, naming the argument, unless there are kernels for the device."""
    if device.type not in DEVICES:
        raise InputError(
            f"{argument}: expected the CPU or a CUDA GPU, got {device}. This version has no kernels for {device.type}. "
            "Move the network and x to the CPU."
        )


def check_values(weight: Tensor) -> None:
    """Raise `InputError` unless a network's weights have values."""
    if is_abstract(weight):
        raise InputError(
            "net: expected weights, got a network on the meta device or of fake tensors, which has none. Load them "
            "first."
        )


def check_whole(name: str, value: Any, least: int, remedy: str) -> int:
    """The argument ``name`` as an int; `InputError` unless it is a whole number of at least ``least``."""
    return arguments.check_whole(name, value, least, remedy, error=InputError)


def check_number(name: str, value: Any, expected: str, remedy: str) -> float:
    """The argument ``name`` as a float; `InputError`, which asks for what is ``expected``, unless it is a number."""
    return arguments.check_number(name, value, expected, remedy, InputError)


def check_probability(name: str, value: Any) -> float:
    """The argument ``name`` as a float; `InputError` unless it is a number from 0 to 1."""
    return arguments.check_probability(name, value, InputError)
