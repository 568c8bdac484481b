# SPDX-License-Identifier: MIT
"""freewire/studies/ablation_study.py against networks that are computed, or rebuilt, without what is silenced."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import freewire as fw
from freewire import studies

pytestmark = pytest.mark.usefixtures("one_thread")

GRAPH = fw.generators.random_graph(4, 20, 3, 4, activation="cos", seed=0)


def batches(num_inputs: int = 4, sizes: tuple[int, ...] = (10, 7, 1)) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, num_inputs, generator=generator, dtype=torch.float64),
            torch.randint(3, (size,), generator=generator),
        )
        for size in sizes
    ]


def network(graph: fw.Graph = GRAPH) -> fw.Network:
    torch.manual_seed(0)
    net = fw.Network(graph, init="xavier", dtype=torch.float64)
    with torch.no_grad():
        net.bias.normal_(0, 0.3)
    return net


def loss(net: Any, silenced_outputs: list[int] = ()) -> float:
    """Cross entropy over all samples."""
    x, labels = (torch.cat(each) for each in zip(*batches(), strict=True))
    with torch.no_grad():
        y = net(x)
    y[:, silenced_outputs] = 0
    return float(nn.functional.cross_entropy(y, labels))


def rebuilt(net: fw.Network, keep: np.ndarray) -> fw.Network:
    """A network with some of the edges; its other weights and biases are the same."""
    graph = net.graph
    weight, bias = net.weight.detach().numpy(), np.zeros(graph.num_nodes)
    bias[graph.computed_index] = net.bias.detach().numpy()
    src, dst = graph.edge_index[:, keep]
    names = net.graph.to_networkx().nodes(data="activation", default="linear")
    smaller = fw.Graph.from_edges(
        src,
        dst,
        num_nodes=graph.num_nodes,
        inputs=graph.inputs,
        outputs=graph.outputs,
        weight=weight[keep],
        bias=bias,
        activation=[names[node] or "linear" for node in graph.nodes],
    )
    return fw.Network(smaller, dtype=torch.float64)


class TestValues:
    def test_every_node_and_edge_is_a_rebuilt_network(self):
        net = network()
        study = studies.ablate(net, batches(), nn.functional.cross_entropy, nodes=True, edges=True)
        assert study.baseline == pytest.approx(loss(net))
        assert study.count == 18
        src, dst = GRAPH.edge_index
        seen = set()
        for row in study.rows:
            if row.kind == "node":
                assert row.members == (row.name,)
                keep = src != GRAPH.nodes.index(row.name)
                # cos(0) is not 0: a silenced node is 0, not its activation of 0
                outputs = [i for i, name in enumerate(GRAPH.outputs) if name == row.name]
            else:
                (column,) = row.members
                assert row.name == (src[column], dst[column])
                keep, outputs = np.arange(len(src)) != column, []
            assert row.metric == pytest.approx(loss(rebuilt(net, keep), outputs), rel=1e-9)
            assert row.effect == row.metric - study.baseline
            seen.add((row.kind, row.members))
        assert len(seen) == len(study.rows) == GRAPH.num_nodes + GRAPH.num_edges
        assert len({row.metric for row in study.rows}) > 50  # or nothing was tested
        sizes = [abs(row.effect) for row in study.rows]
        assert sizes == sorted(sizes, reverse=True)

    def test_every_aggregation_reads_a_term_of_zero(self):
        """x0, x1 -> h0..h5, one per aggregation; an output that is read, and a parallel edge."""
        kinds = ["sum", "mean", "product", "max", "min", "maxabs"]
        src = [0, 1] * 6 + [*range(2, 8), 0, 0]
        dst = [2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7] + [8] * 8
        graph = fw.Graph.from_edges(
            src, dst, outputs=[8, 2], aggregation=["sum", "sum", *kinds, "mean"], activation="tanh"
        )
        net = network(graph).requires_grad_(False)
        x, target = batches(2, (5,))[0]

        def total(predictions: Tensor, _: Tensor) -> Tensor:
            return (predictions * torch.tensor([1.0, 10.0], dtype=torch.float64)).sum()

        def term(edge: int, values: dict[int, Tensor], silenced: int) -> Tensor:
            source = int(graph.edge_index[0, edge])
            return 0 * x[:, 0] if source == silenced else net.weight[edge] * values[source]

        study = studies.ablate(net, [(x, target)], total)
        names = graph.to_networkx().nodes
        for silenced in range(9):
            values = {0: x[:, 0], 1: x[:, 1]}
            for i, node in enumerate(range(2, 9)):
                terms = torch.stack(
                    [term(edge, values, silenced) for edge in np.flatnonzero(graph.edge_index[1] == node)]
                )
                found = {
                    "sum": lambda t: t.sum(0),
                    "mean": lambda t: t.mean(0),
                    "product": lambda t: t.prod(0),
                    "max": lambda t: t.max(0).values,
                    "min": lambda t: t.min(0).values,
                    "maxabs": lambda t: t.gather(0, t.abs().argmax(0, keepdim=True))[0],
                }[names[node]["aggregation"]](terms)
                values[node] = found + net.bias[i]
                values[node] = torch.tanh(values[node]) if names[node]["activation"] == "tanh" else values[node]
            y = torch.stack([0 * values[node] if node == silenced else values[node] for node in (8, 2)], 1)
            (row,) = [row for row in study.rows if row.name == silenced]
            assert row.metric == pytest.approx(float(total(y, target)), rel=1e-9)

    def test_sets(self):
        net = network()
        src = GRAPH.edge_index[0]
        hidden = tuple(GRAPH.nodes[4:7])
        study = studies.ablate(
            net,
            batches(),
            nn.functional.cross_entropy,
            nodes={"layer": hidden, "inputs": GRAPH.inputs},
            edges=[{0, 5}, 3],
        )
        rows = {row.name: row for row in study.rows}
        assert {name: row.kind for name, row in rows.items()} == {
            "layer": "nodes",
            "inputs": "nodes",
            "0, 5": "edges",
            tuple(GRAPH.edge_index[:, 3]): "edge",
        }
        assert rows["layer"].members == hidden
        for name, removed in (("layer", np.isin(src, [4, 5, 6])), ("inputs", src < 4)):
            assert rows[name].metric == pytest.approx(loss(rebuilt(net, ~removed)), rel=1e-9)
        keep = ~np.isin(np.arange(len(src)), [0, 5])
        assert rows["0, 5"].metric == pytest.approx(loss(rebuilt(net, keep)), rel=1e-9)
        together = studies.ablate(net, batches(), nn.functional.cross_entropy, nodes=[set(hidden), 4]).rows
        assert {row.name: row.metric for row in together}["4, 5, 6"] == rows["layer"].metric
        assert {row.kind for row in together} == {"node", "nodes"}

    def test_an_input_that_is_an_output_and_a_node_that_nothing_reads(self):
        graph = fw.Graph.from_edges([0, 1, 0], [2, 2, 3], outputs=[0, 2], weight=[1.0, 2.0, 5.0])
        x = torch.tensor([[1.0, 10.0]])
        study = studies.ablate(
            fw.Network(graph), [(x, torch.zeros(1))], lambda y, _: (y * torch.tensor([1, 100])).sum()
        )
        assert study.baseline == 2101
        assert {row.name: row.effect for row in study.rows} == {0: -101.0, 1: -2000.0, 2: -2100.0, 3: 0.0}
        assert [row.name for row in study.rows] == [2, 1, 0, 3]


class TestMetric:
    def test_a_mean_counts_by_rows(self):
        x = torch.arange(6.0)[:, None]
        loader = [(x[:5], x[:5] * 0), (x[5:], x[5:] * 0), (x[:0], x[:0])]  # the mean of the last would be NaN
        net = fw.Network(fw.Graph.from_edges([0], [1], weight=[1.0]))
        study = studies.ablate(net, loader, nn.functional.l1_loss, nodes=[0])
        assert (study.baseline, study.count, study.rows[0].effect) == (15 / 6, 6, -15 / 6)
        sequences = [(each.reshape(-1, 1, 1), target) for each, target in loader]
        assert studies.ablate(net, sequences, lambda y, _: y.mean(), nodes=[0]).baseline == 15 / 6

    def test_sums_and_counts(self):
        net = network()
        study = studies.ablate(net, batches(), studies.top1, nodes=[0])
        with torch.no_grad():
            right = sum(int((net(x).argmax(1) == labels).sum()) for x, labels in batches())
        assert (study.baseline, study.count) == (right / 18, 18)

    def test_one_run_per_element_for_batches_together(self):
        calls, runs, seen = [], [], []

        def metric(y: Tensor, _: Tensor) -> float:
            calls.append(len(y))
            return 1.0

        net = network()
        net.register_forward_hook(lambda net, arguments, y: runs.append(len(y)))
        sizes = (1000, 7, 17, 1, 2000)
        study = studies.ablate(net, iter(batches(sizes=sizes)), metric, progress=lambda *each: seen.append(each))
        assert runs == [1024] * 28 + [1] * 28 + [2000] * 28
        assert calls == [1000, 7, 17] * 28 + [1] * 28 + [2000] * 28
        assert seen[0] == (3, 5 * 28)
        assert seen[-1] == (5 * 28, 5 * 28)
        assert {row.effect for row in study.rows} == {0.0}
        unknown = (batch for batch in batches())
        studies.ablate(net, unknown, metric, nodes=[0], progress=lambda *each: seen.append(each))
        assert seen[-2:] == [(3, None), (6, None)]

    def test_a_large_network_is_not_run_on_more_samples_than_asked_for(self):
        graph = fw.Graph.from_edges([0, 0], [1, 2], num_nodes=2**20)
        runs = []
        net = fw.Network(graph.from_edges(*graph.edge_index, num_nodes=2**20, inputs=[0], outputs=[1]))
        net.register_forward_hook(lambda net, arguments, y: runs.append(len(y)))
        loader = [(torch.ones(size, 1), torch.ones(size, 1)) for size in (3, 1, 1, 8)]
        studies.ablate(net, loader, nn.functional.mse_loss, nodes=[0])
        assert runs == [4] * 2 + [1] * 2 + [8] * 2

    def test_sequences_are_not_joined(self):
        """Another module may read rows as steps of time."""

        class Sums(nn.Module):
            graph = fw.Graph.from_edges([0], [1])

            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.ones(1))

            def forward(self, x: Tensor) -> Tensor:
                return self.weight * x.cumsum(0)

        loader = [(torch.ones(3, 1), torch.ones(3, 1))] * 2
        assert studies.ablate(Sums(), loader, lambda y, _: y[-1, 0], nodes=[0]).baseline == 3

    def test_batches_together_and_one_by_one_agree(self):
        net, loader = network(), batches()
        together = studies.ablate(net, loader, nn.functional.cross_entropy, nodes=True, edges=True)
        apart = studies.ablate(
            net,
            [(x[:, None], y[:, None]) for x, y in loader],
            lambda y, target: nn.functional.cross_entropy(y[:, 0], target[:, 0]),
            True,
            True,
        )
        assert {row.members: row.metric for row in together.rows} == pytest.approx(
            {row.members: row.metric for row in apart.rows}, rel=1e-12
        )


class Doubled(nn.Module):
    """Also counts how often it was computed in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return 2 * weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight / 2


