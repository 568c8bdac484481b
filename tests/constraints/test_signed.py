# SPDX-License-Identifier: MIT
"""Weights that keep their sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import freewire as fw
from freewire.constraints import Signed
from tests.support.constrained import EDGES, WIRES, constrained, drawn, train
from tests.support.messages import assert_refused

SIGN = torch.tensor(drawn()["sign"])


def test_stored_weights_start_exactly():
    net = constrained("sign")
    assert torch.equal(net.weight, torch.tensor(drawn()["weight"], dtype=torch.float32))
    assert list(net.state_dict())[2:] == ["parametrizations.weight.original", "parametrizations.weight.0._extra_state"]


@pytest.mark.parametrize("init", [None, "he", "xavier", "uniform", "self_normalized", lambda weight, _: -1.5])
def test_drawn_magnitudes_get_the_signs(init):
    torch.manual_seed(3)
    free = fw.Network(WIRES, init=init)
    torch.manual_seed(3)
    net = fw.Network(WIRES.with_constraints(sign=SIGN), init=init)
    assert torch.equal(net.weight, torch.where(SIGN == 0, free.weight, free.weight.abs() * SIGN))
    torch.manual_seed(3)
    net.reset_parameters()
    assert torch.equal(net.weight, torch.where(SIGN == 0, free.weight, free.weight.abs() * SIGN))


@pytest.mark.parametrize("make", [lambda p: torch.optim.Adam(p, lr=0.5), lambda p: torch.optim.SGD(p, 1.0, 0.9)])
def test_dales_law(make):
    """No weight ever has the other sign, though the steps are so large that most of them would cross 0."""
    rng = np.random.default_rng(0)
    excitatory = rng.choice([-1, 1], WIRES.num_nodes)
    sign = torch.tensor(excitatory[WIRES.edge_index[0]])
    net = fw.Network(WIRES.with_constraints(sign=sign))
    crossed = torch.zeros(EDGES, dtype=torch.bool)

    def look() -> None:
        assert (net.weight * sign >= 0).all()
        crossed.logical_or_(net.parametrizations.weight.original * sign < 0)

    train(net, make(net.parameters()), 60, look)
    assert crossed.float().mean() > 0.3


@pytest.mark.slow
def test_it_learns_what_free_weights_of_these_signs_can():
    """docs/design.md compares ways to keep signs; with this one no weight stays at 0."""
    net = constrained("sign", stored=False)
    losses = train(net, torch.optim.Adam(net.parameters(), lr=0.03), 200)
    assert losses[-1] < 0.02 * losses[0]
    assert (net.weight != 0).all()


def test_the_slope_is_never_0():
    part = Signed(np.array([1, 1, 1, -1, -1, -1, 0, 0], np.int8))
    original = torch.tensor([2.0, 0.0, -2.0, 2.0, 0.0, -2.0, 3.0, -3.0], requires_grad=True)
    weight = part(original)
    assert weight.tolist() == [2, 0, 2, -2, 0, -2, 3, -3]
    weight.sum().backward()
    assert original.grad.tolist() == [1, 1, -1, -1, -1, 1, 1, 1]
    values = torch.randn(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(part, values)
    assert part(torch.tensor([torch.inf] * 8)).tolist() == [torch.inf] * 3 + [-torch.inf] * 3 + [torch.inf] * 2


def test_assigned_weights():
    net = constrained("sign")
    weight = torch.where(SIGN == 0, 0.5, SIGN * 0.25)
    net.weight = weight
    assert torch.equal(net.weight, weight)
    assert net.parametrizations.weight.original.data_ptr() != weight.data_ptr()
    net.weight = torch.zeros_like(weight)
    net.weight = weight
    first = int(SIGN.nonzero()[0])
    assert_refused(
        lambda: setattr(net, "weight", -weight),
        rf"weight: expected the sign \{int(SIGN[first]):+d} at edge {first}, got .* Give it its sign, ",
        fw.InputError,
    )


def test_applied_later():
    net = fw.Network(WIRES)
    before, parameter = net.weight.detach().clone(), net.weight
    fw.constraints.signed(net, SIGN)
    assert torch.equal(net.weight, torch.where(SIGN == 0, before, before.abs() * SIGN))
    assert net.parametrizations.weight.original is parameter
    assert net.graph.sign.tolist() == SIGN.tolist()
    assert WIRES.sign is None
    weight = net.weight.detach()
    fw.constraints.signed(net, None)
    assert torch.equal(net.weight, weight)
    assert net.weight is parameter
    assert type(net) is fw.Network
    assert net.graph.sign is None


def test_refused():
    graph = fw.Graph.from_networkx(WIRES.with_values(np.full(EDGES, -0.5)).to_networkx())
    u, v = graph.edge_index[:, 0]
    message = (
        rf"sign: expected that of the stored weight, got \+1 for the weight -0\.5 of edge 0 \({u} -> {v}\)\. Correct "
    )
    assert_refused(lambda: fw.Network(graph.with_constraints(sign=np.ones(EDGES))), message)
    net = fw.Network(graph)
    assert_refused(lambda: fw.constraints.signed(net, np.ones(EDGES)), message)
    assert net.graph is graph
    assert type(net) is fw.Network
    assert_refused(lambda: fw.constraints.signed(net, [1]), rf"sign: expected shape \[{EDGES}\], one per edge, got ")
    assert_refused(
        lambda: fw.constraints.signed(torch.nn.Linear(1, 1), [1]),
        r"module: expected a module with a graph and weights, got Linear\. Pass ",
        fw.InputError,
    )
    torch.nn.utils.parametrize.register_parametrization(net, "weight", torch.nn.Identity())
    assert_refused(
        lambda: fw.constraints.signed(net, -np.ones(EDGES)),
        r"weight: expected no other parametrization, got Identity\. Remove it, and ",
        fw.InputError,
    )
