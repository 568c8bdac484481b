# SPDX-License-Identifier: MIT
"""Distances, species, and how many offspring each has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from freewire.search.neat.generation import Generation
from freewire.search.neat.genome import Genome
from freewire.search.neat.reproduction import offspring
from freewire.search.neat.species import Species, distances, speciate
from tests.search.neat.test_mutation import settings_of, start


def genome_of(innovations: dict[int, float], biases: dict[int, float] | None = None, functions: int = 0) -> Genome:
    """A genome with these innovations and weights, and these nodes and biases; its edges' ends do not matter."""
    biases = {0: 0.0} if biases is None else biases
    count = len(innovations)
    return Genome(
        num_inputs=1,
        num_outputs=1,
        recurrent=False,
        node=np.array(list(biases)),
        bias=np.array(list(biases.values())),
        activation=np.full(len(biases), functions, np.uint8),
        aggregation=np.full(len(biases), functions, np.uint8),
        innovation=np.array(list(innovations), np.int64),
        source=np.full(count, -1),
        target=np.zeros(count, np.int64),
        weight=np.array(list(innovations.values()), float),
        enabled=np.ones(count, np.bool_),
    )


OPTIONS = dict(
    excess_coefficient=1.0,
    disjoint_coefficient=10.0,
    weight_coefficient=100.0,
    function_coefficient=1000.0,
    small_genome=3,
)


class TestDistances:
    @pytest.mark.parametrize(
        ("a", "b", "distance"),
        [
            (genome_of({1: 1.0, 2: 2.0}), genome_of({1: 1.0, 2: 2.0}), 0),
            (genome_of({1: 1.0}), genome_of({1: 1.0, 2: 0.0}), 1),  # one in excess of a small genome
            (genome_of({2: 1.0}), genome_of({1: 0.0, 2: 1.0}), 10),  # one disjoint
            (genome_of({1: 1.0, 2: 0, 3: 0, 4: 0}), genome_of({1: 1.0}), 3 / 4),  # of a large one
            (genome_of({1: 1.0, 5: 0.0}), genome_of({1: 1.0, 2: 0.0, 6: 0.0}), 1 / 3 + 20 / 3),
            (genome_of({1: 1.0, 2: 0.0}), genome_of({1: 1.5, 2: -1.0}), 100 * 1.5 / 3),  # weights and a bias: 3 genes
            (genome_of({1: 1.0}), genome_of({1: 1.0}, {0: 2.0}), 100 * 2 / 2),
            (
                genome_of({1: 1.0}, {0: 0.0, 3: 5.0}),
                genome_of({1: 1.0}, {0: 0.0, 4: 7.0}),
                0,
            ),  # nodes they do not share
            (genome_of({1: 1.0}, functions=1), genome_of({1: 1.0}), 2000),
            (genome_of({}), genome_of({}), 0),
            (genome_of({}), genome_of({3: 1.0}), 1),
        ],
    )
    def test_terms(self, a, b, distance):
        chosen = settings_of(1, **OPTIONS)
        for one, other in ((a, b), (b, a)):
            generation = Generation.join([genome_of({7: 3.0, 8: 9.0}), one, genome_of({})])  # others around it
            assert distances(generation, other, chosen)[1] == pytest.approx(distance)

    def test_as_one_by_one(self):
        """Against a direct count, on genomes of a search."""
        rng = np.random.default_rng(0)
        genomes = []
        for _ in range(40):
            numbers = np.sort(rng.choice(30, rng.integers(0, 20), replace=False)).tolist()
            genomes.append(genome_of(dict(zip(numbers, rng.normal(size=len(numbers)), strict=True))))
        chosen = settings_of(1, **OPTIONS)
        for other in genomes[:10]:
            found = distances(Generation.join(genomes), other, chosen)
            for genome, distance in zip(genomes, found.tolist(), strict=True):
                one, two = (dict(zip(g.innovation.tolist(), g.weight, strict=True)) for g in (genome, other))
                last = min(max(one, default=-1), max(two, default=-1))
                alone = one.keys() ^ two.keys()
                excess = sum(number > last for number in alone)
                both = one.keys() & two.keys()
                size = max(len(one), len(two))
                size = 1 if size < 3 else size
                mean = sum(abs(one[number] - two[number]) for number in both) / (len(both) + 1)
                assert distance == pytest.approx((excess + 10 * (len(alone) - excess)) / size + 100 * mean)


