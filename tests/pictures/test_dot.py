# SPDX-License-Identifier: MIT
"""fw.to_dot: text that parses, as a reader of our own and graphviz find; and pictures by graphviz."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from freewire.errors import BuildError, InputError
from freewire.pictures.colours import DIVERGING, NEUTRAL
from freewire.pictures.labels import label
from tests.support import dot
from tests.support.messages import assert_refused
from tests.support.odd_names import ODD_NAMES

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz's program dot is not installed")
SMALL = fw.generators.mlp([2, 3, 1])
ODD = fw.Graph.from_networkx(nx.DiGraph((name, "out") for name in ODD_NAMES))
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program ``dot`` of these lines of Python alone on PATH."""

    def write(lines: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "dot").write_text(f"#!{sys.executable} -IS\nimport sys, time\n{lines}\n")
        (folder / "dot").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return write


class TestText:
    def test_a_network(self):
        graph = fw.Graph.from_edges([0, 0, 1], [1, 2, 2], weight=[-2.0, 0.5, 2.0], bias=[0.0, 0.25, -0.5])
        found = dot.parse(fw.to_dot(fw.Network(graph)))
        assert found.defaults["graph"]["rankdir"] == "LR"
        assert [(u, v) for u, v, _ in found.edges] == [("n0", "n1"), ("n0", "n2"), ("n1", "n2")]
        assert [edge["color"] for _, _, edge in found.edges][::2] == [f'"{DIVERGING[0]}"', f'"{DIVERGING[-1]}"']
        assert [edge["label"] for _, _, edge in found.edges] == ['"-2"', '"0.5"', '"2"']
        assert [node["shape"] for node in found.nodes.values()] == ["box", "ellipse", "diamond"]
        assert [node["fillcolor"] for node in found.nodes.values()][::2] == [f'"{NEUTRAL}"', f'"{DIVERGING[0]}"']
        assert [node.get("tooltip") for node in found.nodes.values()] == [None, '"bias 0.25"', '"bias -0.5"']

    def test_a_rank_per_level(self):
        graph = fw.generators.random_graph(4, 30, 3, fan_in=3, seed=0)
        found = dot.parse(fw.to_dot(graph))
        level = {f"n{i}": level for i, level in enumerate(graph.level.tolist())}
        assert all(len({level[node] for node in rank}) == 1 for rank in found.ranks)
        assert sorted(map(len, found.ranks)) == sorted(n for n in np.bincount(graph.level) if n > 1)
        assert len(found.edges) == graph.num_edges

    def test_parallel_edges_and_weights_that_are_no_numbers(self):
        graph = fw.Graph.from_edges([0, 0, 0], [1, 1, 1]).with_values([np.nan, np.inf, 1.0])
        found = dot.parse(fw.to_dot(graph))
        assert [edge["color"].strip('"') for _, _, edge in found.edges] == [NEUTRAL, DIVERGING[-1], DIVERGING[-1]]
        assert [edge.get("label") for _, _, edge in found.edges] == [None, '"inf"', '"1"']

    def test_no_edges(self):
        assert not dot.parse(fw.to_dot(fw.Graph.from_edges([], [], num_nodes=2, outputs=[0]))).edges

    def test_odd_names(self):
        found = dot.parse(fw.to_dot(ODD))
        assert list(found.nodes) == [f"n{i}" for i in range(ODD.num_nodes)]
        assert [dot.shown(node["label"]) for node in found.nodes.values()] == [label(name, 60) for name in ODD.nodes]


class TestGraphviz:
    @needs_graphviz
    def test_it_shows_odd_names_as_they_are(self, tmp_path):
        fw.to_dot(ODD, tmp_path / "odd.svg")
        root = ET.parse(tmp_path / "odd.svg").getroot()
        texts = {"".join(element.itertext()).replace("\u00a0", " ") for element in root.iter(f"{SVG}text")}
        assert {label(name, 60) for name in ODD_NAMES if name != ""} <= texts
        groups = [group.get("class") for group in root.iter(f"{SVG}g")]
        assert (groups.count("node"), groups.count("edge")) == (ODD.num_nodes, ODD.num_edges)

    @needs_graphviz
    def test_levels_are_columns(self):
        graph = fw.generators.random_graph(3, 12, 2, fan_in=2, seed=0)
        done = subprocess.run(["dot", "-Tplain"], input=fw.to_dot(graph), capture_output=True, text=True, check=True)
        place = {match[1]: float(match[2]) for match in re.finditer(r"^node n(\d+) (\S+)", done.stdout, re.M)}
        x = [place[str(i)] for i in range(graph.num_nodes)]
        columns = sorted(set(x))
        assert [columns.index(found) for found in x] == graph.level.tolist()

    @needs_graphviz
    @pytest.mark.parametrize(("suffix", "head"), [(".pdf", b"%PDF"), (".PNG", b"\x89PNG")])
    def test_other_pictures(self, tmp_path, suffix, head):
        path = tmp_path / f"net{suffix}"
        assert fw.to_dot(SMALL, str(path)) == fw.to_dot(SMALL)
        assert path.read_bytes().startswith(head)


class TestFile:
    @pytest.mark.parametrize("name", ["net.dot", "net.gv", "net.DOT"])
    def test_text(self, tmp_path, name):
        text = fw.to_dot(ODD, tmp_path / name)
        assert (tmp_path / name).read_bytes().decode() == text == fw.to_dot(ODD)

    @pytest.mark.parametrize("name", ["net.jpg", "net", ".svg", b"net.txt"])
    def test_unknown_suffix(self, name):
        match = r"path: expected a suffix of \.dot, \.gv, \.svg, \.pdf, \.png, got '"
        assert_refused(lambda: fw.to_dot(SMALL, name), match, InputError)

    def test_no_path(self):
        assert_refused(lambda: fw.to_dot(SMALL, 3), "path: expected a str, bytes or os.PathLike, got int.", InputError)

    def test_too_large_for_graphviz(self, tmp_path):
        graph = fw.generators.mlp([100, 101])
        match = r"path: .* at most 10000 levels .* for a \.svg picture.* got 10100\. Use fw\.plot"
        assert_refused(lambda: fw.to_dot(graph, tmp_path / "net.svg"), match, InputError)
        assert fw.to_dot(graph, tmp_path / "net.dot").count("->") == 10100

    def test_without_graphviz(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        path = tmp_path / "net.svg"
        assert_refused(lambda: fw.to_dot(SMALL, path), "graphviz: .* Install it .apt install graphviz", BuildError)
        assert not path.exists()

    def test_a_format_that_this_graphviz_does_not_know(self, tmp_path, program):
        program('sys.stderr.write("Format: pdf not recognized."); sys.exit(1)')
        match = r"graphviz: expected a pdf picture, got exit status 1 \(Format: pdf not recognized\.\)\. Write"
        assert_refused(lambda: fw.to_dot(SMALL, tmp_path / "net.pdf"), match, BuildError)
        assert not (tmp_path / "net.pdf").exists()

    def test_a_layout_that_takes_too_long(self, tmp_path, program, monkeypatch):
        program("time.sleep(60)")
        monkeypatch.setattr("freewire.pictures.dot.SECONDS", 0.2)
        match = "path: expected a graph that graphviz lays out within 0.2 seconds"
        assert_refused(lambda: fw.to_dot(SMALL, Path(tmp_path / "net.svg")), match, InputError)
