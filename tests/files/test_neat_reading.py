# SPDX-License-Identifier: MIT
"""neat-python's JSON export, against neat-python itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import freewire as fw
from tests.files import neat_networks as neat_python
from tests.support.files import read_text
from tests.support.messages import assert_refused

pytest.importorskip("neat")


def node(number: int, kind: str, activation: str = "identity", aggregation: str = "sum", **more: Any) -> dict[str, Any]:
    named = {
        what: {"name": name, "custom": False}
        for what, name in (("activation", activation), ("aggregation", aggregation))
    }
    return {"id": number, "type": kind, **named, "bias": 0.0, "response": 1.0, **more}


def edge(source: int, target: int, weight: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"from": source, "to": target, "weight": weight, "enabled": True, **more}


def document_of(nodes: list[dict[str, Any]], edges: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    keys = [[item["id"] for item in nodes if item["type"] == kind] for kind in ("input", "output")]
    topology = {
        "num_inputs": len(keys[0]),
        "num_outputs": len(keys[1]),
        "input_keys": keys[0],
        "output_keys": keys[1],
    }
    return {
        "format_version": "1.0",
        "network_type": "feedforward",
        "metadata": {},
        "topology": topology,
        "nodes": nodes,
        "connections": edges,
        **more,
    }


def read(tmp_path: Path, document: dict[str, Any], **options: Any) -> fw.Graph:
    return read_text(tmp_path / "net.json", json.dumps(document), **options)


def compare(path: Path, x: np.ndarray) -> fw.Graph:
    """Assert that a file's graph computes what neat-python's network of it does."""
    graph = fw.read_graph(path)
    expected = neat_python.results_of(neat_python.network_of(path), x)
    np.testing.assert_allclose(neat_python.results_of_graph(graph, x), expected, rtol=1e-9, atol=1e-9)
    return graph


@pytest.mark.parametrize("recurrent", [False, True], ids=["feedforward", "recurrent"])
def test_random_genomes(recurrent, tmp_path):
    """100 of each kind; values beyond 1e6, where the network has no accuracy left, are not compared."""
    compared = 0
    functions = set()
    for seed in range(1000):
        rng = np.random.default_rng([seed, recurrent])
        network = neat_python.draw_network(rng, recurrent)
        x = rng.normal(size=(6, len(network.input_nodes))) * rng.choice((0.3, 1.0, 4.0))
        try:
            expected = neat_python.results_of(network, x)
        except OverflowError:
            continue
        if not (np.abs(expected) < 1e6).all():
            continue
        graph = fw.read_graph(neat_python.export(network, tmp_path / "net.json"))
        assert graph.recurrent == recurrent
        assert graph.inputs == tuple(network.input_nodes)
        assert graph.outputs == tuple(network.output_nodes)
        found = neat_python.results_of_graph(graph, x)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=f"seed {seed}")
        functions |= {entry[1].__name__ for entry in network.node_evals}
        compared += 1
        if compared == 100:
            break
    assert compared == 100
    assert functions == {f"{name}_activation" for name in neat_python.ACTIVATIONS}


class TestFunctions:
    @pytest.mark.parametrize("activation", neat_python.ACTIVATIONS)
    @pytest.mark.parametrize("kind", ["feedforward", "recurrent"])
    def test_activations(self, activation, kind, tmp_path):
        """In a wide range, beyond neat-python's clamps too, and read by another node."""
        nodes = [node(-1, "input"), node(1, "hidden", activation, response=0.7, bias=0.1), node(0, "output")]
        edges = [edge(-1, 1, 1.3), edge(1, 0, 0.5)]
        path = tmp_path / "net.json"
        path.write_text(json.dumps(document_of(nodes, edges, network_type=kind)))
        x = np.concatenate((np.linspace(-100, 100, 201), np.linspace(-4, 4, 81)))[:, None]
        graph = compare(path, x)
        assert {-1, 0, 1} <= set(graph.nodes)

    @pytest.mark.parametrize("aggregation", [*neat_python.AGGREGATIONS, "median"])
    @pytest.mark.parametrize("response", [0.8, -0.8, 0.0])
    @pytest.mark.parametrize("count", [0, 1, 2, 3])
    def test_aggregations(self, aggregation, response, count, tmp_path):
        if aggregation == "median" and count == 3:
            return
        nodes = [
            *(node(-k, "input") for k in (1, 2, 3)),
            node(0, "output", "tanh", aggregation, response=response, bias=0.2),
        ]
        edges = [edge(-k, 0, 0.3 * k - 0.7) for k in range(1, count + 1)]
        path = tmp_path / "net.json"
        path.write_text(json.dumps(document_of(nodes, edges)))
        compare(path, np.random.default_rng(0).normal(size=(50, 3)))

    def test_gains_add_no_nodes(self, tmp_path):
        nodes = [node(-1, "input"), node(0, "output", "sigmoid", response=0.5, bias=0.25)]
        graph = read(tmp_path, document_of(nodes, [edge(-1, 0, 2.0)]))
        assert graph.nodes == (-1, 0)
        assert graph.weight.tolist() == [5.0]
        assert graph.bias[1] == 1.25


