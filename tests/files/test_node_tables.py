# SPDX-License-Identifier: MIT
"""Tables of nodes, and lists of names, beside tables of edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import freewire as fw
from freewire.graph import ACTIVATIONS
from tests.support.messages import assert_refused
from tests.support.tables import ID, SUFFIXES, edges, write_table

A, B, C, D = ID, ID + 1, 5, 7

suffixes = pytest.mark.parametrize("suffix", SUFFIXES)


@pytest.fixture(params=[".csv", ".parquet"])
def wires(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_table(tmp_path / f"wires{request.param}", {"pre_root_id": [A, C], "post_root_id": [C, B]})


@suffixes
class TestTables:
    @pytest.mark.parametrize("name", ["name", "root_id", "bodyId", "id", "pt_root_id", ":ID(Body-ID)", "Node"])
    def test_the_order_of_nodes_is_the_tables(self, suffix, name, wires, tmp_path):
        path = write_table(tmp_path / f"nodes{suffix}", {"side": list("LRLR"), name: [B, D, A, C]})
        g = fw.read_graph(wires, nodes=path, inputs=[A], outputs=[B])
        assert g.nodes == (B, D, A, C)  # D has no edges
        assert edges(g) == [(A, C), (C, B)]

    def test_fields(self, suffix, wires, tmp_path):
        columns = {
            "root_id": [A, B, C],
            "activation": [None, "sigmoid", "tanh"],
            "aggregation": [None, None, "max"],
            "bias": [None, 0.5, None],
        }
        g = fw.read_graph(wires, nodes=write_table(tmp_path / f"nodes{suffix}", columns), activation="sin")
        assert [ACTIVATIONS[code] for code in g.activation.tolist()] == ["linear", "sigmoid", "tanh"]
        assert g.aggregation.tolist() == [0, 0, 3]
        np.testing.assert_array_equal(g.bias, [np.nan, 0.5, np.nan])

    def test_texts(self, suffix, tmp_path):
        path = write_table(tmp_path / "wires.csv", {"source": ["b"], "target": ["a"]})
        assert fw.read_graph(path, nodes=write_table(tmp_path / f"n{suffix}", {"name": ["a", "b"]})).nodes == ("a", "b")

    def test_indices_are_rows_of_the_table(self, suffix, tmp_path):
        path = write_table(
            tmp_path / f"wires{suffix}", {"Presynaptic_Index": [2, 2, 0], "Postsynaptic_Index": [0, 3, 3]}
        )
        columns = {"": [B, D, A, C], "Completed": ["True"] * 4}  # as pandas writes an index
        table = write_table(tmp_path / "nodes.csv", columns)
        assert edges(fw.read_graph(path, nodes=table)) == [(A, B), (A, C), (B, C)]
        assert edges(fw.read_graph(path)) == [(2, 0), (2, 3), (0, 3)]
        said = (
            ".*: expected numbers from 0 to 2, of rows of nodes=, since the names of both columns end in index, got 3"
        )
        assert_refused(lambda: fw.read_graph(path, nodes=[A, B, C]), said, fw.FileFormatError)

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ({"side": ["L"]}, "a header with one column of node names, such as .*, got columns 'side'. Call it name"),
            ({"id": [A], "name": ["x"]}, "a header with one column of node names, .*, got columns 'id', 'name'. Keep"),
            ({"": [0, 1], "x": ["a", "b"]}, "a header with one column of node names"),
            ({"id": [A, B, A]}, f"each node once, got {A} twice. Remove one of the two."),
            ({"id": [A, None]}, "a node as name, got an empty cell"),
            ({"id": ["x", ""]}, "a (name|node as name), got an empty (text|cell)"),
            ({"id": [A, B], "bias": [1, "x"]}, "a number as bias, got 'x'. Correct it or rename the column"),
            ({"id": [A], "activation": ["tahn"]}, "one of linear, .* as activation, got 'tahn'"),
            ({"id": [A], "activation": ["tanh"], "Activation": ["relu"]}, "one column activation, got 2. Rename the"),
        ],
    )
    def test_refused(self, suffix, columns, said, wires, tmp_path):
        if "bias" in columns and not suffix.startswith(".csv"):
            columns = {**columns, "bias": ["1", "x"]}
            said = said.replace("'x'", "'1'")
        path = write_table(tmp_path / f"nodes{suffix}", columns)
        said = f".*nodes{suffix}(, line [0-9]|, row [0-9])?: expected {said}"
        assert_refused(lambda: fw.read_graph(wires, nodes=path), said, fw.FileFormatError)

    def test_an_edge_of_another_node(self, suffix, wires, tmp_path):
        path = write_table(tmp_path / f"nodes{suffix}", {"id": [A, C]})
        said = f".*wires.*: expected edges between the nodes of .*nodes{suffix}, got {B}. Add it to the nodes"
        assert_refused(lambda: fw.read_graph(wires, nodes=path), said)

    def test_a_bias_of_an_input(self, suffix, wires, tmp_path):
        path = write_table(tmp_path / f"nodes{suffix}", {"id": [A, B, C], "bias": [1.5, 0, 0]})
        assert_refused(lambda: fw.read_graph(wires, nodes=path), f"bias: expected 0 at an input, got 1.5 at {A}")


class TestLists:
    @pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
    def test_names_in_order(self, kind, wires):
        g = fw.read_graph(wires, nodes=kind([C, A, D, B]))
        assert g.nodes == (C, A, D, B)
        assert all(type(name) is int for name in g.nodes)
        assert edges(g) == [(A, C), (C, B)]

    @pytest.mark.parametrize(
        ("nodes", "said"),
        [
            ({A, B, C}, "nodes: expected a list or another collection with an order, got a set"),
            (7, "nodes: expected the path of a table of nodes or a list of names, got 7"),
            ([A, B, C, A], f"nodes: expected each name once, got {A} twice"),
            ([A, B, frozenset()], "node name: expected str, int, float, bool or a tuple of them, got frozenset"),
            ([A, B, ([C],)], "nodes: expected names that can be hashed, got "),
            ([A, B, [C]], "nodes: expected names that can be hashed, got "),
        ],
    )
    def test_refused(self, nodes, said, wires):
        assert_refused(lambda: fw.read_graph(wires, nodes=nodes), said)

    @pytest.mark.parametrize("name", ["nodes.json", "nodes.npz", "nodes.txt", "nodes.parquet.gz"])
    def test_other_suffixes(self, name, wires):
        said = "nodes: expected a name that ends in .csv, or one of these and .gz, or .parquet, .feather, got "
        assert_refused(lambda: fw.read_graph(wires, nodes=name), said, fw.FileFormatError)

    def test_missing(self, wires, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"path: expected a table of nodes, got .*none\.csv', which"):
            fw.read_graph(wires, nodes=tmp_path / "none.csv")

    @pytest.mark.parametrize("suffix", [".json", ".graphml"])
    def test_other_formats_name_their_nodes(self, suffix, tmp_path):
        fw.write_graph(fw.Graph.from_edges([0], [1]), tmp_path / f"g{suffix}")
        options: dict[str, Any] = {"nodes": [0, 1]}
        said = f"nodes: expected None for {suffix}, got .*. It is for .csv, .parquet, .feather, .npz files."
        assert_refused(lambda: fw.read_graph(tmp_path / f"g{suffix}", **options), said)
