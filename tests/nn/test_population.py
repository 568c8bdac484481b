# SPDX-License-Identifier: MIT
"""`Population`: every member computes what it computes alone, bit by bit, and members come and go."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import freewire as fw
from tests.support.graphs import RECURRENT
from tests.support.populations import (
    INPUTS,
    OUTPUTS,
    alone,
    different_graphs,
    gradients,
    many,
    population,
    raises,
    samples,
    small,
)
from tests.support.recurrent import recurrent
from tests.support.tensors import DTYPES, assert_same_bits, assert_threads_change_no_bit, op_calls

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


class TestMembersAlone:
    """Outputs and all gradients have the bits of the members' networks."""

    @dtypes
    @pytest.mark.parametrize("per_member", [False, True])
    @pytest.mark.parametrize("batch", [0, 1, 2, 4, 7, 16, 33, 65, 300])
    def test_same_bits(self, batch: int, per_member: bool, dtype: torch.dtype) -> None:
        pop = population(different_graphs(), dtype)
        x = samples(pop, len(pop), batch) if per_member else samples(pop, batch)
        grad_y = torch.randn(len(pop), batch, OUTPUTS, dtype=torch.float64).to(dtype)
        y, grad_x, *rest = gradients(pop, x, grad_y, per_member)
        want_y, want_x, *want = alone(pop, x, grad_y, per_member)
        assert_same_bits([y, *rest], [want_y, *want])
        torch.testing.assert_close(grad_x, want_x)  # of shared samples it is a sum, whose order is torch's
        with torch.no_grad():
            assert_same_bits([pop(x, per_member=per_member)], [want_y])

    def test_without_bias(self) -> None:
        pop = population(different_graphs(), bias=False)
        x, grad_y = samples(pop, 9, 5), torch.randn(9, 5, OUTPUTS, dtype=torch.float64)
        assert_same_bits(gradients(pop, x, grad_y, True), alone(pop, x, grad_y, True))

    @pytest.mark.parametrize("threads", [2, 3, 16])
    @pytest.mark.parametrize("batch", [1, 8, 130])
    def test_threads_change_no_bit(self, batch: int, threads: int) -> None:
        """Of members of one size, and of one that is larger than a thread's share."""
        for graphs in (many(300), [*many(20), small(0, 3000)]):
            pop = population(graphs, torch.float32)
            x, grad_y = samples(pop, len(pop), batch), torch.randn(len(pop), batch, OUTPUTS)
            assert_threads_change_no_bit(threads, lambda p=pop, x=x, g=grad_y: gradients(p, x, g, True))

    def test_many_small_members(self) -> None:
        pop = population(many(1000), torch.float32)
        x, grad_y = samples(pop, 1000, 1), torch.randn(1000, 1, OUTPUTS)
        assert_same_bits(gradients(pop, x, grad_y, True), alone(pop, x, grad_y, True))

    def test_one_operator_call_each_way(self) -> None:
        pop = population(many(50), torch.float32)
        x = samples(pop, 3)
        calls = op_calls(lambda: pop(x).sum().backward())
        assert calls["freewire::population_forward"] == calls["freewire::population_backward"] == 1
        with torch.no_grad():
            assert op_calls(lambda: pop(x))["freewire::population_inference"] == 1

    def test_any_leading_shape(self) -> None:
        pop = population(many(3))
        x = samples(pop, 2, 5)
        assert pop(x).shape == (3, 2, 5, OUTPUTS)
        torch.testing.assert_close(pop(x)[:, 1, 2], pop(x[1, 2]))
        own = samples(pop, 3, 2, 5)
        assert torch.equal(pop(own, per_member=True)[2, 1], pop.member(2)(own[2, 1]))
        assert pop(own[:, 0, 0], per_member=True).shape == (3, OUTPUTS)

    def test_samples_that_are_not_contiguous(self) -> None:
        pop = population(many(3))
        x = samples(pop, 7, 3).transpose(0, 1)
        assert torch.equal(pop(x, per_member=True), pop(x.contiguous(), per_member=True))


