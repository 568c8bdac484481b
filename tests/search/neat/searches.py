# SPDX-License-Identifier: MIT
"""Searches by NEAT in tests: running generations as a runner would, and what is true of every genome."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import freewire as fw
from freewire.search.neat.genome import Genome

X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])


def xor_error(population: fw.Population) -> torch.Tensor:
    """Mean squared error of each member."""
    return (population(X) - Y).square().mean(dim=(1, 2))


def xor_fitness(population: fw.Population) -> torch.Tensor:
    """The negative error."""
    return -xor_error(population)


def no_report(step: int, value: float) -> None:
    """A report that nobody reads."""


def propose(search: fw.search.NEAT, time: int) -> list[dict[str, Any]]:
    """The lines of a generation, as a log holds them."""
    first = time * search.batch
    return [json.loads(json.dumps({"trial": n, **search.propose(n)})) for n in range(first, first + search.batch)]


def finished(search: fw.search.NEAT, objective: Callable[..., Any], lines: Sequence[dict[str, Any]]) -> list[Any]:
    """The lines after a worker has run them."""
    done = []
    for line, added in zip(lines, search.evaluate(objective, lines, [7] * len(lines), no_report), strict=True):
        status = "failed" if "error" in added else "finished"
        done.append(json.loads(json.dumps({**line, "value": None, "status": status, **added})))
    return done


def run(
    search: fw.search.NEAT, objective: Callable[..., Any], generations: int, until: float = np.inf
) -> list[dict[str, Any]]:
    """All lines of some generations of a search that has begun."""
    log: list[dict[str, Any]] = []
    for time in range(generations):
        lines = finished(search, objective, propose(search, time))
        log += lines
        for line in lines:
            search.tell(line)
        if any(line["value"] is not None and line["value"] >= until for line in lines):
            break
    return log


def best(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The line of the highest value."""
    return max(lines, key=lambda line: -np.inf if line["value"] is None else line["value"])


def genomes_of(lines: Sequence[dict[str, Any]]) -> list[Genome]:
    """The genomes of a log's lines."""
    return [Genome.from_json(line["genome"]) for line in lines]


def check_genome(genome: Genome, origins: dict[int, tuple[int, int]] | None = None) -> None:
    """Assert what is true of every genome.

    Args:
        genome: The genome.
        origins: The ends of the edge of each innovation, of a whole search; added to.
    """
    outputs = genome.num_outputs
    assert genome.node[:outputs].tolist() == list(range(outputs))
    assert (np.diff(genome.node) > 0).all()
    assert (np.diff(genome.innovation) > 0).all()
    assert np.isfinite(genome.weight).all()
    assert np.isfinite(genome.bias).all()
    ends = list(zip(genome.source.tolist(), genome.target.tolist(), strict=True))
    assert len(set(ends)) == len(ends)
    nodes = set(genome.node.tolist())
    assert {target for _, target in ends} <= nodes
    assert {source for source, _ in ends} <= nodes | set(range(-genome.num_inputs, 0))
    if not genome.recurrent:  # disabled edges close no cycle either, and no output feeds others
        assert not any(0 <= source < outputs for source, _ in ends)
        index = {node: i for i, node in enumerate([*range(-1, -genome.num_inputs - 1, -1), *genome.node.tolist()])}
        fw.Graph.from_edges(
            [index[source] for source, _ in ends],
            [index[target] for _, target in ends],
            num_nodes=len(index),
            inputs=range(genome.num_inputs),
            outputs=range(genome.num_inputs, genome.num_inputs + outputs),
        )
    if origins is not None:
        for innovation, end in zip(genome.innovation.tolist(), ends, strict=True):
            assert origins.setdefault(innovation, end) == end
