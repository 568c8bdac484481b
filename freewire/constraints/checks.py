# SPDX-License-Identifier: MIT
"""Whether the constraints of a graph fit each other and the stored weights, and what follows from them; numpy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from freewire.errors import GraphError, shown
from freewire.graph import Graph
from freewire.graph.arguments import FloatArray, IntArray

__all__ = ["Groups", "check_constraints", "edge_text"]


class Groups(NamedTuple):
    """Groups of tied edges.

    Attributes:
        numbers: The groups' numbers, ascending, int64 ``[G]``.
        of_edge: Index of each edge's group among them, -1 for none, int64 ``[E]``.
        base: What the group's scale is multiplied by, float64 ``[E]``: the stored weight, or 1. Where all stored
            weights of a group are 0 it is 1, so that the group can still learn. 1 where an edge is in no group.
        lead: The edge of each group that its first scale is computed from, int64 ``[G]``.
    """

    numbers: IntArray
    of_edge: IntArray
    base: FloatArray
    lead: IntArray


def check_constraints(graph: Graph) -> tuple[Groups | None, NDArray[np.int8] | None]:
    """The groups of a graph and the sign of each edge; None where it has none.

    In a group with signs, every edge gets the sign that the group's scale implies for it, also those that have none of
    their own.

    Raises:
        GraphError: A stored weight of the other sign; a group whose edges are frozen in part, whose signs do not fit
            one scale, or with an infinite stored weight.
    """
    weight, sign = graph.weight, graph.sign
    if weight is not None and sign is not None and (wrong := np.flatnonzero(np.sign(weight) * sign < 0)).size:
        first = int(wrong[0])
        raise GraphError(
            f"sign: expected that of the stored weight, got {sign[first]:+d} for the weight {weight[first]:g} of "
            f"{edge_text(graph, first)}. Correct one of them, or set the sign to 0."
        )
    if graph.group is None:
        return None, sign
    groups = _groups(graph, graph.group)
    _check_frozen(graph, groups)
    return groups, None if sign is None else _signs(graph, groups, sign)


def edge_text(graph: Graph, edge: int) -> str:
    """An edge for an error: its number and its nodes."""
    u, v = (shown(graph.nodes[end]) for end in graph.edge_index[:, edge].tolist())
    return f"edge {edge} ({u} -> {v})"


def _groups(graph: Graph, group: IntArray) -> Groups:
    tied = np.flatnonzero(group >= 0)
    given = group[tied]
    if int(given.max()) < 8 * len(group):  # no sorting
        seen = np.zeros(int(given.max()) + 1, np.bool_)
        seen[given] = True
        numbers = np.flatnonzero(seen)
        found = (np.cumsum(seen) - 1)[given]
    else:
        numbers, found = np.unique(given, return_inverse=True)
    of_edge = np.full(len(group), -1)
    of_edge[tied] = found
    base = np.ones(len(group))
    # Assigned in turn, from the edge that counts least: the last edges first, then those of weight 1, then stored ones.
    lead = np.empty(len(numbers), np.int64)
    lead[found[::-1]] = tied[::-1]
    if graph.weight is not None:
        stored = graph.weight[tied]
        if len(infinite := tied[np.isinf(stored)]):
            first = int(infinite[0])
            raise GraphError(
                f"weight: expected finite numbers in groups, got {graph.weight[first]} at {edge_text(graph, first)}. "
                "Correct it, or take the edge out of its group (-1)."
            )
        values = np.where(np.isnan(stored), 1.0, stored)
        alive = np.zeros(len(numbers), np.bool_)
        alive[found[values != 0]] = True
        values[~alive[found]] = 1.0
        base[tied] = values
        for first_of in (values != 0, (values != 0) & (stored == values)):
            lead[found[first_of][::-1]] = tied[first_of][::-1]
    return Groups(numbers, of_edge, base, lead)


def _check_frozen(graph: Graph, groups: Groups) -> None:
    if graph.frozen is None:
        return
    tied = groups.of_edge >= 0
    some, all_of = np.zeros(len(groups.numbers), np.bool_), np.ones(len(groups.numbers), np.bool_)
    some[groups.of_edge[tied & graph.frozen]] = True
    all_of[groups.of_edge[tied & ~graph.frozen]] = False
    if (mixed := np.flatnonzero(some & ~all_of)).size:
        edge = int(np.flatnonzero((groups.of_edge == mixed[0]) & graph.frozen)[0])
        raise GraphError(
            f"frozen: expected all edges of group {groups.numbers[mixed[0]]} or none, got {edge_text(graph, edge)} "
            "and not all. A group moves as one: freeze all of it, or take frozen edges out of it (-1)."
        )


def _signs(graph: Graph, groups: Groups, sign: NDArray[np.int8]) -> NDArray[np.int8]:
    tied = np.flatnonzero(groups.of_edge >= 0)
    of_edge, direction = groups.of_edge[tied], np.sign(groups.base[tied]).astype(np.int8)
    of_scale = sign[tied] * direction  # the sign that each edge asks of its group's scale
    up, down = np.zeros(len(groups.numbers), np.int8), np.zeros(len(groups.numbers), np.int8)
    up[of_edge[of_scale > 0]] = 1
    down[of_edge[of_scale < 0]] = 1
    if (mixed := np.flatnonzero(up & down)).size:
        here = of_edge == mixed[0]
        one, other = (int(tied[here & (of_scale == asked)][0]) for asked in (1, -1))
        raise GraphError(
            f"sign: expected signs that one scale of group {groups.numbers[mixed[0]]} can keep, got {sign[one]:+d} at "
            f"{edge_text(graph, one)} and {sign[other]:+d} at {edge_text(graph, other)}, whose bases are "
            f"{groups.base[one]:g} and {groups.base[other]:g}. Give the bases these signs, or divide the group."
        )
    signs = sign.copy()
    signs[tied] = np.where(direction == 0, signs[tied], (up - down)[of_edge] * direction)
    return signs
