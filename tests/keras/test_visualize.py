# SPDX-License-Identifier: MIT
"""visualize: which numbers are drawn, where the picture goes, and what is refused."""

from __future__ import annotations

import os
import sys

import matplotlib.image
import numpy as np
import pytest
import torch

import freewire as fw
from freewire import Graph, Model, Node
from freewire.keras import drawing
from freewire.pictures import plot
from tests.support.messages import assert_refused
from tests.support.node_graphs import classifier, xor


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch):
    """What plot was called with: a list of (graph, values)."""
    calls: list[tuple[Graph, object]] = []

    def record(graph: Graph, values: object = None) -> object:
        calls.append((graph, values))
        return plot(graph, values)

    monkeypatch.setattr(drawing, "plot", record)
    return calls


class TestNumbers:
    def test_those_of_the_model_that_wrote_last(self, drawn):
        g = xor()
        fw.visualize(g)
        models = [Model(g, "uniform"), Model(g)]
        models[0].update_graph()
        fw.visualize(g)
        fw.visualize(models[1].update_graph())
        assert [call[0].weight is None for call in drawn] == [True, False, False]
        for (graph, values), m in zip(drawn[1:], models, strict=True):
            np.testing.assert_array_equal(graph.weight, m.weight.detach().double())
            np.testing.assert_array_equal(graph.bias[graph.computed_index], m.bias.detach().double())
            assert values is None
        assert drawn[0][0].nodes == ("inputs[0]", "inputs[1]", *(f"hidden[{i}]" for i in range(5)), "outputs[0]")

    def test_values_for_one_sample(self, drawn):
        m = Model(classifier())
        for inputs in ([0.5, -1], np.array([[0.5, -1]]), torch.tensor([0.5, -1])):
            fw.visualize(m.graph, inputs=inputs)
        expected = [v.item() for v in m.network.activations(torch.tensor([0.5, -1])).values()]
        expected[-3:] = m([0.5, -1]).flatten().tolist()  # probabilities
        for graph, values in drawn:
            assert list(values) == list(graph.nodes)
            assert list(values.values()) == pytest.approx(expected, rel=1e-5)

    def test_other_graphs(self, drawn):
        g = fw.generators.mlp([2, 1])
        fw.visualize(g)
        assert drawn[0][0] is g


class TestFile:
    def test_a_picture_in_renders(self, folder, capsys):
        g, title = xor(), "Graph of $8_$"  # no mathematics
        path = fw.visualize(g, title=title)
        assert capsys.readouterr().out == "Saved the picture of the graph: renders/Graph of $8_$.png\n"
        before = matplotlib.image.imread(folder / path)
        assert (before < 0.9).any()
        Model(g)
        fw.visualize(g, title=title)
        after = matplotlib.image.imread(folder / path)
        assert before.shape != after.shape or (before != after).any()
        assert os.listdir("renders") == ["Graph of $8_$.png"]

    def test_a_folder_that_cannot_be_made(self, folder):
        (folder / "renders").write_text("")
        with pytest.raises(FileExistsError, match=r"renders: expected a folder .*Change to a folder of your own"):
            fw.visualize(xor())

    def test_a_file_that_cannot_be_written(self, folder):
        (folder / "renders" / "Graph.png").mkdir(parents=True)
        with pytest.raises(IsADirectoryError, match=r"path: expected a file to write"):
            fw.visualize(xor())


class TestRefused:
    @pytest.mark.parametrize("title", ["", " ", "a/b", "..\\b", "c:d", "a\0b", "a\nb", "x" * 201, 3, None])
    def test_title(self, title, folder):
        match = r"title: expected the name of a file, .*renders/<title>\.png"
        assert_refused(lambda: fw.visualize(xor(), title), match, fw.InputError)
        assert list(folder.iterdir()) == []

    def test_graph(self):
        assert_refused(lambda: fw.visualize([Node()]), r"g: expected a freewire Graph, got list")
        assert_refused(lambda: fw.visualize(Model(xor())), r"g: .*got Model\. Pass model\.graph")

    def test_inputs(self):
        g = xor()
        match = r"inputs: expected None for a graph in which a weight is missing or NaN, .*Make a Model"
        assert_refused(lambda: fw.visualize(g, inputs=[1, 2]), match, fw.InputError)
        Model(g)
        match = r"inputs: expected one sample of 2 numbers, got shape \[3, 2\]"
        assert_refused(lambda: fw.visualize(g, inputs=np.zeros((3, 2))), match, fw.InputError)
        match = r"inputs: expected shape \[batch, 2\]"
        assert_refused(lambda: fw.visualize(g, inputs=[1, 2, 3]), match, fw.InputError)

    def test_without_matplotlib(self, monkeypatch):
        for name in list(sys.modules):
            if name.split(".")[0] == "matplotlib":
                monkeypatch.setitem(sys.modules, name, None)
        match = r"matplotlib: expected it to be installed, .*pip install 'freewire\[viz\]'"
        assert_refused(lambda: fw.visualize(xor()), match, fw.BuildError)
