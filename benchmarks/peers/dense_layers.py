# SPDX-License-Identifier: MIT
"""The dense network of a wiring's neurons: enters a network, leaves `DENSE`, a candidate that is compared in cost only.

It has as many layers, and neurons a layer, as the wiring has levels and nodes, and every connection between two
layers in turn: what somebody would train who does without the wiring.
"""

from __future__ import annotations

import itertools

from torch import nn

import freewire as fw
from benchmarks.peers.layout import Layout
from benchmarks.suites.run import Candidate

__all__ = ["DENSE"]


def _dense(net: fw.Network) -> nn.Module:
    levels = Layout.of(net.graph).levels
    hidden = [level.end - level.begin for level in levels[:-1]]
    sizes = [len(net.graph.inputs), *hidden, len(net.graph.outputs)]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(net.weight.device, net.weight.dtype)


DENSE = Candidate("dense MLP", _dense, None)
