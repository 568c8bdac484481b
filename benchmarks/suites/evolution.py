# SPDX-License-Identifier: MIT
"""What NEAT costs besides the objective: ``python -m benchmarks.suites.evolution``.

Prints a Markdown table, for 1,000 genomes and several sizes and rates of change: milliseconds of CPU time for the next
generation (species, parents, crossover, mutation, and the genomes as JSON), for telling the results, and for what a
worker does before it calls the objective: a `freewire.Population` of the genomes. Medians over generations with random
fitness.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import freewire as fw
from benchmarks.harness.command import header
from benchmarks.harness.machine import describe

__all__ = ["SEARCHES", "generations", "main"]

#: Arguments of `freewire.search.NEAT`.
SEARCHES: dict[str, dict[str, Any]] = {
    "3 inputs, 2 outputs": {"num_inputs": 3, "num_outputs": 2},
    "20 inputs, 10 outputs": {"num_inputs": 20, "num_outputs": 10},
    "the same, half of the children with a new node, half with a new edge": {
        "num_inputs": 20,
        "num_outputs": 10,
        "add_node": 0.5,
        "add_edge": 0.5,
    },
}


def generations(search: fw.search.NEAT, count: int) -> tuple[float, dict[str, float]]:
    """Run a search with random fitness.

    Returns:
        The mean number of edges of its last genomes, and medians of milliseconds of CPU time per generation.
    """
    draw = np.random.default_rng(0)
    search.start(0)
    times: dict[str, list[float]] = {"next": [], "told": [], "population": []}

    def timed(name: str, begin: float) -> float:
        times[name].append((time.process_time() - begin) * 1e3)
        return time.process_time()

    for first in range(0, count * search.batch, search.batch):
        begin = time.process_time()
        lines = [{"trial": trial, **search.propose(trial)} for trial in range(first, first + search.batch)]
        begin = timed("next", begin)
        population = fw.Population([fw.search.Genome.from_json(line["genome"]).graph() for line in lines])
        timed("population", begin)
        fitness = draw.normal(size=search.batch)
        begin = time.process_time()
        for line, value in zip(lines, fitness.tolist(), strict=True):
            search.tell({**line, "value": value})
        timed("told", begin)
    edges = len(population.weight) / search.batch
    return edges, {
        name: statistics.median(found[1:]) for name, found in times.items()
    }  # the first generation is drawn, not bred


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.evolution", description="Time NEAT without an objective."
    )
    parser.add_argument("--population", type=int, default=1000, help="genomes (1,000)")
    parser.add_argument("--generations", type=int, default=20, help="generations (20)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(header(describe(1)))
    print(f"\n{options.population:,} genomes, {options.generations} generations; ms of CPU time:\n")
    print("| | edges at the end | next generation | results told | a Population of it |\n|---|---|---|---|---|")
    for label, given in SEARCHES.items():
        search = fw.search.NEAT(population=options.population, **given)
        edges, found = generations(search, options.generations)
        print(f"| {label} | {edges:.0f} | {found['next']:.0f} | {found['told']:.0f} | {found['population']:.0f} |")


if __name__ == "__main__":
    main()
