# SPDX-License-Identifier: MIT
"""The base classes of the peers: modules with a freewire network's graph and weights that compute it by other means."""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import freewire as fw
from benchmarks.harness.correctness import DTYPES
from benchmarks.harness.measure import Candidate
from benchmarks.peers.layout import Layout

__all__ = [
    "FlatPeer",
    "KernelPeer",
    "Peer",
    "indices",
    "level_parameters",
    "live_parameters",
    "missing",
    "to_canonical",
]


class Peer(nn.Module):
    """Base of the peers; ``forward`` maps ``x [B, I]`` to ``[B, O]``, differentiable in x and in its parameters.

    Args:
        net: The network whose graph, weights, biases, dtype and device the peer copies.
    """

    label: ClassVar[str]
    #: Why the peer computes no gradients, or None if it does.
    no_step: ClassVar[str | None] = None
    #: The dtypes it computes in; its results are compared in each.
    dtypes: ClassVar[tuple[torch.dtype, ...]] = DTYPES

    def __init__(self, net: fw.Network) -> None:
        super().__init__()
        self.layout = Layout.of(net.graph)
        self.num_weights, self.num_biases = len(net.weight), len(net.graph.computed_index)
        self._kept: Tensor | None = None

    @classmethod
    def candidate(cls) -> Candidate:
        """The peer as `benchmarks.harness.measure` takes it."""
        gradients = cls.gradients if cls.no_step is None else None
        return Candidate(cls.label, cls, gradients, cls.refusal, cls.no_step, cls.dtypes)

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """Why the peer cannot run the network, or None if it can."""
        try:
            Layout.of(net.graph)
        except ValueError as error:
            return str(error)
        return None if net.bias is not None else "the network has no biases"

    def kept_tape(self, x: Tensor, *shape: int) -> Tensor:
        """A tape for calls without gradients, reused by the next call: fresh memory costs page faults."""
        if self._kept is None or self._kept.shape != shape:
            self._kept = x.new_empty(shape)
        return self._kept

    def gradients(self) -> tuple[Tensor, Tensor]:
        """The gradients of the last backward, in the order of `Network.weight` and `Network.bias`."""
        raise NotImplementedError


class FlatPeer(Peer):
    """A peer that holds its weights as one vector of live edges, and its biases as one of computed rows."""

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        edge_weight, row_bias = live_parameters(net, self.layout)
        self.weight, self.bias = nn.Parameter(edge_weight), nn.Parameter(row_bias)

    def gradients(self) -> tuple[Tensor, Tensor]:
        """See `Peer`."""
        assert self.weight.grad is not None
        assert self.bias.grad is not None
        return to_canonical(self, self.weight.grad, self.bias.grad)


class KernelPeer(FlatPeer):
    """A peer whose forward and backward are calls of another library.

    A subclass sets ``kernels``, an object with ``infer(x, weight, bias) -> y``, ``forward(x, weight, bias) -> (y,
    saved)`` and ``backward(grad_y, weight, saved) -> (grad_x, grad_weight, grad_bias)``, all of torch tensors except
    ``saved``.
    """

    kernels: Any

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            y: Tensor = _KernelFunction.apply(x, self.weight, self.bias, self.kernels)
            return y
        return self.kernels.infer(x, self.weight.detach(), self.bias.detach())


class _KernelFunction(torch.autograd.Function):
    """(x, weight, bias) -> y; what the backward needs stays in the other library."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, kernels: Any) -> Tensor:
        y, ctx.saved = kernels.forward(x, weight, bias)
        ctx.kernels = kernels
        ctx.save_for_backward(weight)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (weight,) = ctx.saved_tensors
        return *ctx.kernels.backward(grad_y.contiguous(), weight, ctx.saved), None


def missing(package: str, install: str) -> str | None:
    """Why a peer that needs an optional package does not run, or None if the package is installed.

    Args:
        package: The name under which it is imported.
        install: The requirement for pip.
    """
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed: pip install '{install}'"


def indices(array: NDArray[Any], like: Tensor) -> Tensor:
    """An array of `Layout` as a tensor on the device of ``like``: indexing across devices would wait for a copy."""
    return torch.from_numpy(array).to(like.device)


def live_parameters(net: fw.Network, layout: Layout) -> tuple[Tensor, Tensor]:
    """The weights of the live edges ``[M]`` and the biases of the computed rows ``[R - I]``."""
    assert net.bias is not None
    weight, bias = net.weight.detach(), net.bias.detach()
    return weight[indices(layout.weight_entry, weight)], bias[indices(layout.bias_entry, bias)]


def level_parameters(
    net: fw.Network, layout: Layout, first_column: list[int]
) -> list[tuple[Tensor, Tensor, tuple[Tensor, Tensor]]]:
    """Each level's weights as a dense matrix.

    Args:
        net: The network.
        layout: Its layout.
        first_column: For each level the row of the layout that column 0 of its matrix reads.

    Returns:
        For each level the matrix ``[nodes in the level, columns]``, 0 where there is no edge; the biases ``[nodes in
        the level]``; and the places of the level's edges in the matrix. Parallel edges share an entry, their sum.
    """
    edge_weight, row_bias = live_parameters(net, layout)
    found = []
    for level, first in zip(layout.levels, first_column, strict=True):
        edges = slice(level.first, level.last)
        rows, columns = layout.dst[edges] - level.begin, layout.src[edges] - first
        at = indices(rows, edge_weight), indices(columns, edge_weight)
        weight = edge_weight.new_zeros(level.end - level.begin, level.begin - first)
        weight.index_put_(at, edge_weight[edges], accumulate=True)
        own = slice(level.begin - layout.num_inputs, level.end - layout.num_inputs)
        found.append((weight, row_bias[own].clone(), at))
    return found


def to_canonical(peer: Peer, grad_weight: Tensor, grad_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of live edges ``[M]`` and computed rows ``[R - I]`` in freewire's order, 0 for what is not live."""
    weight = grad_weight.new_zeros(peer.num_weights)
    weight[indices(peer.layout.weight_entry, weight)] = grad_weight
    bias = grad_bias.new_zeros(peer.num_biases)
    bias[indices(peer.layout.bias_entry, bias)] = grad_bias
    return weight, bias
