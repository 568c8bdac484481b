# SPDX-License-Identifier: MIT
"""fw.plot: the artists in the Axes, where it draws, and what it refuses. What it draws is in test_drawing.py."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

import freewire as fw
from freewire.errors import BuildError, InputError
from freewire.pictures.colours import DIVERGING, NEUTRAL
from tests.support.messages import assert_refused
from tests.support.odd_names import ODD_NAMES


def artists(ax, kind) -> list:
    return [artist for artist in ax.get_children() if isinstance(artist, kind)]


def note(ax) -> str:
    (text,) = [text for text in ax.texts if text.get_gid() == "freewire-note"]
    return text.get_text()


def test_a_network_with_values():
    graph = fw.Graph.from_edges([0, 0, 1], [1, 2, 2], weight=[-2.0, 0.5, 1.0], bias=[0.0, 0.25, -0.5])
    net = fw.Network(graph)
    for values, what, colours in ((None, "bias", (NEUTRAL, None, DIVERGING[0])), ([0, 2, -4], "value", None)):
        ax = fw.plot(net, values)
        (lines,) = artists(ax, LineCollection)
        ax.figure.draw_without_rendering()  # which fills in the colours
        order = np.argsort(np.abs(net.weight.detach().numpy()), kind="stable")
        assert lines.get_array().tolist() == net.weight.detach()[order.tolist()].tolist()
        assert to_hex(lines.get_color()[-1]) == DIVERGING[0]  # the strongest, -2
        assert lines.get_clim() == (-2, 2)
        marks = artists(ax, PathCollection)
        assert [len(mark.get_offsets()) for mark in marks] == [1, 1, 1]  # hidden, input, output
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["input", "hidden", "output"]
        if colours is not None:
            assert to_hex(marks[1].get_facecolor()[0]) == colours[0]  # the input has no bias
            assert to_hex(marks[2].get_facecolor()[0]) == colours[2]
        assert [bar.get_ylabel() for bar in ax.figure.axes[1:]] == ["weight", what]
        assert sorted(text.get_text() for text in ax.texts) == ["0", "1", "2", "3 nodes, 3 edges"]
    assert note(ax) == "3 nodes, 3 edges"
    assert ax.yaxis_inverted()


def test_infinite_weights_have_the_colours_of_the_ends():
    graph = fw.Graph.from_edges([0, 1, 2], [3, 3, 3]).with_values([-np.inf, 1.0, 2.0])
    ax = fw.plot(graph)
    (lines,) = artists(ax, LineCollection)
    ax.figure.draw_without_rendering()
    assert [to_hex(colour) for colour in lines.get_color()][1:] == [DIVERGING[-1], DIVERGING[0]]
    assert lines.get_clim() == (-2, 2)


def test_a_plain_graph_is_grey_and_has_no_colour_bar():
    ax = fw.plot(fw.generators.mlp([2, 3, 1]))
    (lines,) = artists(ax, LineCollection)
    assert lines.get_array() is None
    assert to_hex(lines.get_color()[0]) == NEUTRAL
    assert ax.figure.axes == [ax]


def test_a_large_graph_is_a_matrix():
    graph = fw.generators.mlp([1500, 600, 10])
    ax = fw.plot(graph.with_values(bias=np.r_[np.full(1500, np.nan), np.ones(610)]))
    matrix, strip = artists(ax, AxesImage)
    assert matrix.get_array().shape == (160, 160)
    assert strip.get_array().shape == (160, 1)
    assert "edges per pair of nodes" in note(ax).replace("\n", " ")
    assert [bar.get_ylabel() for bar in ax.figure.axes[1:]] == ["edges per pair of nodes", "mean bias"]
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    "graph",
    [
        fw.Graph.from_edges([], [], num_nodes=1, outputs=[0]),
        fw.Graph.from_edges([], [], num_nodes=3, inputs=[], outputs=[1]).with_values(bias=[0, np.nan, np.inf]),
        fw.Graph.from_edges([0, 0, 1], [1, 1, 2], weight=[0, 0, 0]),
        fw.Graph.from_edges([0, 1, 1], [2, 2, 2]).with_values([np.inf, -np.inf, 1]),
        fw.Graph.from_edges([0, 1, 1], [2, 2, 2]).with_values([np.nan, 1e308, 5e-324]),
        fw.Graph.from_edges(np.arange(2500), np.full(2500, 2500)).with_values(np.zeros(2500)),
        fw.Graph.from_edges(np.arange(2500), np.full(2500, 2500)).with_values(np.r_[1e-320, np.full(2499, np.inf)]),
        fw.Graph.from_edges([], [], num_nodes=2500, outputs=[0]),
    ],
    ids=["one node", "no inputs", "zeros", "inf", "extreme", "matrix of zeros", "matrix of inf", "empty matrix"],
)
def test_nothing_warns(graph):
    """Warnings are errors in tests; the picture is rendered, where most of matplotlib's warnings come from."""
    assert fw.plot(graph)._repr_png_().startswith(b"\x89PNG")


