# SPDX-License-Identifier: MIT
"""Changes of structure: what stays true of genomes whatever happens, and what each change does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.search.neat import mutation
from freewire.search.neat.genome import Genome
from freewire.search.neat.innovations import Innovations
from freewire.search.neat.reproduction import initial_generation
from freewire.search.neat.settings import Settings
from tests.search.neat.searches import check_genome


def settings_of(num_inputs: int = 2, num_outputs: int = 1, population: int = 2, **options: Any) -> Settings:
    return fw.search.NEAT(num_inputs, num_outputs, population, **options)._settings


def start(**options: Any) -> tuple[Genome, np.random.Generator, Innovations, Settings]:
    """A genome of the first generation, and what mutations need."""
    chosen = settings_of(**options)
    rng = np.random.default_rng(0)
    generation, innovations = initial_generation(chosen, rng)
    return generation[0], rng, innovations, chosen


def ends(genome: Genome) -> set[tuple[int, int]]:
    return set(zip(genome.source.tolist(), genome.target.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.tuples(st.sampled_from(sorted(mutation.MUTATIONS)), st.booleans()), max_size=60),
    seed=st.integers(0, 2**32),
    recurrent=st.booleans(),
    connectivity=st.sampled_from((0.0, 0.5, 1.0)),
    hidden=st.integers(0, 3),
)
def test_any_changes_leave_a_genome_valid(steps, seed, recurrent, connectivity, hidden):
    chosen = settings_of(
        num_inputs=3,
        num_outputs=2,
        recurrent=recurrent,
        connectivity=connectivity,
        initial_hidden=hidden,
        activation=["tanh", "relu"],
        aggregation=["sum", "max"],
    )
    rng = np.random.default_rng(seed)
    generation, innovations = initial_generation(chosen, rng)
    genomes, origins = [generation[0], generation[1]], {}
    for name, which in steps:
        genomes[which] = mutation.MUTATIONS[name](genomes[which], rng, innovations, chosen)
        check_genome(genomes[which], origins)
        allowed = {ACTIVATIONS.index(name) for name in ("tanh", "relu")}
        assert set(genomes[which].activation[2:].tolist()) <= allowed
        assert (genomes[which].activation[:2] == 0).all()
        assert set(genomes[which].aggregation.tolist()) <= {AGGREGATIONS.index(name) for name in ("sum", "max")}


class TestAddNode:
    def test_divides_an_edge(self):
        genome, rng, innovations, chosen = start()
        new = mutation.add_node(genome, rng, innovations, chosen)
        (edge,) = np.flatnonzero(~new.enabled).tolist()
        source, target, weight = (getattr(genome, name)[edge].item() for name in ("source", "target", "weight"))
        assert new.node.tolist() == [0, 1]
        assert new.innovation.tolist() == [0, 1, 2, 3]
        assert ends(new) - ends(genome) == {(source, 1), (1, target)}
        assert new.weight[2:].tolist() == [1.0, weight]
        assert new.bias[1] == 0
        assert genome.enabled.all()  # the parent is as it was

    def test_nothing_to_divide(self):
        genome, *rest = start(connectivity=0.0)
        assert mutation.add_node(genome, *rest) is genome


class TestInnovations:
    def test_the_same_change_has_the_same_numbers_in_a_generation(self):
        genome, rng, innovations, chosen = start(num_inputs=1)  # of one edge
        first, second = (mutation.add_node(genome, rng, innovations, chosen) for _ in range(2))
        assert first.node.tolist() == second.node.tolist()
        assert first.innovation.tolist() == second.innovation.tolist()
        innovations.next_generation()
        later = mutation.add_node(genome, rng, innovations, chosen)
        assert later.node.tolist() == [0, 2]
        assert later.innovation.tolist() == [0, 3, 4]

    def test_edges(self):
        innovations = Innovations(5, 10)
        assert [innovations.edge(*ends) for ends in ((1, 2), (2, 1), (1, 2))] == [10, 11, 10]
        innovations.next_generation()
        assert innovations.edge(1, 2) == 12


class TestAddEdge:
    def test_all_pairs_come_in_the_end(self):
        genome, *rest = start(num_inputs=3, num_outputs=2, connectivity=0.0)
        for count in range(1, 7):
            genome = mutation.add_edge(genome, *rest)
            assert len(ends(genome)) == count
        assert mutation.add_edge(genome, *rest) is genome
        assert ends(genome) == {(source, target) for source in (-1, -2, -3) for target in (0, 1)}

    def test_recurrent_edges_join_any_nodes(self):
        genome, *rest = start(num_inputs=1, num_outputs=2, recurrent=True)
        for _ in range(4):
            genome = mutation.add_edge(genome, *rest)
        assert ends(genome) == {(source, target) for source in (-1, 0, 1) for target in (0, 1)}

    def test_hidden_nodes_are_joined_without_a_cycle(self):
        genome, *rest = start(num_inputs=1, initial_hidden=6)
        for _ in range(15):  # among 6 nodes
            genome = mutation.add_edge(genome, *rest)
            check_genome(genome)
        assert mutation.add_edge(genome, *rest) is genome


class TestDelete:
    def test_a_node_and_its_edges(self):
        genome, *rest = start(initial_hidden=1)
        new = mutation.delete_node(genome, *rest)
        assert new.node.tolist() == [0]
        assert ends(new) == {(-1, 0), (-2, 0)}
        assert mutation.delete_node(new, *rest) is new  # outputs stay

    def test_an_edge(self):
        genome, *rest = start()
        new = mutation.delete_edge(mutation.delete_edge(genome, *rest), *rest)
        assert ends(new) == set()
        assert mutation.delete_edge(new, *rest) is new


class TestOthers:
    def test_toggle(self):
        genome, *rest = start(num_inputs=1)
        new = mutation.toggle_edge(genome, *rest)
        assert new.enabled.tolist() == [False]
        assert mutation.toggle_edge(new, *rest).enabled.tolist() == [True]
        empty, *rest = start(connectivity=0.0)
        assert mutation.toggle_edge(empty, *rest) is empty

    @pytest.mark.parametrize("name", ["activation", "aggregation"])
    def test_functions(self, name):
        options = {"output_activation": ["linear", "tanh", "sin"], "aggregation": ["sum", "max", "mean"]}
        genome, *rest = start(**options)
        found = {int(getattr(mutation.MUTATIONS[f"mutate_{name}"](genome, *rest), name)[0]) for _ in range(60)}
        names = {"activation": ACTIVATIONS, "aggregation": AGGREGATIONS}[name]
        assert {names[code] for code in found} == set(options[{"activation": "output_activation"}.get(name, name)])
