# SPDX-License-Identifier: MIT
"""`Innovations`: the numbers by which NEAT recognises genes of the same origin.

As Stanley and Miikkulainen (2002, section 2.2) have it, the same change of structure gets the same numbers when it
happens several times in one generation, and new numbers in a later one: a list of this generation's innovations is
kept, not of all.
"""

from __future__ import annotations

__all__ = ["Innovations"]


class Innovations:
    """Numbers new nodes and edges.

    Args:
        next_node: The first new node's number.
        next_edge: The first new edge's innovation.
    """

    def __init__(self, next_node: int, next_edge: int) -> None:
        self._next_node, self._next_edge = next_node, next_edge
        self._edges: dict[tuple[int, int], int] = {}
        self._splits: dict[int, int] = {}

    def next_generation(self) -> None:
        """Forget which innovations there were, but not how many."""
        self._edges.clear()
        self._splits.clear()

    def edge(self, source: int, target: int) -> int:
        """The innovation of a new edge between two nodes."""
        number = self._edges.setdefault((source, target), self._next_edge)
        self._next_edge += number == self._next_edge
        return number

    def split(self, innovation: int) -> int:
        """The number of the node that divides the edge of an innovation in two."""
        number = self._splits.setdefault(innovation, self._next_node)
        self._next_node += number == self._next_node
        return number
