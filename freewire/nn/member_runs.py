# SPDX-License-Identifier: MIT
"""Where the parameters of a population's members are, before and after some of them are replaced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from freewire.graph import Graph
from freewire.nn.optimizer_state import Piece

__all__ = ["Run", "ends", "ends_of", "pieces", "runs"]

IntArray = NDArray[np.int64]
#: Consecutive members: whether they are new, the first, and one past the last.
Run = tuple[bool, int, int]


def ends(counts: Iterable[int]) -> IntArray:
    """Where parts of these lengths begin and end, one after the other."""
    return np.concatenate(([0], np.cumsum(np.asarray(counts, np.int64))))


def ends_of(graphs: Sequence[Graph]) -> tuple[IntArray, IntArray]:
    """Where the edges and the computed nodes of graphs begin and end."""
    return ends([graph.num_edges for graph in graphs]), ends([graph.num_computed for graph in graphs])


def runs(order: Iterable[int], new: Iterable[int]) -> list[Run]:
    """The members after some were replaced.

    Args:
        order: The members in order, by their numbers before, those to append by the numbers after these.
        new: Which of them are new, ascending; runs of new members count within this list.
    """
    where = {i: k for k, i in enumerate(new)}
    found: list[Run] = []
    for i in order:
        k = where.get(i)
        is_new, number = (False, i) if k is None else (True, k)
        if found and found[-1][0] == is_new and found[-1][2] == number:
            found[-1] = (is_new, found[-1][1], number + 1)
        else:
            found.append((is_new, number, number + 1))
    return found


def pieces(members: Iterable[Run], old_ends: IntArray, new_ends: IntArray) -> list[Piece]:
    """What a parameter is made of, from runs of members and where the elements of old and new ones end."""
    old, new = old_ends.tolist(), new_ends.tolist()
    found: list[Piece] = []
    for is_new, first, last in members:
        where = new if is_new else old
        found.append((is_new, slice(where[first], where[last])))
    return found
