# SPDX-License-Identifier: MIT
"""Which cells of a CSV file are edges: what only one meaning fits is read, and all else refused with the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import freewire as fw
from freewire.files.columns import ENDS, UNCLEAR
from tests.support.files import read_text
from tests.support.messages import assert_refused

A_B = [("a", "b")]
A_B_C = [("a", "b"), ("b", "c")]


def edges(path: Path, content: str, **options: Any) -> tuple[list[tuple[Any, Any]], list[float] | None]:
    """Edges in the file's order, and their weights."""
    g = read_text(path, content, **options)
    ends = g.edge_index[:, g.edge_position].T.tolist()
    return [(g.nodes[u], g.nodes[v]) for u, v in ends], None if g.weight is None else g.weight[g.edge_position].tolist()


READ: dict[str, tuple[str, list[tuple[Any, Any]], list[float] | None]] = {
    "a spreadsheet's separator": ("sep=;\nsource;target\na;b\n", A_B, None),
    "a separator, quoted": ('"sep=;"\r\na;b;1\r\n', A_B, [1]),
    "a separator that is a tab": ("sep=\t\na\tb\t1\n", A_B, [1]),
    "a separator decides": ("SEP=;\nsource;target\na,x;b,y\n", [("a,x", "b,y")], None),
    "numbered nodes": ("node1,node2\nAVAL,AVBL\n", [("AVAL", "AVBL")], None),
    "an index first": ("id,from_id,to_id,weight\n0,a,b,1\n1,b,c,2\n", A_B_C, [1, 2]),
    "pandas' index": (",source,target\n0,a,b\n1,b,c\n", A_B_C, None),
    "pandas' index, unknown names": (",p,q,weight\n0,a,b,3\n1,b,c,1\n", A_B_C, [3, 1]),
    "C. elegans": ("Neuron 1,Neuron 2,Type,Nbr\na,b,S,1\nb,c,Sp,2\n", A_B_C, [1, 2]),
    "neo4j": (":START_ID(Cell),weight:double,:END_ID(Cell),:TYPE\na,3,b,X\n", A_B, [3]),
    "SNAP": ("# Nodes: 3 Edges: 2\n# FromNodeId\tToNodeId\n0\t1\n1\t2\n", [(0, 1), (1, 2)], None),
    "a header in a comment": ("#to\tfrom\nb\ta\nc\tb\n", A_B_C, None),
    "a comment with a comma": ("# Nodes: 5, Edges: 7\n0,1\n1,2\n", [(0, 1), (1, 2)], None),
    "a header in a comment, and again": ("#source,target\nsource,target\na,b\n", A_B, None),
    "a comment above a header": ("# a, b\nsource,target\na,b\n", A_B, None),
    "a quoted name with #": ('source,target\n"#a",b\n', [("#a", "b")], None),
    "MICrONS": ("id,pre_pt_root_id,post_pt_root_id,size\n7,1,2,9\n", [(1, 2)], [9]),
    "FlyWire": ("post_root_id,pre_root_id,neuropil,syn_count\n1,2,X,3\n", [(2, 1)], [3]),
    "Gephi": ("Source,Target,Type,Id,Label,Weight\na,b,Directed,0,,2\n", A_B, [2]),
    "names of nodes below the header": ("source,target\ntarget,source\n", [("target", "source")], None),
    "letters above numbers": ("x,y\n0,1\n1,2\n", [(0, 1), (1, 2)], None),
    "a number among weights": ("a,b,1e3\nb,c,1\n", A_B_C, [1000, 1]),
    "an unknown header above weights": ("one,other,weight\na,b,2\n", A_B, [2]),
}

EITHER = "a first row that is clearly a header or an edge, got "
MATRIX = "an edge on each line, got a matrix, whose rows could be the sources or the targets"
ENDS_UNKNOWN = "two columns that are the ends of an edge, got columns "
HASH = "got a line that begins with #, which could be "

