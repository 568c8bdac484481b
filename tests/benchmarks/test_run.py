# SPDX-License-Identifier: MIT
"""The benchmarks: they refuse to time wrong results, take turns, and write all they measured."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.harness.correctness import WrongResultError, Yardstick, check
from benchmarks.harness.machine import cores
from benchmarks.harness.memory import peak_bytes
from benchmarks.harness.timing import interleave
from benchmarks.harness.workloads import WORKLOADS
from benchmarks.peers import CHECKOUTS, PEERS, Peer
from benchmarks.peers.layout import Layout
from benchmarks.peers.sequential import SequentialPeer
from benchmarks.suites import dense_mlp, run

LABELS = [candidate.label for candidate in run.candidates()]
PEER = {peer.label: peer for peer in PEERS}
#: Peers without a package are tested where this names their checkouts, as in "tensorneat=../tensorneat".
CHECKOUTS.update(map(run.checkout, os.environ.get("FREEWIRE_CHECKOUTS", "").split()))
#: How a refusal of an optional peer ends.
INSTALL = re.compile(
    r"(\w+ is not installed: pip install '[\w>=.-]+'|no checkout given: git clone \S+, then --checkout [\w-]+=PATH)$"
)
BATCH = 37  # a ragged last tile


def mixed_network(seed: int = 0) -> fw.Network:
    """Make relu, tanh and linear nodes, some of them dead, an output that feeds others, and biases."""
    src = [0, 1, 0, 3, 2, 4, 4, 3, 5, 1, 6, 7, 2]
    dst = [3, 3, 4, 5, 5, 6, 7, 8, 8, 9, 9, 9, 10]
    names = ["linear"] * 3 + ["tanh", "relu", "tanh", "relu", "linear", "relu", "tanh", "linear"]
    torch.manual_seed(seed)
    net = fw.Network(fw.Graph.from_edges(src, dst, inputs=[0, 1, 2], outputs=[5, 9, 8], activation=names))
    torch.nn.init.normal_(net.bias)
    return net


def tanh_network() -> fw.Network:
    """Make three parts of unlike sizes, whose outputs feed nothing."""
    graphs = [fw.generators.random_graph(3, size, 2, 3, "tanh", "tanh", seed=0) for size in (9, 14, 5)]
    torch.manual_seed(0)
    net = fw.Network(fw.Graph.union(graphs))
    torch.nn.init.normal_(net.bias)
    return net


def layered_network(activation: str = "tanh") -> fw.Network:
    torch.manual_seed(0)
    net = fw.Network(fw.generators.mlp([5, 7, 6, 3], activation=activation))
    torch.nn.init.normal_(net.bias)
    return net


def runnable(peer: type[Peer]) -> fw.Network:
    """Give a network that the peer can run."""
    for net in (mixed_network(), tanh_network(), layered_network(), layered_network("relu")):
        if peer.refusal(net) is None:
            return net
    refusal = str(peer.refusal(layered_network("relu")))
    assert INSTALL.search(refusal)
    pytest.skip(refusal)


def candidate_of(peer: type[Peer]) -> run.Candidate:
    return next(candidate for candidate in run.candidates() if candidate.label == peer.label)


@pytest.fixture
def all_cores() -> Iterator[None]:
    """As many threads as jax takes."""
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    yield
    torch.set_num_threads(before)


@pytest.mark.slow  # numba and jax compile
@pytest.mark.usefixtures("all_cores")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.label)
class TestPeers:
    @pytest.mark.parametrize("batch", [1, BATCH, 300])
    def test_computes_the_network(self, peer: type[Peer], batch: int) -> None:
        candidate = candidate_of(peer)
        check(
            peer.label,
            candidate.make,
            candidate.gradients,
            Yardstick.of(runnable(peer), batch),
            dtypes=candidate.dtypes,
        )

    def test_a_wrong_weight_is_caught(self, peer: type[Peer]) -> None:
        def planted(net: fw.Network) -> nn.Module:
            with torch.no_grad():
                net.weight[1] += 1e-3
            return peer(net)

        with pytest.raises(WrongResultError, match=r"expected the reference's outputs within .* got a relative error"):
            check(peer.label, planted, peer.gradients, Yardstick.of(runnable(peer), BATCH), dtypes=peer.dtypes)


class TestCheck:
    """The candidate is freewire itself, broken in one way at a time."""

    @pytest.fixture
    def yardstick(self) -> Yardstick:
        return Yardstick.of(mixed_network(), BATCH)

    @staticmethod
    def gradients(net: fw.Network) -> tuple[Tensor, Tensor]:
        assert net.weight.grad is not None
        assert net.bias is not None
        assert net.bias.grad is not None
        return net.weight.grad, net.bias.grad

    def test_the_network_itself_passes(self, yardstick: Yardstick) -> None:
        check("freewire", lambda net: net, self.gradients, yardstick)

    @pytest.mark.parametrize("which", [0, 1])
    @pytest.mark.parametrize("value", [0.0, math.nan])
    def test_a_wrong_gradient_is_caught(self, yardstick: Yardstick, which: int, value: float) -> None:
        def gradients(net: fw.Network) -> tuple[Tensor, Tensor]:
            got = self.gradients(net)
            got[which][0] = value
            return got

        what = ("weight", "bias")[which]
        with pytest.raises(WrongResultError, match=f"the reference's gradient of {what}"):
            check("broken", lambda net: net, gradients, yardstick)

    def test_a_missing_gradient_of_x_is_caught(self, yardstick: Yardstick) -> None:
        class Detached(nn.Module):
            def __init__(self, net: fw.Network) -> None:
                super().__init__()
                self.net = net

            def forward(self, x: Tensor) -> Tensor:
                y: Tensor = self.net(x.detach()) + 0 * x.sum()
                return y

        with pytest.raises(WrongResultError, match="the reference's gradient of x"):
            check("broken", Detached, lambda peer: self.gradients(peer.net), yardstick)

    def test_samples_that_leak_into_one_another_are_caught(self) -> None:
        class Leaking(nn.Module):
            def __init__(self, net: fw.Network) -> None:
                super().__init__()
                self.net = net

            def forward(self, x: Tensor) -> Tensor:
                y: Tensor = self.net(x) + 1e-14 * x.mean(0, keepdim=True)
                return y

        with pytest.raises(WrongResultError, match="expected zero gradients of samples that the loss does not read"):
            check("broken", Leaking, lambda peer: self.gradients(peer.net), Yardstick.of(mixed_network(), 100))

    def test_wrong_float32_is_caught(self, yardstick: Yardstick) -> None:
        def rounded(net: fw.Network) -> fw.Network:
            if net.weight.dtype == torch.float32:
                with torch.no_grad():
                    net.weight.copy_(net.weight.bfloat16())
            return net

        with pytest.raises(WrongResultError, match=r"outputs within .* in torch.float32"):
            check("broken", rounded, self.gradients, yardstick)


class TestLayout:
    def test_levels_hold_all_live_rows_and_edges(self) -> None:
        net = mixed_network()
        layout = Layout.of(net.graph)
        assert layout.num_inputs == 3
        assert layout.num_rows == 10  # node 10 feeds nothing
        assert [level.begin for level in layout.levels] == [3, *(level.end for level in layout.levels[:-1])]
        assert [level.first for level in layout.levels] == [0, *(level.last for level in layout.levels[:-1])]
        assert layout.levels[-1].end == layout.num_rows
        assert layout.levels[-1].last == len(layout.src) == net.graph.num_edges - 1
        for level in layout.levels:
            assert (layout.src[level.first : level.last] < level.begin).all()
            assert (layout.dst[level.first : level.last] >= level.begin).all()

    @pytest.mark.parametrize(
        ("graph", "message"),
        [
            (fw.generators.mlp([2, 2], output_activation="gelu"), "linear, relu and tanh nodes only"),
            (fw.Graph.from_edges([0], [1], aggregation="max"), "sum aggregation only"),
            (fw.Graph.from_edges([0, 1], [2, 2], inputs=[1, 0]), "inputs in node order"),
            (fw.Graph.from_edges([0, 1], [2, 2], inputs=[0]), "inputs in node order"),
        ],
    )
    def test_refuses_what_peers_do_not_know(self, graph: fw.Graph, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Layout.of(graph)
        for peer in PEERS:
            refusal = str(peer.refusal(fw.Network(graph)))
            assert message in refusal or INSTALL.search(refusal)

    def test_sequential_runs_chains_only(self) -> None:
        assert SequentialPeer.refusal(mixed_network()) == "not a chain of fully connected layers"


def test_tasks_take_turns() -> None:
    turns: list[str] = []
    timings = interleave(
        {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=6, threads=1, block=1e-4
    )
    assert [timing.runs for timing in timings.values()] == [6, 6]
    for timing in timings.values():
        assert 0 < timing.fastest <= timing.median
        assert timing.iqr >= 0
    changes = sum(one != other for one, other in itertools.pairwise(turns))
    assert changes >= 6


def test_peak_memory_counts_what_is_held_at_once() -> None:
    a = torch.zeros(1000)
    once, twice = peak_bytes(lambda: a * a), peak_bytes(lambda: (a * a) * (a * a))
    assert 4000 <= once < 4500
    assert 12000 <= twice < 12500


@pytest.mark.slow
def test_a_quick_run_writes_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "results.json"
    run.main(["--quick", "--json", str(path)])
    results = json.loads(path.read_text())
    assert results["quick"] is True
    for key in ("cpu", "cores", "isa", "torch", "freewire", "commit", "threads", "date"):
        assert key in results["machine"]
    for workload in map(WORKLOADS.get, run.USUAL):
        for label in LABELS:
            rows = [r for r in results["rows"] if (r["workload"], r["candidate"]) == (workload.name, label)]
            if "refusal" in rows[0]:
                assert rows[0]["refusal"] == str(PEER[label].refusal(fw.Network(workload.quick().graph())))
                continue
            assert [row["measure"] for row in rows] == list(workload.measures)
            for row in rows:
                assert row["median"] > 0
                assert row["iqr"] >= 0
                assert row["runs"] == 2
                assert row["ratio"] > 0
    printed = capsys.readouterr().out
    for name in (*run.USUAL, *LABELS):
        assert name in printed


@pytest.mark.slow
def test_the_comparison_with_dense_networks_writes_every_row(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    path = tmp_path / "dense.json"
    dense_mlp.main(["--quick", "--json", str(path)])
    own, equal_parameters, equal_neurons = json.loads(path.read_text())["rows"]
    assert abs(equal_parameters["parameters"] - own["parameters"]) < 75  # one hidden node more or less
    assert equal_neurons["candidate"] == "dense, equal neurons (40 hidden)"
    for row in (own, equal_parameters, equal_neurons):
        assert 0 < row["accuracy"] < 1
        assert row["median"] > 0
        assert row["step_bytes"] > 0
        assert row["held_bytes"] >= 3 * 4 * row["parameters"]


def test_every_dense_network_has_the_size_it_says() -> None:
    own, equal_parameters, equal_neurons = (model.make(0) for model in dense_mlp.models())
    count = sum(parameter.numel() for parameter in own.parameters())
    assert abs(sum(p.numel() for p in equal_parameters.parameters()) - count) < 75
    assert sum(p.numel() for p in equal_neurons.parameters()) == 300 * 65 + 301 * 10
