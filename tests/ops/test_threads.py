# SPDX-License-Identifier: MIT
"""Networks on many threads: the same bits as on one, and work for all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import freewire as fw
from benchmarks.harness.workloads import WORKLOADS
from freewire._native.planner import planner
from freewire.plan import make_plan
from tests.support.dense_graphs import PARTS, layers, planted_graph, shuffled
from tests.support.graphs import CASES
from tests.support.tensors import (
    DTYPES,
    assert_matches_reference,
    assert_threads_change_no_bit,
    batch_of,
    gradients,
    network,
)

THREADS = (2, 3, 16)

G = fw.generators.random_graph
GRAPHS = {
    "random": G(24, 300, 10, 8, seed=0),
    "dense": shuffled(*layers([70, 50, 61, 20]), activation="tanh"),
    "planted": planted_graph(PARTS, seed=0),
    "union": fw.Graph.union([G(3, 20, 2, 4, "tanh", "tanh", seed=seed) for seed in range(9)]),
    "not_linear": CASES["mixed_aggregations"],
}


def assert_same_bits(net: fw.Network, batch: int, threads: int) -> None:
    x, grad_y = batch_of(net, batch)

    def run() -> list[torch.Tensor]:
        with torch.no_grad():
            y = net(x)
        return [y, *gradients(net, net, x, grad_y)]

    assert_threads_change_no_bit(threads, run)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("batch", [1, 3, 8, 33, 65, 256, 1100])
@pytest.mark.parametrize("name", GRAPHS)
def test_same_bits(name: str, batch: int, threads: int) -> None:
    """Tiles, slices of tiles, and rounds of tiles."""
    for dtype in DTYPES:
        assert_same_bits(network(GRAPHS[name], dtype), batch, threads)


@pytest.mark.parametrize("batch", [4, 65, 130])
def test_an_infinity_in_a_padded_block(batch: int) -> None:
    """Missing edges have weight 0, which must not spread it; nor may it change the bits of other samples."""
    ends = [(i, 20 + j) for j in range(10) for i in range(20) if i not in (j, (j + 7) % 20)]
    net = network(fw.Graph.from_edges(*zip(*ends, strict=True), activation="linear"), torch.float32)
    assert (net.plan.block_panel >= 0).any()
    x, grad_y = batch_of(net, batch)
    x[1:, ::3] = -0.0
    grad_y[1:, ::3] = -0.0

    def results() -> list[torch.Tensor]:
        y, grad_x, _, _ = gradients(net, net, x, grad_y)
        with torch.no_grad():
            return [net(x).view(torch.int32), y.view(torch.int32), grad_x.view(torch.int32)]

    finite = results()
    x[0, 5], grad_y[0, 3] = float("inf"), float("nan")
    assert fw.reference(net, x)[0].isfinite().any()
    for threads in THREADS:
        assert_threads_change_no_bit(threads, results)
    for found, wanted in zip(results(), finite, strict=True):
        assert torch.equal(found[1:], wanted[1:])
    y, wanted = net(x), fw.reference(net, x)
    assert torch.equal(y.isfinite(), wanted.isfinite())


@pytest.fixture(scope="module")
def wide() -> fw.Network:
    """20 levels of 1,000 nodes: so much work per level that threads share a single sample."""
    rng = np.random.default_rng(0)
    dst = np.repeat(np.arange(1000, 21_000), 32)
    level = dst // 1000
    src = rng.integers(0, level * 1000)
    return network(fw.Graph.from_edges(src, dst, num_nodes=21_000, inputs=range(1000)), torch.float32)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("batch", [1, 4, 7, 16])
def test_threads_share_a_sample(wide: fw.Network, batch: int, threads: int) -> None:
    assert_same_bits(wide, batch, threads)


@pytest.mark.parametrize("batch", [1, 5])
def test_shared_samples_match_the_reference(wide: fw.Network, batch: int) -> None:
    x, grad_y = batch_of(wide, batch)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert_matches_reference(wide, x, grad_y)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["W1", "W2", "W3", "W4", "W5"])
def test_work_for_16_threads(name: str) -> None:
    plan = make_plan(WORKLOADS[name].small() if name == "W3" else WORKLOADS[name].graph())
    assert min(planner.cpu_tasks(plan.sizes, 256, 4, threads=16)) >= 16
    assert planner.cpu_tasks(plan.sizes, 256, 4, threads=2) == (4, 4, 4), "narrower tiles only where threads are idle"