class TestNodes:
    def test_a_node_that_reads_nothing(self, tmp_path):
        """neat-python computes it in a feed-forward network, and not in a recurrent one, where it stays 0."""
        nodes = [node(-1, "input"), node(0, "output"), node(5, "hidden", bias=3.0)]
        graph = read(tmp_path, document_of(nodes, [edge(5, 0)]))
        assert neat_python.results_of_graph(graph, np.zeros((1, 1))).tolist() == [[3.0]]
        nodes[2] = node(4, "hidden")
        document = document_of(nodes[:2], [edge(5, 0), edge(-1, 0)], network_type="recurrent")
        graph = read(tmp_path, document)
        assert neat_python.results_of_graph(graph, np.ones((2, 1))).tolist() == [[1.0], [1.0]]

    def test_an_output_without_a_node_stays_0(self, tmp_path):
        document = document_of([node(-1, "input"), node(0, "output", "gauss")], [], network_type="recurrent")
        document["nodes"].pop()
        graph = read(tmp_path, document)
        assert neat_python.results_of_graph(graph, np.ones((2, 1))).tolist() == [[0.0], [0.0]]

    def test_disabled_connections_are_not_read(self, tmp_path):
        nodes = [node(-1, "input"), node(0, "output")]
        graph = read(tmp_path, document_of(nodes, [edge(-1, 0), edge(0, 0, enabled=False)]))
        assert graph.num_edges == 1

    def test_the_order_of_inputs_is_that_of_the_keys(self, tmp_path):
        document = document_of(
            [node(-1, "input"), node(-2, "input"), node(0, "output")], [edge(-1, 0), edge(-2, 0, 2.0)]
        )
        document["topology"]["input_keys"] = [-2, -1]
        assert read(tmp_path, document).inputs == (-2, -1)

    def test_arguments(self, tmp_path):
        nodes = [node(-1, "input"), node(0, "output"), node(3, "hidden", "sin")]
        graph = read(tmp_path, document_of(nodes, [edge(-1, 3), edge(3, 0)]), outputs=[3, 0])
        assert graph.outputs == (3, 0)
        assert graph.nodes == (-1, 0, (3, "hard_tanh"), 3)

    def test_compressed(self, tmp_path):
        import gzip

        path = tmp_path / "net.json.gz"
        path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
        assert fw.read_graph(path).nodes == (-1, 0)

    def test_a_node_link_graph_with_such_keys_is_one(self, tmp_path):
        document = {"directed": True, "nodes": [{"id": 1}, {"id": 2}], "edges": [{"source": 1, "target": 2}]}
        graph = read(tmp_path, {**document, "format_version": "1.0", "network_type": "social"})
        assert graph.nodes == (1, 2)


GOOD = document_of([node(-1, "input"), node(0, "output")], [edge(-1, 0)])


