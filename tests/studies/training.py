# SPDX-License-Identifier: MIT
"""Trainings that the tests of diagnostics measure, and the slow, obvious computation of what a record holds."""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss

import freewire as fw

#: Levels of different activations, nodes not in order of level, a node that reaches no output, a node without
#: in-edges, and an output that feeds another.
WIRES = nx.DiGraph(
    [("h", "y"), ("a", "g"), ("b", "g"), ("g", "h"), ("a", "h"), ("y", "z"), ("g", "unused"), ("c", "z")]
)
for name, activation in {"g": "tanh", "h": "sigmoid", "y": "linear", "z": "softplus", "c": "tanh"}.items():
    WIRES.nodes[name]["activation"] = activation


def network(dtype: torch.dtype = torch.float64, bias: bool = True, outputs: tuple[str, ...] = ("y", "z")) -> fw.Network:
    torch.manual_seed(1)
    graph = fw.Graph.from_networkx(WIRES, inputs=["a", "b"], outputs=outputs)
    net = fw.Network(graph, bias=bias, init="uniform", dtype=dtype)
    if bias:
        with torch.no_grad():
            net.bias.uniform_(-1, 1)
    return net


def batch(samples: int, net: fw.Network, seed: int = 2) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, len(net.graph.inputs), generator=drawn, dtype=torch.float64)
    y = torch.randn(samples, len(net.graph.outputs), generator=drawn, dtype=torch.float64)
    return x.to(net.weight.dtype), y.to(net.weight.dtype)


def classes(samples: int = 32) -> tuple[fw.Network, Tensor, Tensor]:
    """A classifier with two hidden levels of 12 relus, and a batch."""
    torch.manual_seed(0)
    net = fw.Network(fw.generators.mlp([5, 12, 12, 3]))
    return net, torch.randn(samples, 5), torch.randint(0, 3, (samples,))


def train(net, optimizer, diagnostics, x, y, steps, loss_fn=cross_entropy):
    """The training loop; returns what `step` returned."""
    found = []
    for _ in range(steps):
        loss = loss_fn(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(diagnostics.step(x, y, loss_fn, loss) if diagnostics is not None else None)
    return found


def state(net: fw.Network) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def loss_at(net: fw.Network, parameters: list[Tensor], x: Tensor, y: Tensor, loss_fn=mse_loss) -> float:
    names = [name for name, _ in net.named_parameters()]
    with torch.no_grad():
        return float(loss_fn(functional_call(net, dict(zip(names, parameters, strict=True)), (x,)), y))


def along(net: fw.Network, start: list[Tensor], end: list[Tensor], t: float, x: Tensor, y: Tensor) -> float:
    """The loss at the fraction ``t`` of the way from start to end."""
    return loss_at(net, [a + t * (b - a) for a, b in zip(start, end, strict=True)], x, y)


def least_squares_step_length(loss: float, slope: float, loss_after: float, slope_after: float) -> float:
    """Where a step of length 1 ends on the parabola that `numpy.linalg.lstsq` fits."""
    rows = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 1, 2]], np.float64)
    (_, b, c), *_ = np.linalg.lstsq(rows, np.array([loss, slope, loss_after, slope_after]), rcond=None)
    minimum = -b / (2 * c)
    return 1 / minimum - 1
