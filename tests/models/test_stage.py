# SPDX-License-Identifier: MIT
"""freewire/models/stage.py: a graph of modules against the same computed by hand, and every message."""

from __future__ import annotations

import copy
import pickle
import warnings
import weakref
from contextlib import nullcontext
from unittest import mock

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

import freewire as fw
from freewire.models import BA, WS, GraphStage, SeparableConv
from freewire.models import steps as steps_module
from freewire.ops.gated_sum import heard_again

#: a and b hear the input; c hears a; d hears a, b (twice) and c; e hears b. d and e are the sinks.
EDGES = [("a", "c"), ("a", "d"), ("b", "d"), ("b", "d"), ("c", "d"), ("b", "e")]


def dag() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from("edcba")
    graph.add_edges_from(EDGES)
    return graph


def stage_of(dtype: torch.dtype = torch.float64, **options: object) -> GraphStage:
    """Of the graph above, with weights of its own for every edge."""
    torch.manual_seed(0)
    stage = GraphStage(dag(), 3, 4, **options).to(dtype)  # type: ignore[arg-type]
    nn.init.normal_(stage.weight)
    return stage


def by_hand(stage: GraphStage, x: Tensor) -> Tensor:
    """The same in plain torch, node by node."""
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
    def test_is_what_the_paper_says(self) -> None:
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

    def test_results_are_freed_once_nobody_hears_them(self) -> None:
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

    def test_in_16_bits(self) -> None:
        stage = stage_of(torch.bfloat16).eval()
        x = torch.randn(2, 3, 8, 8)
        y = stage(x.bfloat16())
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y.float(), stage_of(torch.float32).eval()(x), rtol=0.1, atol=0.1)

    @pytest.mark.slow
    @pytest.mark.parametrize("train", [False, True])  # inductor compiles for minutes, and adds nothing of ours
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


