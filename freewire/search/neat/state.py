# SPDX-License-Identifier: MIT
"""`SearchState`: what a NEAT search knows between generations, which follows from its seed and what it was told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from freewire.errors import InputError
from freewire.graph.arguments import IntArray
from freewire.search.neat.generation import Generation
from freewire.search.neat.genome import EDGE_GENES, NODE_GENES, Genome
from freewire.search.neat.reproduction import initial_generation, offspring, reproduce
from freewire.search.neat.settings import Settings
from freewire.search.neat.species import Species, speciate

__all__ = ["SearchState"]

# By how much of itself the compatibility threshold changes in a generation, to come nearer to the target.
_THRESHOLD_STEP = 0.1


# Genes that gradient steps do not change.
_STRUCTURE = tuple(name for name in (*NODE_GENES, *EDGE_GENES) if name not in ("bias", "weight"))


class SearchState:
    """A search by NEAT. All draws of a generation come from a generator seeded by (seed, generation).

    Args:
        settings: The search's.
        seed: A whole number of at least 0.

    Attributes:
        time: The number of this generation, -1 before the first.
        generation: The genomes, once there is a first generation.
        assigned: The number of each genome's species, int64 ``[P]``.
        parents: The members of the generation before that are each genome's parents, int64 ``[P, 2]``, or ``[P, 0]``.
        species: The species of this generation.
    """

    generation: Generation
    assigned: IntArray
    parents: IntArray

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self.time = -1
        self.species: list[Species] = []
        self._next_species = 0
        self._threshold = settings.compatibility_threshold
        self._proposed: list[dict[str, Any]] = []
        self._told: list[Genome | None] = []
        self._fitness = np.zeros(0)

    def proposed(self, member: int) -> dict[str, Any]:
        """A genome of this generation, as JSON."""
        if not self._proposed:
            self._proposed = [self.generation[k].to_json() for k in range(len(self.generation))]
        return self._proposed[member]

    def tell(self, member: int, found: Any, fitness: float) -> None:
        """Learn the fitness of a genome of this generation.

        Args:
            member: Its number.
            found: The genome as JSON, with what it has learnt.
            fitness: Not a finite number if it failed.

        Raises:
            FileFormatError: ``found`` is no genome.
            InputError: It is another genome.
        """
        genome = self.generation[member]
        if found != self.proposed(member):
            own, genome = genome, Genome.from_json(found)
            learnt = self._settings.gradient_steps and self._settings.inheritance == "lamarckian"
            if not learnt or any(not np.array_equal(getattr(own, name), getattr(genome, name)) for name in _STRUCTURE):
                raise InputError(
                    f"log: expected the genomes that this search proposes, got another as trial "
                    f"{self.time * self._settings.population + member}. Continue with the versions of freewire and "
                    "numpy that the search began with, or choose another log."
                )
        self._told[member] = genome
        self._fitness[member] = fitness if math.isfinite(fitness) else math.nan

    def advance(self) -> None:
        """Replace the generation by its offspring, or begin with the first one.

        Raises:
            InputError: A genome's fitness was not told.
        """
        settings, time = self._settings, self.time + 1
        rng = np.random.default_rng([self._seed, time])
        species: list[Species] = []
        if time == 0:
            self.generation, self._innovations = initial_generation(settings, rng)
            self.parents = np.zeros((settings.population, 0), np.int64)
        else:
            told = [genome for genome in self._told if genome is not None]
            if len(told) < len(self._told):
                raise InputError(
                    f"trial: expected the next generation once all of this one are told, got {len(told)} of "
                    f"{len(self._told)} so far. Call tell for each."
                )
            parents = Generation.join(told)
            plan = offspring(self._fitness, self.assigned, self.species, self.time, settings)
            species = plan.species
            for each in species:
                members = np.flatnonzero(self.assigned == each.number)
                each.representative = parents[int(rng.choice(members))]
            self._innovations.next_generation()
            self.generation, self.parents = reproduce(parents, self._fitness, plan, self._innovations, rng, settings)
        self.species, self.assigned = speciate(
            self.generation, species, self._threshold, self._next_species, time, settings
        )
        self._next_species = max(self._next_species, int(self.assigned.max()) + 1)
        if settings.target_species is not None:
            more = np.sign(len(self.species) - settings.target_species)
            self._threshold *= 1 + _THRESHOLD_STEP * float(more)
        self.time = time
        self._proposed = []
        self._told = [None] * settings.population
        self._fitness = np.full(settings.population, np.nan)
