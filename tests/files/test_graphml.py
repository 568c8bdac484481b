# SPDX-License-Identifier: MIT
"""GraphML as networkx, Gephi, igraph and yEd write it, and what is refused."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from freewire.files import graphml
from tests.support.files import again, read_text, text_of
from tests.support.graphs import CASES, assert_same_graph, renamed
from tests.support.messages import assert_refused


def read_graphml(tmp_path: Path, content: str | bytes) -> fw.Graph:
    return read_text(tmp_path / "g.graphml", content)


HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
BODY = '<graph edgedefault="directed"><node id="a"/><node id="b"/><edge source="a" target="b"/></graph></graphml>'
WEIGHT = '<key id="w" for="edge" attr.name="weight" attr.type="int">'


class TestGraphml:
    """Dialects, and what is refused."""

    @pytest.mark.parametrize("multi", [False, True])
    def test_networkxs(self, multi, tmp_path):
        G = (nx.MultiDiGraph if multi else nx.DiGraph)()
        G.add_edge("a", "b", weight=1, colour="red")
        G.add_edge("b", "c", weight=0.5, frozen=True, sign=-1)
        if multi:
            G.add_edge("a", "b", weight=3)
        G.nodes["b"].update(activation="tanh", bias=1, x=0.25)
        nx.write_graphml_xml(G, tmp_path / "g.graphml")
        assert_same_graph(fw.read_graph(tmp_path / "g.graphml"), fw.Graph.from_networkx(G))

    def test_gephis(self, tmp_path):
        text = f"""{HEAD}
<key attr.name="label" attr.type="string" for="node" id="label"/>
<key attr.name="weight" attr.type="double" for="edge" id="weight"/>
<key attr.name="r" attr.type="int" for="node" id="r"/>
<graph edgedefault="directed">
<node id="10"><data key="label">n</data><data key="r">not even a number</data></node><node id="9"/>
<edge id="0" source="10" target="9"><data key="weight">1.5</data></edge>
<edge id="0" source="10" target="9"><data key="weight">2.5</data></edge>
</graph></graphml>"""
        g = read_graphml(tmp_path, text)
        assert g.nodes == (10, 9)
        assert g.weight.tolist() == [1.5, 2.5]

    def test_igraphs(self, tmp_path):
        text = f"""{HEAD}
  <key id="v_name" for="node" attr.name="name" attr.type="string"/>
  <key id="e_weight" for="edge" attr.name="weight" attr.type="double"/>
  <key id="all" for="all" attr.name="frozen" attr.type="boolean"><default>true</default></key>
  <key id="act" for="node" attr.name="activation" attr.type="string"><default>sin</default></key>
  <graph id="G" edgedefault="directed">
    <desc>a <b/> graph</desc>
    <edge source="n0" target="n1"><data key="e_weight">-1</data><data key="all"> 0 </data></edge>
    <node id="n0"><data key="v_name">Alice</data></node>
    <node id="n1"><data key="v_name">Bob</data><port name="p"/></node>
    <node id="n2"><data key="v_name">Cid</data><data key="act">cos</data></node>
    <edge source="n0" target="n1"/>
    <edge source="n0" target="n2"/>
  </graph>
</graphml>"""
        g = read_graphml(tmp_path, text)
        assert g.nodes == ("Alice", "Bob", "Cid")
        assert [fw.graph.ACTIVATIONS[code] for code in g.activation] == ["linear", "sin", "cos"]
        np.testing.assert_array_equal(g.weight, [-1, math.nan, math.nan])
        assert g.frozen.tolist() == [False, True, True]

    @pytest.mark.parametrize("written", ["comment", "key"])
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (("Alice", "Bob"), ("Alice", "Bob")),
            (("7", "3"), (7, 3)),
            (("Alice", ""), None),
            (("Alice", None), None),
            ((None, None), None),
        ],
    )
    def test_igraphs_names(self, written, names, expected, tmp_path):
        """igraph numbers the ids of nodes, and writes their names as an attribute."""
        key = "v_name" if written == "key" else "name"
        data = ["" if name is None else f'<data key="{key}">{name}</data>' for name in names]
        text = f"""{HEAD}
{"<!-- Created by igraph -->" if written == "comment" else ""}
  <key id="{key}" for="node" attr.name="name" attr.type="string"/>
  <graph id="G" edgedefault="directed">
    <node id="n0">{data[0]}</node><node id="n1">{data[1]}</node>
    <edge source="n0" target="n1"/>
  </graph>