class TestSpeciate:
    def test_the_first_within_the_threshold(self):
        generation = Generation.join([genome_of({1: w}) for w in (0.0, 1.0, 2.0, 7.0, 7.5)])
        chosen = settings_of(1, weight_coefficient=2.0)  # so the distance is the difference of the weights
        before = [Species(3, genome_of({1: 0.1}), 0.0, 0), Species(5, genome_of({1: 1.5}), 0.0, 0)]
        before.append(Species(6, genome_of({1: -20.0}), 0.0, 0))
        found, assigned = speciate(generation, before, 1.0, 7, 4, chosen)
        assert assigned.tolist() == [3, 3, 5, 7, 7]  # the second is nearer to species 5
        assert [(each.number, each.improved) for each in found] == [(3, 0), (5, 0), (7, 4)]
        assert found[2].representative.weight.tolist() == [7.0]

    def test_a_threshold_of_0_makes_each_its_own(self):
        generation = Generation.join([genome_of({1: 0.0})] * 4)
        found, assigned = speciate(generation, [], 0.0, 0, 0, settings_of(1))
        assert assigned.tolist() == [0, 1, 2, 3]
        assert len(found) == 4


def species_of(count: int, best: float = -np.inf, improved: int = 0) -> list[Species]:
    genome = start()[0]
    return [Species(number, genome, best, improved) for number in range(count)]


class TestOffspring:
    def test_in_proportion_to_the_mean_fitness(self):
        fitness = np.array([1.0, 3.0, 4.0, 8.0, 0.0, 6.0])  # means 2, 6, 3 above the worst
        assigned = np.array([0, 0, 1, 1, 2, 2])
        chosen = settings_of(population=60, min_species_size=1, elitism=1, survival=0.5)
        plan = offspring(fitness, assigned, species_of(3), 0, chosen)
        assert (plan.counts + 1).tolist() == [11, 32, 17]  # 1 for each, and 57 in proportion 2 : 6 : 3
        assert plan.counts.sum() + len(plan.elites) == 60
        assert plan.elites.tolist() == [1, 3, 5]
        assert [pool.tolist() for pool in plan.pools] == [[1], [3], [5]]

    @pytest.mark.parametrize("population", [2, 3, 7, 150])
    def test_never_more_or_fewer_than_the_population(self, population):
        rng = np.random.default_rng(population)
        for _ in range(50):
            fitness = np.where(
                rng.random(population) < 0.3, np.nan, rng.normal(size=population) * 10.0 ** rng.integers(9)
            )
            count = int(rng.integers(1, population + 1))
            assigned = np.concatenate((np.arange(count), rng.integers(0, count, population - count)))
            options = {"elitism": int(rng.integers(0, 4)), "min_species_size": int(rng.integers(1, 9))}
            plan = offspring(fitness, assigned, species_of(count), 5, settings_of(population=population, **options))
            assert len(plan.elites) + plan.counts.sum() == population
            assert (plan.counts >= 0).all()
            assert not np.isnan(fitness[plan.elites]).any()
            assert all(len(pool) for pool in plan.pools)

    def test_failed_members_are_no_parents(self):
        fitness = np.array([np.nan, 1.0, np.nan, np.nan, 3.0])
        assigned = np.array([0, 0, 0, 1, 0])
        chosen = settings_of(population=5, survival=1.0, elitism=2, min_species_size=1)
        plan = offspring(fitness, assigned, species_of(2), 0, chosen)
        assert [pool.tolist() for pool in plan.pools] == [[4, 1], [3]]
        assert plan.elites.tolist() == [4, 1]

    def test_all_failed(self):
        plan = offspring(np.full(4, np.nan), np.array([0, 0, 1, 1]), species_of(2), 0, settings_of(population=4))
        assert plan.counts.tolist() == [2, 2]
        assert plan.elites.tolist() == []

    def test_stagnation(self):
        """Species 0 improves, 1 and 2 have not for too long; the better of these is protected."""
        fitness, assigned = np.array([1.0, 9.0, 5.0]), np.array([0, 1, 2])
        species = [
            replace(each, best=best, improved=2) for each, best in zip(species_of(3), (0.5, 9.0, 5.0), strict=True)
        ]
        chosen = settings_of(population=3, stagnation=4, protected_species=1)
        assert [each.number for each in offspring(fitness, assigned, species, 5, chosen).species] == [0, 1, 2]
        plan = offspring(fitness, assigned, species, 6, chosen)
        assert [each.number for each in plan.species] == [0, 1]
        assert [(each.best, each.improved) for each in species] == [(1.0, 5), (9.0, 2), (5.0, 2)]
        chosen = settings_of(population=3, stagnation=1, protected_species=2)
        assert [each.number for each in offspring(fitness, assigned, species, 60, chosen).species] == [1, 2]
