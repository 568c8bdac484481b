# SPDX-License-Identifier: MIT
"""The attributes that mark inputs, outputs and hidden nodes, after a graph was changed in networkx."""

from __future__ import annotations

import itertools
import json
import time

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from freewire.graph.networkx_conversion import HIDDEN_MARK
from tests.support.graphs import assert_same_graph
from tests.support.hostile import CASES as HOSTILE
from tests.support.messages import assert_refused


def chain() -> nx.DiGraph:
    """x1, x2 -> h -> y, a constant "c" that y reads, and "d", which reaches no output; exported."""
    G = nx.DiGraph([("x1", "h"), ("x2", "h"), ("h", "y"), ("c", "y"), ("h", "d")])
    return fw.Graph.from_networkx(G, inputs=["x2", "x1"], outputs=["y"]).to_networkx()


def early(G: nx.DiGraph) -> nx.DiGraph:
    """As the first versions exported it: hidden nodes have no mark."""
    for data in dict(G.nodes(data=True)).values():
        del data[HIDDEN_MARK]
    return G


class TestAddedNodes:
    def test_an_input_that_was_added(self):
        G = chain()
        G.add_edges_from([("new", "h"), ("newer", "h")])
        assert_refused(
            lambda: fw.Graph.from_networkx(G),
            "freewire_input: expected a mark at every node without in-edges, since the graph marks its inputs, "
            r"got none at 'new', 'newer'\. Set it to the node's position, or to False ",
        )
        G.nodes["new"]["freewire_input"] = 2  # the remedies
        G.nodes["newer"]["freewire_input"] = False
        g = fw.Graph.from_networkx(G)
        assert g.inputs == ("x2", "x1", "new")
        assert fw.Graph.from_networkx(chain(), inputs=["x1"]).inputs == ("x1",)

    def test_the_argument_is_a_remedy_too(self):
        G = chain()
        G.add_edge("new", "h")
        assert fw.Graph.from_networkx(G, inputs=["new", "x1"]).inputs == ("new", "x1")

    def test_an_output_that_was_added(self):
        G = chain()
        G.add_edge("h", "new")
        G.nodes["new"]["activation"] = "tanh"  # as an output may well have; it proves nothing
        assert_refused(
            lambda: fw.Graph.from_networkx(G),
            "freewire_output: expected a mark at every node without out-edges, since the graph marks its outputs, "
            r"got none at 'new'\. ",
        )
        assert fw.Graph.from_networkx(G, outputs=["new"]).outputs == ("new",)
        G.nodes["new"]["freewire_output"] = 7
        assert fw.Graph.from_networkx(G).outputs == ("y", "new")

    def test_many_are_listed_in_part(self):
        G = chain()
        G.add_edges_from((("new", i), "h") for i in range(20))
        refused = r"freewire_input: .*\('new', 0\), .*\('new', 11\), \.\.\. \(8 more\)\. "
        assert_refused(lambda: fw.Graph.from_networkx(G), refused)

    def test_a_hidden_node_may_be_added(self):
        G = chain()
        G.add_edges_from([("x1", "new"), ("new", "y")])
        assert "new" in fw.Graph.from_networkx(G).nodes

    def test_another_graph_beside_it(self):
        G = nx.compose(chain(), nx.DiGraph([("a", "b")]))
        assert_refused(lambda: fw.Graph.from_networkx(G), r"freewire_input: .*got none at 'a'\. ")

    @pytest.mark.parametrize("mark", ["freewire_input", "freewire_output"])
    def test_marks_by_hand(self, mark):
        G = nx.DiGraph([("a", "b"), ("c", "d")])
        G.nodes["a" if mark == "freewire_input" else "b"][mark] = 0
        assert_refused(lambda: fw.Graph.from_networkx(G), rf"{mark}: expected a mark at every node ")
        G.nodes["c" if mark == "freewire_input" else "d"]["bias"] = 0.5  # which only a computed node has
        assert len(fw.Graph.from_networkx(G).nodes) == 4