</graphml>"""
        if expected:
            assert read_graphml(tmp_path, text).nodes == expected
            said, text_refused = "to be text, got type 'double'", text.replace('"string"', '"double"')
        else:
            missing = next(k for k, name in enumerate(names) if not name)
            said, text_refused = f"at every node, got none at 'n{missing}'", text
        said = f".*g.graphml, line .*: expected igraph's node attribute name {said}. In igraph, "
        assert_refused(lambda: read_graphml(tmp_path, text_refused), said, fw.FileFormatError)
        unnamed = text.replace('attr.name="name"', 'attr.name="label"')
        assert read_graphml(tmp_path, unnamed).nodes == ("n0", "n1")
        renumbered = text.replace('"n0"', '"m0"')
        assert read_graphml(tmp_path, renumbered).nodes == ("m0", "n1")  # not igraph's any more
        plain = text.replace("Created by igraph", "").replace("v_name", "d0")
        assert read_graphml(tmp_path, plain).nodes == ("n0", "n1")

    def test_igraphs_names_that_repeat(self, tmp_path):
        text = HEAD + '<key id="v_name" for="node" attr.name="name" attr.type="string"/>' + BODY
        for k, name in enumerate("ab"):
            text = text.replace(f'id="{name}"/>', f'id="n{k}"><data key="v_name">x</data></node>')
        text = text.replace('"a"', '"n0"').replace('"b"', '"n1"')
        said = ".*g.graphml, line 2: expected each name once, got 'x' twice. Rename one of the nodes in igraph"
        assert_refused(lambda: read_graphml(tmp_path, text), said, fw.FileFormatError)

    def test_graph_tools(self, tmp_path):
        """graph-tool writes floats in hexadecimal, and types of its own."""
        text = f"""{HEAD}
    <!-- property keys -->
    <key id="key0" for="node" attr.name="pos" attr.type="vector_float" />
    <key id="key1" for="edge" attr.name="weight" attr.type="double" />
    <key id="key2" for="edge" attr.name="sign" attr.type="short" />
    <key id="key3" for="edge" attr.name="frozen" attr.type="boolean" />
    <key id="key4" for="node" attr.name="bias" attr.type="long_double" />
    <key id="key5" for="graph" attr.name="title" attr.type="string" />
    <graph id="G" edgedefault="directed" parse.nodeids="canonical" parse.edgeids="canonical" parse.order="nodesfirst">
     <data key="key5">wires</data>
      <node id="n0"><data key="key0">0x1.8p+0, -0x1p-1</data></node>
      <node id="n1"><data key="key4">-0X1.4P+1</data></node>
      <edge id="e0" source="n0" target="n1">
        <data key="key1">0x1.999999999999ap-4</data><data key="key2">-1</data><data key="key3">1</data>
      </edge>
      <edge id="e1" source="n0" target="n1"><data key="key1">3</data></edge>
    </graph>
