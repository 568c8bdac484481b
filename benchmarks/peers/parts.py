# SPDX-License-Identifier: MIT
"""The connected components of a `Layout`, for peers that run one small network each.

A union of networks (workload W5) is split into its members, which is how a library of populations stores them.
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from benchmarks.peers.layout import IntArray, Layout

__all__ = ["Part", "parts_of"]


@dataclass(frozen=True)
class Part:
    """A connected component: I inputs, N nodes in all, M edges, O outputs.

    Its nodes are numbered from 0, inputs first.
    """

    #: Rows of the layout: inputs ``[I]`` and the others ``[N - I]``, in ascending order, so that sources come first.
    inputs: IntArray
    computed: IntArray
    #: Edges of the layout ``[M]``, and the component's node at either end of each.
    edge: IntArray
    src: IntArray
    dst: IntArray
    #: Places among the layout's outputs ``[O]``, and the component's node of each.
    output_place: IntArray
    output: IntArray
    #: Number of edges on the longest path.
    depth: int


def parts_of(layout: Layout) -> list[Part]:
    """The connected components, ordered by their first row; inputs that no node reads are in none of them."""
    graph = nx.Graph()
    graph.add_nodes_from(range(layout.num_inputs, layout.num_rows))
    graph.add_edges_from(zip(layout.src.tolist(), layout.dst.tolist(), strict=True))
    member = np.full(layout.num_rows, -1)
    own = np.zeros(layout.num_rows, np.int64)
    groups: list[IntArray] = []
    for rows in sorted((sorted(group) for group in nx.connected_components(graph)), key=lambda rows: rows[0]):
        group = np.array(rows)
        member[group], own[group] = len(groups), np.arange(len(group))
        groups.append(group)
    level = np.zeros(layout.num_rows, np.int64)
    for depth, stretch in enumerate(layout.levels, 1):
        level[stretch.begin : stretch.end] = depth
    edges = _grouped(member[layout.dst], len(groups))
    outputs = _grouped(member[layout.outputs], len(groups))
    return [
        Part(
            group[group < layout.num_inputs],
            group[group >= layout.num_inputs],
            edge,
            own[layout.src[edge]],
            own[layout.dst[edge]],
            place,
            own[layout.outputs[place]],
            int(level[group].max()),
        )
        for group, edge, place in zip(groups, edges, outputs, strict=True)
    ]


def _grouped(group: IntArray, count: int) -> list[IntArray]:
    """For each of ``count`` groups the indices of its entries."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.searchsorted(group[order], np.arange(1, count)))