class TestTorch:
    def test_gradcheck(self) -> None:
        pop = population([small(0, 4), fw.generators.mlp([INPUTS, 5, OUTPUTS], "tanh")])

        def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return torch.func.functional_call(pop, {"weight": weight, "bias": bias}, (x,))

        arguments = [samples(pop, 3), pop.weight.detach(), pop.bias.detach()]
        arguments = [a.clone().requires_grad_() for a in arguments]
        assert torch.autograd.gradcheck(run, arguments, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(run, arguments)

    def test_vmap_and_functional_gradients(self) -> None:
        pop = population([small(0, 4), small(1, 6)])
        x = samples(pop, 5)

        def loss(weight: Tensor, x: Tensor) -> Tensor:
            return torch.func.functional_call(pop, {"weight": weight}, (x,)).square().sum()

        weight = pop.weight.detach()
        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x)
        want = [torch.func.grad(loss)(weight, sample) for sample in x]
        torch.testing.assert_close(each, torch.stack(want))

    def test_compile(self) -> None:
        pop = population(many(4), torch.float32)
        x = samples(pop, 6)
        torch._dynamo.reset()
        compiled = torch.compile(pop, fullgraph=True, backend="aot_eager")
        compiled(x).sum().backward()
        found = pop.weight.grad.clone()
        pop.zero_grad()
        pop(x).sum().backward()
        assert torch.equal(found, pop.weight.grad)

    def test_opcheck(self) -> None:
        pop = population(many(3), torch.float32)
        pop.requires_grad_(False)
        plans, table, limits, _, num_outputs = pop._placed
        arguments = (samples(pop, 1, 5), pop.weight, pop.bias, plans, table, list(limits), num_outputs)
        torch.library.opcheck(torch.ops.freewire.population_inference, arguments)
        torch.library.opcheck(torch.ops.freewire.population_forward, arguments)
        y, tape = torch.ops.freewire.population_forward(*arguments)
        arguments = (y, tape, pop.weight, plans, table, list(limits), INPUTS, len(pop.bias), True, True)
        torch.library.opcheck(torch.ops.freewire.population_backward, arguments)

    def test_autocast(self) -> None:
        pop = population(many(3), torch.float32)
        x = samples(pop, 5)
        with torch.autocast("cpu", torch.bfloat16):
            y = pop(x)
        assert y.dtype == torch.bfloat16
        y.float().sum().backward()
        assert pop.weight.grad.dtype == torch.float32

    def test_meta(self) -> None:
        pop = fw.Population(many(3), device="meta")
        assert pop(torch.randn(5, INPUTS, device="meta")).shape == (3, 5, OUTPUTS)

    def test_to_another_type(self) -> None:
        pop = population(many(3), torch.float32)
        assert pop.double()(samples(pop, 5)).dtype == torch.float64


class TestParameters:
    def test_slices(self) -> None:
        pop = population(different_graphs())
        for i, graph in enumerate(pop.graphs):
            assert len(pop.weight[pop.weight_slice(i)]) == graph.num_edges
            assert len(pop.bias[pop.bias_slice(i)]) == len(graph.computed_index)
        assert pop.weight_slice(-1) == pop.weight_slice(len(pop) - 1)

    def test_weights_of_networks_are_copied(self) -> None:
        nets = [fw.Network(graph) for graph in many(3)]
        pop = fw.Population(nets)
        assert torch.equal(pop.weight, torch.cat([net.weight for net in nets]))
        nets[0].weight.data.zero_()
        assert pop.weight[pop.weight_slice(0)].abs().min() > 0

    def test_stored_values(self) -> None:
        graph = small(0).with_values(weight=np.arange(small(0).num_edges))
        pop = fw.Population([graph, small(1)])
        assert torch.equal(pop.member(0).weight.detach(), torch.arange(graph.num_edges, dtype=torch.float32))

    def test_initialisers(self) -> None:
        graphs = [fw.generators.mlp([INPUTS, 400, OUTPUTS]), fw.generators.mlp([INPUTS, 3, OUTPUTS])]
        torch.manual_seed(0)
        weight = fw.Population(graphs).weight
        assert weight[: 4 * 400].std().item() == pytest.approx((2 / 4) ** 0.5, rel=0.1)
        assert weight[4 * 400 : 7 * 400].std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.1)
        one = fw.Population(graphs, init=lambda weight, graph: torch.full_like(weight, graph.num_nodes))
        assert one.weight[0] == graphs[0].num_nodes
        assert one.weight[-1] == graphs[1].num_nodes

    def test_state_dict(self) -> None:
        pop, other = population(many(4)), population(many(4), seed=9)
        other.load_state_dict(pop.state_dict())
        assert torch.equal(other.weight, pop.weight)
        with pytest.raises(fw.InputError, match="expected that of a population with this wiring, got that of another"):
            population([*many(3), small(99, 3)]).load_state_dict(pop.state_dict(), strict=False)

    @pytest.mark.parametrize("how", [copy.deepcopy, lambda pop: pickle.loads(pickle.dumps(pop))])
    def test_copies(self, how: Any) -> None:
        pop = population(many(4))
        other = how(pop)
        assert torch.equal(other(samples(pop, 5)), pop(samples(pop, 5)))
        other.replace({0: small(50)})
        assert len(other.weight) != len(pop.weight)

    def test_has_no_graph(self) -> None:
        """Whatever reads a network's graph and weights would mistake the order of a population's."""
        pop = population(many(3))
        assert not hasattr(pop, "graph")
        with pytest.raises((AttributeError, fw.FreewireError)):
            fw.reference(pop, samples(pop, 3))
        with pytest.raises(fw.FreewireError):
            fw.to_dot(pop)
        with pytest.raises(fw.FreewireError):
            fw.constraints.signed(pop, np.ones(len(pop.weight)))

    def test_members_by_number(self) -> None:
        pop = population(many(3))
        state = torch.random.get_rng_state()
        assert torch.equal(pop[1].weight, pop.member(-2).weight)
        assert [net.graph.num_edges for net in pop] == [graph.num_edges for graph in pop.graphs]
        assert torch.equal(state, torch.random.get_rng_state())  # looking at a member draws nothing