</graphml>"""
        g = read_graphml(tmp_path, text)
        assert g.nodes == ("n0", "n1")
        assert g.weight.tolist() == [0.1, 3]
        assert (g.sign.tolist(), g.frozen.tolist(), g.bias.tolist()[1]) == ([-1, 0], [True, False], -2.5)
        for wrong in ("0x1.8p+99999", "0x", "0xg"):
            said = f".*g.graphml, line .*: expected weight of type double, got '{re.escape(wrong)}'"
            assert_refused(
                lambda wrong=wrong: read_graphml(tmp_path, text.replace(">3<", f">{wrong}<")), said, fw.FileFormatError
            )

    def test_other_namespaces_are_ignored(self, tmp_path):
        text = HEAD.replace("<graphml", '<graphml xmlns:y="http://www.yworks.com/xml/graphml"') + (
            '<key id="d0" for="node" yfiles.type="nodegraphics"/><graph edgedefault="directed"><node id="a">'
            '<data key="d0"><y:ShapeNode><y:node id="q"/><y:data/></y:ShapeNode></data></node><node id="b"/>'
            '<edge source="a" target="b"/></graph></graphml>'
        )
        assert read_graphml(tmp_path, text).nodes == ("a", "b")
        assert read_graphml(tmp_path, "<graphml>" + BODY).nodes == ("a", "b")

    def test_an_older_namespace(self, tmp_path):
        assert read_graphml(tmp_path, HEAD.replace('xmlns"', 'xmlns/graphml"') + BODY).nodes == ("a", "b")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
    def test_long_text_is_no_long_tag(self, encoding, tmp_path):
        text = HEAD.replace("UTF-8", encoding) + BODY.replace("<node", f"<desc>{'x' * 3_000_000}</desc><node", 1)
        assert read_graphml(tmp_path, text.encode(encoding)).nodes == ("a", "b")

    def test_any_encoding(self, tmp_path):
        text = (HEAD.replace("UTF-8", "{}") + BODY.replace('"a"', '"\u00e4"')).format
        for encoding in ("iso-8859-1", "utf-16"):
            assert read_graphml(tmp_path, text(encoding).encode(encoding)).nodes == ("\u00e4", "b")

    @pytest.mark.parametrize(
        "bomb",
        [
            '<!DOCTYPE g [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
            '<!DOCTYPE g [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE g SYSTEM "http://example.org/g.dtd">',
        ],
    )
    def test_no_document_type(self, bomb, tmp_path):
        text = HEAD.replace("\n", f"\n{bomb}\n") + BODY
        assert_refused(
            lambda: read_graphml(tmp_path, text),
            ".*g.graphml, line 2: expected XML without a document type, got a DOCTYPE",
            fw.FileFormatError,
        )

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("<graph e", "<graph/><graph e", "a directed graph, got edgedefault 'none'"),
            ("directed", "undirected", "a directed graph, got edgedefault 'undirected'"),
            ("<edge", '<edge directed="false"', "directed edges, got directed='false'"),
            ("</graph>", "</graph><graph/>", "one graph, got another one inside or after it"),
            ("<edge", "<hyperedge/><edge", "edges from one node to another, got a hyperedge"),
            ('id="b"', 'id="a"', "each node once, got 'a' twice"),
            ('id="b"', "", "<node> with an attribute id, got none"),
            ('target="b"', "", "<edge> with an attribute target, got none"),
            ('target="b"', 'target="c"', "edges between nodes of the file, got 'c'"),
            ('id="b"', 'id=""', "a node's id, got an empty one"),
            ("<graph", f"{WEIGHT}</key>{WEIGHT}</key><graph", "each key once, got 'w' twice"),
            (
                '<graph edgedefault="directed">',
                f'{WEIGHT}</key><graph edgedefault="directed"><node id="c"/><node id="d"/><edge source="c" target="d">'
                '<data key="w">1</data><data key="w">2</data></edge>',
                "weight once, got two values of it",
            ),
            (
                "<graph",
                "<a>" * 300 + "<graph",
                "at most 256 elements inside each other, got more. Remove the nested graphs",
            ),
            (
                "<graph",
                f"<!--{'x' * 2_000_000}--><graph",
                "tags and comments of at most 1,048,576 bytes, got one of more",
            ),
            ('id="b"', f'id="{"x" * 2_000_000}"', "tags and comments of at most 1,048,576 bytes, got one of more than"),
            ('id="b"/>', 'id="b"><data key="k">1</data></node>', "data with a declared key, got 'k'"),
            (BODY, "</graphml>", "a <graph>, got none"),
            ("</graphml>", "", "XML, got something else .no element found"),
            ("</graphml>", "</graph>", "XML, got something else .mismatched tag"),
            ("<graph", f"{WEIGHT}<default>x</default></key><graph", "weight of type int, got 'x'"),
            ("<graph", f"{WEIGHT}<default>{'9' * 5000}</default></key><graph", "weight of type int, got '999"),
        ],
    )
    def test_errors(self, old, new, said, tmp_path):
        text = f"{HEAD}\n{BODY.replace(old, new)}"
        error = fw.GraphError if said.startswith("a directed") or said.startswith("directed") else fw.FileFormatError
        assert_refused(lambda: read_graphml(tmp_path, text), f".*g.graphml, line 3: expected {said}", error)

    def test_no_graphml(self, tmp_path):
        said = ".*g.graphml, line 1: expected GraphML, got XML of <html>. "
        assert_refused(lambda: read_graphml(tmp_path, "<html/>"), said, fw.FileFormatError)
        said = ".*g.graphml, line 1: expected XML, got something else .syntax error"
        assert_refused(lambda: read_graphml(tmp_path, "a,b"), said, fw.FileFormatError)
        said = ".*g.graphml: expected XML in an encoding known to Python, got another "
        assert_refused(lambda: read_graphml(tmp_path, HEAD.replace("UTF-8", "klingon")), said, fw.FileFormatError)


@pytest.mark.parametrize("odd", ["x", '"', "\N{SNOWMAN}"])
def test_tags_that_a_reader_would_refuse_are_not_written(odd, tmp_path, monkeypatch):
    monkeypatch.setattr(graphml, "MAX_TOKEN", 2**18)  # and the reader's chunk; the longest tag is read
    monkeypatch.setattr(graphml, "CHUNK", 2**10)
    size = {"x": 1, '"': 6}.get(odd, 3)
    most = 2**18 // size - 200
    path = tmp_path / "g.graphml"
    for names in (("a", odd * most), (odd * (most // 2), odd * (most // 2) + "b")):
        g = renamed(CASES["single_edge"], names)
        assert_same_graph(again(g, path), g)
    most = 2**18 // size
    for names in (("a", odd * most), (odd * (most // 2), odd * (most // 2) + "b")):
        g = renamed(CASES["single_edge"], names)
        said = "node names: expected tags of at most 262,144 bytes in .graphml, got 262,2"
        assert_refused(lambda g=g: fw.write_graph(g, tmp_path / "other.graphml"), said)
    assert [path] == list(tmp_path.iterdir())


def test_networkx_reads_our_graphml(tmp_path):
    for name in ("diamond", "parallel_edges", "mixed_aggregations"):
        g = CASES[name]
        G = nx.read_graphml(io.BytesIO(text_of(g, tmp_path / "g.graphml").encode()), node_type=int)
        assert_same_graph(fw.Graph.from_networkx(G), g)
