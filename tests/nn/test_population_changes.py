# SPDX-License-Identifier: MIT
"""Members of a `Population` that are replaced, appended and removed, and what a population refuses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from tests.support.populations import INPUTS, OUTPUTS, many, population, raises, samples, small
from tests.support.tensors import assert_same_bits


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
