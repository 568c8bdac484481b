# SPDX-License-Identifier: MIT
"""networkx's node-link format as JSON, both ways."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import freewire as fw
from tests.support.files import read_text, text_of
from tests.support.graphs import CASES, assert_same_graph
from tests.support.messages import assert_refused


def read_json(tmp_path: Path, document: Any) -> fw.Graph:
    return read_text(tmp_path / "g.json", document if isinstance(document, str) else json.dumps(document))


NODES = [{"id": "a"}, {"id": "b"}]
EDGES = [{"source": "a", "target": "b"}]
PLAIN = {"directed": True, "nodes": NODES, "edges": EDGES}


class TestJson:
    """The node-link format, both ways."""

    @pytest.mark.parametrize("key", ["edges", "links"])
    @pytest.mark.parametrize("multi", [False, True])
    def test_networkxs(self, key, multi, tmp_path):
        G = (nx.MultiDiGraph if multi else nx.DiGraph)()
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
        G = nx.node_link_graph(document, **({"edges": "edges"} if nx.__version__ >= "3.4" else {"link": "edges"}))
        assert nx.utils.graphs_equal(G, CASES[name].to_networkx())

    def test_null_is_no_value(self, tmp_path):
        edges = [{"source": "a", "target": "b", "weight": None}]
        assert read_json(tmp_path, {**PLAIN, "edges": edges}).weight is None

    @pytest.mark.parametrize(
        ("document", "said", "error"),
        [
            ('{"nodes": [\n1,', ", line 2: expected JSON, got something else .Expecting value", None),
            ("[" * 100_000, ": expected JSON, got something that cannot be read ", None),
            ('{"nodes": ' + "9" * 5000 + "}", ": expected JSON, got something that cannot be read ", None),
            (
                '{"directed": true, "nodes": [{"id": 1, "id": 2}], "edges": []}',
                ": expected JSON, got something that cannot be read .an object with the key 'id' twice.",
                None,
            ),
            ('{"nodes": 1e999}', ": expected JSON, got something that cannot be read .1e999.", None),
            ({**PLAIN, "nodes": [{"id": math.nan}]}, ': expected a name as "id" of node 0, got none', None),
            ({**PLAIN, "nodes": [{"id": [1, [math.nan]]}]}, ': expected a name as "id" of node 0, got none', None),
            ([], ': expected an object with "nodes" and either "edges" or "links", got neither', None),
            ({"nodes": []}, ': expected an object with "nodes" and either "edges" or "links", got nodes', None),
            ({**PLAIN, "links": []}, ": expected an object .*, got nodes, edges, links", None),
            ({**PLAIN, "directed": False}, ': expected a directed graph, got false as "directed"', fw.GraphError),
            ({"nodes": NODES, "links": EDGES}, ': expected a directed graph, got none as "directed"', fw.GraphError),
            ({**PLAIN, "directed": 1}, ': expected a directed graph, got something else as "directed"', fw.GraphError),
            ({**PLAIN, "multigraph": "junk"}, ': expected true or false as "multigraph", got .junk.', None),
            ({**PLAIN, "nodes": {}}, ': expected a list of objects as "nodes", got something else', None),
            ({**PLAIN, "edges": [[0, 1]]}, ': expected a list of objects as "edges", got something else', None),
            ({**PLAIN, "nodes": [{}]}, ': expected a name as "id" of node 0, got none', None),
            ({**PLAIN, "nodes": [{"id": None}]}, ': expected a name as "id" of node 0, got none', None),
            ({**PLAIN, "nodes": NODES * 2}, ": expected each node once, got 'a' twice", None),
            ({**PLAIN, "edges": [{"source": "a"}]}, ': expected a name as "target" of edge 0, got none', None),
            ({**PLAIN, "nodes": [{"id": "a"}]}, ": expected edges between nodes of the file, got 'b'", None),
        ],
        ids=lambda value: None if isinstance(value, type) else str(value)[:40],
    )
    def test_errors(self, document, said, error, tmp_path):
        assert_refused(lambda: read_json(tmp_path, document), f".*g.json{said}", error or fw.FileFormatError)

    def test_a_known_key_twice_in_a_large_object(self, tmp_path):
        many = "".join(f'"{k}": 0, ' for k in range(2000))
        plain = json.dumps(PLAIN)
        assert read_json(tmp_path, "{" + many + plain[1:]).nodes == ("a", "b")
        said = ".*g.json: expected JSON, got something that cannot be read .an object with the key 'nodes' twice."
        assert_refused(lambda: read_json(tmp_path, '{"nodes": [], ' + many + plain[1:]), said, fw.FileFormatError)

    def test_edges_keep_the_order_of_the_file(self, tmp_path):
        edges = [{"source": u, "target": v} for u, v in (("b", "c"), ("a", "c"), ("a", "b"), ("b", "c"))]
        g = read_json(tmp_path, {"directed": True, "nodes": [{"id": name} for name in "abc"], "edges": edges})
        assert g.edge_index[:, g.edge_position].T.tolist() == [[1, 2], [0, 2], [0, 1], [1, 2]]

    def test_attributes_are_checked_as_arguments_are(self, tmp_path):
        nodes = [{"id": "a"}, {"id": "b", "activation": ["relu"]}]
        assert_refused(
            lambda: read_json(tmp_path, {**PLAIN, "nodes": nodes}), "activation of node 'b': expected one of"
        )
        edges = [{**EDGES[0], "weight": math.nan}]
        assert_refused(
            lambda: read_json(tmp_path, {**PLAIN, "edges": edges}), "weight of edge 'a' -> 'b': expected a n"
        )
