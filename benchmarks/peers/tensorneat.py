# SPDX-License-Identifier: MIT
"""TensorNEAT: jitted jax, a loop over the nodes, vectorised over a population and the batch.

Enters: a network, and a checkout (see `benchmarks.peers.checkouts`). Leaves: `TensorneatPeer`, the forward of its
``DefaultGenome`` (in `benchmarks.peers.tensorneat_kernels`, which alone imports it), differentiated by `jax.vjp`. Each
connected part of the wiring is a member of the population, as the library has it (workload W5: 256 members), all of
them padded to the largest one. A genome is an array of nodes, one of connections and a matrix ``[nodes, nodes]`` of
places; every node reads a column of that and all values, so that time grows with the square of the nodes. What the
library works out once a genome (order and places) is outside of what is timed. Tensors cross as for
`benchmarks.peers.jax_levels`.

Tried and found slower: ``vmap`` over samples outside of the one over members (1.2 times W5's forward).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import freewire as fw
from benchmarks.peers.base import FlatPeer
from benchmarks.peers.checkouts import absent
from benchmarks.peers.jax_levels import why_no_jax
from benchmarks.peers.layout import Layout
from benchmarks.peers.parts import parts_of

__all__ = ["TensorneatPeer"]

_MOST_NODES = 1000  # of a part; W2's 460 take a second a forward


class _Function(torch.autograd.Function):
    """(x, weight, bias) -> y; what the backward needs stays in jax."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, peer: TensorneatPeer) -> Tensor:
        y, ctx.pull = peer.kernels.forward(x, weight, bias)
        ctx.peer = peer
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        return *ctx.peer.kernels.backward(grad_y.contiguous(), ctx.pull), None


class TensorneatPeer(FlatPeer):
    """Its feed-forward genomes."""

    label = "TensorNEAT"
    dtypes = (torch.float32,)  # it is written for the types that jax has by default

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        from benchmarks.peers.tensorneat_kernels import Kernels

        self.kernels = Kernels(self.layout)

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        reasons = absent("tensorneat", "src/tensorneat"), why_no_jax(net), super().refusal(net)
        if (reason := next(filter(None, reasons), None)) is not None:
            return reason
        layout = Layout.of(net.graph)
        parts = parts_of(layout)
        if (most := max(len(part.inputs) + len(part.computed) for part in parts)) > _MOST_NODES:
            return f"{most:,} nodes in one network: its time and memory grow with their square"
        if len(np.unique(layout.src * layout.num_rows + layout.dst)) < len(layout.src):
            return "two edges between one pair of nodes"
        if (layout.outputs < layout.num_inputs).any():
            return "an output that is an input"
        codes = np.unique(layout.activation[layout.outputs - layout.num_inputs])
        if len(codes) > 1 or np.isin(layout.outputs, layout.src).any():
            return "outputs of several activations, or ones that feed others: it activates them all at the end"
        return None

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            y: Tensor = _Function.apply(x, self.weight, self.bias, self)
            return y
        return self.kernels.infer(x, self.weight.detach(), self.bias.detach())
