# SPDX-License-Identifier: MIT
"""The first generation, crossover, and changes of weights and biases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from freewire.search.neat.generation import Generation
from freewire.search.neat.genome import EDGE_GENES, NODE_GENES, Genome
from freewire.search.neat.innovations import Innovations
from freewire.search.neat.mutation import MUTATIONS
from freewire.search.neat.reproduction import Offspring, initial_generation, reproduce
from freewire.search.neat.settings import Settings
from tests.search.neat.searches import check_genome
from tests.search.neat.test_mutation import settings_of
from tests.search.neat.test_species import genome_of, species_of

#: Nothing changes.
STILL: dict[str, Any] = {**dict.fromkeys(MUTATIONS, 0.0), "mutate_weights": 0.0, "mutate_biases": 0.0}


def evolved(count: int, chosen: Settings, changes: int = 12) -> Generation:
    """Genomes of many structures, descended from one first generation."""
    rng = np.random.default_rng(5)
    generation, innovations = initial_generation(chosen, rng)
    genomes = [generation[k] for k in range(count)]
    for _ in range(changes):
        innovations.next_generation()
        for k in rng.choice(count, count // 2, replace=False).tolist():
            name = rng.choice(["add_node", "add_edge", "add_edge", "delete_edge", "toggle_edge"])
            genomes[k] = MUTATIONS[name](genomes[k], rng, innovations, chosen)
    return Generation.join(genomes)


def children_of(
    parents: Generation, fitness: list[float], chosen: Settings, count: int = 1, elites: tuple[int, ...] = ()
) -> tuple[Generation, np.ndarray]:
    """Children of parents of one species."""
    pool = np.arange(len(parents))
    plan = Offspring(species_of(1), np.array(elites, np.int64), [pool], np.array([count]))
    return reproduce(parents, np.array(fitness), plan, Innovations(1000, 1000), np.random.default_rng(0), chosen)


class TestGeneration:
    def test_take_and_items(self):
        generation = evolved(10, settings_of(population=10))
        taken = generation.take(np.array([3, 3, 9, 0]))
        for k, index in enumerate((3, 3, 9, 0)):
            for name in (*NODE_GENES, *EDGE_GENES):
                np.testing.assert_array_equal(getattr(taken[k], name), getattr(generation[index], name))
        assert len(generation.take(np.zeros(0, np.int64))) == 0

    def test_match(self):
        generation = evolved(30, settings_of(population=30))
        partner = np.random.default_rng(1).integers(0, 30, 30)
        found = generation.match_edges(generation, partner)
        for k in range(30):
            own, other = generation[k].innovation.tolist(), generation[int(partner[k])].innovation.tolist()
            first = int(generation.edge_start[partner[k]])
            expected = [first + other.index(number) if number in other else -1 for number in own]
            assert found[generation.edge_start[k] : generation.edge_start[k + 1]].tolist() == expected


class TestFirst:
    def test_full(self):
        chosen = settings_of(3, 2, 50, bias_std=0.0, weight_std=2.0, weight_limit=3.0, activation="relu")
        generation, _ = initial_generation(chosen, np.random.default_rng(0))
        assert {tuple(generation[k].innovation.tolist()) for k in range(50)} == {tuple(range(6))}
        assert (generation.bias == 0).all()
        assert 1.5 < generation.weight.std() < 2
        assert np.abs(generation.weight).max() == 3

    def test_hidden(self):
        generation, innovations = initial_generation(settings_of(2, 2, initial_hidden=3), np.random.default_rng(0))
        ends = set(zip(generation[0].source.tolist(), generation[0].target.tolist(), strict=True))
        assert ends == {(s, t) for s in (-1, -2) for t in range(5)} | {(s, t) for s in (2, 3, 4) for t in (0, 1)}
        assert innovations.split(0) == 5
        assert innovations.edge(2, 3) == 16

    def test_partial(self):
        generation, _ = initial_generation(settings_of(10, 10, 100, connectivity=0.3), np.random.default_rng(0))
        assert generation.num_edges.sum() == pytest.approx(3000, rel=0.1)
        origins: dict[int, tuple[int, int]] = {}
        for k in range(100):
            check_genome(generation[k], origins)


class TestCrossover:
    def test_the_structure_is_the_fitter_ones(self):
        weak, strong = genome_of({1: 1.0, 2: 2.0, 5: 5.0}), genome_of({1: -1.0, 2: -2.0, 3: -3.0, 4: -4.0})
        chosen = settings_of(1, crossover=1.0, **STILL)
        children, parents = children_of(Generation.join([weak, strong]), [0.0, 1.0], chosen, 200)
        mixed = [children[k] for k in np.flatnonzero(parents[:, 0] != parents[:, 1])]
        assert len(mixed) > 60
        assert {tuple(child.innovation.tolist()) for child in mixed} == {(1, 2, 3, 4)}
        weights = {tuple(child.weight.tolist()) for child in mixed}
        assert weights == {(a, b, -3.0, -4.0) for a in (1.0, -1.0) for b in (2.0, -2.0)}
        assert (parents[parents[:, 0] != parents[:, 1]] == [1, 0]).all()

    def test_of_equals_the_smaller(self):
        small, large = genome_of({1: 1.0}), genome_of({1: -1.0, 2: -2.0})
        chosen = settings_of(1, crossover=1.0, **STILL)
        children, parents = children_of(Generation.join([large, small]), [1.0, 1.0], chosen, 50)
        mixed = np.flatnonzero(parents[:, 0] != parents[:, 1])
        assert {tuple(children[k].innovation.tolist()) for k in mixed} == {(1,)}

    def test_node_genes_come_whole(self):
        one = genome_of({1: 0.0}, {0: 1.0}, functions=1)
        two = genome_of({1: 0.0}, {0: 2.0}, functions=2)
        chosen = settings_of(1, crossover=1.0, **STILL)
        children, _ = children_of(Generation.join([one, two]), [1.0, 0.0], chosen, 100)
        found = set(
            zip(children.bias.tolist(), children.activation.tolist(), children.aggregation.tolist(), strict=True)
        )
        assert found == {(1.0, 1, 1), (2.0, 2, 2)}

    @pytest.mark.parametrize("keep", [0.0, 0.75, 1.0])
    def test_disabled_in_either(self, keep):
        on = genome_of({1: 0.0, 2: 0.0})
        off = replace(on, enabled=np.array([False, True]))
        chosen = settings_of(1, crossover=1.0, keep_disabled=keep, **STILL)
        children, parents = children_of(Generation.join([on, off]), [1.0, 0.0], chosen, 1000)
        mixed = parents[:, 0] != parents[:, 1]
        enabled = children.enabled.reshape(-1, 2)
        assert enabled[:, 1].all()
        assert (~enabled[mixed, 0]).mean() == pytest.approx(keep, abs=0.06)
        alone = ~mixed & (parents[:, 0] == 1)
        assert not enabled[alone, 0].any()  # without crossover nothing is enabled

    @pytest.mark.parametrize("recurrent", [False, True])
    def test_children_of_any_parents_are_valid(self, recurrent):
        chosen = settings_of(3, 2, 60, crossover=1.0, interspecies=0.5, recurrent=recurrent, add_node=0.5, add_edge=0.5)
        parents = evolved(60, chosen)
        children, _ = children_of(parents, np.random.default_rng(2).normal(size=60).tolist(), chosen, 300)
        origins: dict[int, tuple[int, int]] = {}
        for generation in (parents, children):
            for k in range(len(generation)):
                check_genome(generation[k], origins)


class TestNumbers:
    def test_elites_come_first_and_unchanged(self):
        chosen = settings_of(population=10, mutate_weights=1.0, mutate_biases=1.0, add_node=1.0)
        parents = evolved(10, chosen)
        children, whose = children_of(parents, [1.0] * 10, chosen, 5, elites=(7, 2))
        assert whose[:2].tolist() == [[7, 7], [2, 2]]
        for k, elite in enumerate((7, 2)):
            assert children[k].to_json() == parents[elite].to_json()
        assert len(children) == 7

    def test_weights_of_a_child_change_together_or_not_at_all(self):
        options = {**STILL, "mutate_weights": 0.5, "replace_weight": 0.0, "crossover": 0.0}
        chosen = settings_of(20, 1, weight_step=0.1, bias_std=0.0, **options)
        children, whose = self._children(chosen)
        change = children.weight.reshape(400, 20) - self.parents.weight.reshape(-1, 20)[whose[:, 0]]
        changed = (change != 0).all(1)
        assert (changed | (change == 0).all(1)).all()
        assert changed.mean() == pytest.approx(0.5, abs=0.1)
        assert change[changed].std() == pytest.approx(0.1, rel=0.1)
        assert (children.bias == 0).all()

    def test_some_are_replaced(self):
        options = {**STILL, "mutate_weights": 1.0, "replace_weight": 0.25, "crossover": 0.0}
        chosen = settings_of(20, 1, weight_step=0.0, weight_std=3.0, **options)
        children, whose = self._children(chosen)
        change = children.weight.reshape(400, 20) != self.parents.weight.reshape(-1, 20)[whose[:, 0]]
        assert change.mean() == pytest.approx(0.25, abs=0.05)

    def test_biases(self):
        options = {**STILL, "mutate_biases": 1.0, "replace_bias": 0.0, "crossover": 0.0}
        children, whose = self._children(settings_of(20, 1, bias_step=100.0, bias_limit=2.0, **options))
        assert set(np.abs(children.bias).tolist()) > {2.0}
        assert np.abs(children.bias).max() == 2
        np.testing.assert_array_equal(
            children.weight.reshape(400, 20), self.parents.weight.reshape(-1, 20)[whose[:, 0]]
        )

    def _children(self, chosen: Settings) -> tuple[Generation, np.ndarray]:
        self.parents, _ = initial_generation(replace(chosen, population=5), np.random.default_rng(3))
        return children_of(self.parents, [0.0] * 5, chosen, 400)


def test_interspecies():
    """Only then has a child parents of two species."""
    parents = Generation.join([genome_of({1: float(k)}) for k in range(4)])
    pools, counts = [np.array([0, 1]), np.array([2, 3])], np.array([300, 300])
    plan = Offspring(species_of(2), np.zeros(0, np.int64), pools, counts)
    for chance in (0.0, 1.0):
        chosen = settings_of(1, crossover=1.0, interspecies=chance, **STILL)
        _, whose = reproduce(parents, np.zeros(4), plan, Innovations(9, 9), np.random.default_rng(0), chosen)
        across = ((whose < 2).sum(1) == 1).mean()
        assert across == pytest.approx(chance / 2, abs=0.08)


def test_genomes_are_checked_here_too() -> None:
    """Or `check_genome` would hide what it is meant to find."""
    genome = genome_of({1: 0.0, 2: 0.0}, {0: 0.0, 1: 0.0, 2: 0.0})
    cycle: Genome = replace(genome, source=np.array([1, 2]), target=np.array([2, 1]))
    for broken in (genome, cycle):  # the first joins two nodes twice
        with pytest.raises((AssertionError, ValueError)):
            check_genome(broken)
