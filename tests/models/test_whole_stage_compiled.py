# SPDX-License-Identifier: MIT
"""Stages that run as one operator, compiled."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch._dynamo.testing import EagerAndRecordGraphs

from freewire.models import GraphStage
from tests.models.stages import assert_close, images, norms_of, outcome, small_world, with_norms

pytestmark = pytest.mark.usefixtures("one_thread")


def make() -> GraphStage:
    return with_norms(small_world(9))


@pytest.mark.slow
class TestCompiled:
    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    def test_forward_and_backward(self, training: bool) -> None:
        """Of several sizes, by one graph."""
        stage = make().train(training)
        for norm in list(norms_of(stage))[::2]:
            norm.momentum = None
        twin = copy.deepcopy(stage)
        compiled = torch.compile(twin, fullgraph=True, backend="aot_eager", dynamic=True)
        for size in ((2, 3, 12, 10), (3, 3, 9, 14)):
            assert_close(outcome(compiled, images(*size)), outcome(stage, images(*size)))

    def test_the_graph_holds_the_operator(self) -> None:
        for training, gradients, name in ((True, True, "stage"), (False, False, "stage_inference")):
            stage, x = make().train(training), images()
            backend = EagerAndRecordGraphs()
            with nullcontext() if gradients else torch.no_grad():
                torch.compile(stage, fullgraph=True, backend=backend)(x)
            targets = [str(node.target) for graph in backend.graphs for node in graph.graph.nodes]
            wanted = "autograd_function_apply" if name == "stage" else "freewire.stage_inference"
            assert any(wanted in target or "_Stage" in target for target in targets), targets
            assert not any("conv2d" in target for target in targets), targets
