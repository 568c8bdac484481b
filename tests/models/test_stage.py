# SPDX-License-Identifier: MIT
"""freewire/models/stage.py: a graph of modules against the same computed by hand, and every message."""

from __future__ import annotations

import copy
import pickle
import warnings
import weakref
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from freewire.models import BA, WS, GraphStage, SeparableConv
from tests.models.stages import dag, stage_of


def by_hand(stage: GraphStage, x: Tensor) -> Tensor:
    """The stage in plain torch, node by node."""
    g = stage.graph
    gate = {}  # (source, target, which of the parallel edges)
    for e, (u, v) in enumerate(g.edge_index.T.tolist()):
        pair = g.nodes[u], g.nodes[v]
        gate[(*pair, sum(key[:2] == pair for key in gate))] = stage.weight[e].sigmoid()
    node = dict(zip(g.nodes, stage.nodes, strict=True))
    a, b = (node[name](x.relu()) for name in "ab")
    c = node["c"]((gate["a", "c", 0] * a).relu())
    both = gate["b", "d", 0] + gate["b", "d", 1]
    d = node["d"]((gate["a", "d", 0] * a + both * b + gate["c", "d", 0] * c).relu())
    e = node["e"]((gate["b", "e", 0] * b).relu())
    return (d + e) / 2


