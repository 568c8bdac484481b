# SPDX-License-Identifier: MIT
"""Every format, both ways: graphs come back equal, and damage is reported."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import freewire as fw
from tests.support.files import again, edge_list, edge_lists, stored_graphs, text_of
from tests.support.graphs import CASES, assert_same_graph, graphs, renamed
from tests.support.messages import FORM, assert_refused

SUFFIXES = (".csv", ".graphml", ".json")
#: The formats that hold every graph.
WHOLE = (".graphml", ".json")
ANY_TMP = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestWhole:
    """write_graph, then read_graph, of any graph."""

    @pytest.mark.parametrize("name", CASES)
    @pytest.mark.parametrize("ending", WHOLE)
    def test_cases(self, name, ending, tmp_path):
        assert_same_graph(again(CASES[name], tmp_path / f"g{ending}"), CASES[name])

    @pytest.mark.parametrize("ending", WHOLE)
    @ANY_TMP
    @given(graphs())
    def test_any_graph(self, ending, tmp_path, g):
        assert_same_graph(again(g, tmp_path / f"g{ending}"), g)

    @pytest.mark.parametrize("ending", WHOLE)
    @ANY_TMP
    @given(stored_graphs())
    def test_anything_stored(self, ending, tmp_path, g):
        assert_same_graph(again(g, tmp_path / f"g{ending}"), g)

    @pytest.mark.parametrize("ending", WHOLE)
    def test_biases_are_exact(self, ending, tmp_path):
        biases = [math.nan, 0.1 + 0.2, 1 / 3, -0.0, 5e-324, -1.7976931348623157e308, math.inf, -math.inf, math.nan]
        g = fw.Graph.from_edges([0] * 8, range(1, 9)).with_values(bias=biases)
        assert again(g, tmp_path / f"g{ending}").bias.tobytes() == g.bias.tobytes()

    @pytest.mark.parametrize("ending", WHOLE)
    @pytest.mark.parametrize("names", [(5, 3, -4), (2, 1, 0), ("c", "b", "a")], ids=str)
    def test_nodes_in_any_order(self, ending, names, tmp_path):
        g = renamed(fw.Graph.from_edges([0, 1], [2, 2]), names)
        assert_same_graph(again(g, tmp_path / f"g{ending}"), g)

    @pytest.mark.parametrize("ending", WHOLE)
    def test_arguments_win_over_marks_and_lose_to_attributes(self, ending, tmp_path):
        g = CASES["all_activations"]
        fw.write_graph(g, tmp_path / f"g{ending}")
        found = fw.read_graph(tmp_path / f"g{ending}", inputs=[1, 0], outputs=[5, 3], activation="sin")
        assert (found.inputs, found.outputs) == ((1, 0), (5, 3))
        np.testing.assert_array_equal(found.activation, g.activation)


@pytest.mark.parametrize("ending", SUFFIXES)
class TestEdgeLists:
    """write_graph, then read_graph, of graphs that all formats hold."""

    @pytest.mark.parametrize("name", [name for name, g in CASES.items() if g.num_edges])
    def test_cases(self, name, ending, tmp_path):
        g = edge_list(CASES[name])
        assert_same_graph(again(g, tmp_path / f"g{ending}"), g)

    @ANY_TMP
    @given(edge_lists())
    def test_any_edges(self, ending, tmp_path, g):
        assert_same_graph(again(g, tmp_path / f"g{ending}"), g)

    def test_weights_are_exact(self, ending, tmp_path):
        weights = [0.1, 1 / 3, -0.0, 5e-324, -1.7976931348623157e308, math.inf, -math.inf, math.nan]
        g = fw.Graph.from_edges([0] * 8, [1] * 8).with_values(weight=weights)
        assert again(g, tmp_path / f"g{ending}").weight.tobytes() == g.weight.tobytes()

    @pytest.mark.parametrize(
        "names",
        [
            ("x", "y", "z"),
            (-4, 3, 5),
            (-(2**63), 0, 2**63 - 1),
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
            Path(tmp_path, "g.csv").write_text("source,target\na,b\nb,c\nd,c\n")
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

    def test_any_case_of_the_ending(self, ending, tmp_path):
        g = edge_list(CASES["random"])
        assert_same_graph(again(g, tmp_path / f"g{ending.upper()}"), g)

    def test_written_whole_or_not_at_all(self, ending, tmp_path, monkeypatch):
        path = tmp_path / f"g{ending}"
        g = edge_list(CASES["diamond"])
        fw.write_graph(g, path)

        def fails(*_):
            raise OSError("disk full")

        monkeypatch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="disk full"):
            fw.write_graph(edge_list(CASES["chain"]), path)
        monkeypatch.undo()
        assert list(tmp_path.iterdir()) == [path]
        assert_same_graph(fw.read_graph(path), g)

    def test_a_cycle_is_named(self, ending, tmp_path):
        path = tmp_path / f"g{ending}"
        text = text_of(renamed(fw.Graph.from_edges([0, 1], [1, 2], weight=[1.0, 2.0]), "abc"), path)
        path.write_text(
            text.replace("b,c", "b,a").replace('"target": "c"', '"target": "a"').replace('target="c"', 'target="a"')
        )
        assert_refused(lambda: fw.read_graph(path, inputs=[]), "graph: expected no cycle, got ")

    @ANY_TMP
    @given(st.sampled_from(("mixed_aggregations", "parallel_edges", "unreachable")), st.data())
    def test_damage_is_reported(self, ending, tmp_path, name, data):
        """A file cut, or with bytes lost, changed or doubled, is read, or refused with a message of the usual form."""
        path = tmp_path / f"g{ending}"
        g = edge_list(CASES[name]) if ending == ".csv" else CASES[name]
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
        message = None
        try:
            fw.read_graph(path)
        except (fw.FileFormatError, fw.GraphError) as error:
            message = str(error)
        assert message is None or FORM.fullmatch(message), message
