# SPDX-License-Identifier: MIT
"""From one generation to the next: how many offspring each species has, of which parents, and how they differ.

All genes of the generation are drawn, matched and changed at once in flat arrays; only genomes whose structure changes
are handled one by one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from freewire.graph.arguments import FloatArray, IntArray
from freewire.search.neat.generation import Generation
from freewire.search.neat.genome import Genome
from freewire.search.neat.innovations import Innovations
from freewire.search.neat.mutation import MUTATIONS, draw_functions
from freewire.search.neat.settings import Settings
from freewire.search.neat.species import Species

__all__ = ["Offspring", "initial_generation", "offspring", "reproduce"]


def initial_generation(settings: Settings, rng: np.random.Generator) -> tuple[Generation, Innovations]:
    """The first generation: outputs that read the inputs, directly and through hidden nodes if there are any."""
    inputs, outputs, hidden = settings.num_inputs, settings.num_outputs, settings.initial_hidden
    node = np.arange(outputs + hidden)
    features, ends, between = np.arange(-1, -inputs - 1, -1), node[:outputs], node[outputs:]
    blocks = [(features, ends), (features, between), (between, ends)]
    pairs = np.concatenate([np.stack(np.meshgrid(a, b)).reshape(2, -1) for a, b in blocks], 1)
    innovation = np.arange(pairs.shape[1])
    genomes = []
    for _ in range(settings.population):
        kept = rng.random(len(innovation)) < settings.connectivity
        genomes.append(
            Genome(
                inputs,
                outputs,
                settings.recurrent,
                node,
                bias=_drawn(rng, len(node), settings.bias_std, settings.bias_limit),
                **draw_functions(node, outputs, rng, settings),
                innovation=innovation[kept],
                source=pairs[0, kept],
                target=pairs[1, kept],
                weight=_drawn(rng, int(kept.sum()), settings.weight_std, settings.weight_limit),
                enabled=np.ones(int(kept.sum()), np.bool_),
            )
        )
    return Generation.join(genomes), Innovations(len(node), len(innovation))


def _drawn(rng: np.random.Generator, count: int, std: float, limit: float) -> FloatArray:
    return np.clip(rng.normal(0, std, count), -limit, limit)


# ---------------------------------------------------------------------------------- who has offspring


class Offspring(NamedTuple):
    """Who has offspring in a generation.

    Attributes:
        species: The species that have any.
        elites: Members that are copied without a change, int64.
        pools: For each of the species the members that may be parents, best first.
        counts: How many children each of them has besides its elites.
    """

    species: list[Species]
    elites: IntArray
    pools: list[IntArray]
    counts: IntArray


def ranked(fitness: FloatArray, members: IntArray) -> IntArray:
    """Members from the best to the worst; those that failed (NaN) last, and equals in order."""
    return members[np.argsort(-np.nan_to_num(fitness[members], nan=-np.inf), kind="stable")]


def offspring(
    fitness: FloatArray, assigned: IntArray, species: list[Species], time: int, settings: Settings
) -> Offspring:
    """Decide, given each member's fitness (NaN: failed) and species; notes in the species what they have reached.

    A species has offspring in proportion to its mean fitness above the generation's worst: the paper's shared fitness.
    One that has not improved for ``stagnation`` generations has none, unless it is among the best
    ``protected_species``.
    """
    members = {each.number: ranked(fitness, np.flatnonzero(assigned == each.number)) for each in species}
    now = {number: float(np.nan_to_num(fitness[found[0]], nan=-np.inf)) for number, found in members.items()}
    for each in species:
        if now[each.number] > each.best:
            each.best, each.improved = now[each.number], time
    by_rank = sorted(species, key=lambda each: (-now[each.number], each.number))
    alive = {
        each.number
        for rank, each in enumerate(by_rank)
        if rank < settings.protected_species or time - each.improved < settings.stagnation
    }
    left = [each for each in species if each.number in alive]
    worst = np.nanmin(fitness) if not np.isnan(fitness).all() else 0.0
    above = np.nan_to_num(fitness - worst, nan=0.0)
    share = np.array([above[members[each.number]].mean() for each in left])
    least = min(settings.min_species_size, settings.population // len(left))
    counts = least + _divided(settings.population - least * len(left), share)
    elites, pools = [], []
    for k, each in enumerate(left):
        ranks = members[each.number]
        sound = ranks[~np.isnan(fitness[ranks])]
        pool = sound if len(sound) else ranks
        pools.append(pool[: max(1, math.ceil(settings.survival * len(pool)))])
        kept = sound[: min(settings.elitism, int(counts[k]))]
        elites.append(kept)
        counts[k] -= len(kept)
    return Offspring(left, np.concatenate(elites), pools, counts)


def _divided(total: int, share: FloatArray) -> IntArray:
    """Whole numbers of this sum in proportion to the shares, by the largest remainders."""
    largest = share.max()
    share = share / largest if largest > 0 else np.ones(len(share))  # a sum of large numbers might be infinite
    exact = total * share / share.sum()
    counts = np.floor(exact).astype(np.int64)
    most = np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]
    counts[most] += 1
    return counts


# ---------------------------------------------------------------------------------- the children


def reproduce(
    parents: Generation,
    fitness: FloatArray,
    plan: Offspring,
    innovations: Innovations,
    rng: np.random.Generator,
    settings: Settings,
) -> tuple[Generation, IntArray]:
    """Make the next generation.

    Args:
        parents: The generation.
        fitness: Of each member, NaN where it failed.
        plan: Who has offspring.
        innovations: This search's; a new generation's have begun.
        rng: The source of all draws.
        settings: The probabilities.

    Returns:
        Elites first, then children; and the two parents of each, int64 ``[P, 2]``, of which the first is the fitter
        one, and equal to the second where there is only one.
    """
    pairs = _pairs(plan, rng, settings)
    # The child has the structure of the fitter parent: of equals that of the smaller one, and then of the older.
    value, size = np.nan_to_num(fitness[pairs], nan=-np.inf), parents.num_edges[pairs]
    swap = (value[:, 0] < value[:, 1]) | ((value[:, 0] == value[:, 1]) & (size[:, 0] > size[:, 1]))
    pairs[swap] = pairs[swap][:, ::-1]
    children = parents.take(pairs[:, 0])
    _cross(children, parents, pairs, rng, settings)
    _mutate_numbers(children, rng, settings)
    genomes = _mutate_structures(children, innovations, rng, settings)
    elites = [parents[member] for member in plan.elites.tolist()]
    return Generation.join([*elites, *genomes]), np.concatenate((np.stack([plan.elites] * 2, 1), pairs))


def _pairs(plan: Offspring, rng: np.random.Generator, settings: Settings) -> IntArray:
    """Two parents for each child, the same one twice where there is no crossover, int64 ``[children, 2]``."""
    everyone = np.concatenate(plan.pools)
    size = np.array([len(pool) for pool in plan.pools])
    begin = np.cumsum(size) - size
    of = np.repeat(np.arange(len(plan.pools)), plan.counts)
    draws = rng.random((5, len(of)))
    first = everyone[begin[of] + (draws[0] * size[of]).astype(np.int64)]
    within = everyone[begin[of] + (draws[1] * size[of]).astype(np.int64)]
    anyone = everyone[(draws[2] * len(everyone)).astype(np.int64)]
    second = np.where(draws[3] < settings.interspecies, anyone, within)
    second = np.where(draws[4] < settings.crossover, second, first)
    return np.stack((first, second), 1)


def _cross(
    children: Generation, parents: Generation, pairs: IntArray, rng: np.random.Generator, settings: Settings
) -> None:
    """Give copies of the first parents each gene that the second has too from one of the two at random.

    An edge that is disabled in either parent is disabled with probability ``keep_disabled``, else enabled.
    """
    place = children.match_nodes(parents, pairs[:, 1])
    chosen = np.flatnonzero((place >= 0) & (rng.random(len(place)) < 0.5))
    for name in ("bias", "activation", "aggregation"):
        getattr(children, name)[chosen] = getattr(parents, name)[place[chosen]]
    place = children.match_edges(parents, pairs[:, 1])
    both = place >= 0
    chosen = np.flatnonzero(both & (rng.random(len(place)) < 0.5))
    children.weight[chosen] = parents.weight[place[chosen]]
    disabled = ~children.enabled
    disabled[both] |= ~parents.enabled[place[both]]
    crossed = (pairs[:, 0] != pairs[:, 1])[children.member_of_edge]
    enabled = ~disabled | (rng.random(len(place)) >= settings.keep_disabled)
    children.enabled[crossed] = enabled[crossed]


def _mutate_numbers(children: Generation, rng: np.random.Generator, settings: Settings) -> None:
    """Change weights and biases: all of a genome's, or none; most by a step, some to a new value."""

    def changed(
        values: FloatArray, member: IntArray, chance: float, redrawn: float, std: float, step: float, limit: float
    ) -> FloatArray:
        draws = rng.normal(size=(2, len(values)))
        new = np.where(rng.random(len(values)) < redrawn, std * draws[0], values + step * draws[1])
        return np.where((rng.random(len(children)) < chance)[member], np.clip(new, -limit, limit), values)

    s = settings
    weight = (s.mutate_weights, s.replace_weight, s.weight_std, s.weight_step, s.weight_limit)
    children.weight = changed(children.weight, children.member_of_edge, *weight)
    bias = (s.mutate_biases, s.replace_bias, s.bias_std, s.bias_step, s.bias_limit)
    children.bias = changed(children.bias, children.member_of_node, *bias)


def _mutate_structures(
    children: Generation, innovations: Innovations, rng: np.random.Generator, settings: Settings
) -> list[Genome]:
    """The children, of which some have another structure or other functions."""
    chances = np.array([getattr(settings, name) for name in MUTATIONS])
    happens = rng.random((len(children), len(chances))) < chances
    genomes = [children[k] for k in range(len(children))]
    for k in np.flatnonzero(happens.any(1)).tolist():
        for mutate, hit in zip(MUTATIONS.values(), happens[k].tolist(), strict=True):
            if hit:
                genomes[k] = mutate(genomes[k], rng, innovations, settings)
    return genomes
