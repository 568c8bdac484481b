# SPDX-License-Identifier: MIT
"""Networks in the programs that ``torch.export``, ``torch.jit.trace`` and ``torch.fx`` make."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import freewire as fw
from tests.support.graphs import CASES
from tests.support.tensors import assert_same_bits, network, op_calls, x_of

# torch's own, from inside torch.export
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")

GRAPH = CASES["random"]  # 9 inputs, 5 outputs
Function = Callable[[Tensor], Tensor]


def model(**options: bool) -> nn.Module:
    """A network between two layers, whose gradients pass through it."""
    torch.manual_seed(0)
    layers = nn.Linear(4, 9, dtype=torch.float64), network(GRAPH, **options), nn.Linear(5, 3, dtype=torch.float64)
    return nn.Sequential(*layers)


def exported(whole: nn.Module, x: Tensor, strict: bool = False) -> torch.export.ExportedProgram:
    return torch.export.export(whole, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=strict)


def ours(graph: torch.fx.Graph) -> list[str]:
    return [str(node.target) for node in graph.nodes if "freewire" in str(node.target)]


def assert_trains_like(program: nn.Module, whole: nn.Module, x: Tensor) -> None:
    """The outputs and all gradients of a program are those of the module that it was made from."""
    results = []
    for run in (whole, program):
        run.zero_grad()
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        y.square().sum().backward()
        grads = {name: parameter.grad for name, parameter in run.named_parameters()}
        results.append([y.detach(), leaf.grad, *(grads[name] for name in sorted(grads))])
    assert len(results[0]) == len(results[1]) == 2 + len(list(whole.parameters()))
    for found, wanted in zip(*results, strict=True):
        assert found is not None
        torch.testing.assert_close(found, wanted)


@pytest.fixture(params=[False, True], ids=["non_strict", "strict"])
def strict(request: pytest.FixtureRequest) -> bool:
    torch._dynamo.reset()
    return request.param


class TestExport:
    def test_one_operator_for_a_network(self, strict: bool) -> None:
        net = network(GRAPH)
        program = exported(net, x_of(net, 5), strict)
        assert ours(program.graph) == ["freewire.network.default"]
        decomposed = program.run_decompositions()
        assert ours(decomposed.graph) == ["freewire.network.default"]
        for graph in (program.graph, decomposed.graph):  # AOTInductor mishandles an empty list of integers
            (node,) = (node for node in graph.nodes if "freewire" in str(node.target))
            assert tuple(node.args[4]) == net._placed.header
        x = x_of(net, 77)
        assert_same_bits([program.module()(x)], [net(x)])

    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_it_trains(self, strict: bool, checkpoint: bool) -> None:
        whole = model(checkpoint=checkpoint)
        x = torch.randn(6, 4, dtype=torch.float64)
        program = exported(whole, x[:5], strict)
        assert_trains_like(program.module(), whole, x)
        assert_trains_like(program.run_decompositions().module(), whole, x)
        calls = op_calls(lambda: program.module()(x).sum().backward())
        assert calls["freewire::forward"] == 1 + checkpoint
        assert calls["freewire::backward"] == 1

    def test_it_trains_after_a_round_trip_through_a_file(self) -> None:
        whole, file = model(), io.BytesIO()
        x = torch.randn(6, 4, dtype=torch.float64)
        torch.export.save(exported(whole, x), file)
        file.seek(0)
        assert_trains_like(torch.export.load(file).module(), whole, x)

    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_it_trains_when_compiled(self, strict: bool, backend: str) -> None:
        whole = model()
        x = torch.randn(6, 4, dtype=torch.float64)
        program = exported(whole, x, strict).module()
        assert_trains_like(torch.compile(program, backend=backend), whole, x)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_inference_keeps_no_tape(self, mode: Callable[[], object]) -> None:
        net = network(GRAPH)
        program = exported(net, x_of(net, 5)).module()
        x = x_of(net, 64)
        with mode():  # type: ignore[attr-defined]
            calls = op_calls(lambda: program(x))
        assert calls["freewire::network"] >= 1
        assert not calls["freewire::forward"]

    @pytest.mark.parametrize("gradient", [False, True])
    def test_autocast(self, gradient: bool) -> None:
        """A program that is run under autocast returns what its module returns there."""
        torch.manual_seed(0)
        whole = nn.Sequential(nn.Linear(4, 9), network(GRAPH, torch.float32), nn.Linear(5, 3))
        x = torch.randn(6, 4)
        program = exported(whole, x).module()
        results = []
        for run in (whole, program):
            with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(gradient):
                results.append(run(x))
            if gradient:
                run.zero_grad()
                results[-1].sum().backward()
                results[-1] = torch.cat([p.grad.flatten() for _, p in sorted(run.named_parameters())])
        assert_same_bits(results[:1], results[1:])
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            assert_same_bits([whole(x)], [program(x)])
            assert_same_bits([torch.func.vmap(whole)(x[:, None])], [torch.func.vmap(program)(x[:, None])])

    def test_a_program_has_every_derivative(self) -> None:
        net = network(fw.generators.mlp([3, 4, 2], activation="tanh"))
        program = exported(net, x_of(net, 2)).module()
        x, v = x_of(net, 2), torch.randn(2, 3, dtype=torch.float64)

        def tangent(f: Function) -> Tensor:
            with forward_ad.dual_level():
                return forward_ad.unpack_dual(f(forward_ad.make_dual(x, v))).tangent

        def second(f: Function) -> Tensor:
            leaf = x.clone().requires_grad_()
            (grad,) = torch.autograd.grad(f(leaf).square().sum(), leaf, create_graph=True)
            return torch.autograd.grad(grad.square().sum(), leaf)[0]

        for derivative in (
            lambda f: torch.func.jacrev(f)(x),
            lambda f: torch.func.jacfwd(f)(x),
            lambda f: torch.func.jvp(f, (x,), (v,))[1],
            lambda f: torch.func.grad(lambda x: f(x).square().sum())(x),
            lambda f: torch.func.hessian(lambda x: f(x).square().sum())(x),
            lambda f: torch.func.vmap(f)(x[:, None]),
            tangent,
            second,
        ):
            torch.testing.assert_close(derivative(program), derivative(net))

    def test_the_reference(self) -> None:
        net = network(GRAPH)

        class Reference(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return fw.reference(net, x)

        program = exported(Reference(), x_of(net, 5)).module()
        torch.testing.assert_close(program(x_of(net, 7)), net(x_of(net, 7)))

    @pytest.mark.nightly  # compiles for ten seconds
    @pytest.mark.compiler
    def test_ahead_of_time(self, tmp_path: Path) -> None:
        net = network(GRAPH, torch.float32)
        x = x_of(net, 6)
        with torch.no_grad():
            program = exported(net, x)
            path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "net.pt2"))
            run = torch._inductor.aoti_load_package(path)
            assert_same_bits([run(x_of(net, 9))], [net(x_of(net, 9))])


class TestTrace:
    @pytest.fixture(autouse=True)
    def quiet(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # about the checks of x, which a trace omits
            yield

    def test_it_trains(self, tmp_path: Path) -> None:
        whole = model()
        x = torch.randn(6, 4, dtype=torch.float64)
        traced = torch.jit.trace(whole, (x[:5],))
        assert_trains_like(traced, whole, x)
        traced.save(tmp_path / "net.pt")
        assert_trains_like(torch.jit.load(tmp_path / "net.pt"), whole, x)

    def test_without_gradients(self) -> None:
        net = network(GRAPH)
        with torch.no_grad():
            assert_same_bits([torch.jit.trace(net, (x_of(net, 2),))(x_of(net, 8))], [net(x_of(net, 8))])


class TestSymbolicTrace:
    def test_a_network_is_one_module_call(self) -> None:
        whole = model()
        traced = torch.fx.symbolic_trace(whole)
        assert [node.op for node in traced.graph.nodes] == ["placeholder", *["call_module"] * 3, "output"]
        assert traced.get_submodule("1") is whole[1]
        assert_trains_like(traced, whole, torch.randn(6, 4, dtype=torch.float64))

    def test_a_network_alone_is_refused(self) -> None:
        with pytest.raises(
            fw.InputError, match=r"net: expected a part of the module that torch\.fx traces.*Sequential"
        ):
            torch.fx.symbolic_trace(network(GRAPH))
