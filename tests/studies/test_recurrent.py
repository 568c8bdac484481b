# SPDX-License-Identifier: MIT
"""Studies of recurrent networks: null models with delays, ablation over time, comparison."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from freewire import studies
from freewire.studies import exchanges, null_models

KINDS = ("degree", "level", "erdos_renyi")
NODES, INPUTS, OUTPUTS = 60, 4, 3


def wiring(seed: int = 0, **fields: object) -> fw.Graph:
    """60 nodes: edges from inputs, instant edges forward, edges of delay 1 to 3 anywhere, self-loops among them."""
    rng = np.random.default_rng(seed)
    pairs = {(int(rng.integers(INPUTS)), int(rng.integers(INPUTS, NODES))): 0 for _ in range(60)}
    for _ in range(60):
        u, v = sorted(rng.choice(np.arange(INPUTS, NODES), 2, replace=False).tolist())
        pairs[u, v] = 0
    for _ in range(200):
        pairs.setdefault((int(rng.integers(NODES)), int(rng.integers(INPUTS, NODES))), int(rng.integers(1, 4)))
    src, dst = np.array(list(pairs)).T
    outputs = list(range(NODES - OUTPUTS, NODES))
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=NODES,
        inputs=list(range(INPUTS)),
        outputs=outputs,
        delay=list(pairs.values()),
        leak=rng.uniform(0.2, 1, NODES),
        activation="tanh",
        **fields,  # type: ignore[arg-type]
    )


GRAPH = wiring()


def pairs_of(graph: fw.Graph) -> set[tuple[int, int]]:
    return set(zip(*graph.edge_index.tolist(), strict=True))


def degrees(graph: fw.Graph) -> tuple[list[int], list[int]]:
    src, dst = graph.edge_index
    return np.bincount(src, minlength=graph.num_nodes).tolist(), np.bincount(dst, minlength=graph.num_nodes).tolist()


def slots(graph: fw.Graph) -> Counter[tuple[int, int]]:
    """How many edges of each delay lead to each node."""
    assert graph.delay is not None
    return Counter(zip(graph.edge_index[1].tolist(), graph.delay.tolist(), strict=True))


class TestNullModels:
    @pytest.mark.parametrize("kind", KINDS)
    def test_without_edges(self, kind: str) -> None:
        graph = fw.Graph.from_edges([], [], num_nodes=3, inputs=[0], outputs=[1, 2], leak=[1, 0.5, 1], recurrent=True)
        (null,) = null_models(graph.with_values(bias=[0, 1.0, 2.0]), kind, 1, seed=0)
        y, _ = fw.Recurrent(null)(torch.zeros(2, 1, 1))
        assert y[:, 0].tolist() == [[0.5, 2.0], [0.75, 2.0]]

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_every_kind_keeps(self, kind: str) -> None:
        for null in null_models(GRAPH, kind, 3, seed=1):
            assert null.recurrent
            assert (null.nodes, null.inputs, null.outputs) == (GRAPH.nodes, GRAPH.inputs, GRAPH.outputs)
            assert null.num_edges == GRAPH.num_edges == len(pairs_of(null))
            assert sorted(null.delay) == sorted(GRAPH.delay)
            assert np.array_equal(null.leak, GRAPH.leak, equal_nan=True)
            assert len(pairs_of(null) & pairs_of(GRAPH)) < 0.4 * null.num_edges

    @pytest.mark.parametrize("kind", ["degree", "level"])
    def test_degrees_and_delays_of_in_edges(self, kind: str) -> None:
        for null in null_models(GRAPH, kind, 3, seed=2):
            assert degrees(null) == degrees(GRAPH)
            assert slots(null) == slots(GRAPH)
            if kind == "level":
                assert (null.level == GRAPH.level).all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_delayed_edges_go_back_and_close_cycles(self, kind: str) -> None:
        nulls = null_models(GRAPH, kind, 5, seed=3)
        src, dst = np.concatenate([null.edge_index for null in nulls], axis=1)
        delay = np.concatenate([null.delay for null in nulls])
        assert (src[delay > 0] == dst[delay > 0]).any()
        assert (src > dst).mean() > 0.1

    @pytest.mark.parametrize("kind", KINDS)
    def test_weights_move_with_delays(self, kind: str) -> None:
        weight = np.arange(GRAPH.num_edges, dtype=float)
        null = null_models(GRAPH.with_values(weight=weight), kind, 1, seed=4)[0]
        where = null.weight.astype(int)
        assert (null.delay == GRAPH.delay[where]).all()
        if kind != "erdos_renyi":
            assert (null.edge_index[1] == GRAPH.edge_index[1][where]).all()

    def test_erdos_renyi_draws_every_pair_alike(self) -> None:
        """Two inputs, two others: five instant pairs, of which 2 are drawn, and among the other pairs 2 of 8 - 2."""
        graph = fw.Graph.from_edges(
            [0, 2, 2, 3], [2, 3, 2, 2], num_nodes=4, inputs=[0, 1], outputs=[3], delay=[0, 0, 1, 2]
        )
        instant: Counter[tuple[int, int]] = Counter()
        delayed: Counter[tuple[int, int]] = Counter()
        for null in null_models(graph, "erdos_renyi", 3000, seed=0):
            for (u, v), delay in zip(null.edge_index.T.tolist(), null.delay.tolist(), strict=True):
                (delayed if delay else instant)[u, v] += 1
        forward = {(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)}
        assert set(instant) == forward
        assert set(delayed) == {(u, v) for u in range(4) for v in (2, 3)}
        chances = {pair: ((3 / 5 if pair in forward else 1) * 2 / 6, delayed[pair]) for pair in delayed}
        for p, times in [*chances.values(), *((2 / 5, times) for times in instant.values())]:
            assert abs(times - 3000 * p) < 4.5 * np.sqrt(3000 * p * (1 - p))

    def test_exchanges_favour_no_graph(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every graph that exchanges of two edges lead to, instant ones forward: equally often."""
        monkeypatch.setattr(exchanges, "_MOST", 160)
        src, dst, delay = [0, 0, 1, 2, 3, 4], [2, 3, 3, 2, 4, 3], [0, 1, 0, 1, 0, 2]
        graph = fw.Graph.from_edges(src, dst, inputs=[0, 1], outputs=[4], delay=delay)
        possible, waiting = {tuple(src)}, [tuple(src)]
        while waiting:
            sources = waiting.pop()
            for i, j in itertools.combinations(range(6), 2):
                other = list(sources)
                other[i], other[j] = sources[j], sources[i]
                goes_forward = all(u < v or late for u, v, late in zip(other, dst, delay, strict=True))
                if goes_forward and len(set(zip(other, dst, strict=True))) == 6 and tuple(other) not in possible:
                    possible.add(tuple(other))
                    waiting.append(tuple(other))
        expected = {frozenset(zip(sources, dst, delay, strict=True)) for sources in possible}
        assert 10 <= len(expected) == len(possible)
        nulls = null_models(graph, "degree", 30 * len(expected), seed=1)
        found = Counter(frozenset(zip(*null.edge_index.tolist(), null.delay.tolist(), strict=True)) for null in nulls)
        assert set(found) == expected
        assert any(u == v for edges in found for u, v, _ in edges)
        excess = sum((times - 30) ** 2 / 30 for times in found.values())  # chi-squared
        assert excess < len(expected) + 4 * np.sqrt(2 * len(expected))

    def test_seeds(self) -> None:
        for kind in KINDS:
            first, again = (null_models(GRAPH, kind, 2, seed=3) for _ in range(2))
            assert [null.wiring_hash for null in first] == [null.wiring_hash for null in again]
            assert first[0].wiring_hash != first[1].wiring_hash

    def test_more_edges_than_pairs(self) -> None:
        graph = fw.Graph.from_edges([0, 1, 1, 1], [1, 1, 1, 1], inputs=[0], outputs=[1], delay=[0, 1, 2, 3])
        with pytest.raises(
            fw.GraphError, match=r"^graph: expected at most 1 edges, one for each pair of nodes that is left .* got 3\."
        ):
            null_models(graph, "erdos_renyi", 1)


