# SPDX-License-Identifier: MIT
"""deepstruct: layers whose weights are multiplied by a mask at every call.

`DeepstructPeer` runs its ``MaskedDeepFFN`` with the graph's masks, for graphs whose edges lead from one level to the
next. Its ``MaskedDeepDAN``, which takes a graph, has edges that skip layers too, but adds up the results of the layers
*after* the activation: that is another function, and no weights make it the graph's. Without such edges the two run
the same layers; building the DAN takes time quadratic in nodes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import freewire as fw
from benchmarks.peers.base import Peer, level_parameters, missing, to_canonical
from benchmarks.peers.layout import LINEAR, RELU, Layout

__all__ = ["DeepstructPeer"]


class DeepstructPeer(Peer):
    """Its ``MaskedDeepFFN``."""

    label = "deepstruct"
    dtypes = (torch.float32,)  # it converts every input to float32

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        from deepstruct.sparse import MaskedDeepFFN, maskable_layers

        layout = self.layout
        hidden = [level.end - level.begin for level in layout.levels[:-1]]
        self.model = MaskedDeepFFN(layout.num_inputs, len(layout.outputs), hidden)
        self.layers: list[Any] = [self.model._layer_first, *maskable_layers(self.model._layers_hidden)]
        self.layers.append(self.model._layer_out)
        self.places: list[tuple[Tensor, Tensor]] = []
        parameters = level_parameters(net, layout, layout.level_before())
        for layer, (weight, bias, at) in zip(self.layers, parameters, strict=True):
            mask = torch.zeros_like(layer.mask)
            mask[at] = True
            layer.mask = mask
            layer.weight = torch.nn.Parameter(weight)
            layer.bias = torch.nn.Parameter(bias)
            self.places.append(at)

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        if (absent := missing("deepstruct", "deepstruct>=0.8")) is not None:
            return absent
        if net.weight.device.type != "cpu":
            return "its adapter is written for the CPU"
        refusal = super().refusal(net)
        if refusal is not None:
            return refusal
        layout = Layout.of(net.graph)
        for first, level in zip(layout.level_before(), layout.levels, strict=True):
            if (layout.src[level.first : level.last] < first).any():
                return "edges skip layers: it adds these up after the activation, which is another function"
        codes = [RELU] * (len(layout.levels) - 1) + [LINEAR]
        if len(codes) < 2 or any(
            level.stretches != ((0, level.end - level.begin, code),)
            for level, code in zip(layout.levels, codes, strict=True)
        ):
            return "its hidden layers are relu, its outputs linear"
        last = layout.levels[-1]
        if layout.outputs.tolist() != list(range(last.begin, last.end)):
            return "its outputs are the last layer in order"
        return None

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        y: Tensor = self.model(x)
        return y

    def gradients(self) -> tuple[Tensor, Tensor]:
        """See `Peer`."""
        grad_weight = [layer.weight.grad[at] for layer, at in zip(self.layers, self.places, strict=True)]
        return to_canonical(self, torch.cat(grad_weight), torch.cat([layer.bias.grad for layer in self.layers]))
