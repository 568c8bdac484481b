# SPDX-License-Identifier: MIT
"""What torch expects of a module, of `Recurrent`: compile, export, transforms, autocast, copies, processes."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import freewire as fw
from tests.support.recurrent import every_kind, own_gradients, recurrent, sequence_of, state_of, wired
from tests.support.tensors import assert_same_bits, op_calls

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]

GRAPH = wired(0)  # 3 inputs, 4 outputs, leaks, delays to 3
SMALL = fw.Graph.from_edges(
    [0, 0, 1, 2, 2], [1, 2, 2, 1, 2], outputs=[2], delay=[0, 1, 0, 1, 2], leak=[1, 0.5, 1], activation="tanh"
)


def trained(run: Callable[..., Any], net: fw.Recurrent, x: Tensor, h: Tensor | None) -> list[Tensor]:
    """Results and all gradients of a loss over y and the last state."""
    leaf = x.detach().requires_grad_()
    y, last = run(leaf, h)
    loss = y.square().sum() + (last * torch.arange(last.shape[-1])).sum()
    return [y.detach(), last.detach(), *torch.autograd.grad(loss, [leaf, *net.parameters()])]


# ---------------------------------------------------------------------------------- compile and export


class TestCompile:
    @pytest.mark.parametrize("dynamic", [None, True])
    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_one_graph_for_any_length_and_batch(self, backend: str, dynamic: bool | None) -> None:
        torch._dynamo.reset()
        net = recurrent(GRAPH, learn_leak=dynamic is None)
        run = torch.compile(net, fullgraph=True, backend=backend, dynamic=dynamic)
        for steps, batch in ((4, 3), (7, 20), (2, 40)):
            x, h = sequence_of(net, steps, batch), state_of(net, batch)
            assert_same_bits(trained(run, net, x, h), trained(net, net, x, h))
        with torch.no_grad():
            assert_same_bits(run(x), net(x))

    def test_sizes_do_not_compile_anew(self) -> None:
        torch._dynamo.reset()
        net = recurrent(GRAPH)
        compiled: list[object] = []

        def backend(module: Any, _: Any) -> Any:
            compiled.append(module)
            return module.forward

        run = torch.compile(net, fullgraph=True, backend=backend, dynamic=True)
        for steps, batch in (
            (4, 5),
            (7, 6),
            (9, 20),
            (2, 40),
        ):  # torch takes equal sizes to be one, and 3 is a size of x
            run(sequence_of(net, steps, batch))
        assert len(compiled) == 1

    def test_frames_and_options(self) -> None:
        torch._dynamo.reset()
        net = recurrent(GRAPH, batch_first=True, steps=2, checkpoint_every=2)
        x = sequence_of(net, 3, 5)
        run = torch.compile(net, fullgraph=True, backend="aot_eager")
        assert_same_bits(trained(run, net, x, None), trained(net, net, x, None))
        assert_same_bits(run(x[0]), net(x[0]))
        step = torch.compile(net.step, fullgraph=True, backend="aot_eager")
        assert_same_bits(step(x[0], state_of(net, 5)), net.step(x[0], state_of(net, 5)))

    def test_activations(self) -> None:
        torch._dynamo.reset()
        net = recurrent(GRAPH)
        x = sequence_of(net, 3, 2)
        found = torch.compile(lambda x: net.activations(x)[6], backend="eager")(x)
        assert_same_bits([found], [net.activations(x)[6]])

    @pytest.mark.slow
    @pytest.mark.compiler
    def test_the_default_backend(self) -> None:
        torch._dynamo.reset()
        net = recurrent(GRAPH)
        before = nn.Linear(4, 3, dtype=torch.float64)

        def model(x: Tensor) -> Tensor:
            return net(before(x).tanh())[0].tanh()

        x = torch.randn(5, 7, 4, dtype=torch.float64)
        parameters = [*before.parameters(), *net.parameters()]
        run = torch.compile(model, fullgraph=True)
        for got, want in zip(*(torch.autograd.grad(m(x).sum(), parameters) for m in (run, model)), strict=True):
            torch.testing.assert_close(got, want)

    def test_a_transform_inside_is_refused(self) -> None:
        torch._dynamo.reset()
        net = recurrent(SMALL)
        run = torch.func.grad(lambda x: net(x)[0].sum())
        with pytest.raises(Exception, match=r"expected no torch\.func transform inside torch\.compile"):
            torch.compile(lambda x: run(x), backend="eager", fullgraph=True)(sequence_of(net, 2, 1))


class TestExport:
    @pytest.fixture(params=[False, True], ids=["non_strict", "strict"])
    def program(self, request: pytest.FixtureRequest) -> Iterator[tuple[fw.Recurrent, torch.export.ExportedProgram]]:
        torch._dynamo.reset()
        net = recurrent(GRAPH, learn_leak=True)
        shapes = ({0: torch.export.Dim("time"), 1: torch.export.Dim("batch")}, {0: torch.export.Dim("batch")})
        example = sequence_of(net, 4, 5), state_of(net, 5)
        return net, torch.export.export(net, example, dynamic_shapes=shapes, strict=request.param)

    def test_one_operator(self, program: tuple[fw.Recurrent, torch.export.ExportedProgram]) -> None:
        net, exported = program
        for graph in (exported.graph, exported.run_decompositions().graph):
            assert [n for n in map(str, (n.target for n in graph.nodes)) if "freewire" in n] == [
                "freewire.recurrent.default"
            ]
        x, h = sequence_of(net, 9, 17), state_of(net, 17)
        assert_same_bits(exported.module()(x, h), net(x, h))

    def test_it_trains(self, program: tuple[fw.Recurrent, torch.export.ExportedProgram]) -> None:
        net, exported = program
        x, h = sequence_of(net, 3, 2), state_of(net, 2)
        file = io.BytesIO()
        torch.export.save(exported, file)
        file.seek(0)
        for run in (exported.module(), torch.export.load(file).module()):
            parameters = dict(run.named_parameters())
            leaf = x.clone().requires_grad_()
            y, last = run(leaf, h)
            loss = y.square().sum() + (last * torch.arange(last.shape[-1])).sum()
            names = [name for name, _ in net.named_parameters()]
            grads = torch.autograd.grad(loss, [leaf, *(parameters[name] for name in names)])
            for got, want in zip(grads, trained(net, net, x, h)[2:], strict=True):
                torch.testing.assert_close(got, want)
            calls = op_calls(lambda run=run: run(x, h)[0].sum().backward())
            assert calls["freewire::sequence"] == calls["freewire::sequence_backward"] == 1
            with torch.no_grad():
                calls = op_calls(lambda run=run: run(x, h))
            assert calls["freewire::recurrent"] >= 1
            assert not calls["freewire::sequence"]

    def test_every_derivative(self, program: tuple[fw.Recurrent, torch.export.ExportedProgram]) -> None:
        net, exported = program
        run, x, h = exported.module(), sequence_of(net, 2, 2), state_of(net, 2)
        torch.testing.assert_close(
            torch.func.jacrev(lambda x: run(x, h)[0])(x), torch.func.jacrev(lambda x: net(x, h)[0])(x)
        )
        tangent = torch.ones_like(x)
        for a, b in zip(
            *(torch.func.jvp(lambda x, r=r: r(x, h), (x,), (tangent,))[1] for r in (run, net)), strict=True
        ):
            torch.testing.assert_close(a, b)


# ---------------------------------------------------------------------------------- torch.func


class TestTransforms:
    def test_vmap(self) -> None:
        net = recurrent(every_kind())
        x, h = sequence_of(net, 3, 4), state_of(net, 4)
        want = net(x, h)
        got = torch.func.vmap(net, in_dims=(1, 0), out_dims=(1, 0))(x, h)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)

    def test_vmap_over_networks(self) -> None:
        nets = [recurrent(GRAPH, seed=seed, learn_leak=True) for seed in range(3)]
        parameters, buffers = torch.func.stack_module_state(nets)
        x = sequence_of(nets[0], 3, 2)
        base = copy.deepcopy(nets[0]).to("meta")

        def run(p: dict[str, Tensor], b: dict[str, Tensor], x: Tensor) -> Any:
            return torch.func.functional_call(base, (p, b), (x,))

        for i, got in enumerate(torch.func.vmap(run, in_dims=(0, 0, None))(parameters, buffers, x)):
            torch.testing.assert_close(got, torch.stack([net(x)[i] for net in nets]))

    def test_derivatives_agree_with_the_reference(self) -> None:
        net = recurrent(SMALL)
        x, h, v = sequence_of(net, 3, 2), state_of(net, 2), sequence_of(net, 3, 2, seed=5)
        for transform in (
            lambda f: torch.func.jacrev(lambda x: f(x, h))(x),
            lambda f: torch.func.jacrev(lambda h: f(x, h))(h),
            lambda f: torch.func.jacfwd(lambda x: f(x, h))(x),
            lambda f: torch.func.jvp(lambda x: f(x, h), (x,), (v,))[1],
            lambda f: (torch.func.hessian(lambda x: f(x, h)[0].square().sum())(x),),
        ):
            for got, want in zip(transform(net), transform(lambda *a: fw.reference(net, *a)), strict=True):
                torch.testing.assert_close(got, want)

    def test_per_sample_gradients(self) -> None:
        net = recurrent(GRAPH, learn_leak=True)
        x = sequence_of(net, 3, 4)

        def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(net, parameters, (x,))[0].square().sum()

        parameters = {name: p.detach() for name, p in net.named_parameters()}
        got = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
        for i in range(4):
            grads = torch.autograd.grad(net(x[:, i])[0].square().sum(), list(net.parameters()))
            for (name, _), want in zip(net.named_parameters(), grads, strict=True):
                torch.testing.assert_close(got[name][i], want)

    @pytest.mark.parametrize("kind", ["meta", "fake"])
    def test_without_memory(self, kind: str) -> None:
        with FakeTensorMode() if kind == "fake" else torch.device("meta"):
            net = fw.Recurrent(GRAPH, learn_leak=True)
            x = torch.zeros(5, 3, 3, requires_grad=True)
            y, h = net(x)
            assert y.shape == (5, 3, 4)
            assert h.shape == (3, net.num_states)
            assert torch.func.jacfwd(lambda x: net(x)[0])(x).shape == (5, 3, 4, 5, 3, 3)
            (grad,) = torch.autograd.grad(net(x, h)[0].sum(), x, create_graph=True)
            grad.sum().backward()
        assert x.grad.shape == (5, 3, 3)
        assert net.leak.grad.shape == net.leak.shape


# ---------------------------------------------------------------------------------- a module among others


class TestConventions:
    @pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
    def test_copies(self, how: str) -> None:
        net = recurrent(GRAPH, learn_leak=True, batch_first=True, steps=2, checkpoint_every=3)
        x = sequence_of(net, 2, 5)
        net.activations(x)
        if how == "deepcopy":
            other = copy.deepcopy(net)
        elif how == "pickle":
            other = pickle.loads(pickle.dumps(net))
        else:
            file = io.BytesIO()
            torch.save(net, file)
            file.seek(0)
            other = torch.load(file, weights_only=False)
        assert (other.batch_first, other.steps, other.checkpoint_every) == (True, 2, 3)
        assert other.plan.leaks is not None
        assert_same_bits(trained(net, net, x, None), trained(other, other, x, None))
        assert_same_bits(list(net.activations(x).values()), list(other.activations(x).values()))

    def test_functional_call(self) -> None:
        net = recurrent(GRAPH, learn_leak=True)
        x = sequence_of(net, 4, 2)
        doubled = {"weight": 2 * net.weight.detach(), "leak": net.leak.detach() / 2}
        other = copy.deepcopy(net)
        other.load_state_dict(doubled, strict=False)
        assert_same_bits(torch.func.functional_call(net, doubled, (x,)), other(x))

    def test_moves(self) -> None:
        net = recurrent(GRAPH, torch.float32, learn_leak=True)
        assert net.double()(sequence_of(net, 2, 3))[1].dtype == torch.float64
        meta = fw.Recurrent(GRAPH, learn_leak=True, device="meta", dtype=torch.float64)
        y, h = meta(torch.zeros(4, 2, 3, device="meta", dtype=torch.float64))
        assert y.shape == (4, 2, 4)
        assert h.device.type == "meta"
        real = meta.to_empty(device="cpu")
        real.load_state_dict(net.state_dict())
        x = sequence_of(net, 4, 2)
        assert_same_bits(real(x), net(x))
        empty = fw.Recurrent(GRAPH, learn_leak=True, device="meta", dtype=torch.float64)
        empty.load_state_dict(net.state_dict(), assign=True)
        assert_same_bits([*empty(x), *empty.activations(x).values()], [*net(x), *net.activations(x).values()])

    def test_training_after_inference_mode(self) -> None:
        net = recurrent(GRAPH)
        x = sequence_of(net, 3, 2)
        with torch.inference_mode():
            net.to("cpu").double()
            net.activations(x)
            _, h = net(x)
        net(x, h.clone())[0].sum().backward()
        net.activations(x)[6].sum().backward()

    @pytest.mark.parametrize("gradient", [False, True])
    @pytest.mark.parametrize("target", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast(self, target: torch.dtype, gradient: bool) -> None:
        net = recurrent(GRAPH, torch.float32, learn_leak=True)
        low = copy.deepcopy(net).to(target)
        x = sequence_of(net, 4, 3)
        with torch.autocast("cpu", target), torch.set_grad_enabled(gradient):
            y, h = net(x)
            z, _ = net(x, h.float())
        assert y.dtype == h.dtype == target
        want, own = low(x.to(target))
        assert_same_bits([y, h, z], [want, own, low(x.to(target), own)[0]])
        if gradient:
            grads = torch.autograd.grad(y.float().sum(), list(net.parameters()))
            assert {g.dtype for g in grads} == {torch.float32}
            wanted = torch.autograd.grad(want.float().sum(), list(low.parameters()))
            for got, exact in zip(grads, wanted, strict=True):
                torch.testing.assert_close(got, exact.float(), rtol=0.02, atol=0.02)

    def test_deterministic_algorithms(self) -> None:
        net = recurrent(GRAPH, torch.float32, learn_leak=True)
        x, h = sequence_of(net, 4, 3), state_of(net, 3)
        want = trained(net, net, x, h)
        torch.use_deterministic_algorithms(True)
        try:
            assert_same_bits(trained(net, net, x, h), want)
        finally:
            torch.use_deterministic_algorithms(False)

    def test_weight_norm(self) -> None:
        net = nn.utils.parametrizations.weight_norm(recurrent(GRAPH), dim=None)
        net(sequence_of(net, 6, 2))[0].sum().backward()
        assert net.parametrizations.weight.original1.grad.any()

    def test_a_parametrized_leak(self) -> None:
        net = recurrent(GRAPH, learn_leak=True)
        with torch.no_grad():
            net.leak.copy_(net.leak.clamp(0.1, 0.9).logit())
        nn.utils.parametrize.register_parametrization(net, "leak", nn.Sigmoid())
        y, _ = net(sequence_of(net, 6, 2))
        y.sum().backward()
        assert net.parametrizations.leak.original.grad.any()

    def test_gradient_checkpointing(self) -> None:
        net = recurrent(GRAPH)
        x, h = sequence_of(net, 4, 3), state_of(net, 3)

        def around(x: Tensor, h: Tensor) -> Any:
            return torch.utils.checkpoint.checkpoint(net, x, h, use_reentrant=False)

        assert_same_bits(trained(around, net, x, h), trained(net, net, x, h))

    def test_it_trains(self) -> None:
        """Adding two marked numbers of a sequence takes memory."""
        torch.manual_seed(0)
        rng = torch.Generator().manual_seed(0)
        src, dst = torch.randint(0, 22, (2, 160), generator=rng).numpy()
        dst[dst < 2] += 2
        graph = fw.Graph.from_edges(
            src, dst, num_nodes=22, inputs=[0, 1], outputs=[21], activation="tanh", recurrent=True
        )
        net = fw.Recurrent(graph, init="xavier")
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        losses = []
        for _ in range(150):
            x = torch.rand(5, 64, 2, generator=rng) - 0.5
            target = x[0, :, :1] - x[2, :, 1:]
            loss = nn.functional.mse_loss(net(x)[0][-1], target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] > 0.1
        assert losses[-1] < 0.03


# ---------------------------------------------------------------------------------- processes


def test_gradients_of_nothing() -> None:
    """A network whose outputs are inputs: no parameter has a part in them."""
    graph = fw.Graph.from_edges([0, 1], [1, 1], outputs=[0], delay=[0, 1])
    net = fw.Recurrent(graph, dtype=torch.float64)
    x = torch.ones(3, 2, 1, dtype=torch.float64)
    found = own_gradients(net, x, torch.zeros(2, 0, dtype=torch.float64), torch.ones(3, 2, 1), torch.ones(2, 0))
    assert_same_bits(found[0:3:2], [x, torch.ones_like(x)])
    assert not found[4].any()
