# SPDX-License-Identifier: MIT
"""Graphs as neat-python's JSON, computed by neat-python itself."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import freewire as fw
from freewire.files.neat_functions import TO_NEAT
from freewire.graph import AGGREGATIONS
from tests.files import neat_networks as neat_python
from tests.support.messages import assert_refused

pytest.importorskip("neat")
DIRECT = tuple(name for name, chain in TO_NEAT.items() if len(chain) == 1)


def compare(graph: fw.Graph, path: Path, x: np.ndarray) -> None:
    """Assert that neat-python computes what the graph does, and that it is read back as an equal network."""
    fw.files.write_neat_python(graph, path)
    expected = neat_python.results_of_graph(graph, x)
    found = neat_python.results_of(neat_python.network_of(path), x)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    again = neat_python.results_of_graph(fw.read_graph(path), x)
    np.testing.assert_allclose(again, expected, rtol=1e-6, atol=1e-6)


def draw_graph(rng: np.random.Generator, recurrent: bool) -> fw.Graph:
    """A random graph of functions that neat-python can compute; bounded ones where that matters."""
    count, inputs = int(rng.integers(3, 12)), int(rng.integers(1, 3))
    names = [name for name in (DIRECT if recurrent else TO_NEAT) if name not in ("sin", "cos", "softplus")]
    src, dst = [], []
    for target in range(inputs, count):
        sources = count if recurrent else target
        for source in rng.integers(0, sources, rng.integers(0, 4)).tolist():
            src.append(source)
            dst.append(target)
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=count,
        inputs=range(inputs),
        outputs=rng.permutation(count)[: rng.integers(1, count)],
        weight=rng.normal(size=len(src)) * 0.6,
        bias=np.where(np.arange(count) < inputs, 0, rng.normal(size=count)),
        activation=rng.choice(names, count).tolist(),
        aggregation=rng.choice(AGGREGATIONS, count).tolist(),
        recurrent=recurrent,
    )


@pytest.mark.parametrize("recurrent", [False, True], ids=["feedforward", "recurrent"])
def test_random_graphs(recurrent, tmp_path):
    for seed in range(60):
        rng = np.random.default_rng([seed, recurrent])
        graph = draw_graph(rng, recurrent)
        x = rng.normal(size=(5, len(graph.inputs)))
        expected = neat_python.results_of_graph(graph, x)
        if (np.abs(expected) < 1e4).all():
            compare(graph, tmp_path / "net.json", x)


@pytest.mark.parametrize("activation", TO_NEAT)
def test_activations(activation, tmp_path):
    graph = fw.Graph.from_edges(
        [0, 1, 2],
        [1, 2, 3],
        weight=[1.0, 50.0, 2.0],
        bias=[0, 0, 0.3, -0.5],
        activation=["linear", "hard_tanh", activation, "linear"],
        output_activation="linear",
    )
    compare(graph, tmp_path / "net.json", np.linspace(-2, 2, 101)[:, None])


class TestNumbers:
    def test_kept(self, tmp_path):
        graph = fw.Graph.from_edges([0, 1], [1, 2], weight=[1.0, 2.0]).with_names([-7, 12, 3])
        fw.files.write_neat_python(graph, tmp_path / "net.json")
        assert set(fw.read_graph(tmp_path / "net.json").nodes) == {-7, 12, 3}

    def test_given(self, tmp_path):
        graph = fw.Graph.from_edges([0, 1, 2], [2, 2, 3], weight=[1.0, 2.0, 3.0]).with_names("abcd")
        fw.files.write_neat_python(graph, tmp_path / "net.json", {"fitness": 3.5})
        document = json.loads((tmp_path / "net.json").read_text())
        assert document["topology"] == {"num_inputs": 2, "num_outputs": 1, "input_keys": [-1, -2], "output_keys": [0]}
        assert [(edge["from"], edge["to"], edge["weight"]) for edge in document["connections"]] == [
            (-1, 1, 1.0), (-2, 1, 2.0), (1, 0, 3.0)
        ]  # fmt: skip
        assert document["metadata"]["fitness"] == 3.5

    def test_an_input_that_is_an_output(self, tmp_path):
        graph = fw.Graph.from_edges([0], [1], inputs=[0], outputs=[1, 0], weight=[2.0])
        compare(graph, tmp_path / "net.json", np.ones((2, 1)))

    def test_genomes_and_networks(self, tmp_path):
        search = fw.search.NEAT(2, 1, 2, initial_hidden=3)
        search.start(0)
        graph = fw.search.Genome.from_json(search.propose(0)["genome"]).graph()
        compare(graph, tmp_path / "net.json", np.ones((2, 2)))
        net = fw.Network(fw.generators.mlp([2, 3, 1], activation="gaussian"))
        compare(fw.Graph.from_networkx(net.to_networkx()), tmp_path / "net.json", np.ones((2, 2)))


def graph_of(activation: str, **options: object) -> fw.Graph:
    return fw.Graph.from_edges([0], [1], weight=[1.0], output_activation=activation, **options)


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (fw.generators.mlp([1, 1]), "graph: expected finite weights that are stored, got nan"),
        (fw.Graph.from_edges([0], [1], weight=[np.inf]), "graph: expected finite weights that are stored, got inf"),
        (graph_of("linear", bias=[0, np.inf]), "graph: expected finite biases that are stored, got inf"),
        (graph_of("gelu"), "graph: expected activations that neat-python can compute, linear, .*, got gelu at 1"),
        (graph_of("step"), "graph: expected activations that neat-python can compute, linear, .*, got step at 1"),
        (graph_of("sin"), "graph: expected arguments of sin within 60, .*, got one of unknown size at 1"),
        (
            fw.Graph.from_edges([0, 1], [1, 2], weight=[1, 60.5], activation="tanh", output_activation="softplus"),
            "graph: expected arguments of softplus within 60, .*, got up to 60.5 at 2",
        ),
        (
            graph_of("silu", recurrent=True),
            "graph: expected activations that one node of neat-python computes, .* silu",
        ),
        (graph_of("tanh", delay=1), "graph: expected delay 0 for edges from inputs .*, got 1 at 0 -> 1"),
        (graph_of("tanh", recurrent=True, leak=0.5), "graph: expected no leak, as neat-python has none, got 0.5"),
        ("net", "graph: expected a freewire Graph, got str"),
    ],
    ids=str,
)
def test_refused(graph, said, tmp_path):
    assert_refused(lambda: fw.files.write_neat_python(graph, tmp_path / "net.json"), said)
    assert not (tmp_path / "net.json").exists()


def test_other_arguments_are_refused(tmp_path):
    graph = graph_of("linear")
    said = "path: expected a name that ends in .json, got"
    assert_refused(lambda: fw.files.write_neat_python(graph, tmp_path / "net.neat"), said, fw.FileFormatError)
    said = "metadata: expected what JSON can hold, got"
    for metadata in ({"a": {1}}, {"a": float("nan")}):
        assert_refused(partial(fw.files.write_neat_python, graph, tmp_path / "n.json", metadata), said, fw.InputError)
