# SPDX-License-Identifier: MIT
"""The pictures of the digits example: a trained network reading a digit, and training curves, as PNG files.

Figures are drawn without matplotlib's global state and without a window, so this runs where there is no screen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, PercentFormatter
from torch import Tensor

import freewire as fw

if TYPE_CHECKING:
    from digits import History

NIGHT, PALE, GREY = "#0d1420", "#dfe6f0", "#8d9bb0"
NEGATIVE, POSITIVE = "#45a9ff", "#ff9146"
INK = LinearSegmentedColormap.from_list("ink", ["#1b2639", "#ffffff"])
WIDTH, HEIGHT = 13.6, 7.6  # of the picture of the wiring, in inches; its coordinates are inches too
PIXEL_EDGES = 5  # of each neuron's edges from pixels only the strongest are drawn; all would hide the rest


def draw_wiring(net: fw.Network, image: Tensor, path: Path) -> None:
    """Draw a network of 8x8 inputs and 10 outputs while it reads one digit.

    Args:
        net: The trained network.
        image: The digit, float ``[64]``. It fills the pixels, and the brightness of every node is its value.
        path: The PNG file to write.
    """
    graph = net.graph
    inputs, outputs = graph.input_index, graph.output_index
    hidden = np.setdiff1d(graph.computed_index, outputs)
    with torch.no_grad():
        value = torch.stack(list(net.activations(image).values())).numpy()
    position = _positions(graph, inputs, hidden, outputs)

    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor=NIGHT)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    _draw_edges(axes, net, position, inputs, outputs)

    left, bottom = position[inputs].min(axis=0) - 0.13
    axes.add_patch(
        Rectangle((left, bottom), 8 * 0.26, 8 * 0.26, color=NIGHT, zorder=2.5)
    )  # covers the ends of the edges
    x, y = position.T
    axes.scatter(x[inputs], y[inputs], s=250, marker="s", c=value[inputs], cmap=INK, vmin=0, vmax=1, lw=0, zorder=3)
    shine = np.clip(np.abs(value[hidden]) / np.quantile(np.abs(value[hidden]), 0.95), 0, 1)
    axes.scatter(x[hidden], y[hidden], s=16 + 40 * shine, c=shine, cmap=INK, edgecolors=PALE, lw=0.5, zorder=3)
    chance = torch.softmax(torch.from_numpy(value[outputs]), 0).numpy()
    axes.scatter(x[outputs], y[outputs], s=430, c=chance, cmap=INK, vmin=0, vmax=1, edgecolors=PALE, lw=0.8, zorder=3)
    for digit, node in enumerate(outputs):
        colour = NIGHT if chance[digit] > 0.5 else PALE
        axes.text(x[node], y[node], str(digit), color=colour, size=12, weight="bold", ha="center", va="center_baseline")

    levels = graph.depth - 1
    axes.text(0.3, HEIGHT - 0.52, "A freely wired network reads a digit", color=PALE, size=19, weight="bold")
    meaning = (
        f"no layers: a neuron may read any earlier one, so its {len(hidden)} neurons have {levels} different depths"
    )
    axes.text(0.3, HEIGHT - 0.88, meaning, color=GREY, size=13)
    axes.text(x[inputs].mean(), 2.1, f"{len(inputs)} pixels", color=GREY, size=12, ha="center")
    for at, colour, name in ((0.35, POSITIVE, "positive weight"), (2.45, NEGATIVE, "negative weight")):
        axes.plot((at, at + 0.35), (0.4, 0.4), color=colour, lw=2)
        axes.text(at + 0.47, 0.4, name, color=GREY, size=11, va="center_baseline")
    axes.scatter(4.75, 0.4, s=56, color="white")
    axes.text(4.92, 0.4, "neuron with a large value", color=GREY, size=11, va="center_baseline")
    note = f"each neuron's {PIXEL_EDGES} strongest edges from the pixels are shown"
    axes.text(7.3, 0.4, note, color=GREY, size=11, va="center_baseline")
    figure.savefig(path, dpi=100, facecolor=NIGHT, pil_kwargs={"optimize": True})


def _draw_edges(axes: Any, net: fw.Network, position: Any, inputs: Any, outputs: Any) -> None:
    """Draw the edges, weakest first; colour shows the weight's sign, opacity and width its magnitude."""
    src, dst = net.graph.edge_index
    weight = net.weight.detach().double().numpy()
    largest = np.zeros(net.graph.num_nodes)
    np.maximum.at(largest, dst, np.abs(weight))
    strength = np.abs(weight) / largest[dst]  # relative to the strongest edge into the same neuron

    to_output, from_pixel = np.isin(dst, outputs), np.isin(src, inputs)
    readers = np.unique(dst[from_pixel]).size
    per_neuron = np.flatnonzero(from_pixel).reshape(readers, -1)  # the edges into one node are consecutive
    strongest = np.argsort(-strength[per_neuron], axis=1)[:, :PIXEL_EDGES]
    for edges, width, opacity in (
        (np.take_along_axis(per_neuron, strongest, axis=1).ravel(), 0.5, 0.16),
        (np.flatnonzero(to_output), 0.8, 0.5),
        (np.flatnonzero(~from_pixel & ~to_output), 1.5, 0.85),
    ):
        edges = edges[np.argsort(strength[edges])]
        colour = np.where(weight[edges, None] < 0, to_rgb(NEGATIVE), to_rgb(POSITIVE))
        emphasis = strength[edges] ** 1.5
        axes.add_collection(
            LineCollection(
                _curves(position[src[edges]], position[dst[edges]]),
                colors=np.column_stack((colour, opacity * (0.2 + 0.8 * emphasis))),
                linewidths=width * (0.3 + 0.7 * emphasis),
                capstyle="round",
            )
        )


