# SPDX-License-Identifier: MIT
"""`Population`: every member computes what it computes alone, bit by bit, and members come and go."""

from __future__ import annotations

import copy
import pickle
import re
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from tests.support.graphs import RECURRENT
from tests.support.populations import (
    INPUTS,
    OUTPUTS,
    alone,
    different_graphs,
    gradients,
    population,
    samples,
)
from tests.support.recurrent import recurrent
from tests.support.tensors import DTYPES, assert_same_bits, assert_threads_change_no_bit, op_calls

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
random = fw.generators.random_graph


def small(seed: int, hidden: int = 10) -> fw.Graph:
    return random(INPUTS, hidden, OUTPUTS, 3, "tanh", "tanh", seed=seed)


def many(count: int) -> list[fw.Graph]:
    return [small(seed, 3 + seed % 20) for seed in range(count)]


def raises(kind: type[Exception], message: str) -> Any:
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


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


class TestReplace:
    """What stays keeps its parameters and the optimizer's state."""

    @pytest.mark.parametrize("kind", ["sgd", "adam", "none"])
    def test_the_others_stay(self, kind: str) -> None:
        pop = population(many(8), torch.float32)
        optimizer = {
            "sgd": lambda: torch.optim.SGD(pop.parameters(), 0.1, momentum=0.9),
            "adam": lambda: torch.optim.Adam(pop.parameters(), amsgrad=True),
            "none": lambda: None,
        }[kind]()
        x = samples(pop, 4)
        if optimizer is not None:
            pop(x).square().sum().backward()
            optimizer.step()
        before = [pop.member(i) for i in range(8)]
        state = {name: value.clone() for name, value in (optimizer.state[pop.weight] if optimizer else {}).items()}
        slices = [pop.weight_slice(i) for i in range(8)]
        weight, bias = pop.weight, pop.bias
        new = fw.Network(small(77, 12))
        pop.replace({2: new, 3: None, 7: small(78, 30), 8: small(79, 2)}, optimizer=optimizer)
        assert pop.weight is weight
        assert pop.bias is bias
        assert len(pop) == 8
        old = {0: 0, 1: 1, 3: 4, 4: 5, 5: 6}  # number now -> number before
        for now, then in old.items():
            assert torch.equal(pop.member(now).weight, before[then].weight)
            assert torch.equal(pop.member(now).bias, before[then].bias)
            assert torch.equal(pop(x)[now], before[then](x))
            for name, value in state.items():
                kept = optimizer.state[pop.weight][name]
                if value.dim():
                    assert torch.equal(kept[pop.weight_slice(now)], value[slices[then]])
                else:
                    assert torch.equal(kept, value)
        assert torch.equal(pop(x)[2], new(x))
        for name, value in (optimizer.state[pop.weight] if optimizer else {}).items():
            if value.dim():
                assert not value[pop.weight_slice(2)].any(), name
        if optimizer is not None:
            pop(x).square().sum().backward()
            optimizer.step()

    def test_any_sequence_of_changes(self) -> None:
        """Plans stay where they are, move into gaps, and are compacted; members always compute the same."""
        draws = np.random.default_rng(0)
        pop = population(many(12), torch.float32)
        nets = [pop.member(i) for i in range(12)]
        x = samples(pop, 3)
        for _ in range(60):
            changes: dict[int, Any] = {}
            for i in draws.choice(len(nets), size=3, replace=False).tolist():
                keep = draws.random() < 0.7 or len(nets) < 6
                changes[i] = fw.Network(small(int(draws.integers(1000)), int(draws.integers(1, 60)))) if keep else None
            if draws.random() < 0.4:
                changes[len(nets)] = fw.Network(small(int(draws.integers(1000)), int(draws.integers(1, 60))))
            pop.replace(changes)
            nets = [changes.get(i, net) for i, net in enumerate(nets) if changes.get(i, net) is not None] + [
                net for i, net in changes.items() if i >= len(nets)
            ]
            assert_same_bits([pop(x)], [torch.stack([net(x) for net in nets])])

    def test_append(self) -> None:
        pop = population(many(2))
        pop.append(small(9))
        assert len(pop) == 3
        assert pop.graphs[2].num_edges == small(9).num_edges

    def test_nothing(self) -> None:
        pop = population(many(2))
        before = pop.weight.clone()
        pop.replace({})
        assert torch.equal(pop.weight, before)

    def test_a_refused_change_changes_nothing(self) -> None:
        def init(weight: Tensor, graph: fw.Graph) -> Tensor:
            if graph.num_nodes > 100:
                raise RuntimeError("no weights for this one")
            return torch.ones_like(weight)

        pop = fw.Population(many(3), init=init, dtype=torch.float64)
        before, state = pop(samples(pop, 2)), copy.deepcopy(pop.state_dict())
        meta = fw.Network(small(5), device="meta", dtype=torch.float64)
        for changes in (
            {0: None, 1: None, 2: None},
            {0: small(5), 9: small(6)},
            {1: fw.generators.mlp([2, 3])},
            {2: small(3), 1: small(7, 200)},
            {0: small(7, 200), 1: small(1, 1)},
            {0: meta},
            {0: small(5), -3: small(6)},
            None,
        ):
            with pytest.raises((fw.FreewireError, RuntimeError)):
                pop.replace(changes)
            assert torch.equal(pop(samples(pop, 2)), before)
            assert pop.state_dict().keys() == state.keys()
            assert all(torch.equal(value, state[name]) for name, value in pop.state_dict().items())

    def test_while_the_last_graph_is_alive(self) -> None:
        """Training goes on with a loss of before still bound, as in any loop."""
        pop = population(many(4), torch.float32)
        optimizer = torch.optim.Adam(pop.parameters())
        x = samples(pop, 5)
        for seed in range(3):
            loss = pop(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pop.replace({0: small(seed, 30 + seed), 2: small(seed, 5)}, optimizer=optimizer)
            assert pop.weight.grad is None
        assert optimizer.state[pop.weight]["exp_avg"].shape == pop.weight.shape

    @pytest.mark.parametrize("hidden", [10, 20])
    def test_a_backward_of_before_is_refused(self, hidden: int) -> None:
        pop = population([small(seed) for seed in range(3)])
        y = pop(samples(pop, 5)).sum()
        pop.replace({0: small(9, hidden)})
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()

    def test_inside_inference_mode(self) -> None:
        pop = population(many(3))
        with torch.inference_mode():
            pop.replace({0: small(9, 20)})
        pop(samples(pop, 2)).sum().backward()
        assert pop.weight.grad.shape == pop.weight.shape

    @pytest.mark.parametrize(
        ("make", "name", "start"),
        [
            (lambda p: torch.optim.Rprop(p, lr=0.02), "step_size", 0.02),
            (lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.5), "sum", 0.5),
        ],
    )
    def test_state_that_does_not_start_from_zero(self, make: Any, name: str, start: float) -> None:
        pop = population(many(3), torch.float32)
        optimizer = make(pop.parameters())
        pop(samples(pop, 4)).square().sum().backward()
        optimizer.step()
        pop.replace({1: small(5, 30)}, optimizer)
        assert (optimizer.state[pop.weight][name][pop.weight_slice(1)] == start).all()
        pop(samples(pop, 4)).square().sum().backward()
        optimizer.step()

    def test_negative_numbers(self) -> None:
        pop = population(many(3))
        pop.replace({-1: small(50, 30)})
        assert pop.graphs[2].num_edges == small(50, 30).num_edges


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


