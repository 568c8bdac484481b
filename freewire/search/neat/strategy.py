# SPDX-License-Identifier: MIT
"""`NEAT`: evolution of networks together with their wiring, as a strategy of `freewire.search.run`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from freewire.errors import InputError, shown
from freewire.nn import Network, Population, Recurrent
from freewire.search.neat.evaluation import OPTIMIZERS, per_member, train, trained
from freewire.search.neat.genome import Genome
from freewire.search.neat.settings import Settings
from freewire.search.neat.state import SearchState
from freewire.search.strategy import Report, Strategy, call

__all__ = ["NEAT"]


class NEAT(Strategy):
    """Evolution of networks together with their wiring (Stanley and Miikkulainen 2002).

    A generation is one call of the objective, ``objective(population, seed)``, which returns the fitness of each member
    of a `freewire.Population` as a tensor ``[P]``; higher is better. It may name ``population`` alone. A member whose
    fitness is NaN or infinite has failed, and is worse than all others. A trial of the search is one genome.

    All probabilities are per child. Numbers are drawn from a normal distribution around 0.

    Args:
        num_inputs: Number of features.
        num_outputs: Number of results.
        population: Genomes in a generation.
        recurrent: Whether edges may close cycles; members are then run step by step, as `freewire.Recurrent` is.
        activation: Activation of hidden nodes, a name or a list of names to choose from; see `docs/nodes.md`.
        output_activation: The same of outputs.
        aggregation: The same of the aggregation of hidden nodes and outputs.
        initial_hidden: Hidden nodes in the first generation, which read all inputs and feed all outputs.
        connectivity: The probability of each edge of the first generation; by default all of them are there, those from
            inputs to outputs among them.
        weight_std: Standard deviation of new weights.
        weight_step: Standard deviation of the change of a weight.
        weight_limit: The largest absolute value of a weight that a mutation makes.
        mutate_weights: Probability that a child's weights are changed, all of them.
        replace_weight: Probability that one of these is not changed by a step, but replaced by a new draw.
        bias_std: As ``weight_std``.
        bias_step: As ``weight_step``.
        bias_limit: As ``weight_limit``.
        mutate_biases: As ``mutate_weights``.
        replace_bias: As ``replace_weight``.
        mutate_activation: Probability that the activation of one node is redrawn, where there is a choice.
        mutate_aggregation: The same of the aggregation.
        add_node: Probability that a node divides an edge in two, which is disabled.
        delete_node: Probability that a hidden node is removed with its edges.
        add_edge: Probability that an edge joins two nodes.
        delete_edge: Probability that an edge is removed.
        toggle_edge: Probability that an edge is disabled if it was enabled, or enabled if it was not.
        crossover: Probability that a child has two parents. It has the structure of the fitter one, and the genes that
            both have from either.
        interspecies: Probability that the second parent may be of any species.
        keep_disabled: Probability that an edge that is disabled in either parent is so in the child.
        compatibility_threshold: The distance from which on genomes are of different species: see
            `freewire.search.neat.species`.
        target_species: The threshold changes by a tenth in each generation that has more or fewer species; None: it is
            constant.
        excess_coefficient: c1, of edges beyond the other's innovations, in the distance.
        disjoint_coefficient: c2, of other edges that only one genome has.
        weight_coefficient: c3, of the mean difference of weights and biases.
        function_coefficient: c4, of the mean number of functions that differ.
        small_genome: Of how many edges on the larger genome's size divides the numbers of excess and disjoint edges.
        elitism: How many of the best of each species are copied without a change.
        survival: The fraction of each species that may be parents, the best; at least one.
        stagnation: After how many generations without a better best member a species has no offspring.
        protected_species: How many of the best species have offspring all the same.
        min_species_size: The least number of offspring of a species that has any, as far as the population suffices.
        gradient_steps: Gradient steps on all weights and biases before the objective is called.
        loss: ``loss(population, seed, step)``, which may name only the arguments it uses, returns a tensor ``[P]`` to
            be minimised.
        optimizer: ``"adam"``, ``"adamw"``, ``"rmsprop"``, ``"sgd"``, or a function such as ``torch.optim.Adam`` that
            is called with the parameters and ``lr``.
        lr: The learning rate.
        inheritance: ``"lamarckian"``: what was learnt is written to the genome, and inherited. ``"baldwinian"``: it
            counts for the fitness only.
        device: Where the population is; on the CPU by default.

    Raises:
        InputError: An argument is out of range, or ``gradient_steps`` and ``loss`` are not given together.

    Example:
        >>> import torch, freewire as fw
        >>> x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> def fitness(population):
        ...     return -(population(x) - x.sum(1, keepdim=True)).square().mean(dim=(1, 2))  # [P, 4, 1] -> [P]
        >>> search = fw.search.NEAT(2, 1, population=20)
        >>> search.start(seed=0)
        >>> lines = [search.propose(trial) for trial in range(20)]
        >>> len(search.evaluate(fitness, lines, seeds=[0] * 20, report=print))
        20
    """

    arguments = ("population", "seed", "report")

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        population: int = 150,
        *,
        recurrent: bool = False,
        activation: str | Sequence[str] = "tanh",
        output_activation: str | Sequence[str] = "linear",
        aggregation: str | Sequence[str] = "sum",
        initial_hidden: int = 0,
        connectivity: float = 1.0,
        weight_std: float = 1.0,
        weight_step: float = 1.0,
        weight_limit: float = 30.0,
        mutate_weights: float = 0.8,
        replace_weight: float = 0.1,
        bias_std: float = 1.0,
        bias_step: float = 1.0,
        bias_limit: float = 30.0,
        mutate_biases: float = 0.7,
        replace_bias: float = 0.1,
        mutate_activation: float = 0.1,
        mutate_aggregation: float = 0.1,
        add_node: float = 0.03,
        delete_node: float = 0.01,
        add_edge: float = 0.05,
        delete_edge: float = 0.01,
        toggle_edge: float = 0.01,
        crossover: float = 0.75,
        interspecies: float = 0.001,
        keep_disabled: float = 0.75,
        compatibility_threshold: float = 3.0,
        target_species: int | None = 10,
        excess_coefficient: float = 1.0,
        disjoint_coefficient: float = 1.0,
        weight_coefficient: float = 0.4,
        function_coefficient: float = 1.0,
        small_genome: int = 20,
        elitism: int = 1,
        survival: float = 0.2,
        stagnation: int = 15,
        protected_species: int = 2,
        min_species_size: int = 2,
        gradient_steps: int = 0,
        loss: Callable[..., Tensor] | None = None,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adam",
        lr: float = 0.01,
        inheritance: str = "lamarckian",
        device: torch.device | str | None = None,
    ) -> None:
        given = dict(locals())
        self._loss, self._device = loss, device
        update = OPTIMIZERS.get(optimizer) if isinstance(optimizer, str) else optimizer
        if not callable(update):
            raise InputError(
                f"optimizer: expected one of {', '.join(OPTIMIZERS)}, or a function, got {shown(optimizer)}. Pass the "
                "class, such as torch.optim.Adam."
            )
        if loss is not None and not callable(loss):
            raise InputError(f"loss: expected a function or None, got {shown(loss)}. Pass loss(population, seed).")
        self._optimizer: Callable[..., torch.optim.Optimizer] = update
        given["optimizer"] = optimizer if isinstance(optimizer, str) else _name(optimizer)
        given["loss"] = None if loss is None else _name(loss)
        self._settings = Settings.of(given)
        if bool(self._settings.gradient_steps) != (loss is not None):
            got = f"{self._settings.gradient_steps} steps and {'no' if loss is None else 'a'} loss"
            raise InputError(f"gradient_steps: expected some with a loss, or none of both, got {got}. Pass both.")
        self.batch = self._settings.population
        self._state: SearchState | None = None

    def settings(self) -> dict[str, Any]:
        """All arguments but ``device``, functions by their names."""
        return self._settings.to_json()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": None}  # which workers do not need

    # ------------------------------------------------------------------ the search

    def start(self, seed: int) -> None:
        """Begin, or begin again, before the first generation."""
        self._state = SearchState(self._settings, seed)

    def propose(self, trial: int) -> dict[str, Any]:
        """A genome, with its ``generation``, its ``species`` and the trials of its ``parents``."""
        time, member = divmod(trial, self.batch)
        found = self._state
        if found is None or not (time == found.time or (time == found.time + 1 and not member)):
            raise InputError(
                f"trial: expected one of this generation or the first of the next, got {shown(trial)}. Call "
                "start(seed) first, then propose in order."
            )
        if time > found.time:
            found.advance()
        before = (time - 1) * self.batch
        return {
            "genome": found.proposed(member),
            "generation": time,
            "species": int(found.assigned[member]),
            "parents": [before + parent for parent in dict.fromkeys(found.parents[member].tolist())],
        }

    def tell(self, line: Mapping[str, Any]) -> None:
        """Learn the fitness of a genome, and its weights where it has learnt."""
        assert self._state is not None
        value = line.get("value")
        finished = line.get("status", "finished") == "finished"
        fitness = float(value) if isinstance(value, int | float) and finished else math.nan
        self._state.tell(line["trial"] % self.batch, line["genome"], fitness)

    def evaluate(
        self,
        objective: Callable[..., Any],
        lines: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        report: Report,
    ) -> list[dict[str, Any]]:
        """Train a generation if asked to, and call the objective once, with the first of the seeds.

        It is called under ``torch.no_grad()``.

        Returns:
            For each line its ``value``, or an ``error`` if it failed; with gradient steps its ``genome`` with what it
            has learnt, or where that is not inherited ``learnt``, its weights and biases.

        Raises:
            InputError: The objective or the loss returned something else than a number for each member.
        """
        genomes = [Genome.from_json(line["genome"]) for line in lines]
        graphs = [genome.graph() for genome in genomes]
        population = Population(graphs, device=self._device)
        settings, found = self._settings, genomes
        if self._loss is not None:
            train(population, self._loss, settings.gradient_steps, self._optimizer, settings.lr, seeds[0])
            found = trained(population, genomes, graphs)
        with torch.no_grad():
            result = call(objective, population=population, seed=seeds[0], report=report)
        values = per_member("objective", result, len(lines)).to("cpu", torch.float64).tolist()
        added: list[dict[str, Any]] = [
            {"value": value}
            if math.isfinite(value)
            else {"error": f"objective: expected a finite number for this member, got {value}. It counts as the worst."}
            for value in values
        ]
        if self._loss is not None:
            for line, genome in zip(added, found, strict=True):
                if settings.inheritance == "lamarckian":
                    line["genome"] = genome.to_json()
                else:
                    line["learnt"] = {"weight": genome.weight.tolist(), "bias": genome.bias.tolist()}
        return added

    def best(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """``graph`` and ``network`` of a line, with what was learnt; the latter is a `Network` or a `Recurrent`."""
        genome = Genome.from_json(line["genome"])
        if learnt := line.get("learnt"):
            genome = replace(genome, weight=np.array(learnt["weight"], float), bias=np.array(learnt["bias"], float))
        graph = genome.graph()
        return {"graph": graph, "network": Recurrent(graph) if graph.recurrent else Network(graph)}


def _name(function: Callable[..., Any]) -> str:
    """A function's name for the settings, the same in every process."""
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
