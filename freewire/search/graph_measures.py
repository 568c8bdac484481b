# SPDX-License-Identifier: MIT
"""Clustering, path length and other numbers of the wirings in a log, to compare the trials' values with.

A line says them itself where it has an object ``graph``, as strategies may add it; those of a genome are computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from freewire.errors import FreewireError
from freewire.graph import Graph
from freewire.graph.metrics import clustering, path_length
from freewire.search.recorded_trials import Line, as_number, ranked

__all__ = ["graph_of", "measures"]

#: The most genomes of which the numbers are computed, which takes milliseconds each.
MOST = 500
_BEST = 10  # the best trials are among them


def measures(lines: Sequence[Line]) -> dict[int, dict[str, float]]:
    """Numbers that describe the wiring of each finished trial, by the trial's number and by name.

    Of more than `MOST` genomes only some are measured: the best, and others evenly spaced.

    Args:
        lines: Lines of the log.
    """
    found: dict[int, dict[str, float]] = {}
    with_genome: list[Line] = []
    for line in ranked(lines):
        given = line.get("graph")
        if isinstance(given, dict):
            numbers = {name: as_number(value) for name, value in given.items()}
            found[line["trial"]] = {name: number for name, number in numbers.items() if number is not None}
        elif "genome" in line:
            with_genome.append(line)
    if len(with_genome) > MOST:
        places = np.linspace(_BEST, len(with_genome) - 1, MOST - _BEST).round().astype(int).tolist()
        with_genome = [*with_genome[:_BEST], *(with_genome[place] for place in places)]
    for line in with_genome:
        graph = graph_of(line)
        if graph is not None:
            computed = {
                "nodes": graph.num_nodes,
                "edges": graph.num_edges,
                "clustering": clustering(graph),
                "path_length": path_length(graph),
            }
            found[line["trial"]] = {name: float(value) for name, value in computed.items() if math.isfinite(value)}
    return found


def graph_of(line: Line) -> Graph | None:
    """The network of a trial with a genome, with what it has learnt.

    Returns:
        The graph; None if the line has no genome, or one of another strategy.
    """
    genome: Any = line.get("genome")
    if genome is None:
        return None
    from freewire.search.neat.genome import Genome

    try:
        found = Genome.from_json(genome)
    except FreewireError:  # another strategy's, of which nothing is known here
        return None
    learnt = line.get("learnt")  # where it is not inherited
    if learnt:
        found = replace(found, weight=np.array(learnt["weight"], float), bias=np.array(learnt["bias"], float))
    return found.graph()
