# SPDX-License-Identifier: MIT
"""What a worker does with a generation: build one `freewire.Population`, train it if asked to, call the objective.

Nothing here depends on the search's state, so it runs in other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import FloatArray
from freewire.nn import Population
from freewire.search.neat.genome import Genome
from freewire.search.strategy import call

__all__ = ["OPTIMIZERS", "per_member", "train", "trained"]

#: By name; each updates every number by its own gradient alone, so members do not influence one another.
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def per_member(name: str, found: Any, members: int) -> Tensor:
    """What a caller's function returned, as a tensor of one number for each member.

    Raises:
        InputError: It is something else, or of another shape.
    """
    try:
        values = torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError):
        values = None
    if values is None or list(values.shape) != [members] or values.is_complex() or values.dtype == torch.bool:
        got = f"shape {list(values.shape)}" if values is not None and values.shape != (members,) else shown(found)
        raise InputError(
            f"{name}: expected a tensor of shape [{members}], one number for each member, got {got}. Return one such, "
            "for example with .mean(dim=(1, 2)) of results [members, samples, outputs]."
        )
    return values


def train(
    population: Population,
    loss: Callable[..., Any],
    steps: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    lr: float,
    seed: int,
) -> None:
    """Take gradient steps on the weights and biases of all members at once.

    The loss of a member depends on its own parameters only, so the gradient of the sum is each one's own.
    """
    update = optimizer(population.parameters(), lr=lr)
    for step in range(steps):
        losses = per_member("loss", call(loss, population=population, seed=seed, step=step), len(population))
        if not losses.requires_grad:
            raise InputError(
                "loss: expected a tensor that depends on the population's parameters, got one without a gradient. "
                "Compute it from population(x), outside of torch.no_grad()."
            )
        update.zero_grad()
        losses.sum().backward()
        update.step()


def trained(population: Population, genomes: Sequence[Genome], graphs: Sequence[Graph]) -> list[Genome]:
    """The genomes with the population's weights and biases; those where one is not finite as they were."""
    assert population.bias is not None
    weight, bias = _numbers(population.weight), _numbers(population.bias)
    found = []
    for i, (genome, graph) in enumerate(zip(genomes, graphs, strict=True)):
        learnt = genome.weight.copy()
        learnt[genome.enabled] = weight[population.weight_slice(i)][graph.edge_position]
        biases = bias[population.bias_slice(i)]
        sound = np.isfinite(learnt).all() and np.isfinite(biases).all()
        found.append(replace(genome, weight=learnt, bias=biases) if sound else genome)
    return found


def _numbers(values: Tensor) -> FloatArray:
    return values.detach().to("cpu", torch.float64).numpy()
