# SPDX-License-Identifier: MIT
"""What notebooks show: SVG that parses, of bounded size, with names escaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from freewire.pictures.colours import DIVERGING, NEUTRAL
from freewire.pictures.labels import label
from tests.support.odd_names import ODD_NAMES

SVG = "{http://www.w3.org/2000/svg}"


def parsed(shown) -> ET.Element:
    text = shown._repr_svg_()
    assert len(text.encode()) < 500_000
    return ET.fromstring(text)


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_a_network():
    graph = fw.Graph.from_edges([0, 0, 1], [1, 2, 2], weight=[-2.0, 0.5, 2.0], bias=[0.0, 0.25, -0.5])
    root = parsed(fw.Network(graph))
    edges, nodes = root.findall(f"{SVG}g")[:2]
    assert [path.get("stroke") for path in edges][1:] == [DIVERGING[0], DIVERGING[-1]]
    assert [path.get("fill") for path in nodes][::2] == [NEUTRAL, DIVERGING[0]]
    assert [path.find(f"{SVG}title").text for path in nodes] == [
        "input 0",
        "hidden 1, bias 0.25",
        "output 2, bias -0.5",
    ]
    assert texts(root)[:3] == ["0", "1", "2"]
    assert texts(root)[-1] == "3 nodes, 3 edges"
    assert {"weight", "-2", "2", "bias", "-0.5", "0.5"} <= set(texts(root))


@pytest.mark.parametrize(
    ("graph", "note"),
    [
        (fw.Graph.from_edges([], [], num_nodes=1, outputs=[0]), "1 node, 0 edges"),
        (fw.Graph.from_edges([0, 0], [1, 1]).with_values([0, np.nan]), "2 nodes, 2 edges"),
        (fw.Graph.from_edges([0, 1], [2, 2]).with_values([np.inf, -np.inf]), "3 nodes, 2 edges"),
        (fw.generators.mlp([900, 900, 100]), "1,900 nodes; 1,000 of 900,000 edges: chosen at random"),
        (fw.generators.random_graph(100, 3000, 10, fan_in=100, seed=0), "3,110 nodes in order of their levels"),
        (fw.Graph.from_edges([], [], num_nodes=2500, outputs=[0]), "2,500 nodes in order of their levels"),
    ],
    ids=["one node", "zeros", "inf", "thinned", "matrix", "empty matrix"],
)
def test_graphs(graph, note):
    assert note in " ".join(texts(parsed(graph)))


def test_odd_names():
    graph = fw.Graph.from_networkx(nx.DiGraph((name, "out") for name in ODD_NAMES))
    root = parsed(graph)
    assert {label(name) for name in ODD_NAMES} <= set(texts(root))
    assert [element.tag for element in root.iter()].count(f"{SVG}script") == 0
    assert not re.search("<script|]]>", graph._repr_svg_())


def test_names_of_any_length_do_not_make_it_long():
    names = [f"{i}" + "&" * 10_000 for i in range(500)]
    wires = nx.DiGraph((name, "out") for name in names)
    parsed(fw.Graph.from_networkx(wires))


@pytest.mark.parametrize("make", [fw.Model, lambda graph: fw.models.GraphStage(graph.to_networkx(), 2, 2)])
def test_other_modules_of_a_graph(make):
    module = make(fw.generators.mlp([2, 3, 1]))
    assert "6 nodes, 9 edges" in texts(parsed(module))
    assert module.to("meta")._repr_svg_() is None


def test_a_network_without_values_shows_its_text():
    assert fw.Network(fw.generators.mlp([2, 1]), device="meta")._repr_svg_() is None