class TestHeardAgain:
    """What a node hears is not kept for the backward, but summed once more."""

    def test_gradients_are_the_same_bits(self) -> None:
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        found = []
        for again in (True, False):
            stage = stage_of()
            with mock.patch.object(steps_module, "heard_again", heard_again if again else lambda *_: nullcontext()):
                y = stage(x)
            found.append(torch.autograd.grad(y.square().sum(), list(stage.parameters())))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))

    def test_a_convolution_does_not_keep_its_input(self) -> None:
        heard: list[Tensor] = []
        stage = GraphStage(dag(), 3, 4, lambda i, o, s: nn.Conv2d(i, o, 3, s, 1))
        d = stage.nodes[tuple(stage.graph.nodes).index("d")]
        d.register_forward_hook(lambda module, inputs, y: heard.append(weakref.ref(inputs[0])))
        y = stage(torch.randn(2, 3, 8, 8))
        assert heard[0]() is None
        y.sum().backward()
        assert d.weight.grad is not None

    def test_what_was_written_to_is_kept(self) -> None:
        def node(in_channels: int, out_channels: int, stride: int) -> nn.Module:
            inplace = in_channels == out_channels  # the others hear the stage's input together
            return nn.Sequential(nn.Hardtanh(-0.1, 0.1, inplace), nn.Conv2d(in_channels, out_channels, 1, stride))

        torch.manual_seed(0)
        stage, x = GraphStage(dag(), 3, 4, node, relu=False).double(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
        twin = copy.deepcopy(stage)
        for module in twin.nodes:
            module[0].inplace = False
        for s in (stage, twin):
            s(x).square().sum().backward()
        for got, want in zip(stage.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(got.grad, want.grad)

    def test_hooks_of_others_stay_in_force(self) -> None:
        stage, kept = stage_of(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            y = stage(torch.randn(2, 3, 8, 8, dtype=torch.float64))
        assert len(kept) > 20
        y.sum().backward()

    def test_weights_that_change_before_the_backward_are_told(self) -> None:
        stage = GraphStage(nx.DiGraph([(0, 1)]), 2, 2, lambda i, o, s: nn.Conv2d(i, o, 3, s, 1))
        y = stage(torch.rand(1, 2, 4, 4))
        with torch.no_grad():
            stage.weight.add_(5.0)
        with pytest.raises(RuntimeError, match=r"backward: expected what a node hears .* modified in place since\."):
            torch.autograd.grad(y.sum(), stage.nodes[1].weight)

    def test_not_of_tensors_that_are_made_of_others(self) -> None:
        """Their memory has no address: all would look alike."""

        class Node(nn.Module):
            def __init__(self, channels: int) -> None:
                super().__init__()
                self.conv = nn.Conv2d(channels, channels, 1)

            def forward(self, x: Tensor) -> Tensor:
                return self.conv(x).sigmoid() * self.conv(x).tanh()

        stage = GraphStage(nx.path_graph(3, nx.DiGraph), 2, 2, lambda i, o, s: Node(i), stride=1)
        x = torch.randn(1, 2, 3, 3, requires_grad=True)
        (want,) = torch.autograd.grad(stage(x).sum(), x)
        twin = TwoTensor(x.detach(), x.detach()).requires_grad_()
        stage(twin).sum().backward()
        torch.testing.assert_close(twin.grad.a, want)

    def test_nodes_that_save_what_has_no_memory(self) -> None:
        class Sparse(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (torch.eye(2).to_sparse() @ x.flatten(1).T).T.view_as(x).exp()

        stage = GraphStage(nx.path_graph(3, nx.DiGraph), 1, 1, lambda *_: Sparse(), stride=1)
        stage(torch.rand(3, 1, 1, 2)).sum().backward()
        assert stage.weight.grad is not None

    def test_where_hooks_are_forbidden(self) -> None:
        stage = stage_of()
        with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
            stage(torch.randn(2, 3, 8, 8, dtype=torch.float64)).sum().backward()

    def test_switched_off(self) -> None:
        class PerSample(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.func.grad(lambda x: x.pow(3).sum())(x)

        stage = GraphStage(nx.path_graph(3, nx.DiGraph), 1, 1, lambda *_: PerSample(), stride=1, recompute_sums=False)
        stage(torch.rand(2, 1, 3, 3)).sum().backward()

    def test_torch_func(self) -> None:
        stage, x = stage_of().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
        parameters = {name: p.detach() for name, p in stage.named_parameters()}

        def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(stage, parameters, (x,)).square().sum()

        found = torch.func.grad(loss)(parameters, x)
        stage(x).square().sum().backward()
        for name, parameter in stage.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad)
        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x[:, None])
        for name, grad in each.items():
            torch.testing.assert_close(grad.sum(0), found[name])

    def test_twice_differentiable(self) -> None:
        stage = GraphStage(nx.path_graph(3, nx.DiGraph), 2, 2, lambda i, o, s: nn.Conv2d(i, o, 1), stride=1).double()
        x = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(stage, (x,))


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
            fw.InputError, match=r"state_dict: expected one of a stage with this wiring, got .* Make the"
        ):
            other.load_state_dict(one.state_dict())
        assert torch.equal(other.weight, before)
        other.load_state_dict(other.state_dict())

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
    def test_jit_trace(self, layout: torch.memory_format) -> None:
        stage, x = stage_of().eval(), torch.randn(1, 3, 8, 8, dtype=torch.float64).contiguous(memory_format=layout)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the checks of shapes, which a trace leaves out
            torch.testing.assert_close(torch.jit.trace(stage, x)(x), stage(x))

    @pytest.mark.parametrize("strict", [False, True])
    def test_what_is_exported_takes_any_layout(self, strict: bool) -> None:
        stage, x = stage_of().eval(), torch.randn(1, 3, 8, 8, dtype=torch.float64)
        with torch.no_grad():
            exported = torch.export.export(stage, (x.contiguous(memory_format=torch.channels_last),), strict=strict)
            torch.testing.assert_close(exported.module()(x), stage(x))

    def test_no_edges_no_gradient_to_wait_for(self) -> None:
        lone = nx.DiGraph()
        lone.add_nodes_from("ab")
        assert not GraphStage(lone, 3, 4).weight.requires_grad

    def test_repr(self) -> None:
        assert "5 nodes, 6 edges, stride=2, relu=True" in repr(stage_of())


class TestKept:
    def test_an_edge_that_is_not_kept_has_no_part(self) -> None:
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
        with pytest.raises(fw.InputError, match=rf"{name}: expected at least 1, got 0\."):
            GraphStage(dag(), **options)

    def test_of_nodes(self) -> None:
        with pytest.raises(
            fw.InputError, match=r"node: expected a callable .* that returns an nn\.Module, got one that"
        ):
            GraphStage(dag(), 3, 4, lambda *_: "conv")  # type: ignore[arg-type, return-value]

        def shrinking(in_channels: int, out_channels: int, stride: int) -> nn.Module:
            return nn.Conv2d(in_channels, out_channels, 3, stride)

        message = r"node: expected results of one shape where they are summed, at node 'd', got \[1, 4, \d, \d\] and \["
        with pytest.raises(fw.InputError, match=message + r".*Make nodes that keep height and width"):
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
