# SPDX-License-Identifier: MIT
"""RandWire in plain PyTorch: one multiplication and addition per edge, one relu per node, no operator of freewire.

`PlainRandWire` is the network as one would write it from the paper; `PlainRandWire.of` copies the wiring and the
parameters of a `freewire.models.RandWire`, whose state dict has the same names. `fold` folds its batch norms for
inference.

It is written with care: the gates of a stage are one sigmoid, the relu before the input nodes is taken once per stage,
and a stage's mean is a sum divided by a number, since ``torch.stack(...).mean(0)`` would leave channels_last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from functools import reduce
from itertools import pairwise

import networkx as nx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import freewire as fw

__all__ = ["PlainRandWire", "PlainStage", "fold"]

Edges = Sequence[tuple[int, int]]


def _conv_bn(in_channels: int, out_channels: int, size: int, stride: int = 1) -> OrderedDict[str, nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)
    return OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels))


def _node(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
    return nn.Sequential(OrderedDict(depthwise=depthwise, **_conv_bn(in_channels, out_channels, 1)))


class PlainStage(nn.Module):
    """One random stage, ``[B, in_channels, H, W]`` to ``[B, out_channels, ceil(H / 2), ceil(W / 2)]``.

    Args:
        num_nodes: Number of nodes, which are numbered from 0.
        edges: Pairs (source, destination), in the order of the weights.
        in_channels: Number of channels of x.
        out_channels: Number of channels of every node's result.
    """

    def __init__(self, num_nodes: int, edges: Edges, in_channels: int, out_channels: int) -> None:
        super().__init__()
        dag = nx.DiGraph(edges)
        dag.add_nodes_from(range(num_nodes))
        self.order = list(nx.topological_sort(dag))
        self.sinks = [node for node in range(num_nodes) if not dag.out_degree(node)]
        self.sources: list[list[tuple[int, int]]] = [[] for _ in range(num_nodes)]
        for edge, (source, target) in enumerate(edges):
            self.sources[target].append((edge, source))
        self.weight = nn.Parameter(torch.zeros(len(edges)))
        self.nodes = nn.ModuleList(
            _node(out_channels, out_channels, 1) if sources else _node(in_channels, out_channels, 2)
            for sources in self.sources
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the nodes."""
        gates = torch.sigmoid(self.weight).unbind()
        x = torch.relu(x)
        results: dict[int, Tensor] = {}
        for node in self.order:
            received = x
            if self.sources[node]:
                received = torch.relu(reduce(torch.add, (gates[e] * results[u] for e, u in self.sources[node])))
            results[node] = self.nodes[node](received)
        return reduce(torch.add, (results[sink] for sink in self.sinks)) / len(self.sinks)


class PlainRandWire(nn.Module):
    """The small regime, from images ``[B, 3, H, W]`` to ``[B, classes]``.

    Args:
        wirings: For each stage the number of nodes, and the edges.
        channels: Number of channels of the first stage; the later ones have twice and four times as many.
        classes: Number of outputs.
        features: Number of inputs of the linear layer.
    """

    def __init__(self, wirings: Sequence[tuple[int, Edges]], channels: int, classes: int, features: int = 1280) -> None:
        super().__init__()
        half = channels // 2
        first = nn.Sequential(_conv_bn(3, half, 3, 2))
        self.stem = nn.Sequential(first, nn.Sequential(OrderedDict(relu=nn.ReLU(), **_conv_bn(half, channels, 3, 2))))
        widths = [channels, *(channels * 2**i for i in range(len(wirings)))]
        self.stages = nn.Sequential(
            *(PlainStage(n, edges, *ends) for (n, edges), ends in zip(wirings, pairwise(widths), strict=True))
        )
        self.head = nn.Sequential(OrderedDict(relu=nn.ReLU(), **_conv_bn(widths[-1], features, 1)))
        self.fc = nn.Linear(features, classes)

    @classmethod
    def of(cls, model: fw.models.RandWire) -> PlainRandWire:
        """Copy a model's wiring, parameters, statistics and dtype.

        Args:
            model: A model of the small regime, with a classifier.
        """
        graphs = [stage.graph for stage in model.stages]
        wirings = [(graph.num_nodes, [(u, v) for u, v in graph.edge_index.T.tolist()]) for graph in graphs]
        plain = cls(wirings, model.stages[0].in_channels, model.num_classes, model.num_features)
        state = {name: value for name, value in model.state_dict().items() if not name.endswith("_extra_state")}
        plain.to(model.fc.weight.dtype).load_state_dict(state)  # all but the hashes of the wiring
        return plain.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        maps = self.head(self.stages(self.stem(x)))
        return self.fc(nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1))


def fold(plain: PlainRandWire) -> PlainRandWire:
    """A copy for inference, with every batch norm folded into the convolution before it."""
    folded = deepcopy(plain).eval().requires_grad_(False)
    for sequence in [m for m in folded.modules() if isinstance(m, nn.Sequential) and hasattr(m, "bn")]:
        sequence.conv = fuse_conv_bn_eval(sequence.conv, sequence.bn).requires_grad_(False)
        del sequence.bn
    return folded
