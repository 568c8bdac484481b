# SPDX-License-Identifier: MIT
"""freewire/models/steps.py: what a graph is compiled into, and that fusing shows in no hook and no result.

A step that runs a whole stage has tests of its own, in test_whole_stage.py.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from freewire.models import WS, GraphStage
from freewire.models import steps as steps_module
from freewire.models.checkpoint import checkpointed
from freewire.models.hooks import global_hooks_fixed, has_global_hooks
from freewire.models.stage import FUSIONS
from freewire.models.steps import (
    OUTPUT,
    FusedStep,
    InputStep,
    MeanStep,
    OnePassStep,
    StageCall,
    Step,
    SumStep,
    compile_steps,
    fuse_separable_convolutions,
)
from freewire.models.whole_stage import WholeStageStep
from freewire.ops.gated_depthwise import gated_depthwise

pytestmark = pytest.mark.usefixtures("one_thread")


def whole_stage() -> GraphStage:
    torch.manual_seed(0)
    stage = GraphStage(WS(4, 0.75)(9, 0), 3, 6).double()
    nn.init.normal_(stage.weight)
    return stage


def make_stage() -> GraphStage:
    """A stage that runs node by node, each separable convolution together with its sum."""
    stage = whole_stage()
    stage._steps = compile_steps(stage.graph, [fuse_separable_convolutions])
    return stage


def images() -> Tensor:
    x = torch.randn(2, 3, 12, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def run(stage: GraphStage, x: Tensor) -> tuple[int, list[Tensor]]:
    """How many nodes ran in one pass; y and all gradients."""
    with mock.patch.object(steps_module, "gated_depthwise", mock.Mock(wraps=gated_depthwise)) as counted:
        y = stage(x)
        grads = torch.autograd.grad(y.square().sum(), [x, *stage.parameters()])
    return counted.call_count, [y.detach(), *grads]


class TestCompile:
    def test_plain_steps(self) -> None:
        """Nodes by level and place; each result is freed by its last reader; the mean comes last."""
        graph = GraphStage(nx.DiGraph([("c", "a"), ("c", "b"), ("a", "b"), ("c", "d")]), 3, 4).graph
        assert tuple(graph.nodes) == ("c", "a", "b", "d")
        assert compile_steps(graph, []) == [
            InputStep(0),
            SumStep(1, (0,), (), 0, "node 'a'"),
            SumStep(3, (0,), (), 1, "node 'd'"),
            SumStep(2, (0, 1), (0, 1), 2, "node 'b'"),
            MeanStep((3, 2)),
        ]

    def test_everything_is_fused_by_default(self) -> None:
        """One step for the whole stage, in front of one per sum, in front of the plain steps."""
        stage = whole_stage()
        (step,) = stage._steps
        assert isinstance(step, WholeStageStep)
        by_node = compile_steps(stage.graph, [fuse_separable_convolutions])
        assert list(step.plain) == by_node
        plain = compile_steps(stage.graph, [])
        assert by_node == [OnePassStep(step) if isinstance(step, SumStep) else step for step in plain]

    def test_weights_are_grouped_as_the_steps_are(self) -> None:
        stage = make_stage()
        sums = [step for step in compile_steps(stage.graph, []) if isinstance(step, SumStep)]
        assert [len(step.sources) for step in sums] == stage._fan_ins
        assert [(u, step.node) for step in sums for u in step.sources] == [
            (u, v) for u, v in stage.graph.edge_index.T.tolist()
        ]

    def test_plain_and_fused_steps_agree(self) -> None:
        stage, x = make_stage(), images()
        count, found = run(stage, x)
        assert count == len(stage._fan_ins) > 3
        stage._steps = compile_steps(stage.graph, [])
        count, want = run(stage, x)
        assert count == 0
        for got, expected in zip(found, want, strict=True):
            torch.testing.assert_close(got, expected)


class TestWholeStage:
    """A step may replace all others."""

    class Doubled(FusedStep):
        """The plain steps' output times two, so that a test sees whether it ran."""

        def __init__(self, steps: list[Step]) -> None:
            self._plain = tuple(steps)

        @property
        def plain(self) -> tuple[Step, ...]:
            return self._plain

        def applies(self, call: StageCall) -> bool:
            return not call.removed

        def run_fused(self, call: StageCall) -> None:
            for step in self.plain:
                step.run(call)
            call.results[OUTPUT] = 2 * call.results[OUTPUT]

    def test_it_runs_where_it_applies(self) -> None:
        stage, x = whole_stage().eval(), images()
        with torch.no_grad():
            want = stage(x)
            with stage.without(nodes=[0]):
                damaged = stage(x)
            stage._steps = compile_steps(stage.graph, [*FUSIONS, lambda steps: [self.Doubled(steps)]])
            assert torch.equal(stage(x), 2 * want)
            with stage.without(nodes=[0]):
                assert torch.equal(stage(x), damaged)

    def test_it_does_not_run_where_somebody_listens(self) -> None:
        stage, x = whole_stage().eval(), images()
        want = stage(x)
        stage._steps = compile_steps(stage.graph, [lambda steps: [self.Doubled(steps)]])
        handle = torch_module.register_module_forward_hook(lambda *_: None)
        try:
            torch.testing.assert_close(stage(x), want)
        finally:
            handle.remove()


