# SPDX-License-Identifier: MIT
"""Tables of connectomes in CSV, Parquet and Feather: columns that are known, named or refused, and exact ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import freewire as fw
from tests.support.graphs import assert_same_graph
from tests.support.messages import assert_refused
from tests.support.tables import ID, SUFFIXES, edges, weights, write_table

A, B, C = ID, ID + 1, 648518346349538235
PRE, POST = [A, A, B, A], [B, C, C, B]  # the first and the last edge are parallel
ENDS = [(A, B), (A, C), (B, C), (A, B)]
#: Name -> the columns besides those of the ends, the ends, and the weights that are read.
TABLES: dict[str, tuple[dict[str, Any], tuple[str, str], list[float]]] = {
    "FlyWire, the model of Shiu et al.": (
        {"Connectivity": [3, 2, 5, 1], "Excitatory": [1, -1, 1, 1], "Excitatory x Connectivity": [3, -2, 5, 1]},
        ("Presynaptic_Index", "Postsynaptic_Index"),
        [3, -2, 5, 1],
    ),
    "FlyWire": (
        {"neuropil": ["X", "Y", "X", "Y"], "syn_count": [3, 2, 5, 1], "nt_type": ["GABA", "ACH", "ACH", "ACH"]},
        ("pre_root_id", "post_root_id"),
        [3, 2, 5, 1],
    ),
    "neuPrint": ({"roi": list("abcd"), "weight": [3, 2, 5, 1]}, ("bodyId_pre", "bodyId_post"), [3, 2, 5, 1]),
    "neuPrint for neo4j": (
        {"weight:int": [3, 2, 5, 1], "weightHP:int": [1, 1, 1, 1]},
        (":START_ID(Body-ID)", ":END_ID(Body-ID)"),
        [3, 2, 5, 1],
    ),
    "MICrONS, sizes": ({"id": [7, 8, 9, 6], "size": [3, 2, 5, 1]}, ("pre_pt_root_id", "post_pt_root_id"), [3, 2, 5, 1]),
    "MICrONS, counts": ({"n_syn": [3, 2, 5, 1]}, ("pre_pt_root_id", "post_pt_root_id"), [3, 2, 5, 1]),
}

suffixes = pytest.mark.parametrize("suffix", SUFFIXES)


def refused(path: Path, columns: dict[str, Any], said: str, error: type = fw.FileFormatError, **options: Any) -> None:
    write_table(path, columns)
    where = "(, line [0-9]+|, row [0-9]+)?: expected "
    assert_refused(lambda: fw.read_graph(path, **options), f".*{path.name}{where}{said}", error)


@suffixes
class TestKnown:
    @pytest.mark.parametrize("case", TABLES)
    def test_columns_of_known_names(self, suffix, case, tmp_path):
        others, (source, target), found = TABLES[case]
        path = write_table(tmp_path / f"g{suffix}", {source: PRE, **others, target: POST})
        g = fw.read_graph(path)
        assert edges(g) == ENDS
        assert weights(g) == found
        assert g.nodes == (C, A, B)  # ordered by number
        assert all(type(name) is int for name in g.nodes)
        assert g.sign is None

    def test_the_order_of_columns_does_not_matter(self, suffix, tmp_path):
        path = write_table(tmp_path / f"g{suffix}", {"syn_count": [4], "post_root_id": [A], "pre_root_id": [B]})
        assert edges(fw.read_graph(path)) == [(B, A)]

    def test_indices_are_read_where_there_are_ids_too(self, suffix, tmp_path):
        columns = {
            "Presynaptic_ID": [A, A],
            "Postsynaptic_ID": [B, C],
            "Presynaptic_Index": [0, 0],
            "Postsynaptic_Index": [1, 2],
            "Excitatory x Connectivity": [-4, 2],
        }
        path = write_table(tmp_path / f"g{suffix}", columns)
        assert edges(fw.read_graph(path)) == [(0, 1), (0, 2)]
        named = fw.read_graph(path, source="Presynaptic_ID", target="Postsynaptic_ID")
        assert edges(named) == [(A, B), (A, C)]
        assert weights(named) == [-4, 2]

    def test_all_formats_make_the_same_graph(self, suffix, tmp_path):
        columns = {"source": ["b", "a", "b"], "target": ["c", "d", "a"], "weight": [1.5, None, 2], "sign": [1, None, 0]}
        wanted = fw.read_graph(write_table(tmp_path / "wanted.csv", columns))
        found = fw.read_graph(write_table(tmp_path / f"g{suffix}", columns))
        assert found.nodes == ("b", "c", "a", "d")  # by first occurrence
        assert_same_graph(found, wanted)

    def test_inputs_and_outputs(self, suffix, tmp_path):
        path = write_table(tmp_path / f"g{suffix}", {"pre_root_id": PRE, "post_root_id": POST})
        g = fw.read_graph(path, inputs=[A], outputs=[B, C], activation="tanh")
        assert (g.inputs, g.outputs) == ((A,), (B, C))
        assert g.weight is None
        assert_refused(lambda: fw.read_graph(path, outputs=[A + 5]), "outputs: expected nodes of the graph")

    def test_small_integers_number_nodes(self, suffix, tmp_path):
        g = fw.read_graph(write_table(tmp_path / f"g{suffix}", {"u": [0, 1], "v": [1, 2]}))
        assert g.nodes == range(3)


@suffixes
class TestNamed:
    COLUMNS = {"a": [A, B], "b": [B, C], "strength": [2, 3], "polarity": [-1, 0], "syn_count": [7, 8]}  # noqa: RUF012

    def read(self, suffix: str, folder: Path, **options: Any) -> fw.Graph:
        return fw.read_graph(write_table(folder / f"g{suffix}", self.COLUMNS), **options)

    def test_by_name(self, suffix, tmp_path):
        g = self.read(suffix, tmp_path, source="a", target="b", weight="strength", sign="polarity")
        assert edges(g) == [(A, B), (B, C)]
        assert weights(g) == [2, 3]
        assert g.sign[g.edge_position].tolist() == [-1, 0]

    def test_by_number_and_in_other_case(self, suffix, tmp_path):
        g = self.read(suffix, tmp_path, source=1, target=np.int64(0), weight=2, sign="Polarity")
        assert edges(g) == [(B, A), (C, B)]
        assert weights(g) == [2, 3]

    def test_no_weight(self, suffix, tmp_path):
        assert self.read(suffix, tmp_path, source="a", target="b", weight=False).weight is None

    def test_the_known_weight_is_read_beside_named_ends(self, suffix, tmp_path):
        assert weights(self.read(suffix, tmp_path, source="a", target="b")) == [7, 8]

    def test_the_sign_of_the_weight(self, suffix, tmp_path):
        columns = {"pre_root_id": [A, A, A], "post_root_id": [B, B, B], "w": [-3, 0, 2]}
        g = fw.read_graph(write_table(tmp_path / f"g{suffix}", columns), weight="w", sign="w")
        assert weights(g) == [-3, 0, 2]
        assert g.sign[g.edge_position].tolist() == [-1, 0, 1]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"weight": "z"}, "weight: expected one of the columns 'a', 'b', 'strength', 'polarity', 'syn_count' of"),
            ({"sign": 5}, "sign: expected one of the columns .*, got number 5"),
            ({"target": "c"}, "target: expected one of the columns"),
        ],
    )
    def test_columns_that_are_not_there(self, suffix, options, said, tmp_path):
        options = {"source": "a", "target": "b", **options}
        assert_refused(lambda: self.read(suffix, tmp_path, **options), said, fw.FileFormatError)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"weight": "a"}, "weight: expected another column than source and target, got 'a'"),
            ({"sign": 1}, "sign: expected another column than source and target, got 1"),
            ({"target": 0}, "target: expected another column than source, got 0"),
            ({"weight": True}, "weight: expected a column's name or number, got True"),
            ({"sign": -1}, "sign: expected a column's number from 0, got -1"),
            ({"target": None}, "target: expected a column, as for the other end, got None"),
            ({"recurrent": 1}, "recurrent: expected True or False, got 1"),
        ],
    )
    def test_arguments_are_checked(self, suffix, options, said, tmp_path):
        assert_refused(lambda: self.read(suffix, tmp_path, **{"source": "a", "target": "b", **options}), said)

    def test_recurrent_reaches_the_graph(self, suffix, tmp_path, monkeypatch):
        found = []
        monkeypatch.setattr(fw.Graph, "from_data", found.append)
        for recurrent in (False, True):
            self.read(suffix, tmp_path, source="a", target="b", recurrent=recurrent)
        assert [data.recurrent for data in found] == [False, True]


@suffixes
class TestRefused:
    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            (
                {"pre_pt_root_id": [A], "post_pt_root_id": [B], "size": [1], "n_syn": [2]},
                "one column of weights, got columns 'size', 'n_syn'. Pass weight=, a column's name or number",
            ),
            (
                {"source": [A], "target": [B], "weight": [1], "syn_count": [2]},
                "one column of weights, got columns 'weight', 'syn_count'",
            ),
            (
                {"source": [A], "target": [B], "strength": [2.5]},
                "a column weight, or none of numbers, got columns 'strength' of numbers, which could be weights. Pass",
            ),
            (
                {"pre_root_id": [A], "post_root_id": [B], "pre_pt_root_id": [A], "post_pt_root_id": [B]},
                "one column for each end of an edge, got columns 'pre_root_id', .*. Pass source= and target=",
            ),
            ({"pre_root_id": [A], "syn_count": [1]}, "two columns that are the ends of an edge, got columns 'pre_root"),
            ({"post_root_id": [A], "segment": [B]}, "two columns that are the ends of an edge, got columns 'post"),
            ({"head": [A], "tail": [B]}, "columns whose names say which end is which, got columns 'head', 'tail'"),
            ({"source": [A], "target": [B], "bias": [1]}, "columns of edges, got a column bias"),
            ({"source": [A], "target": [B], "Source": [C]}, "one column for each end of an edge, got columns 'source'"),
            ({"source": [A], "target": [B], "weight": [1], "Weight": [2]}, "one column weight, got 2"),
        ],
    )
    def test_columns_of_two_meanings(self, suffix, columns, said, tmp_path):
        refused(tmp_path / f"g{suffix}", columns, said)

    def test_numbers_that_number_things_are_no_weights(self, suffix, tmp_path):
        columns = {"id": [1], "source": [A], "target": [B], "synapse_id": [4], "row_index": [2], "note": ["x"]}
        assert fw.read_graph(write_table(tmp_path / f"g{suffix}", columns)).weight is None

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ({"source": ["a", "b"], "target": ["c", None]}, "a (target node|node as target), got an empty "),
            ({"u": ["a", "b"], "v": ["c", "c"], "weight": [1, "x"]}, "a number as weight, got .*. "),
            (
                {"u": [1, 2], "v": [3, 3], "sign": [1, 2]},
                "-1, 0 or 1 as sign, got '?2'?. Correct it or rename column s",
            ),
            ({"pre_root_id": [A, B], "post_root_id": [C, 2**63]}, "ids .*below 2..63.*, got '?9223372036854775808"),
        ],
    )
    def test_cells(self, suffix, columns, said, tmp_path):
        if columns.get("weight") and not suffix.startswith(".csv"):
            columns = {**columns, "weight": ["1", "x"]}  # a column has one type
        if 2**63 in columns.get("post_root_id", []) and not suffix.startswith(".csv"):
            columns = {**columns, "post_root_id": np.array(columns["post_root_id"], np.uint64)}
        refused(tmp_path / f"g{suffix}", columns, said)

    @pytest.mark.parametrize(
        ("name", "value"), [("type", "Undirected"), ("directed", False), ("directed", 0), ("Type", "mutual")]
    )
    def test_undirected_edges(self, suffix, name, value, tmp_path):
        good = "Directed" if isinstance(value, str) else type(value)(1)
        columns = {"source": [A, B], "target": [B, C], name: [good, value]}
        refused(tmp_path / f"g{suffix}", columns, "directed edges, got ", fw.GraphError)

    def test_a_cycle_is_named(self, suffix, tmp_path):
        path = write_table(tmp_path / f"g{suffix}", {"pre_root_id": [A, B], "post_root_id": [B, A]})
        assert_refused(
            lambda: fw.read_graph(path), f"graph: expected no cycle, got ({A} -> {B} -> {A}|{B} -> {A} -> {B})"
        )

    def test_a_table_without_rows(self, suffix, tmp_path):
        path = tmp_path / f"g{suffix}"
        columns: dict[str, Any] = {"source": [], "target": []}
        if not suffix.startswith(".csv"):
            columns = {name: np.zeros(0, np.int64) for name in columns}
        refused(path, columns, "at least one edge, got none", fw.GraphError)


@pytest.mark.parametrize("digits", [str(2**63), str(-(2**63) - 1), "9" * 30, "9" * 5000])
@pytest.mark.parametrize("ends", [("pre_root_id", "post_root_id"), (":START_ID(Body-ID)", ":END_ID(Body-ID)")])
def test_ids_beyond_64_bits_in_csv(digits, ends, tmp_path):
    """Where the columns are not those of ids, such names are texts."""
    refused(tmp_path / "g.csv", {ends[0]: [A, A], ends[1]: [B, digits]}, "ids of 64 bits, below 2..63, got ")
    g = fw.read_graph(write_table(tmp_path / "g.csv", {"source": [A, A], "target": [B, digits]}))
    assert g.nodes == (str(A), str(B), digits)
