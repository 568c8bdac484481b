# SPDX-License-Identifier: MIT
"""`Recurrent` as a user meets it: values and gradients, states, layouts and leaks."""

from __future__ import annotations

import threading

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import freewire as fw
from tests.support.graphs import CASES, RECURRENT
from tests.support.recurrent import (
    assert_matches_plain_loop,
    every_kind,
    own_gradients,
    plain_loop,
    recurrent,
    sequence_of,
    state_of,
    wired,
    with_parameters_of,
)
from tests.support.tensors import DTYPES, assert_same_bits, batch_of, network

pytestmark = pytest.mark.usefixtures("one_thread")

GRAPH = wired(0)  # 3 inputs, 4 outputs, leaks, delays to 3
KINDS = every_kind()
BATCHES = (0, 1, 2, 3, 5, 8, 16, 17, 40)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


class TestValues:
    """Outputs, last states and all gradients against the plain loop."""

    @dtypes
    @pytest.mark.parametrize("batch", BATCHES)
    def test_any_batch(self, batch: int, dtype: torch.dtype) -> None:
        i = BATCHES.index(batch)
        assert_matches_plain_loop(recurrent(wired(i, leak=i % 2 == 0), dtype), 6, batch)

    @dtypes
    @pytest.mark.parametrize("steps", [0, 1])
    def test_few_steps(self, steps: int, dtype: torch.dtype) -> None:
        for batch in (0, 5):
            assert_matches_plain_loop(recurrent(GRAPH, dtype), steps, batch)

    @dtypes
    def test_every_activation_and_aggregation(self, dtype: torch.dtype) -> None:
        assert_matches_plain_loop(recurrent(KINDS, dtype), 4, 3)

    def test_every_activation_and_aggregation_in_wide_rows(self) -> None:
        assert_matches_plain_loop(recurrent(KINDS, torch.float32), 3, 17)

    @dtypes
    def test_without_bias(self, dtype: torch.dtype) -> None:
        net = recurrent(GRAPH, dtype, bias=False)
        assert net.bias is None
        assert_matches_plain_loop(net, 4, 3)

    @pytest.mark.parametrize("graph", [GRAPH, wired(1, leak=False)], ids=["leaks", "delays"])
    def test_checkpoints(self, graph: fw.Graph) -> None:
        assert_matches_plain_loop(recurrent(graph, checkpoint_every=2), 5, 3)

    def test_learnt_leaks(self) -> None:
        assert_matches_plain_loop(recurrent(GRAPH, learn_leak=True), 5, 3)

    def test_a_long_delay(self) -> None:
        graph = fw.Graph.from_edges([0, 1, 1], [1, 1, 2], delay=[70, 1, 4], activation="tanh")
        assert_matches_plain_loop(recurrent(graph), 80, 2)

    @dtypes
    @pytest.mark.parametrize("batch", [1, 2, 5, 16, 17, 64, 200])
    def test_without_delays_it_gives_the_bits_of_a_network(self, batch: int, dtype: torch.dtype) -> None:
        for name in ("random", "mixed_aggregations"):
            net = network(CASES[name], dtype)
            wires = net.to_networkx()
            nx.set_edge_attributes(wires, 0, "delay")
            step = fw.Recurrent(fw.Graph.from_networkx(wires, inputs=net.graph.inputs, outputs=net.graph.outputs))
            step.to(dtype).load_state_dict(dict(net.named_parameters()), strict=False)
            x = torch.stack((batch_of(net, batch)[0], batch_of(net, batch, seed=2)[0]))
            y, h = step(x)
            with torch.no_grad():
                quiet, _ = step(x)
                assert_same_bits([*y, *quiet], [net(x[0]), net(x[1])] * 2)
            assert h.shape == (batch, 0)


