# SPDX-License-Identifier: MIT
"""Wirings in GraphML, CSV and JSON: ours come back equal, other programs' are read, damage is told with its place."""

from __future__ import annotations

import io
import json
import math
import os
import re
import tracemalloc
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import freewire as fw
from freewire.files import csv_format
from tests.support.graphs import CASES, assert_same_graph, graphs
from tests.support.messages import FORM, assert_refused

ENDINGS = (".csv", ".graphml", ".json")
ANY_TMP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def again(g: fw.Graph, path: Path) -> fw.Graph:
    fw.write_graph(g, path)
    return fw.read_graph(path)


def text_of(g: fw.Graph, path: Path) -> str:
    fw.write_graph(g, path)
    return path.read_text(encoding="utf-8")


def renamed(g: fw.Graph, names) -> fw.Graph:
    """``g`` with other names, in the same order."""
    named = nx.relabel_nodes(g.to_networkx(), dict(zip(g.nodes, names, strict=True)))
    return fw.Graph.from_networkx(named)


@st.composite
def stored_graphs(draw: st.DrawFn) -> fw.Graph:
    """Any graph, with any numbers stored where some are stored, signs, frozen edges and names of any text."""
    g = draw(graphs())
    numbers = st.floats(allow_nan=True)
    options = {}
    for name, values, length in (
        ("weight", numbers, g.num_edges),
        ("sign", st.sampled_from((-1, 0, 1)), g.num_edges),
        ("frozen", st.booleans(), g.num_edges),
        ("bias", numbers, g.num_nodes),
    ):
        options[name] = draw(st.lists(values, min_size=length, max_size=length)) if draw(st.booleans()) else None
    G = g.with_values().to_networkx()  # noqa: N806
    for e, (_, _, data) in enumerate(G.edges(data=True)):
        data |= {k: v[e] for k, v in options.items() if v and k != "bias" and v[e] == v[e]}
    for i, (node, data) in enumerate(G.nodes(data=True)):
        if options["bias"] and options["bias"][i] == options["bias"][i] and node not in g.inputs:
            data["bias"] = options["bias"][i]
    kind = draw(st.sampled_from(("numbers", "texts", "as they are")))
    if kind == "as they are":
        return fw.Graph.from_networkx(G)
    name = st.integers(-(2**63), 2**63 - 1)
    if kind == "texts":
        name = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8).map(
            lambda s: s + "\u20ac,"
        )
    names = draw(st.lists(name, unique=True, min_size=g.num_nodes, max_size=g.num_nodes))
    return fw.Graph.from_networkx(nx.relabel_nodes(G, dict(zip(list(G), names, strict=True))))