class TestRemovedParts:
    def test_removed_nodes_leave_a_gap(self):
        G = chain()
        G.remove_node("x2")
        assert fw.Graph.from_networkx(G).inputs == ("x1",)

    def test_a_node_that_lost_its_edges_is_a_constant(self):
        G = chain()
        G.remove_edges_from([("x1", "h"), ("x2", "h")])
        g = fw.Graph.from_networkx(G)
        assert g.inputs == ("x2", "x1")
        assert not g.reachable_from_input[list(g.nodes).index("h")]
        G.remove_edges_from(list(G.in_edges("y")))
        assert fw.Graph.from_networkx(G).outputs == ("y",)

    def test_a_subgraph_keeps_what_it_has(self):
        g = fw.Graph.from_networkx(chain().subgraph(["x1", "h", "y"]))
        assert (g.inputs, g.outputs) == (("x1",), ("y",))

    def test_a_subgraph_without_inputs_or_outputs_has_the_usual_ones(self):
        g = fw.Graph.from_networkx(chain().subgraph(["h", "y"]))
        assert (g.inputs, g.outputs) == (("h",), ("y",))
        g = fw.Graph.from_networkx(chain().subgraph(["x1", "h"]))
        assert (g.inputs, g.outputs) == (("x1",), ("h",))


class TestCombined:
    def test_two_graphs(self):
        both = nx.disjoint_union(chain(), chain())
        assert_refused(
            lambda: fw.Graph.from_networkx(both),
            r"freewire_input: expected a position for each node, got 1 at 0 and 6\. Pass inputs= and outputs=, or "
            r"combine graphs with Graph\.union\.",
        )
        both = nx.relabel_nodes(chain(), str.upper)
        nx.set_node_attributes(both, {"X1": 2, "X2": 3}, "freewire_input")
        assert_refused(
            lambda: fw.Graph.from_networkx(nx.compose(chain(), both)),
            r"freewire_output: expected a position for each node, got 0 at 'y' and 'Y'\. ",
        )
        both.nodes["Y"]["freewire_output"] = 1
        assert fw.Graph.from_networkx(nx.compose(chain(), both)).inputs == ("x2", "x1", "X1", "X2")

    def test_reversed(self):
        assert_refused(
            lambda: fw.Graph.from_networkx(chain().reverse()),
            r"freewire_input: expected nodes without in-edges, got 'x1' \(in-degree 1\)\. ",
        )

    def test_renamed(self):
        G = nx.relabel_nodes(chain(), str.upper)
        assert fw.Graph.from_networkx(G).inputs == ("X2", "X1")

    @pytest.mark.parametrize("value", [float("nan"), np.float32("nan"), 1j, np.complex64(1), "0", np.str_("1"), (0,)])
    def test_no_position(self, value):
        G = chain()
        G.nodes["x1"]["freewire_input"] = value
        assert_refused(
            lambda: fw.Graph.from_networkx(G), "freewire_input of node 'x1': expected its position, a number, "
        )

    def test_numpy_booleans(self):
        G = nx.DiGraph([("a", "y"), ("b", "y")])
        nx.set_node_attributes(G, {"a": np.False_, "b": np.True_}, "freewire_input")
        assert fw.Graph.from_networkx(G).inputs == ("b",)


@pytest.mark.parametrize("suffix", [".json", ".graphml"])
class TestFiles:
    def test_positions_that_collide_in_a_dictionary_take_no_time(self, suffix, tmp_path):
        """They took 10 s and more."""
        make, _ = HOSTILE[f"colliding marks{suffix}"]
        (tmp_path / f"g{suffix}").write_text(make(2_000_000).replace('<node id="a"/><node id="b"/>', ""))
        begin = time.perf_counter()
        g = fw.read_graph(tmp_path / f"g{suffix}", outputs=[0])
        assert time.perf_counter() - begin < 3
        assert g.inputs == tuple(g.nodes)

    def test_round_trip(self, suffix, tmp_path):
        g = fw.Graph.from_networkx(chain())
        fw.write_graph(g, tmp_path / f"g{suffix}")
        assert_same_graph(fw.read_graph(tmp_path / f"g{suffix}"), g)

    def test_files_of_the_first_versions(self, suffix, tmp_path):
        """Their constants and dead nodes have no mark; they have an activation."""
        G = early(chain())
        if suffix == ".graphml":
            nx.write_graphml_xml(G, tmp_path / f"g{suffix}")
        else:
            data = nx.node_link_data(G, edges="edges")
            (tmp_path / f"g{suffix}").write_text(json.dumps(data))
        assert_same_graph(fw.read_graph(tmp_path / f"g{suffix}"), fw.Graph.from_networkx(chain()))


def test_a_graph_without_hidden_nodes_is_marked_too():
    G = fw.generators.mlp([2, 1]).to_networkx()
    G.add_edge(0, "new")
    G.nodes["new"]["activation"] = "tanh"
    assert_refused(lambda: fw.Graph.from_networkx(G), r"freewire_output: .* got none at 'new'\. ")


def test_no_inputs_and_many_constants():
    G = fw.Graph.from_networkx(nx.DiGraph(itertools.pairwise("abcd")), inputs=[]).to_networkx()
    assert fw.Graph.from_networkx(G).inputs == ()
