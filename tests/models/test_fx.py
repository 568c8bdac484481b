# SPDX-License-Identifier: MIT
"""torch.fx traces image models and their stages: torchvision's and timm's feature extraction rely on it.

A traced stage runs node by node, and an untraced one whole: results agree to rounding, which is shown in float64.
"""

from __future__ import annotations

import networkx as nx
import pytest
import torch
import torch.fx

import freewire as fw
from freewire import models
from freewire.errors import InputError
from tests.support.messages import assert_refused

pytestmark = pytest.mark.usefixtures("one_thread")


def dag(seed: int = 0) -> nx.DiGraph:
    return fw.generators.watts_strogatz_dag(8, 4, 0.75, seed=seed)


@pytest.fixture
def model() -> models.RandWire:
    torch.manual_seed(0)
    made = models.RandWire([dag(i) for i in range(3)], 8, "small", num_classes=5, edge_drop=1.0)
    for stage in made.stages:  # so that all edges differ
        torch.nn.init.normal_(stage.weight)
    return made.double()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def assert_equal(found: torch.Tensor, want: torch.Tensor) -> None:
    """To rounding of float64."""
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-12)


class TestTrace:
    def test_results(self, model, images):
        traced = torch.fx.symbolic_trace(model.eval())
        assert_equal(traced(images), model(images))
        assert {"stages_0_nodes_7_bn", "stages_2_nodes_0_conv"} <= {node.name for node in traced.graph.nodes}

    def test_gradients(self, model, images):
        traced = torch.fx.symbolic_trace(model.eval())
        gradients = []
        for run in (model, traced):
            run.zero_grad()
            run(images).square().sum().backward()
            gradients.append({name: p.grad.clone() for name, p in run.named_parameters()})
        assert gradients[0].keys() == gradients[1].keys()
        for name, want in gradients[0].items():
            assert_equal(gradients[1][name], want)

    def test_edges_are_drawn_in_every_call(self, model, images):
        traced = torch.fx.symbolic_trace(model.train())
        torch.manual_seed(1)
        expected = [model(images) for _ in range(3)]
        torch.manual_seed(1)
        found = [traced(images) for _ in range(3)]
        assert not torch.allclose(expected[0], expected[1])
        for got, want in zip(found, expected, strict=True):
            assert_equal(got, want)

    def test_errors_stay(self, model):
        traced = torch.fx.symbolic_trace(model.eval())
        assert_refused(lambda: traced(torch.rand(1, 3, 31, 64)), "x: expected shape .* at least 32", InputError)
        stage = torch.fx.symbolic_trace(models.GraphStage(dag(), 3, 8))
        assert_refused(lambda: stage(torch.rand(1, 4, 8, 8)), r"x: expected shape \[batch, 3,", InputError)

    def test_errors_name_the_node(self):
        def node(in_channels, out_channels, stride):
            size = 1 if stride > 1 and not made else 3
            made.append(size)
            return torch.nn.Conv2d(in_channels, out_channels, size, stride, size // 2 + (size == 1))

        made: list[int] = []
        stage = models.GraphStage(nx.DiGraph([("a", "c"), ("b", "c")]), 3, 4, node)
        for run in (stage, torch.fx.symbolic_trace(stage)):
            assert_refused(
                lambda run=run: run(torch.rand(1, 3, 8, 8)),
                "node: expected results of one shape to be summed at node 'c', got",
                InputError,
            )


class TestMaps:
    def test_the_first_ones(self, model, images):
        model.eval()
        whole = model.forward_maps(images)
        assert len(whole) == 5
        for count in range(6):
            some = model.forward_maps(images, count)
            assert len(some) == count
            assert all(torch.equal(a, b) for a, b in zip(some, whole, strict=False))

    def test_no_edge_to_drop(self, images):
        """Stages without edges, or where no target has other in-edges, lose none."""
        path, single = nx.DiGraph([(0, 1)]), nx.DiGraph()
        single.add_node(0)
        for graphs in ([single] * 3, [path, single, path]):
            model = models.RandWire(graphs, 8, "small", num_classes=5, edge_drop=1.0).double().train()
            with torch.no_grad():
                dropping = model(images)
                model.edge_drop = 0.0
                torch.testing.assert_close(dropping, model(images))