class TestState:
    """H in and out."""

    @dtypes
    @pytest.mark.parametrize("batch", [1, 3, 17])
    def test_step_by_step_gives_the_bits_of_the_sequence(self, batch: int, dtype: torch.dtype) -> None:
        for net in (recurrent(GRAPH, dtype), recurrent(KINDS, dtype)):
            x, h = sequence_of(net, 6, batch), state_of(net, batch)
            y, last = net(x, h)
            found = []
            for frame in x:
                out, h = net.step(frame, h)
                found.append(out)
            assert_same_bits([torch.stack(found), h], [y, last])

    def test_cut_in_two(self) -> None:
        """The gradient passes through h, and ``h.detach()`` stops it."""
        net = recurrent(GRAPH)
        x = sequence_of(net, 6, 3).requires_grad_()
        y, last = net(x)
        first, h = net(x[:2])
        second, end = net(x[2:], h)
        assert_same_bits([torch.cat((first, second)), end], [y, last])
        for whole, parts in zip(
            torch.autograd.grad(y.sum(), [x, *net.parameters()]),
            torch.autograd.grad(first.sum() + second.sum(), [x, *net.parameters()]),
            strict=True,
        ):
            torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
        second, _ = net(x[2:], net(x[:2])[1].detach())
        (grad,) = torch.autograd.grad(second.sum(), x)
        assert not grad[:2].any()
        assert grad[2:].any()

    def test_none_is_zeros(self) -> None:
        net = recurrent(GRAPH)
        x = sequence_of(net, 3, 4)
        assert_same_bits(net(x), net(x, torch.zeros(4, net.num_states, dtype=torch.float64)))

    def test_batch_first_and_unbatched(self) -> None:
        net = recurrent(GRAPH)
        x, h = sequence_of(net, 5, 3), state_of(net, 3)
        y, last = net(x, h)
        first = with_parameters_of(net, batch_first=True)
        other, other_last = first(x.transpose(0, 1), h)
        assert other.shape == (3, 5, 4)
        assert_same_bits([other.transpose(0, 1), other_last], [y, last])
        for run in (net, first):
            alone, own = run(x[:, 0], h[0])
            assert alone.shape == (5, 4)
            assert own.shape == (net.num_states,)
            assert_same_bits([alone, own], [t.squeeze(1 - i) for i, t in enumerate(net(x[:, :1], h[:1]))])
            assert_same_bits(run.step(x[0], h), [t[0] if i == 0 else t for i, t in enumerate(net(x[:1], h))])
            out, own = run.step(x[0, 0], h[0])
            assert out.shape == (4,)
            assert own.shape == (net.num_states,)
        values = first.activations(x.transpose(0, 1), h)
        assert_same_bits([v.T for v in values.values()], list(net.activations(x, h).values()))

    @pytest.mark.parametrize("every", [None, 2])
    def test_steps_hold_x(self, every: int | None) -> None:
        net = recurrent(GRAPH)
        x, h = sequence_of(net, 4, 3), state_of(net, 3)
        held = with_parameters_of(net, steps=3, checkpoint_every=every)
        whole, last = net(x.repeat_interleave(3, 0), h)
        y, own_last = held(x, h)
        assert_same_bits([y, own_last], [whole[2::3], last])
        grad_y, grad_last = torch.randn_like(y), torch.randn_like(last)
        found = own_gradients(held, x, h, grad_y, grad_last)
        spread = torch.zeros_like(whole)
        spread[2::3] = grad_y
        wanted = own_gradients(net, x.repeat_interleave(3, 0), h, spread, grad_last)
        wanted[2] = wanted[2].unflatten(0, (4, 3)).sum(1)
        for a, b in zip(found[2:], wanted[2:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        assert_same_bits(held.activations(x, h)[6][None], net.activations(x.repeat_interleave(3, 0), h)[6][None, 2::3])

    @dtypes
    @pytest.mark.parametrize("batch", [1, 5, 40])
    def test_checkpoints_change_no_bit(self, batch: int, dtype: torch.dtype) -> None:
        for graph in (GRAPH, KINDS):
            net = recurrent(graph, dtype)
            x, h = sequence_of(net, 6, batch), state_of(net, batch)
            y, last = net(x, h)
            grads = torch.randn_like(y), torch.randn_like(last)
            wanted = own_gradients(net, x, h, *grads)
            for every in (1, 2, 4, 100):
                assert_same_bits(own_gradients(with_parameters_of(net, checkpoint_every=every), x, h, *grads), wanted)

    @dtypes
    @pytest.mark.parametrize("batch", [1, 2, 17, 200])
    def test_no_grad_changes_no_bit(self, batch: int, dtype: torch.dtype) -> None:
        for graph in (GRAPH, KINDS):
            net = recurrent(graph, dtype)
            x, h = sequence_of(net, 4, batch), state_of(net, batch)
            with torch.no_grad():
                quiet = net(x, h)
            assert_same_bits(quiet, net(x, h))
            net.requires_grad_(False)
            assert_same_bits(quiet, net(x, h))

    @pytest.mark.parametrize("make", ["strided", "expanded", "reversed"])
    def test_layouts_of_x(self, make: str) -> None:
        net = recurrent(GRAPH)
        wide = torch.randn(12, 8, 3, dtype=torch.float64)
        x = {"strided": wide[::2, 1::2], "expanded": wide[:1, :4].expand(6, 4, 3), "reversed": wide.flip(2)}[make]
        assert_same_bits(net(x), net(x.contiguous()))

    def test_an_expanded_gradient(self) -> None:
        net = recurrent(GRAPH)
        x, h = sequence_of(net, 3, 2), state_of(net, 2)
        one = torch.ones(1, dtype=torch.float64)
        found = own_gradients(net, x, h, one.expand(3, 2, 4), one.expand(2, net.num_states))
        wanted = own_gradients(net, x, h, torch.ones(3, 2, 4), torch.ones(2, net.num_states))
        assert_same_bits(found, wanted)

    def test_only_what_is_needed(self) -> None:
        net = recurrent(GRAPH)
        x, h = sequence_of(net, 4, 3), state_of(net, 3)
        everything = own_gradients(net, x, h, torch.ones(4, 3, 4), torch.zeros(3, net.num_states))[2:]
        for wanted in ([0], [1], [2], [3], [0, 1], [1, 2], [0, 3]):
            leaves = [t.detach().requires_grad_(i in wanted) for i, t in enumerate((x, h, net.weight, net.bias))]
            parameters = dict(zip(("weight", "bias"), leaves[2:], strict=True))
            y, _ = torch.func.functional_call(net, parameters, tuple(leaves[:2]))
            found = torch.autograd.grad(y.sum(), [leaves[i] for i in wanted])
            assert_same_bits(found, [everything[i] for i in wanted])


class TestActivations:
    """The values of every node."""

    @pytest.mark.parametrize("learn_leak", [False, True])
    @pytest.mark.parametrize("graph", [GRAPH, KINDS, wired(3, leak=False)], ids=["leaks", "kinds", "delays"])
    def test_match_the_plain_loop(self, graph: fw.Graph, learn_leak: bool) -> None:
        net = recurrent(graph, learn_leak=learn_leak and graph.leak is not None)
        x, h = sequence_of(net, 5, 3), state_of(net, 3)
        assert not all(graph.reaches_output)
        values = net.activations(x, h)
        assert list(values) == list(graph.nodes)
        _, _, wanted = plain_loop(net, x, h, net.weight, net.bias)
        found = torch.stack(list(values.values()), -1)
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
        grads = torch.randn_like(found)
        for got, want in zip(
            *(torch.autograd.grad(v, [net.weight, net.bias], grads) for v in (found, wanted)), strict=True
        ):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)

    def test_go_on_where_outputs_left_off(self) -> None:
        net = recurrent(GRAPH)
        x = sequence_of(net, 6, 2)
        _, h = net(x[:4])
        live = [name for i, name in enumerate(GRAPH.nodes) if GRAPH.reaches_output[i]]
        later, whole = net.activations(x[4:], h), net.activations(x)
        assert_same_bits([later[name] for name in live], [whole[name][4:] for name in live])
        assert {v.shape for v in net.activations(x[:, 0], h[0]).values()} == {(6,)}


class TestLeaks:
    """Leaks as parameters."""

    def test_a_parameter_for_each_that_reaches_an_output(self) -> None:
        net = recurrent(RECURRENT, torch.float32, learn_leak=True)
        assert net.leak is not None
        assert net.leak.tolist() == [0.5, 1, 0.25]  # a stored 1 is learnt too
        assert set(net.state_dict()) == {"weight", "bias", "leak", "_extra_state"}
        assert recurrent(RECURRENT).leak is None
        dead = fw.Graph.from_edges([0, 0], [1, 2], outputs=[1], delay=0, leak=0.5)
        assert recurrent(dead, learn_leak=True).leak.tolist() == [0.5]
        with torch.no_grad():
            net.leak.zero_()
        net.reset_parameters()
        assert net.leak.tolist() == [0.5, 1, 0.25]

    def test_it_is_held_in_its_range(self) -> None:
        net = recurrent(RECURRENT, learn_leak=True)
        x = sequence_of(net, 5, 3)
        with torch.no_grad():
            net.leak.copy_(torch.tensor([7.0, -3.0, 0.25]))
        y, _ = net(x)
        held = fw.Graph.from_networkx(net.to_networkx())
        assert held.leak[1:].tolist() == pytest.approx([1, 1e-4, 0.25])
        again = fw.Recurrent(held, dtype=torch.float64)
        torch.testing.assert_close(again(x)[0], y)
        grad = torch.autograd.grad(y.sum(), net.leak)[0]
        assert grad.all(), "one outside of its range can come back"

    def test_a_leak_is_learnt(self) -> None:
        net, target = (
            fw.Recurrent(fw.Graph.from_edges([0], [1], weight=[1.0], delay=0, leak=leak), bias=False, learn_leak=True)
            for leak in (0.2, 0.7)
        )
        x = torch.randn(20, 16, 1, generator=torch.Generator().manual_seed(0))
        wanted = target(x)[0].detach()
        optimizer = torch.optim.Adam([net.leak], lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(x)[0], wanted).backward()
            optimizer.step()
        assert net.leak.item() == pytest.approx(0.7, abs=0.02)
        assert net.to_networkx().nodes[1]["leak"] == pytest.approx(0.7, abs=0.02)

    def test_round_trip_through_networkx(self) -> None:
        net = recurrent(GRAPH, learn_leak=True)
        with torch.no_grad():
            net.leak.mul_(0.9)
        again = fw.Recurrent(fw.Graph.from_networkx(net.to_networkx()), dtype=torch.float64)
        x = sequence_of(net, 4, 2)
        torch.testing.assert_close(again(x)[0], net(x)[0], rtol=1e-12, atol=1e-12)
        dead = GRAPH.nodes[int(np.flatnonzero(~GRAPH.reaches_output)[0])]
        assert net.to_networkx().nodes[dead]["leak"] == GRAPH.to_networkx().nodes[dead]["leak"]


class TestThreads:
    def test_threads_may_share_a_network(self) -> None:
        net = recurrent(GRAPH, torch.float32)
        x, h = sequence_of(net, 6, 20), state_of(net, 20)
        grads = torch.ones(6, 20, 4), torch.ones(20, net.num_states)
        wanted = own_gradients(net, x, h, *grads)
        found: list[list[Tensor]] = []

        def work() -> None:
            for _ in range(10):
                found.append(own_gradients(net, x, h, *grads))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 20
        for result in found:
            assert_same_bits(result, wanted)


def test_flops() -> None:
    net = recurrent(wired(1, leak=False))
    with FlopCounterMode(display=False) as counter:
        net(sequence_of(net, 5, 7))[0].sum().backward()
    assert counter.get_total_flops() == 6 * 5 * 7 * net.graph.num_edges


def test_print() -> None:
    assert repr(fw.Recurrent(RECURRENT, batch_first=True, steps=2)).endswith("bias=True, batch_first=True, steps=2)")


# ---------------------------------------------------------------------------------- memory
