# SPDX-License-Identifier: MIT
"""`Network` as a user meets it: values, gradients, and one operator call per pass."""

from __future__ import annotations

import inspect
import threading
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import freewire as fw
from tests.support.graphs import CASES
from tests.support.tensors import assert_same_bits, exact, gradients, network, op_calls, x_of

GRAPH = CASES["random"]  # 9 inputs, 5 outputs


class TestForward:
    @pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (2, 3, 4), (0,), (2, 0, 3)])
    def test_any_leading_shape(self, shape: tuple[int, ...]) -> None:
        net = network(GRAPH)
        x = x_of(net, *shape)
        y = net(x)
        assert y.shape == (*shape, 5)
        torch.testing.assert_close(y, fw.reference(net, x), rtol=1e-12, atol=1e-12)

    def test_an_empty_batch_has_zero_gradients(self) -> None:
        net = network(GRAPH)
        x = x_of(net, 0).requires_grad_()
        net(x).sum().backward()
        assert x.grad.shape == (0, 9)
        assert not net.weight.grad.any()
        assert not net.bias.grad.any()

    @pytest.mark.parametrize("make", ["transposed", "strided", "expanded", "offset", "reversed"])
    def test_non_contiguous_and_broadcast_input(self, make: str) -> None:
        net = network(GRAPH)
        wide = torch.randn(18, 40, dtype=torch.float64)
        x = {
            "transposed": lambda: wide[:9].T,
            "strided": lambda: wide.T[:, ::2],
            "expanded": lambda: wide[0, :9].expand(6, 9),
            "offset": lambda: wide.reshape(-1)[5:50].view(5, 9),
            "reversed": lambda: wide.T[:, :9].flip(1),
        }[make]()
        leaf = x.detach().requires_grad_()
        dense = x.detach().contiguous().requires_grad_()
        net(leaf).square().sum().backward()
        net(dense).square().sum().backward()
        assert_same_bits([net(x), leaf.grad], [net(dense), dense.grad])

    def test_an_expanded_gradient(self) -> None:
        net = network(GRAPH)
        x = x_of(net, 4)
        net(x).sum().backward()  # sum's gradient is one number, expanded
        grad = net.weight.grad.clone()
        net.zero_grad()
        net(x).backward(torch.ones(4, 5, dtype=torch.float64))
        assert_same_bits([grad], [net.weight.grad])

    def test_without_bias(self) -> None:
        net = network(GRAPH, bias=False)
        assert net.bias is None
        assert list(net.state_dict()) == ["weight", "_extra_state"]
        x, grad_y = x_of(net, 6), torch.randn(6, 5, dtype=torch.float64)
        for got, want in zip(gradients(net, net, x, grad_y), exact(net, x, grad_y), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)

    def test_the_tape_belongs_to_the_call(self) -> None:
        """Two forwards, then two backwards, in either order."""
        net = network(GRAPH)
        a, b = x_of(net, 3, seed=1).requires_grad_(), x_of(net, 40, seed=2).requires_grad_()
        first, second = net(a).square().sum(), net(b).square().sum()
        (grad_b,) = torch.autograd.grad(second, b)
        (grad_a,) = torch.autograd.grad(first, a)
        assert_same_bits([grad_a], torch.autograd.grad(net(a).square().sum(), a))
        assert_same_bits([grad_b], torch.autograd.grad(net(b).square().sum(), b))

    def test_a_weight_changed_in_between_is_noticed(self) -> None:
        net = network(GRAPH)
        y = net(x_of(net, 3)).sum()
        with torch.no_grad():
            net.weight.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()

    def test_threads_may_share_a_network(self) -> None:
        net = network(GRAPH, torch.float32)
        x = x_of(net, 100)
        want = gradients(net, net, x, torch.ones(100, 5))
        found: list[list[Tensor]] = []

        def work() -> None:
            for _ in range(20):
                found.append(gradients(net, net, x, torch.ones(100, 5)))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 80
        for result in found:
            assert_same_bits(result, want)

    def test_activations(self) -> None:
        g = CASES["dead"]
        net = network(g)
        x = x_of(net, 4).requires_grad_()
        values = net.activations(x)
        assert list(values) == list(g.nodes)
        assert not all(g.reaches_output)
        every = fw.Graph.from_edges(
            *g.edge_index, num_nodes=g.num_nodes, inputs=g.input_index, outputs=range(g.num_nodes), activation="tanh",
            output_activation="tanh",
        )  # fmt: skip
        whole = fw.Network(every, dtype=torch.float64, init=lambda w, _: w.copy_(net.weight))
        with torch.no_grad():
            whole.bias.copy_(net.bias)
        hidden = [v for v in g.nodes if v not in g.outputs]
        for v in hidden:
            torch.testing.assert_close(values[v], fw.reference(whole, x)[..., v])
        torch.testing.assert_close(values[g.outputs[0]], net(x)[..., 0])
        values[hidden[-1]].sum().backward()
        assert net.weight.grad.any()

    @pytest.mark.parametrize("shape", [(), (2, 3)])
    def test_activations_keep_the_leading_shape(self, shape: tuple[int, ...]) -> None:
        net = network(GRAPH)
        assert {tuple(v.shape) for v in net.activations(x_of(net, *shape)).values()} == {shape}


