# SPDX-License-Identifier: MIT
"""nn.Sequential: the dense layers that a layered wiring is.

Enters: a network whose every level hears all of the level before, and nothing else. Leaves: `SequentialPeer`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.peers.base import Peer, indices, to_canonical
from benchmarks.peers.layout import RELU, TANH, Layout

__all__ = ["SequentialPeer"]


class SequentialPeer(Peer):
    """``nn.Linear`` and activations in turn."""

    label = "nn.Sequential"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        assert net.bias is not None
        layout = self.layout
        layers: list[nn.Module] = []
        self.linear: list[nn.Linear] = []
        before = layout.num_inputs
        for level in layout.levels:
            size = level.end - level.begin
            linear = nn.utils.skip_init(nn.Linear, before, size, device=net.weight.device, dtype=net.weight.dtype)
            own = slice(level.begin - layout.num_inputs, level.end - layout.num_inputs)
            with torch.no_grad():
                weight = net.weight[indices(layout.weight_entry[level.first : level.last], net.weight)]
                linear.weight.copy_(weight.reshape(size, before))
                linear.bias.copy_(net.bias[indices(layout.bias_entry[own], net.bias)])
            self.linear.append(linear)
            layers.append(linear)
            code = level.stretches[0][2]
            layers += [nn.ReLU()] if code == RELU else [nn.Tanh()] if code == TANH else []
            before = size
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