def last_frame(y: Tensor, target: Tensor) -> tuple[Tensor, int]:
    return (y[-1] - target).square().sum(), target.numel()


def sequences(batches: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(7, 5, INPUTS, generator=generator, dtype=torch.float64),
            torch.randn(5, OUTPUTS, generator=generator, dtype=torch.float64),
        )
        for _ in range(batches)
    ]


class TestAblation:
    """Against the slow reference on the graph with the weights set to 0."""

    def expected(self, net: fw.Recurrent, nodes: set[int], edges: set[int]) -> float:
        net = fw.Recurrent(net.graph.with_values(net.weight.detach().numpy(), self.biases(net)), dtype=torch.float64)
        src = net.graph.edge_index[0]
        with torch.no_grad():
            for column in range(net.graph.num_edges):
                if src[column] in nodes or column in edges:
                    net.weight[column] = 0
            found = count = 0.0
            for x, target in sequences():
                y, _ = fw.reference(net, x)
                for place, node in enumerate(net.graph.output_index):
                    if node in nodes:
                        y[..., place] = 0
                sums, number = last_frame(y, target)
                found, count = found + float(sums), count + number
        return found / count

    @staticmethod
    def biases(net: fw.Recurrent) -> np.ndarray:
        bias = np.full(net.graph.num_nodes, np.nan)
        bias[net.graph.computed_index] = net.bias.detach().numpy()
        return bias

    @pytest.fixture
    def net(self) -> fw.Recurrent:
        torch.manual_seed(0)
        net = fw.Recurrent(GRAPH, dtype=torch.float64)
        nn.init.normal_(net.bias)
        return net

    def test_nodes_and_edges(self, net: fw.Recurrent) -> None:
        nodes, edges = [0, 7, 20, NODES - 1], [0, 5, 100]
        study = studies.ablate(net, sequences(), last_frame, nodes=nodes, edges=edges)
        assert study.baseline == pytest.approx(self.expected(net, set(), set()), rel=1e-10)
        assert len(study.rows) == len(nodes) + len(edges)
        for row in study.rows:
            members = {int(member) for member in row.members}
            which = (members, set()) if row.kind == "node" else (set(), members)
            assert row.metric == pytest.approx(self.expected(net, *which), rel=1e-10)
        assert len({row.metric for row in study.rows}) > 4

    def test_named_sets(self, net: fw.Recurrent) -> None:
        sets = {"inputs": [0, 1, 2, 3], "some": list(range(10, 30))}
        study = studies.ablate(net, sequences(), last_frame, nodes=sets)
        for row in study.rows:
            assert row.metric == pytest.approx(self.expected(net, set(sets[row.name]), set()), rel=1e-10)

    def test_batch_first_steps_and_learnt_leaks(self) -> None:
        torch.manual_seed(0)
        net = fw.Recurrent(GRAPH, batch_first=True, steps=2, learn_leak=True, dtype=torch.float64)
        before = {name: value.clone() for name, value in net.state_dict().items() if isinstance(value, Tensor)}
        loader = [(x.transpose(0, 1), target) for x, target in sequences()]
        study = studies.ablate(net, loader, lambda y, target: last_frame(y.transpose(0, 1), target), nodes=True)
        assert len(study.rows) == NODES
        assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
        with torch.no_grad():
            net.leak.fill_(1.0)
        changed = studies.ablate(net, loader, lambda y, target: last_frame(y.transpose(0, 1), target), nodes=[0])
        assert changed.baseline != study.baseline

    def test_constrained(self) -> None:
        """Silenced weights are effective ones; the constraints of the network stay."""
        rng = np.random.default_rng(0)
        graph = wiring(weight=rng.uniform(0.1, 1, GRAPH.num_edges), sign=np.ones(GRAPH.num_edges, int))
        group = rng.integers(0, 6, graph.num_edges)
        net = fw.Recurrent(graph.with_constraints(sign=graph.sign, group=group), dtype=torch.float64)
        plain = fw.Recurrent(graph.with_constraints(sign=None, group=None), dtype=torch.float64)
        with torch.no_grad():
            plain.weight.copy_(net.weight)
        for arguments in ({"nodes": {"some": [1, 20, 30]}}, {"edges": [3, 4]}):
            assert studies.ablate(net, sequences(), last_frame, **arguments) == studies.ablate(
                plain, sequences(), last_frame, **arguments
            )
        assert (net.weight > 0).all()


def test_comparison() -> None:
    """Networks of the wiring and of its null models train and are scored."""

    def train(graph: fw.Graph, seed: int) -> float:
        torch.manual_seed(seed)
        net = fw.Recurrent(graph, dtype=torch.float64)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(3):
            loss = sum(nn.functional.mse_loss(net(x)[0][-1], target) for x, target in sequences())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return -loss.item()

    for kind in KINDS:
        study = studies.compare(GRAPH, null_models(GRAPH, kind, 2, seed=0), train, seeds=2)
        assert np.isfinite(study.differences).all()
