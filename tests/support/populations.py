# SPDX-License-Identifier: MIT
"""Populations for tests: graphs of very different kinds with 4 inputs and 3 outputs, and what each computes alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS

INPUTS, OUTPUTS = 4, 3


def every_function(seed: int) -> fw.Graph:
    """A random graph whose nodes have all activations and aggregations in turn."""
    g = fw.generators.random_graph(INPUTS, 2 * len(ACTIVATIONS), OUTPUTS, 3, seed=seed)
    src, dst = g.edge_index
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=g.num_nodes,
        inputs=g.input_index,
        outputs=g.output_index,
        activation=[ACTIVATIONS[i % len(ACTIVATIONS)] for i in range(g.num_nodes)],
        aggregation=[AGGREGATIONS[i % len(AGGREGATIONS)] for i in range(g.num_nodes)],
    )


def different_graphs() -> list[fw.Graph]:
    """Deep and flat, dense and sparse, with dead nodes, an input that is an output, and one without any edge."""
    random = fw.generators.random_graph
    no_edges = fw.Graph.from_edges([], [], num_nodes=7, inputs=[0, 1, 2, 3], outputs=[4, 5, 6], activation="tanh")
    copies = fw.Graph.from_edges([0], [4], num_nodes=5, inputs=[0, 1, 2, 3], outputs=[3, 4, 0])
    dead = fw.Graph.from_edges(
        [0, 1, 2, 3, 0, 7], [4, 5, 6, 4, 7, 8], num_nodes=9, inputs=[0, 1, 2, 3], outputs=[4, 5, 6], activation="tanh"
    )
    chain = fw.Graph.from_edges(
        [0, 1, *range(4, 40)], [4, 4, *range(5, 41)], inputs=[0, 1, 2, 3], outputs=[38, 39, 40], activation="tanh"
    )
    return [
        random(INPUTS, 20, OUTPUTS, 4, "tanh", "tanh", seed=0),
        no_edges,
        fw.generators.mlp([INPUTS, 16, 24, OUTPUTS], "tanh"),
        copies,
        every_function(1),
        chain,
        random(INPUTS, 400, OUTPUTS, 9, "sigmoid", "linear", seed=2),
        dead,
        fw.generators.mlp([INPUTS, OUTPUTS], "relu"),
    ]


def population(
    graphs: Sequence[fw.Graph], dtype: torch.dtype = torch.float64, seed: int = 0, bias: bool = True
) -> fw.Population:
    """A population with random weights and biases, all of them of order one."""
    torch.manual_seed(seed)
    pop = fw.Population(graphs, bias=bias, dtype=dtype, init="self_normalized")
    if pop.bias is not None:
        with torch.no_grad():
            pop.bias.normal_(std=0.5)
    return pop


def samples(pop: fw.Population, *shape: int, seed: int = 1) -> Tensor:
    """x of any leading shape, standard normal, of the population's type."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, INPUTS, generator=generator, dtype=torch.float64).to(pop.weight)


def gradients(pop: fw.Population, x: Tensor, grad_y: Tensor, per_member: bool = False) -> list[Tensor]:
    """y and the gradients of x, weight and bias."""
    x = x.detach().requires_grad_()
    y = pop(x, per_member=per_member)
    wanted = [x, *pop.parameters()]
    found = torch.autograd.grad(y, wanted, grad_y, allow_unused=True)
    return [y.detach(), *(torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True))]


def alone(pop: fw.Population, x: Tensor, grad_y: Tensor, per_member: bool = False) -> list[Tensor]:
    """The same from copies of the members, one after the other."""
    ys, grads_x, weights, biases = [], [], [], []
    for i in range(len(pop)):
        net = pop.member(i)
        own = (x[i] if per_member else x).detach().requires_grad_()
        y = net(own)
        wanted = [own, *net.parameters()]
        found = torch.autograd.grad(y, wanted, grad_y[i], allow_unused=True)
        grad_x, grad_weight, *grad_bias = (
            torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)
        )
        ys.append(y.detach())
        grads_x.append(grad_x)
        weights.append(grad_weight)
        biases += grad_bias
    stacked = torch.stack(grads_x)
    results = [torch.stack(ys), stacked if per_member else stacked.sum(0), torch.cat(weights)]
    return [*results, torch.cat(biases)] if biases else results


def small(seed: int, hidden: int = 10) -> fw.Graph:
    """A small random graph."""
    return fw.generators.random_graph(INPUTS, hidden, OUTPUTS, 3, "tanh", "tanh", seed=seed)


def many(count: int) -> list[fw.Graph]:
    """Small random graphs of several sizes."""
    return [small(seed, 3 + seed % 20) for seed in range(count)]


def raises(kind: type[Exception], message: str) -> Any:
    """`pytest.raises` of exactly that message."""
    return pytest.raises(kind, match=f"^{re.escape(message)}$")