class TestForward:
    def test_is_the_formula_of_the_paper(self) -> None:
        stage = stage_of()
        x = torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
        y, want = stage(x), by_hand(stage, x)
        torch.testing.assert_close(y, want)
        assert y.shape == (2, 4, 5, 4)
        leaves = [x, *stage.parameters()]
        for got, grad in zip(
            torch.autograd.grad(y.square().sum(), leaves), torch.autograd.grad(want.square().sum(), leaves), strict=True
        ):
            torch.testing.assert_close(got, grad)

    def test_without_relu(self) -> None:
        chain = GraphStage(nx.path_graph(3, nx.DiGraph), 2, 2, lambda *_: nn.Identity(), stride=1, relu=False)
        x = torch.randn(1, 2, 3, 3)
        torch.testing.assert_close(chain(x), x / 4)  # two edges of sigmoid(0)

    def test_one_node(self) -> None:
        single = nx.DiGraph()
        single.add_node("only")
        stage = GraphStage(single, 2, 2, lambda *_: nn.Identity(), stride=1)
        torch.testing.assert_close(
            stage(torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1)).flatten(), torch.tensor([0.0, 2.0])
        )
        assert stage.weight.shape == (0,)

    def test_any_module_is_a_node(self) -> None:
        made = []

        def node(in_channels: int, out_channels: int, stride: int) -> nn.Module:
            made.append((in_channels, out_channels, stride))
            conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
            return nn.Sequential(conv, nn.GroupNorm(2, out_channels), nn.GELU())

        stage = GraphStage(dag(), 3, 4, node, stride=3)
        assert stage(torch.randn(2, 3, 7, 7)).shape == (2, 4, 3, 3)
        assert sorted(made) == [(3, 4, 3)] * 2 + [(4, 4, 1)] * 3

    def test_nodes_are_called_as_modules_once_each(self) -> None:
        stage, called = stage_of(), []
        for module in stage.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda module, *_: called.append(module))
        stage(torch.randn(1, 3, 8, 8, dtype=torch.float64))
        assert len(called) == len(set(called)) == 2 * 5

    def test_channels_last_stays(self) -> None:
        stage = stage_of(torch.float32).to(memory_format=torch.channels_last)
        x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
        y = stage(x)
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert not y.is_contiguous()
        torch.testing.assert_close(y, stage_of(torch.float32)(x.contiguous()), rtol=1e-4, atol=1e-5)

    def test_results_are_freed_after_their_last_reader(self) -> None:
        """A chain keeps two results alive, not all of them."""
        alive, most = set(), 0

        class Watched(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                nonlocal most
                y = x + 1
                alive.add(id(y))
                weakref.finalize(y, alive.discard, id(y))
                most = max(most, len(alive))
                return y

        with torch.no_grad():
            GraphStage(nx.path_graph(20, nx.DiGraph), 1, 1, lambda *_: Watched(), stride=1)(torch.zeros(1, 1, 2, 2))
        assert most <= 2

    def test_autocast(self) -> None:
        stage = stage_of(torch.float32)
        x = torch.randn(2, 3, 8, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = stage(x)
        assert y.dtype == torch.bfloat16
        y.float().sum().backward()
        assert stage.weight.grad is not None
        torch.testing.assert_close(y.float(), stage_of(torch.float32)(x), rtol=0.1, atol=0.1)

    def test_16_bit_types(self) -> None:
        stage = stage_of(torch.bfloat16).eval()
        x = torch.randn(2, 3, 8, 8)
        y = stage(x.bfloat16())
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y.float(), stage_of(torch.float32).eval()(x), rtol=0.1, atol=0.1)

    @pytest.mark.slow
    @pytest.mark.parametrize("train", [False, True])  # inductor compiles for minutes, and tests nothing of ours
    def test_compile(self, train: bool) -> None:
        stage = GraphStage(WS(4, 0.75)(8, 0), 3, 4).train(train)
        twin = copy.deepcopy(stage)
        x = torch.randn(2, 3, 8, 8)
        y, want = torch.compile(stage, fullgraph=True, backend="aot_eager")(x), twin(x)
        torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-4)
        y.square().sum().backward()
        want.square().sum().backward()
        for got, expected in zip(stage.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(got.grad, expected.grad, rtol=1e-3, atol=1e-3)


class TestModule:
    def test_weights_follow_the_graphs_edges(self) -> None:
        stage = GraphStage(dag(), 3, 4, weight=0.5)
        assert torch.equal(stage.weight, torch.full((6,), 0.5))
        assert len(stage.weight) == stage.graph.num_edges
        assert tuple(stage.graph.nodes) == tuple("edcba")
        fan_in = dict(zip(stage.graph.nodes, [0] * 5, strict=True))
        for _, v in stage.graph.edge_index.T.tolist():
            fan_in[stage.graph.nodes[v]] += 1
        assert fan_in == {"a": 0, "b": 0, "c": 1, "d": 4, "e": 1}

    def test_attributes_of_the_graph_do_not_matter(self) -> None:
        noisy = dag()
        nx.set_edge_attributes(noisy, float("nan"), "weight")
        nx.set_node_attributes(noisy, "no such", "activation")
        assert GraphStage(noisy, 3, 4).graph.wiring_hash == GraphStage(dag(), 3, 4).graph.wiring_hash

    def test_copies_and_pickles(self) -> None:
        stage, x = stage_of(), torch.randn(1, 3, 8, 8, dtype=torch.float64)
        want = stage.eval()(x)
        for twin in (copy.deepcopy(stage), pickle.loads(pickle.dumps(stage))):
            assert torch.equal(twin(x), want)
        twin = GraphStage(dag(), 3, 4).double().eval()
        twin.load_state_dict(stage.state_dict())
        assert torch.equal(twin(x), want)

    def test_a_state_dict_belongs_to_its_wiring(self) -> None:
        """Two Barabasi-Albert graphs have the same shapes throughout."""
        one, other = (GraphStage(BA(2)(8, seed), 4, 4) for seed in (0, 1))
        before = other.weight.clone()
        with pytest.raises(
            fw.InputError, match=r"state_dict: expected that of a stage with this wiring, got .* Build the model"
        ):
            other.load_state_dict(one.state_dict())
        assert torch.equal(other.weight, before)
        other.load_state_dict(other.state_dict())

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
    @pytest.mark.parametrize("make", ["jit.trace", "export", "strict export"])
    def test_programs_made_of_a_stage_train_in_any_layout(self, make: str, layout: torch.memory_format) -> None:
        torch.manual_seed(0)
        torch._dynamo.reset()
        whole = nn.Sequential(nn.Conv2d(3, 3, 1), stage_of(), nn.Conv2d(4, 2, 1)).double()
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        example = x.contiguous(memory_format=layout)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the checks of shapes, which a trace omits
            if make == "jit.trace":
                for module in whole.modules():  # torch traces a second time to compare, and counts batches then
                    if isinstance(module, nn.BatchNorm2d):
                        module.track_running_stats = False
                program = torch.jit.trace(whole, example)
            else:
                program = torch.export.export(whole, (example,), strict=make == "strict export").module()
        results = []
        for run in (whole, program):
            run.zero_grad()
            y = run(x)
            y.square().sum().backward()
            results.append((y.detach(), {name: p.grad for name, p in run.named_parameters()}))
        (wanted, want_grads), (found, grads) = results
        torch.testing.assert_close(found, wanted)
        assert set(grads) == set(want_grads)
        for name, grad in grads.items():
            assert grad is not None, name
            torch.testing.assert_close(grad, want_grads[name])

    def test_the_meta_recipe(self) -> None:
        """Built on meta, given memory, and reset module by module: as large models are."""
        with torch.device("meta"):
            stage = GraphStage(dag(), 3, 4, weight=0.75)
        stage.to_empty(device="cpu")
        stage.weight.detach().fill_(float("nan"))
        for module in stage.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        assert torch.equal(stage.weight.detach(), torch.full((6,), 0.75))
        assert all(parameter.isfinite().all() for parameter in stage.parameters())

    def test_an_exported_stage_under_autocast(self) -> None:
        whole = nn.Sequential(nn.Conv2d(3, 3, 1), stage_of(), nn.Conv2d(4, 2, 1)).float().eval()
        x = torch.randn(2, 3, 8, 8)
        program = torch.export.export(whole, (x,)).module()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found, wanted = program(x), whole(x)
        assert found.dtype == wanted.dtype == torch.bfloat16
        torch.testing.assert_close(found, wanted)

    def test_without_edges_the_weight_requires_no_gradient(self) -> None:
        lone = nx.DiGraph()
        lone.add_nodes_from("ab")
        assert not GraphStage(lone, 3, 4).weight.requires_grad

    def test_repr(self) -> None:
        assert "5 nodes, 6 edges, stride=2, relu=True" in repr(stage_of())


class TestKept:
    def test_an_edge_that_is_not_kept_has_no_effect(self) -> None:
        stage, x = stage_of(), torch.randn(1, 3, 8, 8, dtype=torch.float64)
        for e in range(6):
            kept = torch.ones(6, dtype=torch.bool)
            kept[e] = False
            stage.weight.grad = None
            y = stage(x, kept)
            y.square().sum().backward()
            assert stage.weight.grad is not None
            assert stage.weight.grad[e] == 0
            closed = stage_of()
            with torch.no_grad():
                closed.weight[e] = -torch.inf
            torch.testing.assert_close(y, by_hand(closed, x))

    def test_without_an_edge_is_the_same(self) -> None:
        stage, x = stage_of(), torch.randn(1, 3, 8, 8, dtype=torch.float64)
        kept = torch.tensor([True, False, True, False, True, True])
        want = stage(x, kept)
        with stage.without(edges=[1, 3]):
            torch.testing.assert_close(stage(x), want)


class TestErrors:
    def test_of_the_graph(self) -> None:
        cycle = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a")])
        with pytest.raises(fw.GraphError, match=r"cycle.*'a'"):
            GraphStage(cycle, 3, 4)
        with pytest.raises(fw.GraphError, match=r"dag: expected at least one node, got none\."):
            GraphStage(nx.DiGraph(), 3, 4)
        with pytest.raises(fw.GraphError, match=r"dag: expected a networkx DiGraph or MultiDiGraph, got Graph\."):
            GraphStage(nx.path_graph(3), 3, 4)
        with pytest.raises(fw.GraphError, match=r"dag: .* got Graph\."):
            GraphStage(fw.generators.mlp([2, 2]), 3, 4)

    @pytest.mark.parametrize("name", ["in_channels", "out_channels", "stride"])
    def test_of_numbers(self, name: str) -> None:
        options = {"in_channels": 3, "out_channels": 4, "stride": 2, name: 0}
        with pytest.raises(fw.InputError, match=rf"{name}: expected a whole number of at least 1, got 0\."):
            GraphStage(dag(), **options)
        for value in (3.0, True, "3", None):
            with pytest.raises(fw.InputError, match=rf"{name}: expected a whole number of at least 1, got "):
                GraphStage(dag(), **{**options, name: value})
        GraphStage(dag(), **{**options, name: np.int64(2)})

    @pytest.mark.parametrize("weight", [float("nan"), "0", [0.0], None])
    def test_of_the_weight(self, weight: Any) -> None:
        with pytest.raises(fw.InputError, match=r"weight: expected one number for all edges, got "):
            GraphStage(dag(), 3, 4, weight=weight)

    def test_of_nodes(self) -> None:
        with pytest.raises(
            fw.InputError, match=r"node: expected a callable .* that returns an nn\.Module, got one that"
        ):
            GraphStage(dag(), 3, 4, lambda *_: "conv")  # type: ignore[arg-type, return-value]

        def shrinking(in_channels: int, out_channels: int, stride: int) -> nn.Module:
            return nn.Conv2d(in_channels, out_channels, 3, stride)

        message = r"node: expected results of one shape to be summed at node 'd', got \[1, 4, \d, \d\] and \["
        with pytest.raises(fw.InputError, match=message + r".*Use nodes that keep height and width"):
            GraphStage(dag(), 3, 4, shrinking)(torch.zeros(1, 3, 15, 15))
        uneven = nx.DiGraph([("a", "b"), ("b", "c")])
        uneven.add_node("d")
        with pytest.raises(fw.InputError, match=r"at the stage's output, got"):
            GraphStage(uneven, 3, 4, shrinking)(torch.zeros(1, 3, 15, 15))

    def test_of_x(self) -> None:
        with pytest.raises(fw.InputError, match=r"x: expected shape \[batch, 3, height, width\], got \[3, 8, 8\]\."):
            stage_of()(torch.zeros(3, 8, 8))
        with pytest.raises(fw.InputError, match=r"x: expected shape \[batch, 3, height, width\], got \[1, 4, 8, 8\]\."):
            stage_of()(torch.zeros(1, 4, 8, 8))


def test_separable_conv_is_the_default_node() -> None:
    assert all(type(node) is SeparableConv for node in GraphStage(dag(), 3, 4).nodes)