REFUSED: dict[str, tuple[str, int, str]] = {
    "two columns of texts": ("a,b\nb,c\n", 1, EITHER + "'a', 'b', which could be either. Pass header=True or header"),
    "one row of texts": ("node_x,node_y\n", 1, EITHER),
    "no weights": ("a,b,\nb,c,\n", 1, EITHER),
    "a number above numbers": ("neuron,1,2\n5,0,1\n6,1,0\n", 1, EITHER),
    "numbers, and far below a name": ("x,y\n" + "1,2\n" * 1000 + "1,z\n", 1, EITHER + "one above both numbers and"),
    "a known pair that recurs": ("pre,post\npost,x\n", 1, EITHER),
    "three texts": ("a,b,c\nb,c,d\n", 1, ENDS_UNKNOWN + "'a', 'b', 'c'. Pass source= and target="),
    "three unknown columns": ("x,y,n\n1,2,3\n", 1, ENDS_UNKNOWN),
    "one unknown column": ("x,weight\n1,2\n", 1, ENDS_UNKNOWN),
    "an unnamed column that is no index": (",p,q,weight\nx,a,b,3\n", 1, ENDS_UNKNOWN),
    "four columns without names": (
        "a,b,0.5,x\n",
        1,
        "source, target and perhaps weight where there is no header, got 4",
    ),
    "two known pairs": (
        "source,target,pre,post\na,b,c,d\n",
        1,
        "one column for each end of an edge, got columns 'source'",
    ),
    "an end twice": ("source,target,Source\na,b,c\n", 1, "one column for each end of an edge, got columns 'source'"),
    "no direction": ("head,tail\na,b\n", 1, "columns whose names say which end is which, got columns 'head', 'tail'"),
    "indices of a matrix": ("i,j,weight\n1,2,1\n", 1, "columns whose names say which end is which, got "),
    "a matrix": ("neuron,A,B\nA,0,1\nB,0,0\n", 1, MATRIX),
    "pandas' matrix": (",A,B\nA,0,1\nB,0,0\n", 1, MATRIX),
    "a matrix of numbers": (",0,1\n0,0,1\n1,0,0\n", 1, MATRIX),
    "columns of a matrix": ("," * 5000, 1, "at most 1000 columns, got 5,001. Write one edge on each line; a matrix is"),
    "two separators": (
        "1,5;2,5\n3,5;4,5\n",
        1,
        "one character that separates cells, got rows that a comma or a semicolon",
    ),
    "an unknown separator": ("sep=|\na|b\n", 1, r"a comma, semicolon or tab as separator, got '\|'"),
    "a separator alone": ("sep=;\n", 1, "edges after the line 'sep=;', got none. Write the source and target"),
    "a separator and comments": ('"sep=;"\n\n# a;b\n', 1, "edges after the line '\"sep=;\"', got none"),
    "a comment or an edge": ("#a,b\nc,d\n", 2, EITHER),
    "a comment or a weighted edge": ("#a,b,2\nc,d,1\n", 1, "a comment or an edge, " + HASH),
    "a comment below": ("a,b,1\n#b,c,2\n", 2, "an edge, " + HASH),
    "a comment below a header": ("source,target\na,b\n# b,c\n", 3, "an edge, " + HASH),
    "a comment alone": ("# a\n", 1, "an edge, " + HASH),
}

UNDIRECTED = {
    "Gephi": "Source,Target,Type\na,b,Directed\nb,c,Undirected\n",
    "a flag": "source,target,directed\na,b,true\nb,c,False\n",
    "an electrical junction": "Neuron 1,Neuron 2,Type,Nbr\na,b,S,1\nb,c,EJ,1\n",
    "an electrical junction between known ends": "source,target,Type\na,b,S\nb,c,EJ\n",
    "a reversed synapse": "Neuron 1,Neuron 2,Type,Nbr\na,b,S,1\nb,c,Rp,1\n",
}

TEXTS = "a,b\nb,c\n"
MANY = "source,target,pre,post\na,b,c,d\n"
B_A = [("b", "a"), ("c", "b")]
CHOSEN: dict[str, tuple[str, dict[str, Any], list[tuple[Any, Any]], list[float] | None]] = {
    "no header": (TEXTS, {"header": False}, A_B_C, None),
    "a header": (TEXTS, {"header": True}, [("b", "c")], None),
    "a header below one in a comment": ("#source,target\nx,y\na,b\n", {"header": True}, A_B, None),
    "no header but a comment": ("#source,target\na,b\n", {"header": False}, A_B, None),
    "names": (TEXTS, {"source": "b", "target": "a"}, [("c", "b")], None),
    "numbers without a header": (TEXTS, {"source": 1, "target": 0, "header": False}, B_A, None),
    "one pair of two": (MANY, {"source": "pre", "target": "post"}, [("c", "d")], None),
    "numbers under a header": (MANY, {"source": 0, "target": 3}, [("a", "d")], None),
    "a name in other case": ("head,Tail\na,b\n", {"source": "HEAD", "target": "tail "}, A_B, None),
    "numbers of numpy": (TEXTS, {"source": np.int64(1), "target": np.int32(0), "header": False}, B_A, None),
    "a weight too": ("w,x,weight,y\n1,a,2,b\n", {"source": "x", "target": "y"}, A_B, [2]),
    "columns without names": ("7,a,b,2\n8,b,c,3\n", {"source": 1, "target": 2, "header": False}, A_B_C, None),
    "a known pair is no header": ("pre,post\na,b\n", {"header": False}, [("pre", "post"), *A_B], None),
    "a known pair is a header": ("pre,post\npost,x\n", {"header": True}, [("post", "x")], None),
    "the delimiter of a name": ("a,x;b,y\nc,x;d,y\n", {"source": "a,x", "target": "b,y"}, [("c,x", "d,y")], None),
    "no matrix": (
        "n,A,B\nA,0,1\nB,0,0\n",
        {"source": "n", "target": "A", "weight": False},
        [("A", "0"), ("B", "0")],
        None,
    ),
}

OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a flag": ({"source": True, "target": 1}, "source: expected a column's name or number, got True"),
    "a list": ({"source": 0, "target": [1]}, r"target: expected a column's name or number, got \[1\]"),
    "below 0": ({"source": 0, "target": -1}, "target: expected a column's number from 0, got -1"),
    "one alone": ({"source": 0}, "target: expected a column, as for the other end, got None"),
    "the other alone": ({"target": 0}, "source: expected a column, as for the other end, got None"),
    "a name without a header": (
        {"source": 0, "target": "b", "header": False},
        "target: expected a column's number, since header=False, got 'b'",
    ),
    "header is a number": ({"header": 1}, "header: expected True, False or None, got 1"),
    "the same column": ({"source": "a", "target": 0}, "target: expected another column than source, got 0"),
}


class TestMeaning:
    """Without and with the caller's arguments."""

    @pytest.mark.parametrize("case", READ)
    def test_one_meaning_is_read(self, case, tmp_path):
        content, ends, weights = READ[case]
        assert edges(tmp_path / "g.csv", content) == (ends, weights)

    @pytest.mark.parametrize("case", REFUSED)
    def test_two_meanings_are_refused(self, case, tmp_path):
        content, line, said = REFUSED[case]
        assert_refused(
            lambda: edges(tmp_path / "g.csv", content), f".*g.csv, line {line}: expected {said}", fw.FileFormatError
        )

    @pytest.mark.parametrize("case", UNDIRECTED)
    def test_undirected_edges_are_refused(self, case, tmp_path):
        assert_refused(lambda: edges(tmp_path / "g.csv", UNDIRECTED[case]), ".*g.csv, line 3: expected directed edges")

    @pytest.mark.parametrize("case", CHOSEN)
    def test_arguments_decide(self, case, tmp_path):
        content, options, ends, weights = CHOSEN[case]
        assert edges(tmp_path / "g.csv", content, **options) == (ends, weights)

    @pytest.mark.parametrize("case", OPTIONS)
    def test_arguments_are_checked(self, case, tmp_path):
        options, said = OPTIONS[case]
        assert_refused(lambda: edges(tmp_path / "g.csv", TEXTS, **options), said)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"source": "a", "target": "z"}, "target: expected one of the columns 'a', 'b' of .*g.csv, got 'z'. Corr"),
            ({"source": 5, "target": 0}, "source: expected one of the columns 'a', 'b' of .*g.csv, got number 5. Corr"),
        ],
    )
    def test_columns_that_are_not_there(self, options, said, tmp_path):
        assert_refused(lambda: edges(tmp_path / "g.csv", TEXTS, header=True, **options), said, fw.FileFormatError)

    @pytest.mark.parametrize("ending", [".json", ".graphml"])
    @pytest.mark.parametrize("options", [{"source": "a"}, {"target": 0}, {"header": False}])
    def test_other_formats_have_no_columns(self, ending, options, tmp_path):
        (name, given), *_ = options.items()
        path = tmp_path / f"g{ending}"
        fw.write_graph(fw.Graph.from_edges([0], [1]), path)
        suffixes = ".csv" if name == "header" else ".csv, .parquet, .feather"
        said = f"{name}: expected None for {ending}, got {given!r}. It is for {suffixes} files."
        assert_refused(lambda: fw.read_graph(path, **options), said)

    def test_no_pair_is_known_twice(self):
        assert len({frozenset(pair) for pair in (*ENDS, *UNCLEAR)}) == len(ENDS) + len(UNCLEAR)
