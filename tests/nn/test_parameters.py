# SPDX-License-Identifier: MIT
"""Where parameters are and how they start, and what `Network.to_networkx` makes of them."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import freewire as fw
from tests.support.graphs import CASES, graphs
from tests.support.tensors import assert_same_bits, network, x_of

GRAPH = CASES["random"]  # 9 inputs, 5 outputs


class TestParameters:
    def test_weights_are_in_canonical_order(self) -> None:
        g = fw.Graph.from_edges([0, 1, 0], [2, 2, 1], weight=[5.0, 7.0, 11.0], inputs=[0], outputs=[2])
        assert fw.Network(g).weight.tolist() == [11.0, 5.0, 7.0]
        assert g.edge_position.tolist() == [1, 2, 0]

    def test_biases_are_in_node_order(self) -> None:
        graph = nx.DiGraph([("x", "late"), ("x", "early"), ("early", "late")])
        nx.set_node_attributes(graph, {"late": 1.0, "early": 2.0}, "bias")
        assert fw.Network(fw.Graph.from_networkx(graph)).bias.tolist() == [1.0, 2.0]

    def test_stored_values_win_where_given(self) -> None:
        graph = nx.DiGraph()
        graph.add_edge("a", "y", weight=3.0)
        graph.add_edge("b", "y")
        torch.manual_seed(0)
        net = fw.Network(fw.Graph.from_networkx(graph))
        assert net.weight[0] == 3.0
        assert net.weight[1] not in (0.0, 3.0)
        assert fw.Network(fw.Graph.from_networkx(graph), init="xavier").weight[0] != 3.0

    @pytest.mark.parametrize(
        ("init", "deviation"),
        [(None, (2 / 50) ** 0.5), ("he", (2 / 50) ** 0.5), ("xavier", (2 / 150) ** 0.5), ("uniform", 3**-0.5),
         ("self_normalized", (1 / 50) ** 0.5)],
    )  # fmt: skip
    def test_initial_spread(self, init: str | None, deviation: float) -> None:
        torch.manual_seed(0)
        net = fw.Network(fw.generators.mlp([50, 100]), init=init)
        assert abs(net.weight.mean()) < 0.05 * deviation * 4
        assert net.weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert not net.bias.any()
        if init == "uniform":
            assert net.weight.abs().max() <= 1

    def test_fan_in_is_that_of_each_node(self) -> None:
        src = np.concatenate((np.arange(400), np.arange(400).repeat(1)))
        dst = np.concatenate((np.full(400, 400), np.arange(401, 801)))
        torch.manual_seed(0)
        net = fw.Network(fw.Graph.from_edges(src, dst))
        wide = net.graph.edge_index[1] == 400
        assert net.weight[torch.from_numpy(wide)].std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.15)
        assert net.weight[torch.from_numpy(~wide)].std().item() == pytest.approx(2**0.5, rel=0.15)

    def test_a_function_may_fill_the_weights(self) -> None:
        net = fw.Network(GRAPH, init=lambda weight, graph: weight.copy_(torch.arange(graph.num_edges)))
        assert net.weight.tolist() == list(range(GRAPH.num_edges))

    def test_a_function_may_return_the_weights(self) -> None:
        net = fw.Network(GRAPH, init=lambda weight, graph: torch.arange(graph.num_edges).float())
        assert net.weight.tolist() == list(range(GRAPH.num_edges))

    def test_torch_seed_decides(self) -> None:
        a, b = network(GRAPH, seed=3), network(GRAPH, seed=3)
        assert_same_bits([a.weight], [b.weight])

    @settings(max_examples=60)
    @given(graph=graphs())
    def test_to_networkx_round_trip_computes_the_same(self, graph: fw.Graph) -> None:
        net = network(graph)
        again = fw.Network(fw.Graph.from_networkx(net.to_networkx()), dtype=torch.float64)
        x = x_of(net, 3)
        torch.testing.assert_close(again(x), net(x), rtol=1e-12, atol=1e-12, equal_nan=True)

    def test_to_networkx_writes_nan_as_nan(self) -> None:
        """A network that diverged must not come back with fresh weights."""
        net = network(CASES["diamond"])
        with torch.no_grad():
            net.weight.fill_(float("nan"))
        with pytest.raises(fw.GraphError, match=r"weight of edge 0 -> 1: expected a number, got nan"):
            fw.Graph.from_networkx(net.to_networkx())

    def test_to_networkx_needs_values(self) -> None:
        with pytest.raises(fw.InputError, match=r"net: expected weights, got a network on the meta device"):
            fw.Network(CASES["random"], device="meta").to_networkx()

    def test_to_networkx_with_gradients(self) -> None:
        net = network(CASES["parallel_edges"])
        with pytest.raises(fw.InputError, match=r"grad: expected gradients, got none. Call backward\(\)"):
            net.to_networkx(grad=True)
        net(x_of(net, 3)).sum().backward()
        graph = net.to_networkx(grad=True)
        assert isinstance(graph, nx.MultiDiGraph)
        assert [d["grad"] for *_, d in graph.edges(data=True)] == pytest.approx(
            [net.weight.grad[i].item() for i in fw.Graph.from_networkx(graph).edge_position]
        )
        assert [graph.nodes[v]["grad"] for v in (1, 2)] == net.bias.grad.tolist()
        assert "grad" not in graph.nodes[0]

    def test_repr_and_plan(self) -> None:
        net = network(GRAPH)
        assert "134 nodes" in repr(net)
        assert "bias=True" in repr(net)
        assert "levels" in str(net.plan)
