# SPDX-License-Identifier: MIT
"""Groups of edges that share one scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import freewire as fw
from freewire.constraints import spread as blocks
from freewire.constraints.checks import Groups
from freewire.constraints.parametrizations import Tied
from tests.support.constrained import EDGES, WIRES, batch, constrained, drawn, train
from tests.support.messages import assert_refused

GROUP, BASE = torch.tensor(drawn()["group"]), torch.tensor(drawn()["weight"], dtype=torch.float32)
NUMBERS = [0, 5, 10]


def ratios(net: fw.Network, base: Tensor) -> list[Tensor]:
    return [(net.weight / base)[number == GROUP] for number in NUMBERS]


def test_stored_weights_are_the_bases():
    net = constrained("group")
    assert torch.equal(net.weight, BASE)
    scale, free = net.parametrizations.weight.parameters()
    assert scale.tolist() == [1, 1, 1]
    assert torch.equal(free, BASE[GROUP < 0])
    train(net, torch.optim.Adam(net.parameters(), lr=0.1), 10)
    for found, value in zip(ratios(net, BASE), scale, strict=True):
        torch.testing.assert_close(found, value.expand(len(found)))
    assert len(set(scale.tolist())) == 3
    assert (free != BASE[GROUP < 0]).all()


def test_drawn_scales():
    """Without stored weights the base is 1, and a group's scale is what its first edge was to start at."""
    net, free = constrained("group", stored=False), constrained(stored=False)
    assert torch.equal(net.weight[GROUP < 0], free.weight[GROUP < 0])
    for number, scale in zip(NUMBERS, net.parametrizations.weight.original0, strict=True):
        assert (net.weight[number == GROUP] == scale).all()
        assert scale == free.weight[number == GROUP][0]
    before = net.weight.detach().clone()
    net.reset_parameters()
    assert (net.weight != before).all()


def test_some_stored_weights():
    """The scale is then such that they start exactly; edges without one have base 1."""
    stored = np.full(EDGES, np.nan)
    last = [int((number == GROUP).nonzero()[-1]) for number in NUMBERS]
    stored[last] = 3, -0.1, 0
    net = fw.Network(WIRES.with_constraints(group=GROUP).with_values(stored), init=None)
    assert net.weight[last].tolist() == pytest.approx([3, -0.1, 0])
    scale = net.parametrizations.weight.original0
    assert scale[:2].tolist() == [1, 1]
    assert (net.weight[GROUP == 10][:-1] == scale[2]).all()
    assert scale[2] != 0


def test_a_group_of_zeros_can_learn():
    net = fw.Network(WIRES.with_constraints(group=GROUP).with_values(np.where(GROUP == 5, 0.0, BASE)))
    assert not net.weight[GROUP == 5].any()
    train(net, torch.optim.Adam(net.parameters(), lr=0.1), 3)
    assert net.weight[GROUP == 5].unique().numel() == 1
    assert net.weight[GROUP == 5].all()


def test_the_gradient_is_the_sum_over_the_edges():
    net, free = constrained("group", dtype=torch.float64), constrained(dtype=torch.float64)
    x, y = batch(dtype=torch.float64)
    for each in (net, free):
        (each(x) - y).square().sum().backward()
    scale, others = net.parametrizations.weight.parameters()
    by_edge = free.weight.grad * BASE
    torch.testing.assert_close(scale.grad, torch.stack([by_edge[number == GROUP].sum() for number in NUMBERS]))
    torch.testing.assert_close(others.grad, free.weight.grad[GROUP < 0])
    want = torch.empty(EDGES, dtype=torch.float64)
    want[GROUP < 0] = others.grad
    for number, grad in zip(NUMBERS, scale.grad, strict=True):
        want[number == GROUP] = grad
    assert torch.equal(net.edge_gradient(), want)


def test_all_edges_tied():
    net = fw.Network(WIRES)
    parameter = net.weight
    fw.constraints.tied(net, np.zeros(EDGES))
    assert net.parametrizations.weight.original is parameter
    assert parameter.shape == (1,)
    assert net.weight.unique().tolist() == parameter.tolist()
    train(net, torch.optim.Adam(net.parameters(), lr=0.1), 3)
    fw.constraints.tied(net, None)
    assert net.weight is parameter
    assert parameter.shape == (EDGES,)


def test_tied_later_with_bases():
    net = fw.Network(WIRES)
    start = net.weight.detach().clone()
    fw.constraints.tied(net, GROUP, base=BASE)
    assert torch.equal(net.weight, torch.where(GROUP < 0, start, BASE))
    assert np.array_equal(net.graph.weight, np.where(GROUP < 0, np.nan, BASE), equal_nan=True)
    fw.constraints.tied(net, None)
    assert torch.equal(net.weight, torch.where(GROUP < 0, start, BASE))


def test_tied_later_without_bases():
    net = fw.Network(WIRES)
    start = net.weight.detach().clone()
    fw.constraints.tied(net, GROUP)
    for number in NUMBERS:
        assert (net.weight[number == GROUP] == start[number == GROUP][0]).all()


