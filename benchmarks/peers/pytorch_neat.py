# SPDX-License-Identifier: MIT
"""PyTorch-NEAT: a Python object a node, two torch calls an edge on the batch's values ``[B]``.

Enters: a network, and a checkout (see `benchmarks.peers.checkouts`). Leaves: `PytorchNeatPeer`, the ``Node`` and
``Leaf`` of its ``cppn``, called in the order of the rows with activations of our own (its tanh is steeper). Weights
and biases are tensors cut from one parameter each, which its arithmetic takes as well as numbers; torch differentiates
it then, and the forward is a tenth to a third faster.

Tried and found slower: its ``RecurrentNet``, dense matrices between all nodes iterated as often as the network is
deep, one for each connected part: 55 times the time of W2's forward, 9 of W5's, 20 of W1's (CPU time, both cores of an
AMD EPYC with AVX-512). Its own ``reset`` and call, which walk the whole network once an output.
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
_MOST_EDGES = 200_000  # two torch calls each: a second
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
        """Give the nodes their weights and biases, as scalars that lead back to the parameters."""
        weights, biases, ptr = self.weight.unbind(), self.bias.unbind(), self.layout.in_ptr
        for v, node in enumerate(self.nodes):
            node.weights, node.bias = weights[ptr[v] : ptr[v + 1]], biases[v]

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            self._spread()  # a backward frees what it went through
        shape = x.shape[:1]
        for leaf, column in zip(self.leaves, x.T.contiguous().unbind(), strict=True):
            leaf.set_activs(column)
        for node in self.nodes:
            node.activs = None
        for node in self.nodes:
            node.get_activs(shape)
        return torch.stack([node.get_activs(shape) for node in self.outputs], 1)