def changed(**changes: Any) -> dict[str, Any]:
    """The good document with one thing changed: a top-level value, or of the output node or the connection."""
    document = copy.deepcopy(GOOD)
    for name, value in changes.items():
        if name.startswith("node_"):
            document["nodes"][1][name[5:]] = value
        elif name.startswith("edge_"):
            document["connections"][0][name[5:]] = value
        else:
            document[name] = value
    return document


@pytest.mark.parametrize(
    ("document", "said", "error"),
    [
        (changed(format_version="2.0"), '"1.0" as "format_version" of neat-python, got \'2.0\'', None),
        (changed(network_type="ctrnn"), "feedforward or recurrent as .*, got 'ctrnn'. A ctrnn's time step", None),
        (changed(network_type="iznn"), "feedforward or recurrent as .*, got 'iznn'", None),
        (changed(network_type=["x"]), "feedforward or recurrent as", None),
        (changed(topology=[]), 'a list of whole numbers as "input_keys" of "topology", got None', None),
        (
            changed(topology={"input_keys": [-1], "output_keys": [0.5]}),
            'a list of whole numbers as "output_keys"',
            None,
        ),
        (changed(topology={"input_keys": [-2], "output_keys": [0]}), 'each input as a node and in "input_keys"', None),
        (changed(nodes={}), 'a list of objects as "nodes", got something else', None),
        (changed(connections=[3]), 'a list of objects as "connections", got something else', None),
        (changed(node_id="a"), "a whole number as \"id\" of node 1, got 'a'", None),
        (changed(node_id=-1), "each input as a node .* once, and other nodes once", None),
        (changed(node_type="bias"), "input, hidden or output as \"type\" of node 0, got 'bias'", None),
        (changed(node_bias=None), 'a finite number as "bias" of node 0, got None', None),
        (changed(node_bias=True), 'a finite number as "bias" of node 0, got True', None),
        (changed(node_response=float("inf")), 'a finite number as "response" of node 0, got inf', None),
        (changed(node_activation="tanh"), 'an object with a "name" as "activation" of node 0, got \'tanh\'', None),
        (
            changed(node_activation={"name": "log", "custom": False}),
            "activations that freewire can compute, identity, .*, got 'log' at node 0",
            fw.GraphError,
        ),
        (
            changed(node_activation={"name": "tanh", "custom": True}),
            "functions of neat-python's own, got the custom activation 'tanh' at node 0",
            fw.GraphError,
        ),
        (
            changed(node_aggregation={"name": "mode", "custom": False}),
            "aggregations that freewire can compute, sum, .*, got 'mode' at node 0",
            fw.GraphError,
        ),
        (
            changed(node_aggregation={"name": "median", "custom": False}, connections=[edge(-1, 0)] * 3),
            "aggregations that freewire has, got median of 3 connections at node 0",
            fw.GraphError,
        ),
        (changed(edge_weight="1"), "a finite number as \"weight\" of connection 0, got '1'", None),
        (changed(edge_to=7), 'a node\'s number as "to" of connection 0, got 7', None),
        (changed(edge_to=-1), "connections to computed nodes, got number 0, to input -1", None),
        (changed(**{"edge_from": 7}), 'a node\'s number as "from" of connection 0, got 7', None),
        (changed(**{"edge_from": 7.0}, network_type="recurrent"), 'a node\'s number as "from" of connection 0', None),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_refused(document, said, error, tmp_path):
    assert_refused(lambda: read(tmp_path, document), f".*net.json: expected {said}", error or fw.FileFormatError)


def test_a_cycle_without_recurrence_is_refused(tmp_path):
    nodes = [node(-1, "input"), node(0, "output"), node(1, "hidden")]
    document = document_of(nodes, [edge(0, 1), edge(1, 0)])
    assert_refused(lambda: read(tmp_path, document), "graph: expected no cycle")
    assert read(tmp_path, {**document, "network_type": "recurrent"}).num_edges == 2
