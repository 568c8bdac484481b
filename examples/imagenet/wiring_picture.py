# SPDX-License-Identifier: MIT
"""A picture of a network's randomly wired stages, drawn without a window."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import nn

import freewire as fw


def draw_wiring(model: nn.Module) -> Figure | None:
    """Draw every stage from left to right, its nodes in columns by level; None if there is no such stage.

    Nodes that read the stage's input are squares, those that its output is the mean of are diamonds.
    """
    stages = [(name, part.graph) for name, part in model.named_modules() if isinstance(part, fw.models.GraphStage)]
    if not stages:
        return None
    figure = Figure(figsize=(5 * len(stages), 4.4), layout="constrained")
    for axes, (name, graph) in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        fw.plot(graph, ax=axes).set_title(name, size=11)
    return figure
