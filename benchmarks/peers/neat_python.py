# SPDX-License-Identifier: MIT
"""neat-python: one plain Python object per network, which computes one sample at a time in a loop over the edges.

`NeatPythonPeer` needs the package neat-python. Each connected component of the graph is one of its feed-forward
networks (``neat.nn.FeedForwardNetwork``), as in the library a genome is. It has no gradients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import freewire as fw
from benchmarks.peers.base import Peer, live_parameters, missing
from benchmarks.peers.layout import LINEAR, RELU, TANH
from benchmarks.peers.parts import parts_of

__all__ = ["NeatPythonPeer"]

_MOST_EDGES = 300_000  # at a tenth of a microsecond or more each, times the samples
_ACTIVATIONS = {LINEAR: lambda z: z, RELU: lambda z: max(z, 0.0), TANH: math.tanh}


class NeatPythonPeer(Peer):
    """Its feed-forward networks."""

    label = "neat-python"
    no_step = "it computes no gradients"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        from neat.nn import FeedForwardNetwork

        layout = self.layout
        edge_weight, row_bias = (values.tolist() for values in live_parameters(net, layout))
        self._networks = []
        for part in parts_of(layout):
            inputs = len(part.inputs)
            links: list[list[tuple[int, float]]] = [[] for _ in part.computed]
            for edge, src, dst in zip(part.edge.tolist(), part.src.tolist(), part.dst.tolist(), strict=True):
                links[dst - inputs].append((src, edge_weight[edge]))
            evaluated = [
                (inputs + i, _ACTIVATIONS[int(layout.activation[row])], sum, row_bias[row], 1.0, links[i])
                for i, row in enumerate((part.computed - layout.num_inputs).tolist())
            ]
            network = FeedForwardNetwork(list(range(inputs)), part.output.tolist(), evaluated)
            self._networks.append((network, torch.from_numpy(part.inputs), torch.from_numpy(part.output_place)))

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        if (reason := missing("neat", "neat-python>=0.92")) is not None:
            return reason
        if net.graph.num_edges > _MOST_EDGES:
            return f"{net.graph.num_edges:,} edges in a loop of Python"
        return super().refusal(net)

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        y = x.new_empty(len(x), len(self.layout.outputs))
        for network, columns, places in self._networks:
            rows = [network.activate(sample) for sample in x[:, columns].tolist()]
            y[:, places] = torch.tensor(rows, dtype=x.dtype)
        return y