@pytest.mark.parametrize("ending", ENDINGS)
class TestRoundTrip:
    """write_graph, then read_graph."""

    @pytest.mark.parametrize("name", CASES)
    def test_cases(self, name, ending, tmp_path):
        assert_same_graph(again(CASES[name], tmp_path / f"g{ending}"), CASES[name])

    @ANY_TMP
    @given(graphs())
    def test_any_graph(self, ending, tmp_path, g):
        assert_same_graph(again(g, tmp_path / f"g{ending}"), g)

    @ANY_TMP
    @given(stored_graphs())
    def test_anything_stored(self, ending, tmp_path, g):
        assert_same_graph(again(g, tmp_path / f"g{ending}"), g)

    def test_numbers_are_exact(self, ending, tmp_path):
        weights = [0.1, 1 / 3, -0.0, 5e-324, -1.7976931348623157e308, math.inf, -math.inf, math.nan]
        g = fw.Graph.from_edges([0] * 8, [1] * 8).with_values(weight=weights, bias=[math.nan, 0.1 + 0.2])
        found = again(g, tmp_path / f"g{ending}")
        assert found.weight.tobytes() == g.weight.tobytes()
        assert found.bias.tobytes() == g.bias.tobytes()

    @pytest.mark.parametrize(
        "names",
        [
            ("x", "y", "z"),
            (5, 3, -4),
            (2, 1, 0),
            ("1", "2", "c"),
            ("01", "2", "3"),
            ("a,b", 'c"d', "e;f"),
            ("source", "target", "weight"),
            ("<&>", "\N{SNOWMAN}", "a\u00a0b"),
            ("# x", "'", "\N{BYTE ORDER MARK}x"),
            (np.int64(7), np.int64(8), np.int64(9)),
        ],
        ids=lambda names: "-".join(map(repr, names)),
    )
    def test_names(self, names, ending, tmp_path):
        g = renamed(fw.Graph.from_edges([0, 1], [1, 2], weight=[1.0, 2.0]), names)
        found = again(g, tmp_path / f"g{ending}")
        assert_same_graph(found, g)
        assert all(isinstance(name, str) == isinstance(names[0], str) for name in found.nodes)

    def test_arguments_are_the_constructors(self, ending, tmp_path):
        wires = nx.DiGraph([("a", "b"), ("b", "c"), ("d", "c")])
        if ending == ".csv":
            Path(tmp_path, "g.csv").write_text("a,b\nb,c\nd,c\n")
        elif ending == ".json":
            Path(tmp_path, "g.json").write_text(json.dumps(nx.node_link_data(wires)))
        else:
            nx.write_graphml_xml(wires, tmp_path / "g.graphml")
        options = dict(inputs=["d", "a"], outputs=["c", "b"], activation="tanh", output_activation="sin")
        assert_same_graph(fw.read_graph(tmp_path / f"g{ending}", **options), fw.Graph.from_networkx(wires, **options))
        assert_refused(
            lambda: fw.read_graph(tmp_path / f"g{ending}", inputs=["x"]), "inputs: expected nodes of the graph"
        )
        assert_refused(lambda: fw.read_graph(tmp_path / f"g{ending}", activation="x"), "activation: expected one of")

    def test_arguments_win_over_marks_and_lose_to_attributes(self, ending, tmp_path):
        g = CASES["all_activations"]
        fw.write_graph(g, tmp_path / f"g{ending}")
        found = fw.read_graph(tmp_path / f"g{ending}", inputs=[1, 0], outputs=[5, 3], activation="sin")
        assert (found.inputs, found.outputs) == ((1, 0), (5, 3))
        np.testing.assert_array_equal(found.activation, g.activation)

    def test_any_case_of_the_ending(self, ending, tmp_path):
        assert_same_graph(again(CASES["random"], tmp_path / f"g{ending.upper()}"), CASES["random"])

    def test_written_whole_or_not_at_all(self, ending, tmp_path, monkeypatch):
        path = tmp_path / f"g{ending}"
        fw.write_graph(CASES["diamond"], path)

        def fails(*_):
            raise OSError("disk full")

        monkeypatch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="disk full"):
            fw.write_graph(CASES["chain"], path)
        monkeypatch.undo()
        assert list(tmp_path.iterdir()) == [path]
        assert_same_graph(fw.read_graph(path), CASES["diamond"])

    def test_a_cycle_is_named(self, ending, tmp_path):
        path = tmp_path / f"g{ending}"
        text = text_of(renamed(fw.Graph.from_edges([0, 1], [1, 2], weight=[1.0, 2.0]), "abc"), path)
        path.write_text(
            text.replace("b,c", "b,a").replace('"target": "c"', '"target": "a"').replace('target="c"', 'target="a"')
        )
        assert_refused(lambda: fw.read_graph(path, inputs=[]), "graph: expected no cycle, got ")

    @ANY_TMP
    @given(st.sampled_from(("mixed_aggregations", "parallel_edges", "deaf")), st.data())
    def test_damage_is_told(self, ending, tmp_path, name, data):
        """A file cut, with bytes lost, changed or doubled: it is read, or refused in the one form."""
        path = tmp_path / f"g{ending}"
        g = CASES[name]
        fw.write_graph(g.with_values(np.linspace(-1, 1, g.num_edges)), path)
        raw = path.read_bytes()
        for _ in range(data.draw(st.integers(1, 3))):
            a, b = sorted(data.draw(st.tuples(st.integers(0, len(raw)), st.integers(0, len(raw)))))
            b = min(b, a + 20) if data.draw(st.booleans()) else b
            raw = data.draw(
                st.sampled_from((raw[:a], raw[:a] + raw[b:], raw[:b] + raw[a:]))
                | st.binary(max_size=3).map(lambda new, a=a, raw=raw: raw[:a] + new + raw[a + len(new) :])
                | st.sampled_from(',;"\t\n-[]{}<>&/0 a').map(lambda c, a=a, raw=raw: raw[:a] + c.encode() + raw[a:])
            )
        path.write_bytes(raw)
        told = None
        try:
            fw.read_graph(path)
        except (fw.FileFormatError, fw.GraphError) as error:
            told = str(error)
        assert told is None or FORM.fullmatch(told), told


