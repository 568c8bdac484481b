# SPDX-License-Identifier: MIT
"""`plot`: a wiring, or a trained network, drawn with matplotlib."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from freewire.errors import BuildError, InputError
from freewire.pictures.artists import draw_matrix, draw_wiring
from freewire.pictures.drawing import Matrix, Wiring, prepare
from freewire.pictures.subject import subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["axes_for", "plot"]


def plot(net_or_graph: Any, values: Any = None, ax: Axes | None = None) -> Axes:
    """Draw a wiring from left to right, its nodes in columns by level.

    Edges are coloured by weight and nodes by bias, or by ``values``: blue below 0, red above; grey where there is no
    number. Of more than 1,500 edges the strongest into each node are drawn, or without weights some chosen at random.
    More than 2,000 nodes are drawn as a matrix: in order of their levels, from which group of nodes (row) to which
    (column) how much |weight| leads. A line in the picture says what is shown.

    Args:
        net_or_graph: A `freewire.Graph`, a `freewire.Network`, or another module with a graph, such as a
            `freewire.models.GraphStage`.
        values: Numbers that colour the nodes instead of the biases, such as activations: ``[N]`` in node order, or a
            mapping from node names to numbers, as ``net.activations(x)`` returns for one sample.
        ax: Axes to draw into, such as ``plt.gca()``. Default: those of a figure of their own, which pyplot does not
            know, so that no window is needed and nothing must be closed. A notebook shows it where it is the last
            line of a cell; elsewhere call ``fw.plot(net).figure.savefig("net.png")``, or ``plt.show()`` after
            ``fw.plot(net, ax=plt.gca())``.

    Returns:
        The Axes.

    Raises:
        GraphError: ``net_or_graph`` is neither, or has no values (on the meta device).
        InputError: ``values`` do not fit, or ``ax`` is not an Axes.
        BuildError: matplotlib is not installed.

    Example:
        >>> import torch, freewire as fw
        >>> net = fw.Network(fw.generators.mlp([2, 3, 1]))
        >>> ax = fw.plot(net, values=net.activations(torch.ones(2)))
        >>> [text.get_text() for text in ax.texts if text.get_gid() == "freewire-note"]
        ['6 nodes, 9 edges']
    """
    drawing = prepare(subject(net_or_graph), values)
    ax = axes_for(ax, _size(drawing))
    if isinstance(drawing, Matrix):
        draw_matrix(ax, drawing)
    else:
        draw_wiring(ax, drawing)
    return ax


def axes_for(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The Axes that a picture is drawn into, ``ax`` if it is one.

    Args:
        ax: What the caller passed; None: Axes of a new figure that pyplot does not know and a notebook shows.
        size: Width and height of the new figure in inches.

    Raises:
        InputError: ``ax`` is not an Axes.
        BuildError: matplotlib is not installed.
    """
    try:
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ImportError:
        raise BuildError(
            "matplotlib: expected it to be installed, got no such package. Run: pip install 'freewire[viz]'."
        ) from None
    if ax is None:
        figure = Figure(figsize=size, layout="constrained")
        ax = figure.add_subplot()
        vars(ax)["_repr_png_"] = partial(_png, figure)  # what IPython calls to show an object
    elif not isinstance(ax, Axes) or ax.name != "rectilinear":
        raise InputError(
            f"ax: expected a matplotlib Axes with x and y, got {type(ax).__name__}. Pass one, such as plt.gca()."
        )
    return ax


def _png(figure: Figure) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _size(drawing: Wiring | Matrix) -> tuple[float, float]:
    """Width and height in inches."""
    if isinstance(drawing, Matrix):
        return 7.5, 6.5
    x, y = drawing.position.T if len(drawing.position) else np.zeros((2, 1))
    level = 1.3 if np.array_equal(x, np.rint(x)) else 2.5  # inches per level; more where one is a block
    return float(np.clip(level * drawing.graph.depth + 4, 6, 13)), float(np.clip(0.35 * (np.ptp(y) + 1) + 2, 3.6, 7))
