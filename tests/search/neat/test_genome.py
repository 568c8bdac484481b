# SPDX-License-Identifier: MIT
"""Genomes as JSON and as graphs."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import freewire as fw
from freewire.search.neat.genome import EDGE_GENES, NODE_GENES, Genome
from tests.support.messages import assert_refused

DOCUMENT: dict[str, Any] = {
    "num_inputs": 2,
    "num_outputs": 1,
    "recurrent": False,
    "nodes": {"id": [0, 4], "bias": [0.5, -1.0], "activation": ["linear", "tanh"], "aggregation": ["sum", "product"]},
    "edges": {
        "innovation": [1, 3, 7, 9],
        "source": [-2, -1, 4, -2],
        "target": [0, 4, 0, 4],
        "weight": [1.5, 0.1, -2.0, 3.0],
        "enabled": [True, True, True, False],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    *parts, last = path.split(".")
    inner = document
    for part in parts:
        inner = inner[part]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return document


class TestJson:
    def test_round_trip(self):
        genome = Genome.from_json(json.loads(json.dumps(DOCUMENT)))
        assert genome.to_json() == DOCUMENT
        assert all(getattr(genome, name).dtype == kind for name, kind in {**NODE_GENES, **EDGE_GENES}.items())

    def test_numbers_are_exact(self):
        weights = [math.pi, 1 / 3, 5e-324, -1e300]
        genome = Genome.from_json(json.loads(json.dumps(changed("edges.weight", weights))))
        assert genome.weight.tolist() == weights

    @pytest.mark.parametrize(
        ("document", "said"),
        [
            ([], 'expected an object with "num_inputs", got'),
            (changed("nodes", None), 'expected an object with "nodes", got'),
            (changed("nodes.bias", None), 'expected an object with "bias", got'),
            (changed("num_inputs", 0), "expected numbers of inputs and outputs"),
            (changed("num_outputs", True), "expected numbers of inputs and outputs"),
            (changed("recurrent", 0), "expected numbers of inputs and outputs, and true or false as recurrent"),
            (changed("nodes.bias", [0.5]), "expected lists of one length, got {'activation': 2, .*'bias': 1"),
            (changed("edges.weight", [1.0, 2.0]), "expected lists of one length"),
            (changed("nodes.id", [1, 4]), "expected nodes in order of their numbers, the outputs first, got .1, 4."),
            (changed("nodes.id", [0, 0]), "expected nodes in order"),
            (changed("nodes.id", [0, 4.0]), 'expected a list of whole numbers as "id"'),
            (changed("nodes.id", [0, 2**70]), 'expected a list of whole numbers as "id"'),
            (changed("edges.innovation", [1, 3, 3, 9]), "expected edges in order of their innovations"),
            (changed("edges.source", [-3, -1, 4, -2]), "expected nodes of it as source, got -3"),
            (changed("edges.target", [0, 4, -1, 4]), "expected nodes of it as target, got -1"),
            (changed("edges.weight", [1.5, "x", -2.0, 3.0]), 'expected a list of finite numbers as "weight"'),
            (changed("edges.weight", [1.5, math.nan, -2.0, 3.0]), 'expected a list of finite numbers as "weight"'),
            (changed("edges.enabled", [1, 1, 1, 0]), 'expected a list of true or false as "enabled"'),
            (
                changed("nodes.activation", ["linear", "gauss"]),
                'expected a list of functions as "activation", each one',
            ),
            (changed("nodes.aggregation", [["sum"], "sum"]), 'expected a list of functions as "aggregation"'),
            (changed("nodes.activation", 3), 'expected a list of functions as "activation"'),
        ],
    )
    def test_refused(self, document, said):
        assert_refused(lambda: Genome.from_json(document), f"genome: {said}", fw.FileFormatError)


class TestGraph:
    def test_what_is_in_it(self):
        graph = Genome.from_json(DOCUMENT).graph()
        assert graph.nodes == (-1, -2, 0, 4)
        assert (graph.inputs, graph.outputs) == ((-1, -2), (0,))
        names = np.array(graph.nodes)[graph.edge_index].T.tolist()
        found = dict(zip(map(tuple, names), graph.weight.tolist(), strict=True))
        assert found == {(-2, 0): 1.5, (-1, 4): 0.1, (4, 0): -2.0}

    def test_it_computes_what_the_genome_says(self):
        x = torch.randn(5, 2, dtype=torch.float64)
        y = fw.Network(Genome.from_json(DOCUMENT).graph(), dtype=torch.float64)(x)
        expected = 1.5 * x[:, 1] - 2 * torch.tanh(0.1 * x[:, 0] - 1) + 0.5
        torch.testing.assert_close(y[:, 0], expected)

    def test_edge_position_finds_the_weights(self):
        genome = Genome.from_json(DOCUMENT)
        graph = genome.graph()
        assert graph.weight[graph.edge_position].tolist() == genome.weight[genome.enabled].tolist()

    def test_recurrent(self):
        document = changed("recurrent", True)
        document["edges"]["source"] = [-2, -1, 4, 0]
        document["edges"]["enabled"] = [True] * 4
        graph = Genome.from_json(document).graph()
        delays = dict(zip(graph.edge_index[0].tolist(), graph.delay.tolist(), strict=True))
        assert delays == {0: 0, 1: 0, 2: 1, 3: 1}

    def test_without_edges(self):
        document = changed("edges", {name: [] for name in EDGE_GENES})
        net = fw.Network(Genome.from_json(document).graph())
        assert net(torch.ones(3, 2)).tolist() == [[0.5]] * 3