class TestBorder:
    """Paths and types."""

    def test_read(self, tmp_path):
        Path(tmp_path, "g.txt").touch()
        assert_refused(
            lambda: fw.read_graph(tmp_path / "g.txt"), "path: expected a name that ends in", fw.FileFormatError
        )
        with pytest.raises(FileNotFoundError, match=r"path: expected a graph file, got .*g.csv', which is no file\."):
            fw.read_graph(tmp_path / "g.csv")

    def test_write(self, tmp_path):
        g = CASES["diamond"]
        assert_refused(
            lambda: fw.write_graph(g, tmp_path / "g"), "path: expected a name that ends in", fw.FileFormatError
        )
        with pytest.raises(FileNotFoundError, match="path: expected an existing folder, got "):
            fw.write_graph(g, tmp_path / "no" / "g.csv")
        assert_refused(
            lambda: fw.write_graph(g.to_networkx(), tmp_path / "g.csv"), "graph: expected a freewire Graph, got DiGraph"
        )

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ((1, "x"), "node names: expected all strings or all integers in a text file, got 1 (int). Write .json"),
            ((True, "x"), "node names: expected all strings or all integers in a text file, got True (bool)."),
            (
                ("a", "b\t"),
                "node names: expected text without control characters and outer spaces in a text file, got 'b",
            ),
            (("a", "b\ud800"), "node names: expected text without control characters and outer spaces"),
            (("a", "b\uffff"), "node names: expected text without control characters and outer spaces"),
            (("0", "1"), "node names: expected integers, or a string among them that is none, got strings such as '0'"),
            ((0, 2**63), "node names: expected integers of 64 bits in a text file, got 9223372036854775808."),
            (("", "b"), "node names: expected text without control characters and outer spaces in a text file, got ''"),
            (("b", " "), "node names: expected text without control characters and outer spaces in a text file"),
            (("a\nb", "b"), "node names: expected text without control characters and outer spaces in a text file"),
            ((("a", ("b", 1)), 0.5), "node names: expected all strings or all integers in a text file, got ('a', ("),
        ],
        ids=str,
    )
    def test_text_cannot_hold_every_name(self, names, said, tmp_path):
        g = renamed(CASES["single_edge"], names)
        for ending in (".csv", ".graphml"):
            assert_refused(lambda ending=ending: fw.write_graph(g, tmp_path / f"g{ending}"), re.escape(said))
        assert_same_graph(again(g, tmp_path / "g.json"), g)

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ((0, frozenset()), "node name: expected str, int, float, bool or a tuple of them, got frozenset"),
            ((0, math.nan), "node names: expected names that equal themselves when read back, got nan"),
            ((0, (1, math.nan)), "node names: expected names that equal themselves when read back, got "),
        ],
        ids=str,
    )
    def test_json_cannot_hold_every_name(self, names, said, tmp_path):
        assert_refused(lambda: fw.write_graph(renamed(CASES["single_edge"], names), tmp_path / "g.json"), said)
        assert list(tmp_path.iterdir()) == []


def read_csv(tmp_path: Path, content: str | bytes, **options) -> fw.Graph:
    path = tmp_path / "g.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return fw.read_graph(path, **options)


