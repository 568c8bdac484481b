# SPDX-License-Identifier: MIT
"""`reference`: what a network computes, in plain torch operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from freewire.nn.checks import check_features
from freewire.nn.network import Network
from freewire.ops.network_reference import Wiring, node_values

__all__ = ["reference"]


def reference(net: Network, x: Tensor) -> Tensor:
    """What ``net(x)`` means, computed by plain torch operations, level by level.

    Slow, and differentiable in every way; use it to check a result, not to train.

    Args:
        net: The network; its parameters are converted to x's type.
        x: ``[..., I]``, any floating type, on the network's device.

    Returns:
        ``[..., O]`` in x's type.

    Raises:
        InputError: x has another number of features.

    Example:
        >>> import torch, freewire as fw
        >>> net = fw.Network(fw.generators.mlp([3, 4, 2]))
        >>> x = torch.randn(5, 3)
        >>> torch.allclose(fw.reference(net, x.double()).float(), net(x), atol=1e-5)
        True
    """
    check_features(x, len(net.graph.inputs))
    wiring, row = Wiring.of_graph(net.graph)
    bias = None if net.bias is None else net.bias.to(x.dtype)
    flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # not numel(), which fixes a symbolic batch
    values = node_values(wiring, flat, net.weight.to(x.dtype), bias)
    outputs = torch.as_tensor(row[net.graph.output_index], device=x.device)
    return values.index_select(1, outputs).reshape(*x.shape[:-1], len(outputs))