class TestRefused:
    def test_members(self) -> None:
        with raises(fw.InputError, "members: expected at least one graph or network, got none. Pass a list of them."):
            fw.Population([])
        with raises(
            fw.InputError, "members: expected a list of graphs or networks, got Graph. Pass several in a list."
        ):
            fw.Population(small(0))
        with raises(
            fw.GraphError,
            "members: expected graphs or networks, got Linear as member 1. Convert it first, for example with "
            "Graph.from_networkx.",
        ):
            fw.Population([small(0), nn.Linear(2, 2)])
        with raises(
            fw.GraphError,
            "members: expected 4 inputs in each, like the first one, got 5 in member 1. All members of a population "
            "read as many features and return as many results.",
        ):
            fw.Population([small(0), fw.generators.mlp([5, OUTPUTS])])
        with raises(
            fw.GraphError,
            "members: expected 3 outputs in each, like the first one, got 2 in member 1. All members of a population "
            "read as many features and return as many results.",
        ):
            fw.Population([small(0), fw.generators.mlp([INPUTS, 2])])
        cycle = fw.Graph.from_edges([0], [1], outputs=[1], recurrent=True)
        with raises(
            fw.GraphError,
            "members: expected graphs without delays, like the first one, got one of recurrent graphs as member 1. "
            "Put them into two populations.",
        ):
            fw.Population([fw.generators.mlp([1, 1]), cycle])
        signed = small(0).with_constraints(sign=np.ones(small(0).num_edges))
        with raises(
            fw.GraphError,
            "members: expected weights without constraints, got sign in member 0. Remove them: "
            "graph.with_constraints(sign=None).",
        ):
            fw.Population([signed])

    def test_parameters_of_another_length(self) -> None:
        pop = population(many(2))
        total = len(pop.weight)
        pop.weight = nn.Parameter(torch.zeros(7, dtype=torch.float64))
        with raises(
            fw.InputError,
            f"weight: expected shape [{total}], that of all members, got [7]. Change members by pop.replace.",
        ):
            pop(samples(pop, 2))
        pop = population(many(2))
        plans, table, limits, _, num_outputs = pop._placed
        with pytest.raises(RuntimeError, match=r"weight: expected a vector of \d+ numbers, got 7"):
            torch.ops.freewire.population_inference(
                samples(pop, 1, 2), torch.zeros(7, dtype=torch.float64), pop.bias, plans, table, limits, num_outputs
            )

    def test_parametrized_weights(self) -> None:
        pop = population(many(2))
        nn.utils.parametrizations.weight_norm(pop, "weight", dim=0)
        with raises(
            fw.InputError,
            "weight: expected a plain parameter, got a parametrized one. Remove its parametrizations first.",
        ):
            pop.replace({0: small(3)})

    def test_biases_that_would_be_lost(self) -> None:
        message = "bias: expected True, since member 1 has biases, got False. Omit it, or remove the biases."
        biased = small(1).with_values(bias=np.ones(small(1).num_nodes))
        for member in (fw.Network(small(1)), biased):
            with raises(fw.InputError, message):
                fw.Population([small(0), member], bias=False)
        pop = fw.Population([small(0), small(1)], bias=False)
        with raises(fw.InputError, message):
            pop.replace({1: fw.Network(small(1))})

    def test_networks_without_weights(self) -> None:
        with raises(
            fw.InputError,
            "members: expected networks with weights, got one on the meta device as member 0. Load its weights first, "
            "or pass its graph.",
        ):
            fw.Population([fw.Network(small(0), device="meta")])

    def test_optimizers(self) -> None:
        pop = population(many(2))
        with raises(
            fw.InputError,
            "optimizer: expected the one that trains these parameters, got another. Pass that, or omit it if there is "
            "none.",
        ):
            pop.replace({0: small(3)}, torch.optim.Adam(population(many(2)).parameters()))
        with raises(
            fw.InputError,
            "optimizer: expected one that keeps its state element by element, got LBFGS. Make a new one afterwards.",
        ):
            pop.replace({0: small(3)}, torch.optim.LBFGS(pop.parameters()))

    def test_arguments_of_replace(self) -> None:
        pop = population(many(2))
        with raises(
            fw.InputError,
            "members: expected a dictionary from numbers to members, got NoneType. Write {number: graph}, or {number: "
            "None} to remove one.",
        ):
            pop.replace(None)
        with raises(fw.InputError, "members: expected each number once, got [0, -2]. Remove one."):
            pop.replace({0: small(1), -2: small(2)})
        with raises(fw.InputError, "member: expected a graph or a network, got None. Pass one."):
            pop.append(None)
        with raises(
            fw.GraphError,
            "members: expected 4 inputs in each, like the first one, got 5 in member 1. All members of a population "
            "read as many features and return as many results.",
        ):
            pop.replace({1: fw.generators.mlp([5, OUTPUTS])})

    def test_networks_that_differ(self) -> None:
        with raises(
            fw.InputError,
            "dtype: expected networks that agree, got torch.float32 and torch.float64. Pass dtype=... or convert some.",
        ):
            fw.Population([fw.Network(small(0)), fw.Network(small(1), dtype=torch.float64)])
        with raises(
            fw.InputError, "bias: expected networks that agree, got True and False. Pass bias=... or convert some."
        ):
            fw.Population([fw.Network(small(0)), fw.Network(small(1), bias=False)])

    def test_settings_of_recurrent_networks(self) -> None:
        cycle = fw.Graph.from_edges([0, 1], [1, 1], outputs=[1], recurrent=True)
        with raises(
            fw.InputError,
            "members: expected recurrent networks of default settings, got learn_leak, steps or batch_first in member "
            "0. Pass its graph.",
        ):
            fw.Population([fw.Recurrent(cycle, steps=2)])

    def test_x(self) -> None:
        pop = population(many(3), torch.float32)
        with raises(
            fw.InputError,
            "x: expected shape [3, ..., 4], samples of each member, got [2, 4]. Put members first, or omit per_member "
            "if all of them read the same samples.",
        ):
            pop(torch.zeros(2, INPUTS), per_member=True)
        with pytest.raises(fw.InputError, match=r"x: expected shape .*, one feature per input"):
            pop(torch.zeros(2, 7))
        with pytest.raises(fw.InputError, match=r"^x: expected torch\.float32"):
            pop(torch.zeros(2, INPUTS, dtype=torch.float64))
        with raises(fw.InputError, "h: expected none, since the members are not recurrent, got one. Omit it."):
            pop(torch.zeros(2, INPUTS), torch.zeros(2, 1))

    def test_numbers(self) -> None:
        pop = population(many(3))
        for wrong in (3, -4, "a", 1.5):
            with pytest.raises(fw.InputError, match=r"^i: expected a member's number from 0 to 2, got"):
                pop.member(wrong)
        with raises(
            fw.InputError,
            "members: expected numbers from 0 to 2, or from 3 on without gaps to append, got 4. Choose one of them.",
        ):
            pop.replace({4: small(0)})
        with raises(fw.InputError, "members: expected at least one to stay, got None for all 3. Keep one."):
            pop.replace(dict.fromkeys(range(3)))
        with raises(
            fw.InputError,
            "optimizer: expected a torch.optim.Optimizer, got str. Omit it if there is none.",
        ):
            pop.replace({0: small(0)}, optimizer="adam")
