# SPDX-License-Identifier: MIT
"""What a peer is: a module with a freewire network's graph and weights, computing the same by other means."""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import freewire as fw
from benchmarks.peers.layout import Layout

__all__ = ["FlatPeer", "Peer", "indices", "missing", "to_canonical"]


class Peer(nn.Module):
    """Base of the peers; ``forward`` maps ``x [B, I]`` to ``[B, O]``, differentiable in x and in its parameters.

    Args:
        net: The network whose graph, weights, biases, type and device the peer takes over.
    """

    label: ClassVar[str]
    #: Why the peer computes no gradients, or None if it does.
    no_step: ClassVar[str | None] = None
    #: What it computes in; its results are compared in each.
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float64, torch.float32)

    def __init__(self, net: fw.Network) -> None:
        super().__init__()
        self.layout = Layout.of(net.graph)
        self.num_weights, self.num_biases = len(net.weight), len(net.graph.computed_index)
        self._kept: Tensor | None = None

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """Why the peer cannot run the network, or None if it can."""
        try:
            Layout.of(net.graph)
        except ValueError as error:
            return str(error)
        return None if net.bias is not None else "the network has no biases"

    def kept_tape(self, x: Tensor, *shape: int) -> Tensor:
        """A tape for a call without gradients, kept for the next one: fresh memory would cost a page fault a page."""
        if self._kept is None or self._kept.shape != shape:
            self._kept = x.new_empty(shape)
        return self._kept

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The gradients that the last backward left, in the order of `Network.weight` and `Network.bias`."""
        raise NotImplementedError


class FlatPeer(Peer):
    """A peer that holds its weights as one vector of live edges, and its biases as one of computed rows."""

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        assert net.bias is not None
        layout = self.layout
        self.weight = nn.Parameter(net.weight.detach()[indices(layout.weight_entry, net.weight)])
        self.bias = nn.Parameter(net.bias.detach()[indices(layout.bias_entry, net.bias)])

    def gradients(self) -> tuple[Tensor, Tensor]:
        """See `Peer`."""
        assert self.weight.grad is not None
        assert self.bias.grad is not None
        return to_canonical(self, self.weight.grad, self.bias.grad)


def missing(package: str, install: str) -> str | None:
    """Why a peer that needs an optional package is left out, or None if the package is there.

    Args:
        package: As it is imported.
        install: What pip calls it.
    """
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed: pip install '{install}'"


def indices(array: NDArray[Any], like: Tensor) -> Tensor:
    """An array of `Layout` as a tensor beside ``like``: indexing from another device would wait for a copy."""
    return torch.from_numpy(array).to(like.device)


def to_canonical(peer: Peer, grad_weight: Tensor, grad_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of live edges ``[M]`` and computed rows ``[R - I]`` in freewire's order, 0 where nothing is live."""
    weight = grad_weight.new_zeros(peer.num_weights)
    weight[indices(peer.layout.weight_entry, weight)] = grad_weight
    bias = grad_bias.new_zeros(peer.num_biases)
    bias[indices(peer.layout.bias_entry, bias)] = grad_bias
    return weight, bias
