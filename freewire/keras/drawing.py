# SPDX-License-Identifier: MIT
"""`visualize`: a graph of Nodes as a picture in the folder ``renders``, as the 2019 library drew it.

The drawing is `freewire.pictures.plot`; here is which numbers it shows, and where the file goes.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from freewire.errors import GraphError, InputError, cut, shown
from freewire.files import replacing
from freewire.graph import Graph
from freewire.keras.data import read_sample
from freewire.keras.losses import Outputs
from freewire.nn import Network
from freewire.pictures import plot

__all__ = ["visualize"]

FOLDER = "renders"


def visualize(g: Graph, title: str = "Graph", inputs: Any = None) -> Path:
    """Draw a graph with its weights and biases into ``renders/<title>.png``, in the current folder.

    The numbers are those that the Nodes and Edges show: of the Model that wrote to the graph last, and before there is
    one the start values that were set. See `freewire.plot` for the colours; it also draws into a figure of your own.

    Args:
        g: A graph, of Nodes or not.
        title: Name of the file and heading of the picture. An existing picture of that name is replaced.
        inputs: One sample, a number per input. The Nodes are then coloured by their values for it, in place of their
            biases.

    Returns:
        The path of the picture, which is printed too.

    Raises:
        GraphError: ``g`` is no Graph.
        InputError: ``title`` is no file name, or ``inputs`` are not one sample, or the graph has no weights yet.
        BuildError: matplotlib is not installed.
        OSError: The folder cannot be made, or the file cannot be written.

    Example:
        >>> import freewire as fw, os, tempfile
        >>> before = os.getcwd()
        >>> os.chdir(tempfile.mkdtemp())
        >>> g = fw.neuron_level_densenet(2, 3, 1, "relu")
        >>> m = fw.Model(g)
        >>> path = fw.visualize(g, title="densenet")
        Saved the picture of the graph: renders/densenet.png
        >>> os.chdir(before)
    """
    if not isinstance(g, Graph):
        remedy = "Pass model.graph." if isinstance(getattr(g, "graph", None), Graph) else "Use fw.plot for others."
        raise GraphError(f"g: expected a freewire Graph, got {type(g).__name__}. {remedy}")
    _check_title(title)
    weighted = _with_written_values(g)
    axes = plot(weighted, None if inputs is None else _activations(g, weighted, inputs))
    axes.set_title(title, parse_math=False)
    figure: Any = axes.figure
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    try:
        os.makedirs(FOLDER, exist_ok=True)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"{FOLDER}: expected a folder that exists or can be made in {shown(os.getcwd())}, got an error "
            f"({cut(error.strerror)}). Change to a folder of your own with os.chdir.",
        ) from None
    path = Path(FOLDER, f"{title}.png")
    with replacing(path) as file:
        file.write(picture.getvalue())
    print(f"Saved the picture of the graph: {path}")
    return path


def _check_title(title: Any) -> None:
    named = isinstance(title, str) and title.isprintable() and 0 < len(title.strip()) <= 200
    if not named or any(c in title for c in "/\\:"):
        raise InputError(
            f"title: expected the name of a file, without a folder and without / \\ and :, got {shown(title)}. The "
            f"picture is written to {FOLDER}/<title>.png."
        )


def _with_written_values(g: Graph) -> Graph:
    """The graph with the weights and biases that its Nodes and Edges show, and short names in place of Nodes."""
    lists = g.node_lists
    if lists is None:
        return g
    return g.with_values(*g.written_values()).with_names(lists.place(i) for i in range(g.num_nodes))


def _activations(g: Graph, weighted: Graph, inputs: Any) -> dict[Hashable, float]:
    """The value of each node for one sample, by name."""
    if weighted.weight is None or bool(np.isnan(weighted.weight).any()):
        raise InputError(
            "inputs: expected None for a graph in which a weight is missing or NaN, got a sample. Make a Model of the "
            "graph, which draws weights; they are NaN where a training has diverged."
        )
    network = Network(weighted, dtype=torch.float64)
    sample = read_sample(inputs, len(g.input_index), network.weight, "inputs")
    if sample.shape[:-1].numel() != 1:
        raise InputError(
            f"inputs: expected one sample of {len(g.input_index)} numbers, got shape {list(sample.shape)}. Draw "
            "samples one by one."
        )
    with torch.no_grad():
        values = {name: float(value) for name, value in network.activations(sample.reshape(-1)).items()}
        if g.node_lists is not None and g.node_lists.softmax.any():
            raw = torch.tensor([values[name] for name in weighted.outputs])
            softmax = tuple(np.flatnonzero(g.node_lists.softmax).tolist())
            normalised = Outputs(("linear",) * len(raw), softmax).normalise(raw)
            values.update(zip(weighted.outputs, normalised.tolist(), strict=True))
    return values