class TestCsv:
    """What people have, and what ours looks like."""

    @pytest.mark.parametrize(
        "content",
        [
            "a,b,0.5\nb,c,-2\n",
            "pre,post,weight\na,b,0.5\nb,c,-2\n",
            "Source,Target,Weight\r\na,b,0.5\r\nb,c,-2\r\n",
            "pre;post;weight\na;b;0.5\nb;c;-2",
            "from\tto\tweight\na\tb\t0.5\nb\tc\t-2\n",
            "\ufeffsource,target,weight\na,b,0.5\nb,c,-2\n",
            '"pre","post","weight"\n"a","b",0.5\n"b","c",-2\n',
            ",pre,post,weight\n0,a,b,0.5\n1,b,c,-2\n",
            ",p,q,weight\n0,a,b,0.5\n1,b,c,-2\n",
            "weight,type,target,source\n0.5,x,b,a\n-2,y,c,b\n",
            "one,other,weight\na,b,0.5\nb,c,-2\n",
            "a , b, 0.5\n\nb,  c, -2\n\n",
            "bodyId_pre,bodyId_post,roi,weight\na,b,EB,0.5\nb,c,FB,-2\n",
            "source,target,weight,activation\na,,,tanh\na,b,0.5,\nb,c,-2,\n",
        ],
    )
    def test_other_peoples(self, content, tmp_path):
        found = read_csv(tmp_path, content)
        assert_same_graph(
            found, fw.Graph.from_networkx(nx.DiGraph([("a", "b", {"weight": 0.5}), ("b", "c", {"weight": -2})]))
        )

    def test_plain_integers(self, tmp_path):
        assert_same_graph(read_csv(tmp_path, "2,1\n0,2\n"), fw.Graph.from_edges([2, 0], [1, 2]))
        assert_same_graph(read_csv(tmp_path, "u,v\n2,1\n0,2\n"), fw.Graph.from_edges([2, 0], [1, 2]))
        assert read_csv(tmp_path, "2,1\n0,2\n").nodes == range(3)

    def test_quotes_after_a_space_and_a_byte_order_mark(self, tmp_path):
        assert read_csv(tmp_path, 'a, "b,c"\n').nodes == ("a", "b,c")
        assert read_csv(tmp_path, "\ufeff1,0\n").nodes == range(2)

    def test_sparse_integers_are_names(self, tmp_path):
        g = read_csv(tmp_path, "pre_root_id,post_root_id\n720575940623431234,5\n5,7\n-1,5\n")
        assert g.nodes == (-1, 5, 7, 720575940623431234)
        assert g.inputs == (-1, 720575940623431234)

    @pytest.mark.parametrize("odd", ["x", "07", "+7", "7.0", "1_0", "\u0667", "-0", str(2**63), "9" * 5000])
    def test_one_text_makes_all_names_texts(self, odd, tmp_path):
        """Far behind the numbers, in another chunk, too."""
        rows = [f"{k},{k + 1}" for k in range(csv_format.CHUNK + 3)]
        g = read_csv(tmp_path, "\n".join([*rows, f"0,{odd}"]))
        assert g.nodes[:2] == ("0", "1")
        assert g.nodes[-1] == odd

    def test_some_weights(self, tmp_path):
        g = read_csv(tmp_path, "pre,post,weight,sign,frozen\n0,1,,1,True\n0,1,inf,-1.0,\n1,2,3,,0\n")
        np.testing.assert_array_equal(g.weight, [math.nan, math.inf, 3])
        assert g.sign.tolist() == [1, -1, 0]
        assert g.frozen.tolist() == [True, False, False]

    def test_a_hand_written_one(self, tmp_path):
        nodes = "x,,,true,\nlone,,sin,,\ny,,tanh,,1\nz,,,,0\n"
        g = read_csv(tmp_path, f"source,target,activation,input,output\n{nodes}x,y,,,\nx,z,,,\nw,z,,,\n")
        assert (g.nodes, g.inputs, g.outputs) == (("x", "lone", "y", "z", "w"), ("x",), ("z", "y"))
        assert [fw.graph.ACTIVATIONS[code] for code in g.activation] == ["linear", "sin", "tanh", "linear", "relu"]

    def test_a_plain_list_stays_one(self, tmp_path):
        g = fw.Graph.from_edges([0, 1, 0], [1, 2, 2], weight=[0.1, 2, -3])
        assert text_of(g, tmp_path / "g.csv") == "source,target,weight\n0,1,0.1\n0,2,-3.0\n1,2,2.0\n"
        assert text_of(g.with_values(), tmp_path / "g.csv") == "source,target\n0,1\n0,2\n1,2\n"
        named = fw.Graph.from_networkx(nx.DiGraph([("x", "h"), ("h", "y")]))
        assert text_of(named, tmp_path / "g.csv") == "source,target\nx,h\nh,y\n"

    def test_nodes_are_declared_where_needed(self, tmp_path):
        g = fw.Graph.from_edges([0], [1], num_nodes=3, inputs=[0], outputs=[1], aggregation="max").with_values(
            bias=[math.nan, 0.5, math.nan]
        )
        assert text_of(g, tmp_path / "g.csv") == (
            "source,target,activation,aggregation,bias,input,output\n"
            "0,,,,,0,\n1,,linear,max,0.5,,0\n2,,relu,max,,,\n0,1,,,,,\n"
        )

    @pytest.mark.parametrize(
        ("content", "line", "said"),
        [
            ("", 1, "expected two columns or more with a comma, semicolon or tab between them, got ''"),
            ("a b\n", 1, "expected two columns or more with a comma, semicolon or tab between them, got 'a b'"),
            (b"a,b\nc,\xff\n", 2, "expected UTF-8 text, got the byte 0xff. Save"),
            (b"\xff\xfea\x00,\x00b\x00", 1, "expected UTF-8 text, got the byte 0xff. Save"),
            ("a,b\n\nb,c,d\n", 3, "expected 2 cells as in the first line, got 3"),
            ("pre,post,weight\na,b,1\nb,c\n", 3, "expected 3 cells as in the first line, got 2"),
            ("pre,post\na,b\n,c\n", 3, "expected a node name as source, got an empty cell"),
            ("pre,post\na,b\n,\n", 3, "expected a node name as source, got an empty cell"),
            ("pre,post,weight\na,b,1\nb,,1\n", 3, "expected a target, since there is a weight, got an empty cell"),
            ('"a\n1",b,1\nb,c,x\n', 3, "expected a number as weight, got 'x'"),
            ("a,b,1\n" * 2000 + "b,c,nan\n" + "a,b,1\n" * 2000, 2001, "expected a number as weight, got 'nan'"),
            ("pre,post,sign\na,b,1\nb,c,2\n", 3, "expected -1, 0 or 1 as sign, got '2'"),
            ("pre,post,frozen\na,b,yes\n", 2, "expected true or false as frozen, got 'yes'"),
            ("pre,post,bias\na,,0\na,b,3\n", 3, "expected no bias on an edge, got '3'"),
            ("pre,post,bias\na,b,\nb,,x\n", 3, "expected a number as bias, got 'x'"),
            ("pre,post,activation\na,b,\nb,,ReLU\n", 3, "expected one of linear, relu, .* as activation, got 'ReLU'"),
            ("pre,post,aggregation\nb,,sun\n", 2, "expected one of sum, mean, .* as aggregation, got 'sun'"),
            ("pre,post,input\na,,first\n", 2, "expected a place, true or false as input, got 'first'"),
            ("pre,post\na,\na,b\na,\n", 4, "expected each node declared once, got 'a' again"),
            ("\npre,post,weight,weight\na,b,1,2\n", 2, "expected one column weight, got 2"),
            ('a,b\nb,"c\nd,e\n', 3, "expected cells with a ',' between them, got something else .unexpected end"),
            ('a,b\nb,"c"d\n', 2, "expected cells with a ',' between them, got something else "),
            (
                f"a,b\nb,{'c' * 200_000}\n",
                2,
                "expected cells with a ',' between them, got something else .field larger",
            ),
            (f"{'c' * 200_000},b\n", 1, "expected cells with a ',' between them, got something else .field larger"),
        ],
    )
    def test_errors_say_where(self, content, line, said, tmp_path):
        assert_refused(lambda: read_csv(tmp_path, content), f".*g.csv, line {line}: {said}", fw.FileFormatError)

    def test_memory_is_a_few_times_the_file(self, tmp_path):
        """And not a Python object a cell."""
        g = fw.generators.random_graph(100, 4000, 10, 25, seed=0)
        fw.write_graph(g.with_values(np.arange(g.num_edges) / 7), tmp_path / "g.csv")
        tracemalloc.start()
        try:
            found = fw.read_graph(tmp_path / "g.csv")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found.num_edges == g.num_edges
        assert peak < 8 * os.path.getsize(tmp_path / "g.csv")


