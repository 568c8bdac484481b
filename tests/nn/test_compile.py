# SPDX-License-Identifier: MIT
"""A network inside ``torch.compile``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import freewire as fw
from tests.support.graphs import CASES
from tests.support.tensors import assert_same_bits, gradients, network, x_of

GRAPH = CASES["random"]  # 9 inputs, 5 outputs


@pytest.mark.usefixtures("header")
class TestCompile:
    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    @pytest.mark.parametrize("dynamic", [None, True])
    def test_compile_fullgraph(self, backend: str, dynamic: bool | None) -> None:
        torch._dynamo.reset()
        net = network(GRAPH)
        run = torch.compile(net, fullgraph=True, backend=backend, dynamic=dynamic)
        for batch in (2, 3, 40, 100):
            x, grad_y = x_of(net, batch), torch.randn(batch, 5, dtype=torch.float64)
            assert_same_bits(gradients(run, net, x, grad_y), gradients(net, net, x, grad_y))
            with torch.no_grad():
                assert_same_bits([run(x)], [net(x)])

    @pytest.mark.parametrize("gradient", [False, True])
    def test_compiled_inference_keeps_no_tape(self, gradient: bool) -> None:
        torch._dynamo.reset()
        net = network(GRAPH)
        seen: list[Any] = []

        def backend(module: Any, _: Any) -> Any:
            nodes = (node for part in module.modules() for node in part.graph.nodes)
            calls = [(str(node.target), node.args[-1]) for node in nodes if "freewire" in str(node.target)]
            seen.extend(call for call in calls if call[0] != "freewire.backward.default")
            return module.forward

        with torch.set_grad_enabled(gradient):
            torch.compile(net, fullgraph=True, backend=backend)(x_of(net, 3))
        kept, alone = ("freewire.forward.default", net.plan.tape_rows), ("freewire.inference.default", 5)
        assert seen == [kept if gradient else alone]

    @pytest.mark.slow
    @pytest.mark.compiler
    def test_compile_with_the_default_backend(self) -> None:
        torch._dynamo.reset()
        net = network(GRAPH)
        model = nn.Sequential(nn.Linear(4, 9, dtype=torch.float64), net, nn.Tanh())
        run = torch.compile(model, fullgraph=True)
        x = torch.randn(7, 4, dtype=torch.float64)
        want, got = (torch.autograd.grad(m(x).sum(), list(model.parameters())) for m in (model, run))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("transform", ["grad", "vjp", "jacrev", "vmap"])
    def test_compile_around_a_transform(self, transform: str) -> None:
        """Dynamo alone loses the gradient here, in silence."""
        torch._dynamo.reset()
        net = network(GRAPH)
        x = x_of(net, 3) if transform == "vmap" else x_of(net)
        run = {
            "grad": torch.func.grad(lambda x: net(x).square().sum()),
            "vjp": lambda x: torch.func.vjp(net, x)[1](torch.ones(5, dtype=torch.float64))[0],
            "jacrev": torch.func.jacrev(net),
            "vmap": torch.func.vmap(net),
        }[transform]
        compiled = torch.compile(lambda x: run(x), backend="eager")
        try:
            found = compiled(x)
        except (AssertionError, torch._dynamo.exc.InternalTorchDynamoError):
            assert torch.__version__ < "2.13", "torch 2.11 stops here, loudly; 2.13 has been seen to go on"
        else:
            torch.testing.assert_close(found, run(x))
        with pytest.raises(Exception, match=r"expected no torch\.func transform inside torch\.compile"):
            torch.compile(lambda x: run(x), backend="eager", fullgraph=True)(x)

    def test_compile_activations(self) -> None:
        torch._dynamo.reset()
        net = network(GRAPH)
        x = x_of(net, 3)
        torch.testing.assert_close(
            torch.compile(lambda x: net.activations(x)[20], backend="eager")(x), net.activations(x)[20]
        )

    @pytest.mark.parametrize(("op", "first"), [("forward", "x"), ("inference", "x"), ("backward", "grad_y")])
    def test_a_fake_kernel_refuses_real_tensors(self, op: str, first: str) -> None:
        net = network(GRAPH)
        words, weight, plan = net._placed.words.to("meta"), net.weight.detach(), net.plan
        x, grad_y, tape = x_of(net, 2), torch.zeros(2, 5, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        arguments: dict[str, tuple[Any, ...]] = {
            "forward": (x, weight, None, words, None, plan.num_outputs, 0),
            "inference": (x, weight, None, words, None, plan.num_outputs),
            "backward": (grad_y, tape, weight, words, None, plan.num_inputs, 0, True, True),
        }
        with pytest.raises(fw.InputError, match=rf"plan: expected device cpu, that of {first}, got meta"):
            getattr(torch.ops.freewire, op)(*arguments[op])
