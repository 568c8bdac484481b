# SPDX-License-Identifier: MIT
"""Species: genomes that are alike, which compete with one another and not with the rest of their generation.

The distance of two genomes is ``c1 E / N + c2 D / N + c3 W + c4 F``: E and D count their excess and disjoint edges,
those that only one of them has, of innovations beyond all of the other's or not; N is the number of edges of the larger
one, or 1 if both are small; W is the mean absolute difference of the weights and biases of genes that both have; F is
the mean number of functions, of two, in which their common nodes differ. Disabled edges count as others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from freewire.graph.arguments import FloatArray, IntArray
from freewire.search.neat.generation import Generation
from freewire.search.neat.genome import Genome
from freewire.search.neat.settings import Settings

__all__ = ["Species", "distances", "speciate"]


@dataclass
class Species:
    """One species.

    Attributes:
        number: Its number, in order of appearance.
        representative: The genome that others are compared with.
        best: The best fitness that a member ever had.
        improved: The generation when that was.
    """

    number: int
    representative: Genome
    best: float
    improved: int


def distances(generation: Generation, genome: Genome, settings: Settings) -> FloatArray:
    """The distance of each genome of a generation to ``genome``, float64 ``[P]``."""
    count = len(generation)
    edges, nodes = generation.member_of_edge, generation.member_of_node
    own = len(genome.innovation)

    # Where an innovation, or a node, is in the genome: a table is much faster than a search for each.
    last = int(max(generation.innovation.max(initial=-1), genome.innovation.max(initial=-1)))
    table = np.full(last + 2, -1)
    table[genome.innovation] = np.arange(own)
    place = table[generation.innovation]
    both = place >= 0
    shared = np.bincount(edges[both], minlength=count)
    difference = np.abs(generation.weight[both] - genome.weight[place[both]])
    total = np.bincount(edges[both], difference, count).astype(np.float64)  # int64 where there are none

    beyond = generation.innovation > genome.innovation.max(initial=-1)
    newest = np.full(count, -1)
    ends = generation.edge_start[1:][generation.num_edges > 0] - 1
    newest[generation.num_edges > 0] = generation.innovation[ends]
    excess = np.bincount(edges[beyond], minlength=count)
    excess += own - np.searchsorted(genome.innovation, newest, "right")
    disjoint = generation.num_edges + own - 2 * shared - excess
    larger = np.maximum(1, np.maximum(generation.num_edges, own))
    larger = np.where(larger < settings.small_genome, 1, larger)

    table = np.full(int(max(generation.node.max(), genome.node.max())) + 1, -1)
    table[genome.node] = np.arange(len(genome.node))
    place = table[generation.node]
    both = place >= 0
    place, nodes = place[both], nodes[both]
    common = np.bincount(nodes, minlength=count)  # at least 1: the outputs
    total += np.bincount(nodes, np.abs(generation.bias[both] - genome.bias[place]), count)
    functions = (generation.activation[both] != genome.activation[place]).astype(np.int64)
    functions += generation.aggregation[both] != genome.aggregation[place]
    return (
        settings.excess_coefficient * excess / larger
        + settings.disjoint_coefficient * disjoint / larger
        + settings.weight_coefficient * total / (shared + common)
        + settings.function_coefficient * np.bincount(nodes, functions, count) / common
    )


def speciate(
    generation: Generation, species: list[Species], threshold: float, number: int, time: int, settings: Settings
) -> tuple[list[Species], IntArray]:
    """Assign each genome to the first species whose representative is nearer than the threshold, or to a new one.

    Args:
        generation: The genomes.
        species: Those of the generation before, with their representatives, in order of their numbers.
        threshold: The compatibility threshold.
        number: Number of the next new species.
        time: Number of this generation.
        settings: The coefficients.

    Returns:
        The species that have members, in order of their numbers, and the number of each genome's, int64 ``[P]``.
    """
    count = len(generation)
    assigned = np.full(count, -1)
    if species:
        near = np.stack([distances(generation, each.representative, settings) for each in species]) < threshold
        first = np.array([each.number for each in species])[near.argmax(0)]
        assigned = np.where(near.any(0), first, -1)
    found = list(species)
    rest = np.flatnonzero(assigned < 0)
    while len(rest):  # the first that belongs nowhere founds a species, which others may join
        founder = generation[int(rest[0])]
        near = distances(generation.take(rest), founder, settings) < threshold
        near[0] = True  # whatever the threshold
        assigned[rest[near]] = number
        found.append(Species(number, founder, -np.inf, time))
        number, rest = number + 1, rest[~near]
    alive = set(assigned.tolist())
    return [each for each in found if each.number in alive], assigned