def test_assigned_weights():
    net = constrained("group")
    weight = BASE * torch.where(GROUP == 5, -3, 0.5)
    net.weight = weight
    assert torch.equal(net.weight, weight)
    wrong = weight.clone()
    edge = int((GROUP == 5).nonzero()[1])
    wrong[edge] = 9
    assert_refused(
        lambda: setattr(net, "weight", wrong),
        rf"weight: expected base \* scale for all edges of a group, got 9 at edge {edge}, which differs\. Set ",
        fw.InputError,
    )


@pytest.mark.parametrize("numbers", [[10**15, 7, 2**53 - 1], [2, 1, 0]])
def test_any_numbers(numbers):
    g = fw.Graph.from_edges([0, 0, 0, 0], [1, 1, 1, 1], group=[*numbers, numbers[0]])
    net = fw.Network(g)
    net.parametrizations.weight.original.data[:] = torch.tensor([1.0, 2.0, 3.0])
    rank = np.argsort(np.argsort(numbers))
    assert net.weight.tolist() == [*(rank + 1), rank[0] + 1]


def test_refused():
    tied = WIRES.with_constraints(group=GROUP)
    stored = np.full(EDGES, np.inf)
    first = int((GROUP >= 0).nonzero()[0])
    message = rf"weight: expected finite numbers in groups, got inf at edge {first} \("
    assert_refused(lambda: fw.Network(tied.with_values(stored)), message)
    net = fw.Network(WIRES)
    assert_refused(lambda: fw.constraints.tied(net, None, BASE), r"base: expected groups to scale it, got none\. ")
    assert_refused(lambda: fw.constraints.tied(net, GROUP, BASE[1:]), rf"base: expected shape \[{EDGES}\], one ")
    assert_refused(lambda: fw.constraints.tied(net, -2 - GROUP), r"group: expected a whole number of at least 0")


def many(num_edges: int, num_groups: int, free: bool) -> tuple[Tied, Tensor, Tensor]:
    """Groups of many edges, the number of each edge's group, and bases."""
    rng = np.random.default_rng(0)
    of_edge = rng.integers(-1 if free else 0, num_groups, num_edges)
    base = np.where(of_edge < 0, 1, rng.standard_normal(num_edges))
    lead = np.array([np.flatnonzero(of_edge == k)[0] for k in range(num_groups)])
    return Tied(Groups(np.arange(num_groups), of_edge, base, lead)), torch.tensor(of_edge), torch.tensor(base)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_many_edges(free, plain, monkeypatch):
    """In blocks, and in plain operations, which compiled programs and transforms use."""
    num_edges, num_groups = 9 * blocks.BLOCK + 17, 20
    if plain:
        monkeypatch.setattr(blocks, "called_plainly", lambda: False)
    tied, of_edge, base = many(num_edges, num_groups, free)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        generator = torch.Generator().manual_seed(0)
        shapes = (num_groups, int((of_edge < 0).sum()))[: 1 + free]
        parts = [torch.randn(n, generator=generator).to(dtype).requires_grad_() for n in shapes]
        grad = torch.randn(num_edges, generator=generator).to(dtype)
        weight = tied(*parts)
        assert weight.dtype == dtype
        want = base.to(torch.float32 if dtype == torch.bfloat16 else dtype) * parts[0].detach()[of_edge]
        if free:
            want[of_edge < 0] = parts[1].detach().to(want.dtype)
        assert torch.equal(weight, want.to(dtype))
        weight.backward(grad)
        exact = torch.bincount(of_edge.clamp(0), (grad.double() * base) * (of_edge >= 0), num_groups)
        exact_error = {torch.float64: 1e-9, torch.float32: 1e-2, torch.bfloat16: 4.0}[dtype]
        torch.testing.assert_close(parts[0].grad.double(), exact, rtol=1e-6, atol=exact_error)
        if free:
            assert torch.equal(parts[1].grad, grad[of_edge < 0])


@pytest.mark.slow
def test_one_scale_for_very_many_edges():
    """Added one by one, 2**25 ones would stop at 2**24, and of bfloat16 at 256."""
    num_edges = 1 << 25
    tied = Tied(Groups(np.arange(1), np.zeros(num_edges, np.int64), np.ones(num_edges), np.zeros(1, np.int64)))
    for dtype in (torch.float32, torch.bfloat16):
        scale = torch.ones(1, dtype=dtype, requires_grad=True)
        tied(scale).sum().backward()
        assert scale.grad.item() == num_edges


def test_every_derivative():
    tied, _, _ = many(blocks.BLOCK + 9, 3, free=False)
    point = torch.randn(3, dtype=torch.float64, requires_grad=True)
    factor = torch.randn(blocks.BLOCK + 9, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad((tied(point).square() * factor).sum(), point, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), point)
    by_hand = torch.func.hessian(lambda p: (tied(p).square() * factor).sum())(point)
    torch.testing.assert_close(second, by_hand.sum(0))
