# SPDX-License-Identifier: MIT
"""The peers compute the network that they are given, and refuse what they cannot compute."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import freewire as fw
from benchmarks.harness.command import checkout
from benchmarks.harness.correctness import WrongResultError, Yardstick, check
from benchmarks.harness.machine import cores
from benchmarks.peers import CHECKOUTS, PEERS, Peer
from benchmarks.peers.layout import Layout
from benchmarks.peers.sequential import SequentialPeer
from tests.support.benchmark_networks import BATCH, layered_network, mixed_network, tanh_network

#: Peers without a package are tested if this names their checkouts, as in "tensorneat=../tensorneat".
CHECKOUTS.update(checkout(text, CHECKOUTS) for text in os.environ.get("FREEWIRE_CHECKOUTS", "").split())
#: The end of the refusal of an optional peer.
INSTALL = re.compile(
    r"(\w+ is not installed: pip install '[\w>=.-]+'|no checkout given: git clone \S+, then --checkout [\w-]+=PATH)$"
)


def runnable(peer: type[Peer]) -> fw.Network:
    """A network that the peer can run."""
    for net in (mixed_network(), tanh_network(), layered_network(), layered_network("relu")):
        if peer.refusal(net) is None:
            return net
    refusal = str(peer.refusal(layered_network("relu")))
    assert INSTALL.search(refusal)
    pytest.skip(refusal)


@pytest.fixture
def all_cores() -> Iterator[None]:
    """Set torch to as many threads as jax uses."""
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
        candidate = peer.candidate()
        check(
            peer.label,
            candidate.make,
            candidate.gradients,
            Yardstick.of(runnable(peer), batch),
            dtypes=candidate.dtypes,
        )

    def test_wrong_weight_is_caught(self, peer: type[Peer]) -> None:
        def perturbed(net: fw.Network) -> nn.Module:
            with torch.no_grad():
                net.weight[1] += 1e-3
            return peer(net)

        with pytest.raises(WrongResultError, match=r"expected the reference's outputs within .* got a relative error"):
            check(peer.label, perturbed, peer.gradients, Yardstick.of(runnable(peer), BATCH), dtypes=peer.dtypes)


class TestLayout:
    def test_levels_hold_all_live_rows_and_edges(self) -> None:
        net = mixed_network()
        layout = Layout.of(net.graph)
        assert layout.num_inputs == 3
        assert layout.num_rows == 10  # node 10 reaches no output
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
    def test_refuses_what_peers_do_not_support(self, graph: fw.Graph, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Layout.of(graph)
        for peer in PEERS:
            refusal = str(peer.refusal(fw.Network(graph)))
            assert message in refusal or INSTALL.search(refusal)

    def test_sequential_runs_chains_only(self) -> None:
        assert SequentialPeer.refusal(mixed_network()) == "not a chain of fully connected layers"
