# SPDX-License-Identifier: MIT
"""A network inside the transforms of ``torch.func``, in forward mode, and differentiated more than once."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import freewire as fw
from tests.support.graphs import CASES
from tests.support.tensors import NARROW, network, op_calls, x_of

GRAPH = CASES["random"]  # 9 inputs, 5 outputs


@pytest.mark.usefixtures("header")
class TestTransforms:
    def test_vmap_over_samples(self) -> None:
        net = network(GRAPH)
        x = x_of(net, 4, 3)
        for in_dims in (0, 1):
            got = torch.func.vmap(net, in_dims=in_dims)(x)
            torch.testing.assert_close(got, net(x).movedim(in_dims, 0))
        calls = op_calls(lambda: torch.func.vmap(net)(x))
        assert calls["freewire::forward"] == 1

    def test_vmap_over_networks(self) -> None:
        nets = [network(GRAPH, seed=s) for s in range(3)]
        parameters, buffers = torch.func.stack_module_state(nets)
        x = x_of(nets[0], 5)
        base = copy.deepcopy(nets[0]).to("meta")  # the recipe of torch's own tutorial

        def run(p: dict[str, Tensor], b: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(base, (p, b), (x,))

        got = torch.func.vmap(run, in_dims=(0, 0, None))(parameters, buffers, x)
        torch.testing.assert_close(got, torch.stack([net(x) for net in nets]))

    def test_per_sample_gradients(self) -> None:
        net = network(GRAPH)
        x = x_of(net, 4)

        def loss(weight: Tensor, x: Tensor) -> Tensor:
            return torch.func.functional_call(net, {"weight": weight}, (x,)).square().sum()

        got = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(net.weight.detach(), x)
        for i in range(4):
            torch.testing.assert_close(got[i], torch.autograd.grad(loss(net.weight, x[i]), net.weight)[0])

    def test_functional_derivatives(self) -> None:
        """Reverse, forward and second derivatives agree with those of the reference."""
        net = network(fw.generators.mlp([3, 4, 2], activation="tanh"))
        x, v = x_of(net), torch.randn(3, dtype=torch.float64)
        ours, plain = net, lambda x: fw.reference(net, x)
        for transform in (
            lambda f: torch.func.jacrev(f)(x),
            lambda f: torch.func.jacfwd(f)(x),
            lambda f: torch.func.jvp(f, (x,), (v,))[1],
            lambda f: torch.func.vjp(f, x)[1](torch.ones(2, dtype=torch.float64))[0],
            lambda f: torch.func.hessian(lambda x: f(x).square().sum())(x),
            lambda f: torch.func.jacrev(torch.func.jacrev(f))(x),
        ):
            torch.testing.assert_close(transform(ours), transform(plain))

    @pytest.mark.parametrize("case", ["diamond", "mlp", "dead", "parallel_edges"])
    def test_second_derivatives(self, case: str) -> None:
        net = network(CASES[case])
        inputs = tuple(t.detach().requires_grad_() for t in (x_of(net, 2), net.weight, net.bias))

        def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return torch.func.functional_call(net, {"weight": weight, "bias": bias}, (x,))

        assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(run, inputs)

    @pytest.mark.parametrize("dtype", NARROW, ids=str)
    def test_other_derivatives_in_16_bits(self, dtype: torch.dtype) -> None:
        """The reference rounds node values as the kernels do, so that both are on the same side of a kink."""
        graph = fw.generators.random_graph(8, 300, 4, 6, seed=3)  # 300 ReLUs, rounded on the way
        net = network(graph, dtype)
        x, tangent = torch.randn(16, 8).to(dtype), torch.randn(16, 8).to(dtype)
        y, forwards = torch.func.jvp(net, (x,), (tangent,))
        wanted = net(x)
        few = 4 * torch.finfo(dtype).eps * (1 + wanted.abs().max())
        assert (y - wanted).abs().max() <= few
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(net(leaf).sum(), leaf, create_graph=True)
        torch.testing.assert_close((grad.float() * tangent).sum(), forwards.float().sum(), rtol=0.05, atol=0.05)
        weight = torch.autograd.grad(grad.float().square().sum(), net.weight)[0]
        assert weight.dtype == dtype
        assert weight.isfinite().all()
        assert weight.any()

    @pytest.mark.parametrize("kind", ["meta", "fake"])
    def test_derivatives_without_memory(self, kind: str) -> None:
        """Shapes only, as `torch.compile`, FSDP and memory estimates ask for them."""
        device = "meta" if kind == "meta" else None
        with FakeTensorMode() if kind == "fake" else nullcontext():
            net = fw.Network(GRAPH, device=device)
            x = torch.zeros(3, 9, requires_grad=True, device=device)
            assert torch.func.jacfwd(net)(x).shape == (3, 5, 3, 9)
            assert torch.func.hessian(lambda x: net(x).sum())(x).shape == (3, 9, 3, 9)
            (grad,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
            grad.sum().backward()
        assert x.grad.shape == (3, 9)
        assert net.weight.grad.shape == (GRAPH.num_edges,)