class Tied(nn.Module):
    """One scale for each of five groups."""

    def __init__(self, base: Tensor) -> None:
        super().__init__()
        self.base = base
        self.group = torch.arange(len(base)) % 5

    def forward(self, scale: Tensor) -> Tensor:
        return self.base * scale[self.group]

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.new_ones(5)


class TestTheNetworkIsUntouched:
    @pytest.mark.parametrize("kind", [Doubled, Tied])
    def test_parametrized(self, kind):
        plain = network()
        net = copy.deepcopy(plain)
        parametrization = Doubled() if kind is Doubled else Tied(plain.weight.detach().clone())
        parametrize.register_parametrization(net, "weight", parametrization, unsafe=True)
        parametrize.register_parametrization(net, "bias", Doubled())
        net.train()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        arguments = batches(), nn.functional.cross_entropy, True, True
        assert studies.ablate(net, *arguments) == studies.ablate(plain, *arguments)
        assert net.training
        assert parametrization.training
        assert parametrize.is_parametrized(net, "weight")
        for name, value in net.state_dict().items():
            assert torch.equal(value, before[name])
        assert net.parametrizations.weight.original.requires_grad

    def test_gradients_and_mode(self):
        net = network()
        net(batches()[0][0]).sum().backward()
        gradient = net.weight.grad.clone()
        version = net.weight._version
        with torch.inference_mode():
            studies.ablate(net, batches(), nn.functional.cross_entropy)
        assert net.training
        assert net.weight._version == version
        assert torch.equal(net.weight.grad, gradient)

    def test_wrapped(self):
        net = network()
        expected = studies.ablate(net, batches(), nn.functional.cross_entropy)
        assert studies.ablate(torch.compile(net), batches(), nn.functional.cross_entropy) == expected

    def test_a_module_that_returns_a_state_too(self):
        class Stateful(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = network()
                self.weight = self.net.weight
                self.graph = GRAPH

            def forward(self, x: Tensor) -> tuple[Tensor, None]:
                return self.net(x), None

        found = studies.ablate(Stateful(), batches(), nn.functional.cross_entropy)
        assert found == studies.ablate(network(), batches(), nn.functional.cross_entropy)
