# SPDX-License-Identifier: MIT
"""Several constraints on one network: groups first, then signs, then what is frozen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import freewire as fw
from freewire.constraints import Frozen, Signed, Tied
from tests.support.constrained import EDGES, WIRES, constrained, drawn, train
from tests.support.messages import assert_refused

GIVEN = {name: torch.tensor(values) for name, values in drawn().items()}
APPLY = {"sign": fw.constraints.signed, "frozen": fw.constraints.frozen, "group": fw.constraints.tied}


def test_all_three_hold_in_training():
    net = constrained("sign", "frozen", "group")
    start = net.weight.detach().clone()
    assert torch.equal(start, GIVEN["weight"].float())
    sign, mask, group = GIVEN["sign"], GIVEN["frozen"], GIVEN["group"]

    def look() -> None:
        weight = net.weight.detach()
        assert (weight * sign >= 0).all()
        assert torch.equal(weight[mask], start[mask])
        for number in (0, 5, 10):
            ratio = (weight / start)[group == number]
            torch.testing.assert_close(ratio, ratio[:1].expand(len(ratio)))

    train(net, torch.optim.AdamW(net.parameters(), lr=0.5, weight_decay=0.1), 30, look)


@pytest.mark.parametrize("order", list(itertools.permutations(APPLY)))
def test_any_order_of_calls_is_the_same(order):
    net = constrained()
    for name in order:
        APPLY[name](net, GIVEN[name])
        assert torch.equal(net.weight, GIVEN["weight"].float())
    parts = list(net.parametrizations.weight)
    assert [type(part) for part in parts] == [Tied, Signed, Frozen]
    made = constrained("sign", "frozen", "group")
    made.load_state_dict(net.state_dict())
    for name in order:
        APPLY[name](net, None)
        assert torch.equal(net.weight, GIVEN["weight"].float())
    assert type(net) is fw.Network
    assert net.weight.requires_grad


@pytest.mark.parametrize("removed", APPLY)
def test_changes_after_training_keep_the_weights(removed):
    """Also the scales, to the last bit, though dividing weights by bases would round them."""
    net = constrained("sign", "frozen", "group")
    train(net, torch.optim.Adam(net.parameters(), lr=0.3), 10)
    weight = net.weight.detach().clone()
    APPLY[removed](net, None)
    if removed == "group":
        assert torch.equal(net.weight, weight)
    APPLY[removed](net, GIVEN[removed])
    torch.testing.assert_close(net.weight, weight, rtol=1e-6, atol=0.0)
    if removed != "group":
        assert torch.equal(net.weight, weight)


def test_parameters_that_are_not_trained_stay_so():
    net = constrained("group")
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    fw.constraints.signed(net, GIVEN["sign"])
    fw.constraints.tied(net, None)
    fw.constraints.signed(net, None)
    assert isinstance(net.weight, torch.nn.Parameter)
    assert not net.weight.requires_grad


def test_a_sign_holds_for_the_whole_group():
    """Else an edge without a sign would part from its group where the scale crosses 0."""
    g = fw.Graph.from_edges([0, 0, 0], [1, 1, 1], group=[0, 0, 0], sign=[1, 0, 0], weight=[1, -2, 0])
    net = fw.Network(g)
    net.parametrizations.weight.original.data.fill_(-3.0)
    assert net.weight.tolist() == [3, -6, 0]


def test_refused():
    def made(**given: list[float]) -> fw.Network:
        return fw.Network(fw.Graph.from_edges([0, 0, 0], [1, 1, 1], group=[4, 4, -1], **given))

    assert_refused(
        lambda: made(sign=[1, -1, -1]),
        r"sign: expected signs that one scale of group 4 can keep, got \+1 at edge 0 \(0 -> 1\) and -1 at edge 1 "
        r"\(0 -> 1\), whose bases are 1 and 1\. Give ",
    )
    assert made(sign=[1, -1, -1], weight=[2, -3, -1]).weight.tolist() == [2, -3, -1]
    assert_refused(
        lambda: made(frozen=[False, True, False]),
        r"frozen: expected all edges of group 4 or none, got edge 1 \(0 -> 1\) and not all\. ",
    )
    weight = made(frozen=[True, True, False]).weight
    assert weight[0] == weight[1]
    net = fw.Network(fw.Graph.from_edges([0, 0, 0], [1, 1, 1], weight=[1, 2, 3], frozen=[1, 1, 0]))
    assert_refused(
        lambda: fw.constraints.tied(net, [0, 0, -1], base=[1, 1, 1]),
        r"weight: expected frozen weights to stay, got a change from 2 to 1 at edge 1 \(0 -> 1\)\. ",
        fw.InputError,
    )


def test_a_frozen_group_stays_though_its_scale_decays(tmp_path):
    net = fw.Network(fw.Graph.from_edges([0, 0, 0], [1, 1, 1], weight=[1, 2, 3], frozen=[1, 1, 0], group=[0, 0, -1]))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(1)).backward()
        optimizer.step()
    weight = net.weight.tolist()
    assert weight[:2] == [1, 2]
    fw.save(net, tmp_path / "net")
    assert fw.load(tmp_path / "net").weight.tolist() == weight
    fw.constraints.signed(net, [1, 1, 1])
    assert net.weight.tolist() == weight
    fw.constraints.frozen(net, None)
    assert net.weight.tolist() == pytest.approx(weight)


def test_no_edges():
    g = fw.Graph.from_edges([], [], num_nodes=2, inputs=[0], outputs=[1], sign=[], frozen=[], group=[])
    assert fw.Network(g).weight.shape == (0,)


def test_a_recurrent_module_can_use_them():
    """Any module with a graph and weights."""

    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._graph = WIRES
            self.weight = torch.nn.Parameter(torch.arange(EDGES) - 50.0)

        @property
        def graph(self) -> fw.Graph:
            return self._graph

    module = Other()
    fw.constraints.signed(module, np.ones(EDGES))
    assert (module.weight >= 0).all()
    assert module.graph.sign is not None
