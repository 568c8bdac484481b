# SPDX-License-Identifier: MIT
"""Stages that run each separable convolution in one pass, by `freewire.ops.gated_depthwise`, and not as a whole."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import EagerAndRecordGraphs
from torch.utils.checkpoint import checkpoint

from freewire.models import WS, GraphStage, RandWire
from freewire.models import steps as steps_module
from freewire.models.steps import compile_steps, fuse_separable_convolutions
from freewire.ops.gated_depthwise import gated_depthwise


def by_node(stage: GraphStage) -> GraphStage:
    """The stage, whose separable convolutions run in one pass each."""
    stage._steps = compile_steps(stage.graph, [fuse_separable_convolutions])
    return stage


class TestInAStage:
    """`GraphStage` runs its separable convolutions in one pass; only time and memory differ."""

    @staticmethod
    def stage() -> GraphStage:
        torch.manual_seed(0)
        return by_node(GraphStage(WS(4, 0.75)(9, 0), 3, 6).double())

    @staticmethod
    def passes(stage: GraphStage, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[Tensor]]:
        """How many nodes ran in one pass; y and the gradients."""
        counted = mock.Mock(wraps=gated_depthwise)
        monkeypatch.setattr(steps_module, "gated_depthwise", counted)
        y = stage(x)
        grads = torch.autograd.grad(y.square().sum(), [x, *stage.parameters()])
        return counted.call_count, [y.detach(), *grads]

    @staticmethod
    def images() -> Tensor:
        x = torch.randn(2, 3, 12, 10, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
        return x.requires_grad_()

    def test_same_results(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stage, x = self.stage(), self.images()
        inner = len(stage._fan_ins)
        count, found = self.passes(stage, x, monkeypatch)
        assert count == inner > 3
        stage.recompute_sums = False
        count, want = self.passes(stage, x, monkeypatch)
        assert count == 0
        for got, wanted in zip(found, want, strict=True):
            torch.testing.assert_close(got, wanted)

    def test_batch_norms_may_be_folded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(0)
        model = RandWire(WS(4, 0.75), 6, "small", num_classes=3).double().to(memory_format=torch.channels_last)
        x = torch.randn(2, 3, 64, 64, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
        model(x)  # statistics that are not 0 and 1
        fused = model.eval().fuse()
        for stage in (*model.stages, *fused.stages):
            by_node(stage)
        counted = mock.Mock(wraps=gated_depthwise)
        with torch.no_grad():
            want = model(x)
            monkeypatch.setattr(steps_module, "gated_depthwise", counted)
            torch.testing.assert_close(fused(x), want)
        assert counted.call_count == sum(len(stage._fan_ins) for stage in fused.stages)

    def test_a_node_may_have_been_changed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stage, x = self.stage(), self.images()
        inner = [step.sum_step.node for step in stage._steps if isinstance(step, steps_module.OnePassStep)]
        stage.nodes[inner[0]].forward = stage.nodes[inner[0]].forward
        stage.nodes[inner[1]].compile(backend="eager")
        del stage.nodes[inner[2]][2]  # the others are numbered from then on
        count, found = self.passes(stage, x, monkeypatch)
        assert count == len(inner) - 2
        stage.recompute_sums = False
        for got, wanted in zip(found, self.passes(stage, x, monkeypatch)[1], strict=True):
            torch.testing.assert_close(got, wanted)

    def test_gradients_that_are_differentiated_again(self) -> None:
        stage, x = self.stage(), self.images()
        leaves = [x, *stage.parameters()]
        want = torch.autograd.grad(stage(x).square().sum(), leaves)
        found = torch.autograd.grad(stage(x).square().sum(), leaves, create_graph=True)
        for got, wanted in zip(found, want, strict=True):
            torch.testing.assert_close(got, wanted)
        penalty = [torch.autograd.grad(g.square().sum(), x, retain_graph=True)[0] for g in found[:1]]
        stage.recompute_sums = False
        found = torch.autograd.grad(stage(x).square().sum(), leaves, create_graph=True)
        torch.testing.assert_close(penalty[0], torch.autograd.grad(found[0].square().sum(), x)[0])

    def test_checkpointed(self) -> None:
        stage, x = self.stage(), self.images()
        want = torch.autograd.grad(stage(x).square().sum(), [x, *stage.parameters()])
        y = checkpoint(stage, x, use_reentrant=False)
        for got, wanted in zip(torch.autograd.grad(y.square().sum(), [x, *stage.parameters()]), want, strict=True):
            torch.testing.assert_close(got, wanted)

    def test_a_node_with_a_hook(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stage, x = self.stage(), self.images()
        inner = len(stage._fan_ins)
        received: list[Tensor] = []
        step = next(step for step in stage._steps if isinstance(step, steps_module.OnePassStep))
        module = stage.nodes[step.sum_step.node]
        handle = module.register_forward_pre_hook(lambda _, given: received.append(given[0]))
        count, with_hook = self.passes(stage, x, monkeypatch)
        assert (count, len(received)) == (inner - 1, 1)
        handle.remove()
        for got, wanted in zip(with_hook, self.passes(stage, x, monkeypatch)[1], strict=True):
            torch.testing.assert_close(got, wanted)

    @pytest.mark.slow
    def test_compile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stage, x = self.stage(), self.images()
        want = self.passes(stage, x, monkeypatch)[1]
        monkeypatch.undo()
        backend = EagerAndRecordGraphs()
        torch.compile(stage, fullgraph=True, backend=backend)(x)
        targets = [node.target for graph in backend.graphs for node in graph.graph.nodes]
        assert any("_GatedDepthwise" in str(t) or "autograd_function_apply" in str(t) for t in targets), targets
        y = torch.compile(stage, fullgraph=True, backend="aot_eager")(x)
        found = [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *stage.parameters()])]
        for got, wanted in zip(found, want, strict=True):
            torch.testing.assert_close(got, wanted)