def _curves(start: Any, end: Any) -> Any:
    """Smooth curves with horizontal ends, float ``[edges, 24, 2]``."""
    t = np.linspace(0, 1, 24)
    path = np.stack((t, t * t * (3 - 2 * t)), axis=-1)
    return start[:, None] + (end - start)[:, None] * path


def _positions(graph: fw.Graph, inputs: Any, hidden: Any, outputs: Any) -> Any:
    """The position of each node, float ``[N, 2]``: pixels in a grid, neurons by level, outputs in a column."""
    centre = 3.55
    position = np.zeros((graph.num_nodes, 2))
    row, column = np.divmod(np.arange(len(inputs)), 8)
    position[inputs] = np.column_stack((0.42 + 0.26 * column, centre + 0.26 * (3.5 - row)))
    position[outputs] = np.column_stack((np.full(10, WIDTH - 0.5), centre + 0.6 * (4.5 - np.arange(10))))

    level = graph.level[hidden]
    position[hidden, 0] = 3.1 + (WIDTH - 4.6) * (level - 1) / max(level.max() - 1, 1)
    src, dst = graph.edge_index
    inner = np.isin(src, hidden) & np.isin(dst, hidden)
    src, dst = src[inner], dst[inner]
    degree = np.maximum(np.bincount(src, minlength=len(position)) + np.bincount(dst, minlength=len(position)), 1)
    position[hidden, 1] = centre + np.random.default_rng(0).uniform(-1, 1, len(hidden))
    for _ in range(30):  # move each neuron within its level towards the mean of its neighbours
        pull = np.zeros(len(position))
        np.add.at(pull, src, position[dst, 1])
        np.add.at(pull, dst, position[src, 1])
        for each in np.unique(level):
            nodes = hidden[level == each]
            nodes = nodes[np.argsort((pull / degree)[nodes], kind="stable")]
            gap = min(0.42, 5.8 / len(nodes))
            position[nodes, 1] = centre + gap * (np.arange(len(nodes)) - (len(nodes) - 1) / 2)
    return position


def draw_curves(histories: dict[str, History], path: Path) -> None:
    """Draw the loss and the test accuracy of several models over the epochs."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, history), colour in zip(histories.items(), ("#e4572e", "#2e86ab", "#7a8b99"), strict=True):
        epoch = np.arange(1, len(history.loss) + 1)
        left.plot(epoch, history.loss, color=colour, label=name)
        right.plot(epoch, history.accuracy, color=colour, label=name)
    worst = min(history.accuracy[-1] for history in histories.values())
    left.set(xlabel="epoch", ylabel="training loss (cross-entropy, smoothed labels)", yscale="log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    left.yaxis.set_major_formatter(FormatStrFormatter("%.1f"))
    left.minorticks_off()
    right.set(xlabel="epoch", ylabel="test accuracy", ylim=(max(worst - 0.1, 0), 1.005))
    right.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)
