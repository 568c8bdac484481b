# SPDX-License-Identifier: MIT
"""The digits example's ways to run a network without freewire compute the same network."""

from __future__ import annotations

import copy
import re
import types
from collections.abc import Iterator

import pytest
import torch

import freewire as fw
from tests.support.examples import imported

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def ways() -> Iterator[types.ModuleType]:
    """The example's module."""
    with imported("other_ways") as module:
        yield module


def network() -> fw.Network:
    """A network with edges that skip levels, outputs in several levels and biases, in float64."""
    graph = fw.generators.random_graph(7, 40, 5, 4, "gelu", "gelu", seed=3)
    torch.manual_seed(0)
    net = fw.Network(graph, dtype=torch.float64)
    torch.nn.init.normal_(net.bias)
    return net


@pytest.mark.parametrize("name", ["SparseLevels", "MaskedLevels"])
def test_outputs_and_all_gradients_are_freewires(ways, name):
    net = network()
    way = getattr(ways, name)(net)
    x = torch.randn(9, 7, dtype=torch.float64)
    for got, expected in zip(ways.results(way, x), ways.results(net, x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    row = torch.tensor(net.graph.level).argsort(stable=True)[7:]
    computed = torch.searchsorted(torch.tensor(net.graph.computed_index), row)
    torch.testing.assert_close(way.bias.grad[:, 0], net.bias.grad[computed], rtol=1e-10, atol=1e-12)
    if name == "SparseLevels":
        grad_weight = way.weight.grad
    else:
        edges = [
            weight.grad[torch.from_numpy(way.dst[own] - level.begin), torch.from_numpy(way.src[own])]
            for weight, level in zip(way.weights, way.levels, strict=True)
            for own in [slice(level.first, level.last)]
        ]
        grad_weight = torch.cat(edges)
        assert all((weight.grad[mask == 0] == 0).all() for weight, mask in zip(way.weights, way.masks, strict=True))
    torch.testing.assert_close(grad_weight, net.weight.grad, rtol=1e-10, atol=1e-12)


def test_table_has_a_line_per_way(ways, monkeypatch):
    monkeypatch.setattr(ways, "ROUNDS", 2)
    times = ways.compare(network(), torch.randn(3, 7, dtype=torch.float64))
    head, *lines = ways.table(times).splitlines()
    assert head.split() == ["ms", "forward", "ms", "forward", "and", "backward"]
    found = [re.fullmatch(r"(.+?) {2,}[\d.]+ \(([\d.]+)x\) {2,}[\d.]+ \(([\d.]+)x\)", line) for line in lines]
    assert [line[1].partition(",")[0] for line in found] == ["freewire", "torch.sparse CSR", "masked dense layers"]
    assert found[0].groups()[1:] == ("1.0", "1.0")
    assert all(time.forward > 0 and time.step > 0 for time in times.values())


def test_wrong_way_is_not_timed(ways, monkeypatch):
    class Wrong(ways.MaskedLevels):
        def __init__(self, net: fw.Network) -> None:
            net = copy.deepcopy(net)
            with torch.no_grad():
                net.weight[5] += 0.1
            super().__init__(net)

    monkeypatch.setattr(ways, "MaskedLevels", Wrong)
    monkeypatch.setattr(ways, "medians", lambda tasks: pytest.fail("timed"))
    with pytest.raises(
        RuntimeError, match=r"^masked dense .*: expected freewire's outputs and gradients, got others\.$"
    ):
        ways.compare(network(), torch.randn(3, 7, dtype=torch.float64))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (fw.Graph.from_edges([0, 1], [2, 2], inputs=[1, 0]), "expected inputs in node order"),
        (fw.Graph.from_edges([0], [1], aggregation="max"), "expected sum aggregation"),
        (
            fw.Graph.from_edges([0, 0], [1, 2], activation=["linear", "relu", "tanh"]),
            "expected one activation per level, got 2 in level 1",
        ),
    ],
)
def test_refused_networks(ways, graph, message):
    with pytest.raises(ValueError, match=message):
        ways.Levels(fw.Network(graph))
