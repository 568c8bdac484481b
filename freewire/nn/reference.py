# SPDX-License-Identifier: MIT
"""`reference`: what a network computes, in plain torch operations."""

from __future__ import annotations

import math
from typing import overload

import torch
from torch import Tensor

from freewire.errors import InputError, shown
from freewire.nn.checks import check_features
from freewire.nn.network import Network
from freewire.nn.recurrent import Recurrent
from freewire.ops.network_reference import Wiring, node_values
from freewire.plan.steps import step_graph

__all__ = ["reference"]


@overload
def reference(net: Network, x: Tensor) -> Tensor: ...


@overload
def reference(net: Recurrent, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


def reference(net: Network | Recurrent, x: Tensor, h: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
    """What ``net(x)`` means, computed by plain torch operations, level by level, and step by step.

    Slow, and differentiable in every way; use it to check a result, not to train.

    Args:
        net: The network; its parameters are converted to x's type.
        x: ``[..., I]``, any floating type, on the network's device; for a `freewire.Recurrent` as that has it.
        h: The state before the first step, of a `freewire.Recurrent`.

    Returns:
        ``[..., O]`` in x's type; for a `freewire.Recurrent` y and the state, as that returns them.

    Raises:
        InputError: x has another number of features, or h is given to a network that has no state.

    Example:
        >>> import torch, freewire as fw
        >>> net = fw.Network(fw.generators.mlp([3, 4, 2]))
        >>> x = torch.randn(5, 3)
        >>> torch.allclose(fw.reference(net, x.double()).float(), net(x), atol=1e-5)
        True
    """
    check_features(x, len(net.graph.inputs))
    bias = None if net.bias is None else net.bias.to(x.dtype)
    if isinstance(net, Recurrent):
        return net.run_frames(x, h, lambda *call: _steps(net, bias, *call))
    if h is not None:
        raise InputError(f"h: expected None for a network without state, got {shown(h)}. Omit it.")
    wiring, row = Wiring.of_step(step_graph(net.graph))
    flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # not numel(), which fixes a symbolic batch
    values = node_values(wiring, flat, net.weight.to(x.dtype), bias)
    outputs = torch.as_tensor(row[net.graph.output_index], device=x.device)
    return values.index_select(1, outputs).reshape(*x.shape[:-1], len(outputs))


def _steps(net: Recurrent, bias: Tensor | None, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs of all steps and the last states, for x ``[T, B, I]``."""
    step = step_graph(net.graph, learn_leak=net.leak is not None)
    wiring, row = Wiring.of_step(step)
    weight, bias = net.step_parameters(net.weight.to(x.dtype), bias)
    outputs, sources = (torch.as_tensor(row[nodes], device=x.device) for nodes in (step.outputs, step.state_source))
    ys = [x.new_empty(0, x.shape[1], len(outputs))]
    for frame in x.unbind(0):
        values = node_values(wiring, torch.cat((frame, states), 1), weight, bias)
        ys.append(values.index_select(1, outputs)[None])
        states = values.index_select(1, sources)
    return torch.cat(ys), states
