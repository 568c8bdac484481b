# SPDX-License-Identifier: MIT
"""Edge lists in CSV: what people have, what is written, and what is refused."""

from __future__ import annotations

import math
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import freewire as fw
from freewire.files import csv_format
from tests.support.files import again, edge_list, edge_lists, read_text, text_of
from tests.support.graphs import CASES, assert_same_graph, graphs, renamed
from tests.support.messages import FORM, assert_refused


def read_csv(tmp_path: Path, content: str | bytes, **options: Any) -> fw.Graph:
    return read_text(tmp_path / "g.csv", content, **options)


class TestRead:
    """Edge lists of other programs."""

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
        ],
    )
    def test_dialects(self, content, tmp_path):
        found = read_csv(tmp_path, content)
        assert_same_graph(
            found, fw.Graph.from_networkx(nx.DiGraph([("a", "b", {"weight": 0.5}), ("b", "c", {"weight": -2})]))
        )

    def test_plain_integers(self, tmp_path):
        assert_same_graph(read_csv(tmp_path, "2,1\n0,2\n"), fw.Graph.from_edges([2, 0], [1, 2]))
        assert_same_graph(read_csv(tmp_path, "u,v\n2,1\n0,2\n"), fw.Graph.from_edges([2, 0], [1, 2]))
        assert read_csv(tmp_path, "2,1\n0,2\n").nodes == range(3)

    def test_quotes_after_a_space_and_a_byte_order_mark(self, tmp_path):
        assert read_csv(tmp_path, 'a, "b,c"\n', header=False).nodes == ("a", "b,c")
        assert read_csv(tmp_path, "\ufeff1,0\n").nodes == range(2)

    def test_sparse_integers_are_names(self, tmp_path):
        g = read_csv(tmp_path, "pre_root_id,post_root_id\n720575940623431234,5\n5,7\n-1,5\n")
        assert g.nodes == (-1, 5, 7, 720575940623431234)
        assert g.inputs == (-1, 720575940623431234)

    @pytest.mark.parametrize("odd", ["x", "07", "+7", "7.0", "1_0", "\u0667", "-0", str(2**63), "9" * 5000])
    def test_one_text_makes_all_names_texts(self, odd, tmp_path):
        """Even far behind the numbers, in another chunk."""
        rows = [f"{k},{k + 1}" for k in range(csv_format.CHUNK + 3)]
        g = read_csv(tmp_path, "\n".join([*rows, f"0,{odd}"]))
        assert g.nodes[:2] == ("0", "1")
        assert g.nodes[-1] == odd

    def test_some_weights(self, tmp_path):
        g = read_csv(tmp_path, "pre,post,weight,sign,frozen\n0,1,,1,True\n0,1,inf,-1.0,\n1,2,3,,0\n")
        np.testing.assert_array_equal(g.weight, [math.nan, math.inf, 3])
        assert g.sign.tolist() == [1, -1, 0]
        assert g.frozen.tolist() == [True, False, False]

    def test_columns_without_gaps(self, tmp_path):
        g = read_csv(tmp_path, "pre,post,sign,frozen\n0,1,+1,TRUE\n0,1,-1.0,0\n1,2,0,false\n")
        assert g.sign.tolist() == [1, -1, 0]
        assert g.frozen.tolist() == [True, False, False]

    @pytest.mark.parametrize(
        ("content", "line", "said"),
        [
            ("", 1, "expected two columns or more with a comma, semicolon or tab between them, got ''"),
            ("a b\n", 1, "expected two columns or more with a comma, semicolon or tab between them, got 'a b'"),
            (b"a,b\nc,\xff\n", 2, "expected UTF-8 text, got the byte 0xff. Save"),
            (b"\xff\xfea\x00,\x00b\x00", 1, "expected UTF-8 text, got the byte 0xff. Save"),
            ("a,b\n\nb,c,d\n", 3, "expected 2 cells as in the first line, got 3"),
            ("pre,post,weight\na,b,1\nb,c\n", 3, "expected 3 cells as in the first line, got 2"),
            ("pre,post\na,b\n,c\n", 3, "expected a source node, got an empty cell"),
            ("pre,post\na,b\n,\n", 3, "expected a source node, got an empty cell"),
            (
                "pre,post,weight\na,b,1\nb,,1\n",
                3,
                "expected a target node, got an empty cell. Node attributes and nodes ",
            ),
            ('pre,post,note,weight\na,b,"x\ny",1\nb,c,,x\n', 4, "expected a number as weight, got 'x'"),
            ('a,b,1\n"b\n1",c,1\n', 2, "expected node names without control characters, got 'b.n1'. Rename"),
            ("a,b,1\nb,c\0,1\n", 2, "expected node names without control characters, got 'c.x00'"),
            ("pre,post\na,b\n\x01,c\n", 3, "expected node names without control characters, got '.x01'"),
            (
                "0,a,b\n",
                1,
                "expected a number as weight, got 'b'. There is no header, so the third column is the weight. Pass so",
            ),
            ("pre,post,weight\na,b,x\n", 2, "expected a number as weight, got 'x'. Correct it or rename column weight"),
            ("a,b,1\n" * 2000 + "b,c,nan\n" + "a,b,1\n" * 2000, 2001, "expected a number as weight, got 'nan'"),
            ("pre,post,sign\na,b,1\nb,c,2\n", 3, "expected -1, 0 or 1 as sign, got '2'"),
            ("pre,post,sign\na,b,true\n", 2, "expected -1, 0 or 1 as sign, got 'true'"),
            ("pre,post,frozen\na,b,1\nb,c,1.0\n", 3, "expected true or false as frozen, got '1.0'"),
            ("pre,post,frozen\na,b,yes\n", 2, "expected true or false as frozen, got 'yes'"),
            (
                "a,\n",
                1,
                "expected a target node, got an empty cell. Node attributes and nodes without edges are read from",
            ),
            (
                "pre,post,bias\na,b,3\n",
                1,
                "expected columns of edges, got a column bias. Rename that column. Node attr",
            ),
            ("pre,post,aggregation\na,b,\n", 1, "expected columns of edges, got a column aggregation. Rename"),
            ("Pre,Post,Activation\na,,tanh\n", 1, "expected columns of edges, got a column activation. Rename"),
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
        """There is not a Python object per cell."""
        g = edge_list(fw.generators.random_graph(100, 4000, 10, 25, seed=0))
        fw.write_graph(g.with_values(np.arange(g.num_edges) / 7), tmp_path / "g.csv")
        tracemalloc.start()
        try:
            found = fw.read_graph(tmp_path / "g.csv")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found.num_edges == g.num_edges
        assert peak < 8 * os.path.getsize(tmp_path / "g.csv")

    @pytest.mark.parametrize("cell", ["x", "07", "1_0", "", "None"])
    def test_a_column_of_another_meaning_is_ignored(self, cell, tmp_path):
        assert_same_graph(
            read_csv(tmp_path, f"pre,post,type,weight\na,b,{cell},2\n"), read_csv(tmp_path, "pre,post,weight\na,b,2\n")
        )


class TestWrite:
    """Edge lists, and graphs that are more than their edges."""

    @pytest.mark.parametrize(
        ("sizes", "said"),
        [
            ((2**17, 1000), None),
            ((2**17, 2**17 - 2), None),
            ((2**17, 2**17 - 1), "rows of at most 262,144 characters in .csv, got 262,145: "),
            ((2**17 + 1, 1), "node names of at most 131,072 characters in .csv, got 131,073: "),
            ((1, 300_000), "node names of at most 131,072 characters in .csv, got 300,000: "),
        ],
    )
    def test_what_a_reader_would_refuse_is_not_written(self, sizes, said, tmp_path):
        g = renamed(CASES["single_edge"], tuple(letter * size for letter, size in zip("xy", sizes, strict=True)))
        path = tmp_path / "g.csv"
        if said is None:
            assert_same_graph(again(g, path), g)
        else:
            assert_refused(lambda: fw.write_graph(g, path), f"graph: expected {said}")
            assert not path.exists()

    def test_a_plain_list_stays_one(self, tmp_path):
        """Rows are in the caller's order, so that a list that was read is written again as it was."""
        g = fw.Graph.from_edges([0, 1, 0], [1, 2, 2], weight=[0.1, 2, -3])
        assert text_of(g, tmp_path / "g.csv") == "source,target,weight\n0,1,0.1\n1,2,2.0\n0,2,-3.0\n"
        assert text_of(g.with_values(), tmp_path / "g.csv") == "source,target\n0,1\n1,2\n0,2\n"
        named = fw.Graph.from_networkx(nx.DiGraph([("x", "h"), ("h", "y")]))
        assert text_of(named, tmp_path / "g.csv") == "source,target\nx,h\nh,y\n"
        content = "source,target,weight,sign,frozen\nb,a,0.5,,true\nc,a,,-1,\na,d,-2.0,1,\nb,d,inf,,\nb,d,1.0,,\n"
        assert text_of(read_csv(tmp_path, content), tmp_path / "again.csv") == content

    @pytest.mark.parametrize(
        ("g", "got"),
        [
            (fw.Graph.from_edges([0, 1], [1, 2], activation="tanh"), "activations other than relu (linear at outputs)"),
            (
                fw.Graph.from_edges([0, 1], [1, 2], output_activation="tanh"),
                "activations other than relu (linear at outputs)",
            ),
            (fw.Graph.from_edges([0, 1], [1, 2], aggregation="max"), "nodes with their own aggregation"),
            (fw.Graph.from_edges([0], [1], bias=[0, 0]), "nodes with their own bias"),
            (fw.Graph.from_edges([0], [1], num_nodes=3), "nodes without edges"),
            (fw.Graph.from_edges([], [], num_nodes=1), "nodes without edges"),
            (fw.Graph.from_edges([0, 2], [1, 1], inputs=[0]), "inputs that are not the nodes of in-degree 0, in order"),
            (
                fw.Graph.from_edges([0, 2], [1, 1], inputs=[2, 0]),
                "inputs that are not the nodes of in-degree 0, in order",
            ),
            (fw.Graph.from_edges([0, 1], [1, 2], inputs=[]), "inputs that are not the nodes of in-degree 0, in order"),
            (
                fw.Graph.from_edges([0, 1], [1, 2], outputs=[2, 1], activation=["linear"] * 3),
                "outputs that are not the nodes of out-degree 0, in order",
            ),
            (
                fw.Graph.from_edges([0, 0], [1, 2], outputs=[2, 1]),
                "outputs that are not the nodes of out-degree 0, in order",
            ),
            (renamed(fw.Graph.from_edges([0], [1]), (7, 5)), "nodes in an order that a reader would not restore"),
            (
                renamed(fw.Graph.from_edges([0, 1], [2, 2]), ("x", "y", "z")),
                "nodes in an order that a reader would not restore",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_graph_that_is_more_than_its_edges_is_refused(self, g, got, tmp_path):
        said = f"graph: expected one that a plain edge list determines, got {got}. Write .json (or .graphml), which"
        assert_refused(lambda: fw.write_graph(g, tmp_path / "g.csv"), re.escape(said))
        assert list(tmp_path.iterdir()) == []
        assert_same_graph(again(g, tmp_path / "g.json"), g)
        assert_same_graph(again(g, tmp_path / "g.graphml"), g)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(graphs() | edge_lists())
    def test_any_graph_comes_back_or_is_refused(self, tmp_path, g):
        message = None
        try:
            found = again(g, tmp_path / "g.csv")
        except fw.GraphError as error:
            message = str(error)
        if message is None:
            assert_same_graph(found, g)
        else:
            assert FORM.fullmatch(message)
            assert "Write .json" in message
