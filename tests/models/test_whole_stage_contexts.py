# SPDX-License-Identifier: MIT
"""Contexts in which a stage of separable convolutions runs node by node: autocast, transforms, tracers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from freewire.models import GraphStage
from tests.models.stages import assert_close, counted, images, plain, small_world

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**options: Any) -> GraphStage:
    return small_world(7, **options)


class TestContexts:
    def test_autocast(self) -> None:
        stage, x = make().float(), images().float()
        twin = plain(stage)
        with counted() as calls, torch.autocast("cpu"):
            y, want = stage(x), twin(x)
        assert calls() == (0, 0)
        assert torch.equal(y, want)

    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    def test_functional_call(self, training: bool) -> None:
        """It runs the operator, with the parameters that it is given."""
        stage, x = make().train(training), images()
        other = {name: torch.randn_like(p) for name, p in stage.named_parameters()}
        twin = plain(stage)
        with counted() as calls, torch.no_grad():
            found, want = (torch.func.functional_call(each, other, (x,)) for each in (stage, twin))
            assert calls() == ((0, 1) if training else (1, 0))
        assert_close([found], [want])

    def test_func_grad(self) -> None:
        stage, x = make(recompute_sums=False).eval(), images()
        twin = plain(stage)
        parameters = {name: p.detach() for name, p in stage.named_parameters()}
        found = []
        for each in (stage, twin):

            def loss(given: dict[str, Tensor], each: GraphStage = each) -> Tensor:
                return torch.func.functional_call(each, given, (x,)).square().sum()

            with counted() as calls:
                found.append(list(torch.func.grad(loss)(parameters).values()))
            assert calls() == (0, 0)
        assert_close(*found)

    def test_vmap(self) -> None:
        stage, x = make().eval(), torch.stack([images(seed=seed) for seed in range(2)])
        with counted() as calls, torch.no_grad():
            found = torch.func.vmap(stage)(x)
            assert calls() == (0, 0)
            assert_close(list(found), [stage(each) for each in x])

    @pytest.mark.parametrize("which", ["x", "weight", "nodes.4.depthwise.weight", "nodes.0.bn.bias"])
    def test_forward_mode(self, which: str) -> None:
        stage, x = make().eval(), images()
        twin = plain(stage)
        tangents = []
        for each in (stage, twin):
            with forward_ad.dual_level(), counted() as calls, torch.no_grad():

                def dual(tensor: Tensor) -> Tensor:
                    return forward_ad.make_dual(tensor, torch.ones_like(tensor))

                given = {} if which == "x" else {which: dual(each.get_parameter(which).detach())}
                y = torch.func.functional_call(each, given, (dual(x) if which == "x" else x,))
                tangents.append(forward_ad.unpack_dual(y).tangent)
            assert calls() == (0, 0)
        assert_close(tangents[:1], tangents[1:])

    def test_jvp(self) -> None:
        stage, x = make().eval(), images()
        with counted() as calls:
            _, found = torch.func.jvp(stage, (x,), (torch.ones_like(x),))
        assert calls() == (0, 0)
        assert_close([found], [torch.func.jvp(plain(stage), (x,), (torch.ones_like(x),))[1]])

    def test_fx(self) -> None:
        stage, x = make().eval(), images()
        with counted() as calls:
            traced = torch.fx.symbolic_trace(stage)
            found = traced(x)
        assert calls() == (0, 0)
        assert_close([found], [plain(stage)(x)])

    def test_jit_trace(self) -> None:
        stage, x = make().eval(), images()
        with counted() as calls, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit.trace is deprecated
            traced = torch.jit.trace(stage, x, check_trace=False)
            found = traced(images(3, 3, 8, 8))
        assert calls() == (0, 0)
        assert "stage_" not in str(traced.inlined_graph)
        assert_close([found], [plain(stage)(images(3, 3, 8, 8))])

    @pytest.mark.slow
    def test_export(self) -> None:
        stage, x = make().eval(), images()
        with torch.no_grad(), counted() as calls:
            program = torch.export.export(stage, (x,))
        assert calls() == (0, 0)
        assert "stage_" not in str(program.graph)
        assert_close([program.module()(x)], [plain(stage)(x)])
