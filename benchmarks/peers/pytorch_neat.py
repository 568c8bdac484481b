# SPDX-License-Identifier: MIT
"""PyTorch-NEAT: one Python object per node, two torch calls per edge on the batch's values ``[B]``.

`PytorchNeatPeer` needs a checkout (see `benchmarks.peers.checkouts`). It calls the ``Node`` and ``Leaf`` of the
library's ``cppn`` in the order of the rows, with our own activations (the library's tanh is steeper). Weights and
biases are scalar tensors cut from one parameter each, which the library's arithmetic accepts like numbers; torch can
then differentiate it, and the forward is a tenth to a third faster.

Tried and found slower: its ``RecurrentNet``, dense matrices between all nodes iterated once per level, one for each
connected component: 55 times the time of W2's forward, 9 times W5's, 20 times W1's (CPU time, both cores of an AMD EPYC
with AVX-512). Its own ``reset`` and call, which walk the whole network once per output.
"""

from __future__ import annotations

import torch
from torch import Tensor

import freewire as fw
from benchmarks.peers.base import FlatPeer, missing
from benchmarks.peers.checkouts import absent, load
from benchmarks.peers.layout import LINEAR, RELU, TANH

__all__ = ["PytorchNeatPeer"]

_NAME, _FOLDER = "pytorch-neat", "pytorch_neat"
_MOST_EDGES = 200_000  # at two torch calls each, a second
_ACTIVATIONS = {LINEAR: lambda z: z, RELU: torch.relu, TANH: torch.tanh}


class PytorchNeatPeer(FlatPeer):
    """Its compositional networks."""

    label = "PyTorch-NEAT"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        layout = self.layout
        cppn = load(_NAME, _FOLDER, "_pytorch_neat", "cppn")
        self.leaves = [cppn.Leaf() for _ in range(layout.num_inputs)]
        nodes = list(self.leaves)
        for v, code in enumerate(layout.activation):
            sources = layout.src[layout.in_ptr[v] : layout.in_ptr[v + 1]]
            nodes.append(cppn.Node([nodes[row] for row in sources], [], 1.0, 0.0, _ACTIVATIONS[code], sum))
        self.nodes = nodes[layout.num_inputs :]
        self.outputs = [nodes[row] for row in layout.outputs]
        self._spread()

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        reasons = absent(_NAME, _FOLDER), missing("neat", "neat-python>=0.92")
        if (reason := next(filter(None, reasons), None)) is not None:
            return reason
        if net.graph.num_edges > _MOST_EDGES:
            return f"{net.graph.num_edges:,} edges at two torch calls each"
        return super().refusal(net)

    def _spread(self) -> None:
        """Give the nodes their weights and biases, as scalars that autograd traces to the parameters."""
        weights, biases, ptr = self.weight.unbind(), self.bias.unbind(), self.layout.in_ptr
        for v, node in enumerate(self.nodes):
            node.weights, node.bias = weights[ptr[v] : ptr[v + 1]], biases[v]

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            self._spread()  # the last backward freed its graph, the slicing included
        shape = x.shape[:1]
        for leaf, column in zip(self.leaves, x.T.contiguous().unbind(), strict=True):
            leaf.set_activs(column)
        for node in self.nodes:
            node.activs = None
        for node in self.nodes:
            node.get_activs(shape)
        return torch.stack([node.get_activs(shape) for node in self.outputs], 1)
