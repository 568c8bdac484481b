# SPDX-License-Identifier: MIT
"""Weights that never change."""

from __future__ import annotations

import pytest
import torch

import freewire as fw
from tests.support.constrained import EDGES, WIRES, constrained, drawn, train
from tests.support.messages import assert_refused

MASK = torch.tensor(drawn()["frozen"])

OPTIMIZERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_no_optimizer_changes_them(make, stored):
    net = constrained("frozen", stored=stored)
    start = net.weight.detach().clone()
    if stored:
        assert torch.equal(start, torch.tensor(drawn()["weight"], dtype=torch.float32))
    train(net, make(net.parameters()), 20)
    assert torch.equal(net.weight[MASK], start[MASK])
    assert (net.weight[~MASK] != start[~MASK]).all()
    assert not net.parametrizations.weight.original.grad[MASK].any()


def test_the_others_have_their_gradient():
    net, free = constrained("frozen"), constrained()
    x = torch.randn(4, 6)
    for each in (net, free):
        each(x).square().sum().backward()
    grad = net.parametrizations.weight.original.grad
    torch.testing.assert_close(grad[~MASK], free.weight.grad[~MASK])
    assert not grad[MASK].any()
    assert torch.equal(net.edge_gradient(), grad)


def test_frozen_and_released_later():
    net = fw.Network(WIRES)
    train(net, torch.optim.Adam(net.parameters(), lr=0.1), 5)
    start = net.weight.detach().clone()
    fw.constraints.frozen(net, MASK)
    assert torch.equal(net.weight, start)
    assert net.graph.frozen.tolist() == MASK.tolist()
    train(net, torch.optim.Adam(net.parameters(), lr=0.1), 5)
    now = net.weight.detach().clone()
    assert torch.equal(now[MASK], start[MASK])
    fw.constraints.frozen(net, None)
    assert torch.equal(net.weight, now)
    train(net, torch.optim.Adam(net.parameters(), lr=0.1), 5)
    assert (net.weight != now).all()


def test_all_frozen():
    net = fw.Network(WIRES.with_constraints(frozen=[True] * EDGES))
    start = net.weight.detach().clone()
    train(net, torch.optim.SGD(net.parameters(), lr=0.1), 3)
    assert torch.equal(net.weight, start)


def test_assigned_and_drawn_again():
    net = constrained("frozen", stored=False)
    net.weight = torch.arange(EDGES) / EDGES
    assert torch.equal(net.weight, torch.arange(EDGES) / EDGES)
    net.reset_parameters()
    frozen = net.weight[MASK]
    assert (frozen != (torch.arange(EDGES) / EDGES)[MASK]).all()
    train(net, torch.optim.SGD(net.parameters(), lr=0.1), 3)
    assert torch.equal(net.weight[MASK], frozen)


def test_other_constraints_do_not_change_them():
    net = constrained("frozen")
    edge = int(MASK.nonzero()[0])
    sign = torch.zeros(EDGES)
    graph = net.graph.with_values()
    net = fw.Network(graph)
    value = net.weight[edge].item()
    sign[edge] = -1 if value > 0 else 1
    assert_refused(
        lambda: fw.constraints.signed(net, sign),
        rf"weight: expected frozen weights to stay, got a change from {value:g} to {-value:g} at edge {edge} \(",
        fw.InputError,
    )
    assert net.graph is graph
    assert net.weight[edge].item() == value
