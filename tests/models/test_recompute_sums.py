# SPDX-License-Identifier: MIT
"""`GraphStage` with ``recompute_sums``: the same gradients, and less memory."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest import mock

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from freewire.models import GraphStage
from freewire.models import steps as steps_module
from freewire.ops.recompute import recompute_in_backward
from tests.models.stages import dag, plain, stage_of


class TestRecomputeSums:
    """Sums are not kept for the backward, but recomputed there."""

    def test_gradients_are_the_same_bits(self) -> None:
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        found = []
        for recompute in (True, False):
            stage = plain(stage_of())
            replacement = recompute_in_backward if recompute else lambda *_: nullcontext()
            with mock.patch.object(steps_module, "recompute_in_backward", replacement):
                y = stage(x)
            found.append(torch.autograd.grad(y.square().sum(), list(stage.parameters())))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))

    @pytest.mark.parametrize("mode", [nullcontext, FakeTensorMode], ids=["real", "fake"])
    def test_a_convolution_does_not_keep_its_input(self, mode: Callable[[], AbstractContextManager[object]]) -> None:
        """Nor do fake tensors, from which the memory of a training step is estimated."""
        received: list[weakref.ref[Tensor]] = []
        with mode():
            stage = GraphStage(dag(), 3, 4, lambda i, o, s: nn.Conv2d(i, o, 3, s, 1))
            d = stage.nodes[tuple(stage.graph.nodes).index("d")]
            d.register_forward_hook(lambda module, inputs, y: received.append(weakref.ref(inputs[0])))
            y = stage(torch.randn(2, 3, 8, 8))
            assert received[0]() is None
            y.sum().backward()
        assert d.weight.grad is not None

    def test_a_sum_that_was_written_to_is_kept(self) -> None:
        def node(in_channels: int, out_channels: int, stride: int) -> nn.Module:
            inplace = in_channels == out_channels  # the others share the stage's input
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

    def test_saved_tensor_hooks_of_others_stay_in_force(self) -> None:
        stage, kept = plain(stage_of()), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            y = stage(torch.randn(2, 3, 8, 8, dtype=torch.float64))
        assert len(kept) > 20
        y.sum().backward()

    def test_weights_that_change_before_the_backward_raise(self) -> None:
        stage = GraphStage(nx.DiGraph([(0, 1)]), 2, 2, lambda i, o, s: nn.Conv2d(i, o, 3, s, 1))
        y = stage(torch.rand(1, 2, 4, 4))
        with torch.no_grad():
            stage.weight.add_(5.0)
        with pytest.raises(RuntimeError, match=r"backward: expected a node's inputs .* modified in place\."):
            torch.autograd.grad(y.sum(), stage.nodes[1].weight)

    def test_tensors_that_consist_of_others_are_kept(self) -> None:
        """Their storage has no address, by which a sum is recognised."""

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

    def test_nodes_may_save_tensors_without_storage(self) -> None:
        class Sparse(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (torch.eye(2).to_sparse() @ x.flatten(1).T).T.view_as(x).exp()

        stage = GraphStage(nx.path_graph(3, nx.DiGraph), 1, 1, lambda *_: Sparse(), stride=1)
        stage(torch.rand(3, 1, 1, 2)).sum().backward()
        assert stage.weight.grad is not None

    def test_where_saved_tensor_hooks_are_disabled(self) -> None:
        stage = plain(stage_of())
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
