# SPDX-License-Identifier: MIT
"""`Generation`: the genomes of a generation in flat arrays, one genome after another, for work on all genes at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire.graph.arguments import CodeArray, FloatArray, IntArray
from freewire.search.neat.genome import EDGE_GENES, NODE_GENES, Genome

__all__ = ["Generation"]


class Generation:
    """Genomes of one search, as a sequence; ``generation[i]`` is a `Genome` of views.

    Attributes:
        shape: Number of inputs, number of outputs, and whether the genomes are recurrent.
        node_start: Where each genome's nodes begin, and where the last one's end, int64 ``[P + 1]``.
        edge_start: The same of edges.
    """

    node: IntArray
    bias: FloatArray
    activation: CodeArray
    aggregation: CodeArray
    innovation: IntArray
    source: IntArray
    target: IntArray
    weight: FloatArray
    enabled: NDArray[np.bool_]

    def __init__(
        self, shape: tuple[int, int, bool], node_start: IntArray, edge_start: IntArray, genes: dict[str, NDArray[Any]]
    ) -> None:
        self.shape, self.node_start, self.edge_start = shape, node_start, edge_start
        self.__dict__.update(genes)

    @classmethod
    def join(cls, genomes: Sequence[Genome]) -> Generation:
        """Copy at least one genome after another."""
        first = genomes[0]
        genes = {name: np.concatenate([getattr(g, name) for g in genomes]) for name in (*NODE_GENES, *EDGE_GENES)}
        node_start, edge_start = (
            np.cumsum([0, *(len(getattr(g, name)) for g in genomes)], dtype=np.int64) for name in ("node", "innovation")
        )
        return cls((first.num_inputs, first.num_outputs, first.recurrent), node_start, edge_start, genes)

    def __len__(self) -> int:
        return len(self.node_start) - 1

    def __getitem__(self, index: int) -> Genome:
        node = slice(*self.node_start[index : index + 2].tolist())
        edge = slice(*self.edge_start[index : index + 2].tolist())
        genes = {name: getattr(self, name)[node] for name in NODE_GENES}
        genes |= {name: getattr(self, name)[edge] for name in EDGE_GENES}
        return Genome(*self.shape, **genes)

    def take(self, index: IntArray) -> Generation:
        """Copy these genomes, of which some may be repeated."""
        node_start, nodes = segments(self.node_start, index)
        edge_start, edges = segments(self.edge_start, index)
        genes = {name: getattr(self, name)[nodes] for name in NODE_GENES}
        genes |= {name: getattr(self, name)[edges] for name in EDGE_GENES}
        return Generation(self.shape, node_start, edge_start, genes)

    # ------------------------------------------------------------------ which genome a gene is of

    @cached_property
    def num_nodes(self) -> IntArray:
        """Computed nodes of each genome, int64 ``[P]``."""
        return np.diff(self.node_start)

    @cached_property
    def num_edges(self) -> IntArray:
        """Edges of each genome, disabled ones too, int64 ``[P]``."""
        return np.diff(self.edge_start)

    @cached_property
    def member_of_node(self) -> IntArray:
        """The genome of each node, int64."""
        return np.repeat(np.arange(len(self)), self.num_nodes)

    @cached_property
    def member_of_edge(self) -> IntArray:
        """The genome of each edge, int64."""
        return np.repeat(np.arange(len(self)), self.num_edges)

    def match_nodes(self, other: Generation, partner: IntArray) -> IntArray:
        """Where in ``other`` the same node of each genome's partner there is, int64; -1 where it has none.

        Args:
            other: Another generation.
            partner: Index of each genome's partner in ``other``, int64 ``[P]``.
        """
        return _match(self.node, partner[self.member_of_node], other.node, other.member_of_node)

    def match_edges(self, other: Generation, partner: IntArray) -> IntArray:
        """As `match_nodes`, for edges of the same innovation."""
        return _match(self.innovation, partner[self.member_of_edge], other.innovation, other.member_of_edge)


def segments(start: IntArray, index: IntArray) -> tuple[IntArray, IntArray]:
    """Of segments ``start[i]`` to ``start[i + 1]``, those of ``index`` one after another.

    Returns:
        Where each begins in the result, and where the last ends; and where each entry is now.
    """
    length = start[index + 1] - start[index]
    begin = np.concatenate(([0], np.cumsum(length)))
    return begin, np.repeat(start[index] - begin[:-1], length) + np.arange(begin[-1])


def _match(number: IntArray, member: IntArray, numbers: IntArray, members: IntArray) -> IntArray:
    """Where (member, number) is among (members, numbers), which are sorted; -1 if it is not there."""
    if not len(numbers) or not len(number):
        return np.full(len(number), -1, np.int64)
    span = int(max(number.max(), numbers.max())) + 1
    keys, wanted = members * span + numbers, member * span + number
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)
