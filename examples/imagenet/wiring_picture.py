# SPDX-License-Identifier: MIT
"""A picture of a network's randomly wired stages, drawn without a window."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import nn

import freewire as fw

INK, NODE, FIRST, LAST = "#41506b", "#2f6fb5", "#3c9a5f", "#c8662c"


def draw_wiring(model: nn.Module) -> Figure | None:
    """Draw every stage from left to right, its nodes in columns by level; None if there is no such stage.

    Nodes that read the stage's input are green, those that its output is the mean of are orange. An edge is drawn as
    an arc, so that it does not run through the nodes between its ends.
    """
    stages = [(name, part.graph) for name, part in model.named_modules() if isinstance(part, fw.models.GraphStage)]
    if not stages:
        return None
    figure = Figure(figsize=(4.6 * len(stages), 4.4), layout="constrained")
    for axes, (name, graph) in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        place = _places(graph.level)
        begin, end = place[graph.edge_index[0]], place[graph.edge_index[1]]
        bend = np.linspace(0, 1, 24)[:, None, None]
        arcs = begin + (end - begin) * bend
        length = end[:, 0] - begin[:, 0]
        side = np.where(begin[:, 1] + end[:, 1] >= 0, 1, -1)  # away from the middle
        arcs[..., 1] += np.sin(np.pi * bend[..., 0]) * 0.22 * (length - 1) * side
        axes.add_collection(LineCollection(arcs.transpose(1, 0, 2), colors=INK, linewidths=0.9, alpha=0.45))
        fan_in = np.bincount(graph.edge_index[1], minlength=graph.num_nodes)
        fan_out = np.bincount(graph.edge_index[0], minlength=graph.num_nodes)
        colours = np.where(fan_in == 0, FIRST, np.where(fan_out == 0, LAST, NODE))
        axes.scatter(*place.T, s=70, c=colours, edgecolors="white", linewidths=0.8, zorder=3)
        axes.set_title(f"{name}: {graph.num_nodes} nodes, {graph.num_edges} edges", size=11)
        axes.autoscale_view()
        axes.margins(0.08)
        axes.axis("off")
    return figure


def _places(level: np.ndarray) -> np.ndarray:
    """Coordinates ``[nodes, 2]``: the level, and the place in the level, spread around 0."""
    place = np.zeros((len(level), 2))
    for number in np.unique(level):
        members = np.flatnonzero(level == number)
        place[members, 0] = number
        place[members, 1] = np.arange(len(members)) - (len(members) - 1) / 2
    return place