REGISTER: dict[str, Callable[..., object]] = {
    "forward": torch_module.register_module_forward_hook,
    "forward pre": torch_module.register_module_forward_pre_hook,
    "full backward": torch_module.register_module_full_backward_hook,
    "full backward pre": torch_module.register_module_full_backward_pre_hook,
}


class TestHooksOnAllModules:
    @pytest.mark.parametrize("kind", REGISTER)
    def test_they_see_every_module(self, kind: str) -> None:
        stage, x = make_stage(), images()
        count, want = run(stage, x)
        assert count == len(stage._fan_ins)
        seen: list[nn.Module] = []
        handle = REGISTER[kind](lambda module, *_: seen.append(module))
        try:
            count, found = run(stage, x)
        finally:
            handle.remove()
        assert count == 0
        assert set(seen) == {m for m in stage.modules() if not isinstance(m, nn.ModuleList)}
        assert len(seen) == len(set(seen))
        for got, expected in zip(found, want, strict=True):
            torch.testing.assert_close(got, expected)
        assert run(stage, x)[0] == len(stage._fan_ins)

    def test_they_may_change_results(self) -> None:
        """As with the plain steps: here the depthwise convolutions' results are doubled."""
        stage, x = make_stage(), images()
        results = []
        for recompute in (False, True):
            stage.recompute_sums = recompute
            handle = torch_module.register_module_forward_hook(
                lambda m, _, y: 2 * y if isinstance(m, nn.Conv2d) and m.groups > 1 else None
            )
            try:
                results.append(run(stage, x)[1])
            finally:
                handle.remove()
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want)
        assert not torch.allclose(results[0][0], run(stage, x)[1][0])

    def test_operations_are_counted_by_module(self) -> None:
        """torch's counter finds the modules by such hooks."""
        stage, x = make_stage(), images()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            stage(x)
        names = {f"GraphStage.nodes.{i}.depthwise" for i in range(9)}
        assert names <= set(counter.get_flop_counts())

    @pytest.mark.parametrize("hooked", ["forward", "backward"])
    def test_checkpointing_repeats_the_steps_of_the_forward(self, hooked: str) -> None:
        """It needs the same saved tensors twice, though the hooks are there during one of the two runs only."""
        stage, x = make_stage(), images()
        leaves = [x, *stage.parameters()]
        want = torch.autograd.grad(stage(x).square().sum(), leaves)
        seen: list[nn.Module] = []

        def register() -> object:
            return torch_module.register_module_forward_hook(lambda module, *_: seen.append(module))

        handle = register() if hooked == "forward" else None
        y = checkpointed(stage, x)
        if handle is not None:
            handle.remove()
        assert len(seen) == (0 if handle is None else len({m for m in stage.modules()}) - 1)
        handle = register() if hooked == "backward" else None
        try:
            found = torch.autograd.grad(y.square().sum(), leaves)
        finally:
            if handle is not None:
                handle.remove()
        for got, expected in zip(found, want, strict=True):
            torch.testing.assert_close(got, expected)

    def test_checkpointing_by_torch_needs_the_same_hooks_twice(self) -> None:
        """It knows nothing of the first run, and says so."""
        stage, x = make_stage(), images()
        handle = torch_module.register_module_forward_hook(lambda *_: None)
        try:
            y = checkpoint(stage, x, use_reentrant=False)
        finally:
            handle.remove()
        with pytest.raises(torch.utils.checkpoint.CheckpointError, match="number of tensors"):
            y.sum().backward()


def test_the_answer_may_be_fixed() -> None:
    assert not has_global_hooks()
    with global_hooks_fixed(True):
        assert has_global_hooks()
        with global_hooks_fixed(False):
            assert not has_global_hooks()
        assert has_global_hooks()
    assert not has_global_hooks()