def test_odd_names_are_drawn_as_they_are():
    graph = fw.Graph.from_networkx(nx.DiGraph((name, "out") for name in ODD_NAMES))
    ax = fw.plot(graph)
    assert len(ax._repr_png_()) > 1000
    texts = {text.get_text() for text in ax.texts}
    assert {"$x^2$ and \\$", "<b>html</b>", "_hidden", "two\\nlines\\r\\n\\ttab", "π ≤ ∞", "\\u6c49\\u5b57"} <= texts
    assert not any(text.get_parse_math() for text in ax.texts)


def test_everything_is_within_the_axes():
    """So that no layout of the caller's cuts it off, and a title above does not cover it."""
    graph = fw.Graph.from_networkx(nx.DiGraph([("a long input", "h"), ("h", "a longer output"), ("k", "h")]))
    figure = Figure(figsize=(6, 4))  # without a layout engine
    ax = fw.plot(graph, ax=figure.subplots())
    renderer = FigureCanvasAgg(figure).get_renderer()
    box = ax.get_window_extent().padded(2)
    (lines,) = artists(ax, LineCollection)
    parts = [part.get_window_extent(renderer).get_points() for part in (*ax.texts, ax.get_legend())]
    for place in np.concatenate([*parts, ax.transData.transform(np.concatenate(lines.get_segments()))]):
        assert box.contains(*place)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]


def test_small_axes():
    """Nodes do not overlap, and no name is on the node above its own."""
    graph = fw.generators.mlp([4, 6, 3])
    for size, named in (((6, 5), True), ((2.4, 1.9), False)):
        figure = Figure(figsize=size)
        ax = fw.plot(graph, np.arange(13.0), ax=figure.subplots())
        (first, *_) = artists(ax, PathCollection)
        (_, below), (_, above) = ax.transData.transform([(0, 1), (0, 0)])
        assert first.get_sizes()[0] ** 0.5 < 0.8 * (above - below) * 72 / figure.dpi
        hidden = {"4", "5", "6", "7", "8", "9"}
        assert {text.get_text() for text in ax.texts} & hidden == (hidden if named else set())
    assert {"0", "12"} <= {text.get_text() for text in ax.texts}


class TestWhere:
    def test_axes_of_a_figure_that_pyplot_does_not_know(self):
        """No display, no pyplot, no state; and the figure that a notebook shows."""
        code = f"""
import sys, types
package = types.ModuleType("freewire")  # its own __init__ imports torch, which takes seconds
package.__path__ = {fw.__path__!r}
sys.modules["freewire"] = package
from freewire import generators, pictures
assert "matplotlib" not in sys.modules
ax = pictures.plot(generators.mlp([2, 1]))
assert ax._repr_png_().startswith(b"\\x89PNG")
assert "matplotlib.pyplot" not in sys.modules
"""
        environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "MPLBACKEND")}
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60, env=environment)

    def test_axes_of_the_caller(self):
        first, second = Figure(figsize=(4, 3)).subplots(1, 2)
        assert fw.plot(fw.generators.mlp([40, 60, 2]), ax=second) is second
        assert not first.collections
        assert note(second) == "102 nodes; 1,488 of\n2,520 edges: chosen at\nrandom, at most 24 into\neach node"
        assert not hasattr(second, "_repr_png_")  # its figure is shown already

    def test_what_it_returns_can_be_pickled(self):
        ax = pickle.loads(pickle.dumps(fw.plot(fw.generators.mlp([2, 1]))))
        assert note(ax) == "3 nodes, 2 edges"

    @pytest.mark.parametrize("given", [Figure(), "ax", Figure().add_subplot(projection="polar")], ids=type)
    def test_refused(self, given):
        graph = fw.generators.mlp([2, 1])
        assert_refused(lambda: fw.plot(graph, ax=given), "ax: expected a matplotlib Axes with x and y", InputError)

    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
        graph = fw.generators.mlp([2, 1])
        assert_refused(lambda: fw.plot(graph), r"matplotlib: .* pip install 'freewire\[viz\]'", BuildError)


def test_a_stage_of_a_larger_model():
    dag = fw.generators.watts_strogatz_dag(8, 4, 0.5, seed=0)
    stage = fw.models.GraphStage(dag, in_channels=3, out_channels=4)
    with torch.no_grad():
        stage.weight.fill_(0.5)
    ax = fw.plot(stage)
    (lines,) = artists(ax, LineCollection)
    is_target, is_source = (np.isin(np.arange(8), ends) for ends in stage.graph.edge_index[::-1])
    hidden, first, last = artists(ax, PathCollection)
    assert len(first.get_offsets()) == np.count_nonzero(~is_target)
    assert len(last.get_offsets()) == np.count_nonzero(~is_source)
    assert len(hidden.get_offsets()) == np.count_nonzero(is_target & is_source)
    assert lines.get_array().tolist() == [0.5] * stage.graph.num_edges
