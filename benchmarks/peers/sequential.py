# SPDX-License-Identifier: MIT
"""nn.Sequential: dense layers, for a graph whose every level reads exactly the whole level before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.peers.base import Peer, level_parameters, to_canonical
from benchmarks.peers.layout import RELU, TANH, Layout

__all__ = ["SequentialPeer"]


class SequentialPeer(Peer):
    """``nn.Linear`` and activations in turn."""

    label = "nn.Sequential"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        layout = self.layout
        layers: list[nn.Module] = []
        self.linear: list[nn.Linear] = []
        parameters = level_parameters(net, layout, layout.level_before())
        for level, (weight, bias, _) in zip(layout.levels, parameters, strict=True):
            linear = nn.utils.skip_init(nn.Linear, *reversed(weight.shape), device=weight.device, dtype=weight.dtype)
            with torch.no_grad():
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)
            self.linear.append(linear)
            layers.append(linear)
            code = level.stretches[0][2]
            layers += [nn.ReLU()] if code == RELU else [nn.Tanh()] if code == TANH else []
        self.layers = nn.Sequential(*layers)

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        refusal = super().refusal(net)
        if refusal is not None:
            return refusal
        layout = Layout.of(net.graph)
        begin_before, before = 0, layout.num_inputs
        for level in layout.levels:
            size = level.end - level.begin
            src = layout.src[level.first : level.last]
            expected = torch.arange(begin_before, begin_before + before).repeat(size).numpy()
            if len(level.stretches) > 1 or len(src) != len(expected) or (src != expected).any():
                return "not a chain of fully connected layers"
            begin_before, before = level.begin, size
        if layout.outputs.tolist() != list(range(layout.num_rows - before, layout.num_rows)):
            return "its outputs are not the last layer in order"
        return None

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        y: Tensor = self.layers(x)
        return y

    def gradients(self) -> tuple[Tensor, Tensor]:
        """See `Peer`."""
        grad_weight = [linear.weight.grad.flatten() for linear in self.linear]  # type: ignore[union-attr]
        grad_bias = [linear.bias.grad for linear in self.linear]
        return to_canonical(self, torch.cat(grad_weight), torch.cat(grad_bias))  # type: ignore[arg-type]