class TestOneCall:
    """One operator call forward and one backward at any depth; no path goes level by level."""

    @pytest.mark.parametrize("case", ["single_edge", "random", "chain"])
    @pytest.mark.parametrize(
        "mode", ["train", "no_grad", "inference", "nothing_requires_grad", "checkpoint", "compiled"]
    )
    def test_op_calls(self, case: str, mode: str) -> None:
        net = network(CASES[case], torch.float32, checkpoint=mode == "checkpoint")
        x = x_of(net, 5).requires_grad_(mode in ("train", "checkpoint", "compiled"))
        backward = mode in ("train", "checkpoint", "compiled")
        run = torch.compile(net, fullgraph=True, backend="aot_eager") if mode == "compiled" else net
        if mode == "nothing_requires_grad":
            net.requires_grad_(False)

        def body() -> None:
            guard = {"no_grad": torch.no_grad, "inference": torch.inference_mode}.get(mode, torch.enable_grad)
            with guard():
                y = run(x)
            if backward:
                y.sum().backward()

        body()  # compiled and warm
        calls = op_calls(body)
        forwards = {"checkpoint": 2}.get(mode, 1)
        expected = {"freewire::forward": forwards, "freewire::backward": 1} if backward else {"freewire::inference": 1}
        assert {name: count for name, count in calls.items() if name.startswith("freewire::")} == expected
        others = {name for name in calls if (name.startswith("aten::") and "index" in name) or "::mm" in name}
        assert not others, f"the reference's operators ran: {others}"

    def test_a_step_inspects_no_signature(self) -> None:
        """A Function with ``setup_context`` does at each call, for longer than a small network's step takes."""
        net = network(GRAPH, torch.float32)
        with mock.patch.object(inspect, "signature", wraps=inspect.signature) as signature:
            net(x_of(net, 2)).sum().backward()
            assert not signature.called
            torch.func.vmap(net)(x_of(net, 2))
            assert signature.called  # the patch reaches torch's

    @pytest.mark.parametrize("shape", [(7,), (2, 3), ()])
    def test_flops(self, shape: tuple[int, ...]) -> None:
        """2 per edge and sample forward, 4 backward: a multiplication and an addition for each gradient."""
        net = network(GRAPH)
        samples, edges = torch.Size(shape).numel(), GRAPH.num_edges
        with FlopCounterMode(display=False) as counter:
            y = net(x_of(net, *shape))
            assert counter.get_total_flops() == 2 * samples * edges
            y.sum().backward()
        assert counter.get_total_flops() == 6 * samples * edges
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(x_of(net, *shape))
        assert counter.get_total_flops() == 2 * samples * edges

    def test_flops_of_a_layered_network_are_those_of_its_layers(self) -> None:
        net = fw.Network(fw.generators.mlp([8, 32, 4]))
        layers = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
        totals = []
        for run in (net, layers):
            with FlopCounterMode(display=False) as counter:
                run(torch.ones(5, 8, requires_grad=True)).sum().backward()
            totals.append(counter.get_total_flops())
        assert totals[0] == totals[1] == 6 * 5 * (8 * 32 + 32 * 4)

    def test_inference_uses_no_autograd_function(self) -> None:
        net = network(GRAPH, torch.float32)
        x = x_of(net, 2)
        with torch.no_grad():
            assert not any("_Network" in name for name in op_calls(lambda: net(x)))
        assert any("_Network" in name for name in op_calls(lambda: net(x.requires_grad_()).sum().backward()))


def test_it_trains() -> None:
    """Plain Adam on a regression that a line cannot fit."""
    torch.manual_seed(0)
    net = fw.Network(fw.generators.random_graph(2, 40, 1, fan_in=6, activation="tanh", seed=0), init="xavier")
    x = torch.rand(256, 2) * 2 - 1
    target = (x[:, :1] * x[:, 1:]).sign()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8
    assert losses[-1] < 0.25
