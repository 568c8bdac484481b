# SPDX-License-Identifier: MIT
"""Small networks on which the benchmarks' peers and suites are tested."""

from __future__ import annotations

import torch

import freewire as fw

#: A batch size that is no multiple of any tile width.
BATCH = 37


def mixed_network(seed: int = 0) -> fw.Network:
    """Relu, tanh and linear nodes, some of which reach no output, an output with out-edges, and biases."""
    src = [0, 1, 0, 3, 2, 4, 4, 3, 5, 1, 6, 7, 2]
    dst = [3, 3, 4, 5, 5, 6, 7, 8, 8, 9, 9, 9, 10]
    names = ["linear"] * 3 + ["tanh", "relu", "tanh", "relu", "linear", "relu", "tanh", "linear"]
    torch.manual_seed(seed)
    net = fw.Network(fw.Graph.from_edges(src, dst, inputs=[0, 1, 2], outputs=[5, 9, 8], activation=names))
    torch.nn.init.normal_(net.bias)
    return net


def tanh_network() -> fw.Network:
    """Three components of different sizes, whose outputs have no out-edges."""
    graphs = [fw.generators.random_graph(3, size, 2, 3, "tanh", "tanh", seed=0) for size in (9, 14, 5)]
    torch.manual_seed(0)
    net = fw.Network(fw.Graph.union(graphs))
    torch.nn.init.normal_(net.bias)
    return net


def layered_network(activation: str = "tanh") -> fw.Network:
    """Dense layers of the given activation."""
    torch.manual_seed(0)
    net = fw.Network(fw.generators.mlp([5, 7, 6, 3], activation=activation))
    torch.nn.init.normal_(net.bias)
    return net
