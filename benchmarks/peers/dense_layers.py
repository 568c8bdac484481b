# SPDX-License-Identifier: MIT
"""The dense MLP with as many layers, and neurons per layer, as the graph has levels and nodes.

`DENSE` is a candidate that is compared in cost only: every two successive layers are fully connected, which is what
somebody would train who ignores the wiring.
"""

from __future__ import annotations

import itertools

from torch import nn

import freewire as fw
from benchmarks.harness.measure import Candidate
from benchmarks.peers.layout import Layout

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
