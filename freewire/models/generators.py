# SPDX-License-Identifier: MIT
"""Random wirings for stages: `ER`, `BA` and `WS` as callables of a number of nodes and a seed.

`draw_dags` turns what a `RandWire` accepts as its generator into one DAG per stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import networkx as nx

from freewire.errors import InputError
from freewire.generators.dags import barabasi_albert_dag, erdos_renyi_dag, watts_strogatz_dag
from freewire.generators.draws import Draws
from freewire.graph.arguments import check_ordered

__all__ = ["BA", "ER", "WS", "Generator", "draw_dags"]

#: (number of nodes, seed) -> DAG
Generator = Callable[[int, int], nx.DiGraph]


@dataclass(frozen=True)
class ER:
    """Erdos-Renyi graphs: ``ER(p)(n, seed)`` is ``fw.generators.erdos_renyi_dag(n, p, seed)``."""

    p: float = 0.2

    def __call__(self, n: int, seed: int) -> nx.DiGraph:
        """Draw a graph."""
        return erdos_renyi_dag(n, self.p, seed)


@dataclass(frozen=True)
class BA:
    """Barabasi-Albert graphs: ``BA(m)(n, seed)`` is ``fw.generators.barabasi_albert_dag(n, m, seed)``."""

    m: int = 5

    def __call__(self, n: int, seed: int) -> nx.DiGraph:
        """Draw a graph."""
        return barabasi_albert_dag(n, self.m, seed)


@dataclass(frozen=True)
class WS:
    """Watts-Strogatz graphs: ``WS(k, p)(n, seed)`` is ``fw.generators.watts_strogatz_dag(n, k, p, seed)``."""

    k: int = 4
    p: float = 0.75

    def __call__(self, n: int, seed: int) -> nx.DiGraph:
        """Draw a graph."""
        return watts_strogatz_dag(n, self.k, self.p, seed)


def draw_dags(
    generator: Generator | nx.DiGraph | Sequence[nx.DiGraph], sizes: Sequence[int], seed: int
) -> Sequence[nx.DiGraph]:
    """One DAG per stage.

    Args:
        generator: A callable, which draws a graph per stage; or a DAG for all stages; or a DAG for each.
        sizes: Number of nodes of each stage, for a callable.
        seed: Seed of the draws.

    Raises:
        InputError: A generator's class instead of an instance, or another number of DAGs than of stages.
    """
    if isinstance(generator, nx.Graph):
        return [generator] * len(sizes)
    if isinstance(generator, type):
        raise InputError(
            f"generator: expected {generator.__name__}(...), got the class. Give its parameters, or () for the paper's."
        )
    if callable(generator):
        draws = Draws(seed)
        return [generator(size, draws.one_below(2**32)) for size in sizes]
    check_ordered(generator, "generator", InputError)
    if not isinstance(generator, Iterable):
        raise InputError(
            f"generator: expected a callable, a DAG or a list of DAGs, got {type(generator).__name__}. Pass "
            "WS(4, 0.75), for instance."
        )
    dags = list(generator)
    if len(dags) != len(sizes):
        raise InputError(
            f"generator: expected {len(sizes)} DAGs, one per stage, got {len(dags)}. Pass one for each, or a single "
            "one for all."
        )
    return dags