def read_graphml(tmp_path: Path, content: str | bytes) -> fw.Graph:
    path = tmp_path / "g.graphml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return fw.read_graph(path)


HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
BODY = '<graph edgedefault="directed"><node id="a"/><node id="b"/><edge source="a" target="b"/></graph></graphml>'
WEIGHT = '<key id="w" for="edge" attr.name="weight" attr.type="int">'


class TestGraphml:
    """networkx's, Gephi's, igraph's and yEd's dialects, and what is refused."""

    @pytest.mark.parametrize("multi", [False, True])
    def test_networkxs(self, multi, tmp_path):
        G = (nx.MultiDiGraph if multi else nx.DiGraph)()  # noqa: N806
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
    <node id="n2"><data key="act">cos</data></node>
    <edge source="n0" target="n1"/>
    <edge source="n0" target="n2"/>
  </graph>
</graphml>"""
        g = read_graphml(tmp_path, text)
        assert g.nodes == ("n0", "n1", "n2")
        assert [fw.graph.ACTIVATIONS[code] for code in g.activation] == ["linear", "sin", "cos"]
        np.testing.assert_array_equal(g.weight, [-1, math.nan, math.nan])
        assert g.frozen.tolist() == [False, True, True]

    def test_other_namespaces_are_passed_over(self, tmp_path):
        text = HEAD.replace("<graphml", '<graphml xmlns:y="http://www.yworks.com/xml/graphml"') + (
            '<key id="d0" for="node" yfiles.type="nodegraphics"/><graph edgedefault="directed"><node id="a">'
            '<data key="d0"><y:ShapeNode><y:node id="q"/><y:data/></y:ShapeNode></data></node><node id="b"/>'
            '<edge source="a" target="b"/></graph></graphml>'
        )
        assert read_graphml(tmp_path, text).nodes == ("a", "b")
        assert read_graphml(tmp_path, "<graphml>" + BODY).nodes == ("a", "b")

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
            ("<edge", '<edge directed="false"', 'directed edges, got directed="false"'),
            ("</graph>", "</graph><graph/>", "one graph, got another one in it or behind it"),
            ("<edge", "<hyperedge/><edge", "edges from one node to another, got a hyperedge"),
            ('id="b"', 'id="a"', "each node once, got 'a' again"),
            ('id="b"', "", "<node> with an attribute id, got none"),
            ('target="b"', "", "<edge> with an attribute target, got none"),
            ('target="b"', 'target="c"', "edges between nodes of the file, got 'c'"),
            ('id="b"/>', 'id="b"><data key="k">1</data></node>', "data with a declared key, got 'k'"),
            (BODY, "</graphml>", "a <graph>, got a file without one"),
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


def read_json(tmp_path: Path, document) -> fw.Graph:
    path = tmp_path / "g.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return fw.read_graph(path)


NODES = [{"id": "a"}, {"id": "b"}]
EDGES = [{"source": "a", "target": "b"}]
PLAIN = {"directed": True, "nodes": NODES, "edges": EDGES}


class TestJson:
    """The node-link format, both ways."""

    @pytest.mark.parametrize("key", ["edges", "links"])
    @pytest.mark.parametrize("multi", [False, True])
    def test_networkxs(self, key, multi, tmp_path):
        G = (nx.MultiDiGraph if multi else nx.DiGraph)()  # noqa: N806
        G.add_edge(("a", 1), "b", weight=1, colour=[1, 2])
        G.add_edge("b", 2.5, weight=0.5, frozen=True)
        if multi:
            G.add_edge("b", 2.5, weight=None)
            del G.edges["b", 2.5, 1]["weight"]
        G.nodes["b"]["activation"] = "tanh"
        document = nx.node_link_data(G)
        edges = document.pop("edges", None) or document.pop("links")
        assert_same_graph(read_json(tmp_path, {**document, key: edges}), fw.Graph.from_networkx(G))

    @pytest.mark.parametrize("name", ["diamond", "parallel_edges"])
    def test_networkx_reads_ours(self, name, tmp_path):
        document = json.loads(text_of(CASES[name], tmp_path / "g.json"))
        assert list(document) == ["directed", "multigraph", "graph", "nodes", "edges"]
        G = nx.node_link_graph(document, **({"edges": "edges"} if nx.__version__ >= "3.4" else {"link": "edges"}))  # noqa: N806
        assert nx.utils.graphs_equal(G, CASES[name].to_networkx())

    def test_null_is_nothing(self, tmp_path):
        edges = [{"source": "a", "target": "b", "weight": None}]
        assert read_json(tmp_path, {**PLAIN, "edges": edges}).weight is None

    @pytest.mark.parametrize(
        ("document", "said", "error"),
        [
            ('{"nodes": [\n1,', ", line 2: expected JSON, got something else .Expecting value", None),
            ("[" * 100_000, ": expected JSON, got what cannot be read ", None),
            ('{"nodes": ' + "9" * 5000 + "}", ": expected JSON, got what cannot be read ", None),
            ([], ': expected an object with "nodes" and either "edges" or "links", got neither', None),
            ({"nodes": []}, ': expected an object with "nodes" and either "edges" or "links", got nodes', None),
            ({**PLAIN, "links": []}, ": expected an object .*, got nodes, edges, links", None),
            ({**PLAIN, "directed": False}, ': expected a directed graph, got false as "directed"', fw.GraphError),
            ({"nodes": NODES, "links": EDGES}, ': expected a directed graph, got none as "directed"', fw.GraphError),
            ({**PLAIN, "directed": 1}, ': expected a directed graph, got something else as "directed"', fw.GraphError),
            ({**PLAIN, "nodes": {}}, ': expected a list of objects as "nodes", got something else', None),
            ({**PLAIN, "edges": [[0, 1]]}, ': expected a list of objects as "edges", got something else', None),
            ({**PLAIN, "nodes": [{}]}, ': expected a name as "id" of node 0, got none', None),
            ({**PLAIN, "nodes": [{"id": None}]}, ': expected a name as "id" of node 0, got none', None),
            ({**PLAIN, "nodes": NODES * 2}, ": expected each node once, got 'a' again", None),
            ({**PLAIN, "edges": [{"source": "a"}]}, ': expected a name as "target" of edge 0, got none', None),
            ({**PLAIN, "nodes": [{"id": "a"}]}, ": expected edges between nodes of the file, got 'b'", None),
        ],
        ids=lambda value: None if isinstance(value, type) else str(value)[:40],
    )
    def test_errors(self, document, said, error, tmp_path):
        assert_refused(lambda: read_json(tmp_path, document), f".*g.json{said}", error or fw.FileFormatError)

    def test_attributes_are_checked_as_a_callers(self, tmp_path):
        nodes = [{"id": "a"}, {"id": "b", "activation": ["relu"]}]
        assert_refused(
            lambda: read_json(tmp_path, {**PLAIN, "nodes": nodes}), "activation of node 'b': expected one of"
        )
        edges = [{**EDGES[0], "weight": math.nan}]
        assert_refused(
            lambda: read_json(tmp_path, {**PLAIN, "edges": edges}), "weight of edge 'a' -> 'b': expected a n"
        )


def test_networkx_reads_our_graphml(tmp_path):
    for name in ("diamond", "parallel_edges", "mixed_aggregations"):
        g = CASES[name]
        G = nx.read_graphml(io.BytesIO(text_of(g, tmp_path / "g.graphml").encode()), node_type=int)  # noqa: N806
        assert_same_graph(fw.Graph.from_networkx(G), g)
