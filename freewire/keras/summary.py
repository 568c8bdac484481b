# SPDX-License-Identifier: MIT
"""The text of `Model.summary`: what each level of a graph is made of."""

from __future__ import annotations

import numpy as np

from freewire.graph import Graph
from freewire.graph.fields import ACTIVATIONS

__all__ = ["describe"]

#: The most levels that are shown; the middle ones of more are omitted, and the text says so.
_LEVELS = 24


def describe(graph: Graph, num_parameters: int, num_softmax: int) -> str:
    """A table of levels: nodes, activations, in-edges, parameters (in-edges and biases).

    Args:
        graph: The wiring.
        num_parameters: Weights and biases of the whole Model.
        num_softmax: How many of its outputs are softmax, which the graph does not know.
    """
    fan_in = np.bincount(graph.edge_index[1], minlength=graph.num_nodes)
    is_input = np.zeros(graph.num_nodes, np.bool_)
    is_input[graph.input_index] = True
    rows = [("level", "nodes", "activations", "in-edges", "parameters")]
    shown_levels = list(range(graph.depth + 1))
    if len(shown_levels) > _LEVELS:
        shown_levels = shown_levels[: _LEVELS // 2] + shown_levels[-_LEVELS // 2 :]
    for level in shown_levels:
        here = graph.level == level
        computed = here & ~is_input
        counts = np.bincount(graph.activation[computed], minlength=len(ACTIVATIONS))
        names = [f"{ACTIVATIONS[c]} {counts[c]:,}" for c in np.flatnonzero(counts)]
        if inputs := int((here & is_input).sum()):
            names.insert(0, f"input {inputs:,}")
        edges = int(fan_in[here].sum())
        rows.append((str(level), f"{here.sum():,}", ", ".join(names), f"{edges:,}", f"{edges + computed.sum():,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(f"{cell:{'<' if i == 2 else '>'}{widths[i]}}" for i, cell in enumerate(row)) for row in rows]
    if graph.depth + 1 > _LEVELS:
        lines.insert(1 + _LEVELS // 2, f"... ({graph.depth + 1 - _LEVELS} more levels)")
    if num_softmax:
        lines.append(f"softmax over {num_softmax:,} outputs")
    num_biases = len(graph.computed_index)
    lines.append(f"{num_parameters:,} parameters: {num_parameters - num_biases:,} weights, {num_biases:,} biases")
    return "\n".join(line.rstrip() for line in lines)