class TestRecurrent:
    def members(self) -> list[fw.Recurrent]:
        graphs = [RECURRENT, fw.Graph.from_edges([0, 1, 1], [1, 1, 2], outputs=[2], recurrent=True, leak=0.5)]
        graphs = [g for g in graphs if len(g.inputs) == 1 and len(g.outputs) == 1] or graphs[1:]
        graphs.append(fw.Graph.from_edges([0, 1, 2, 1], [1, 2, 1, 3], outputs=[3], recurrent=True, activation="tanh"))
        return [recurrent(graph, seed=i) for i, graph in enumerate(graphs)]

    @pytest.mark.parametrize("per_member", [False, True])
    def test_members_alone(self, per_member: bool) -> None:
        nets = self.members()
        pop = fw.Population(nets)
        x = torch.randn(*([len(nets)] if per_member else []), 6, 5, 1, dtype=torch.float64)
        y, h = pop(x[..., :4, :, :], per_member=per_member)
        rest, _ = pop(x[..., 4:, :, :], h, per_member=per_member)
        for i, net in enumerate(nets):
            want, _ = net(x[i] if per_member else x)
            torch.testing.assert_close(torch.cat((y[i], rest[i])), want, rtol=1e-12, atol=1e-12)
        pop(x, per_member=per_member)[0].square().sum().backward()
        for i, net in enumerate(nets):
            net(x[i] if per_member else x)[0].square().sum().backward()
            torch.testing.assert_close(pop.weight.grad[pop.weight_slice(i)], net.weight.grad, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(pop.bias.grad[pop.bias_slice(i)], net.bias.grad, rtol=1e-10, atol=1e-10)

    def test_replace(self) -> None:
        nets = self.members()
        pop = fw.Population(nets[:1] * 3)
        pop.replace({1: nets[-1]})
        x = torch.randn(4, 2, 1, dtype=torch.float64)
        torch.testing.assert_close(pop(x)[0][1], nets[-1](x)[0])
        torch.testing.assert_close(pop(x)[0][2], nets[0](x)[0])

    def test_member(self) -> None:
        nets = self.members()
        pop = fw.Population(nets)
        x = torch.randn(4, 2, 1, dtype=torch.float64)
        assert torch.equal(pop.member(0)(x)[0], nets[0](x)[0])

    def test_threads(self) -> None:
        pop = fw.Population(self.members())
        x = torch.randn(6, 3, 1, dtype=torch.float64)
        want, failed = pop(x)[0], []

        def run() -> None:
            for _ in range(30):
                y, _ = pop(x)
                y.sum().backward()
                if not torch.equal(y, want):
                    failed.append(y)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed

    def test_layout(self) -> None:
        pop = fw.Population(self.members())
        with raises(fw.InputError, "x: expected shape [T, B, I], got [4, 1]. Put time before the batch."):
            pop(torch.zeros(4, 1, dtype=torch.float64))
