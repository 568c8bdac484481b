# SPDX-License-Identifier: MIT
"""Reports of searches whose trials are genomes: NEAT's networks, their wirings, and generations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import freewire as fw
from freewire.search import graph_measures
from tests.search.recorded import line

GENERATIONS, MEMBERS = 4, 20


def product(population):
    """How well members multiply two numbers; the last one fails."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    value = -(population(x) - x.prod(dim=1, keepdim=True)).square().mean(dim=(1, 2))
    value[-1] = torch.nan
    return value


def loss(population):
    return population(torch.ones(1, 2)).square().mean(dim=(1, 2))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a search."""
    path = tmp_path_factory.mktemp("neat") / "neat.jsonl"
    strategy = fw.search.NEAT(2, 1, population=MEMBERS, add_node=0.5, add_edge=0.5)
    fw.search.run(product, strategy, GENERATIONS * MEMBERS, log=path, workers=0, progress=False)
    return path


def test_best_graph(log):
    found = fw.search.report(log)
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    net = fw.Network(found.best_graph)
    error = (net(x) - x.prod(dim=1, keepdim=True)).square().mean().item()
    assert error == pytest.approx(-found.best["value"], rel=1e-5)


def test_best_graph_has_what_was_learnt(tmp_path):
    """Where it is not inherited, the genome is without it."""
    path = tmp_path / "neat.jsonl"
    strategy = fw.search.NEAT(2, 1, population=4, gradient_steps=2, loss=loss, inheritance="baldwinian")
    best = fw.search.run(product, strategy, 4, log=path, workers=0, progress=False)
    weights = fw.search.report(path).best_graph.weight
    np.testing.assert_array_equal(weights, best.graph.weight)
    assert (weights != fw.search.Genome.from_json(best.line["genome"]).graph().weight).all()


def test_measures(log):
    found = fw.search.report(log)
    assert found.counts == {"finished": GENERATIONS * (MEMBERS - 1), "failed": GENERATIONS}
    assert set(found.measures) == {each["trial"] for each in found.ranked}
    graph, best = found.best_graph, found.measures[found.best["trial"]]
    assert (best["nodes"], best["edges"]) == (graph.num_nodes, graph.num_edges)
    assert best["clustering"] == fw.metrics.clustering(graph)
    assert best["path_length"] == fw.metrics.path_length(graph)
    assert len({each["edges"] for each in found.measures.values()}) > 2


def test_text(log):
    text = str(fw.search.report(log)).splitlines()
    assert text[0].startswith("NEAT, seed 0: 80 trials (76 finished, 4 failed), ")
    assert "generation " in text[4]
    assert "nodes " in text[4]


def test_picture(log):
    axes = fw.search.report(log).figure().axes
    assert [each.get_xlabel() for each in axes[:2]] == ["generation"] * 2
    assert any(each.get_xlabel() == "clustering coefficient" for each in axes)
    names = [tick.get_text() for tick in fw.search.compare([log]).figure().axes[2].get_xticklabels()]
    assert names == ["nodes", "edges", "clustering", "path_length", "value"]


def test_of_many_genomes_some_are_chosen(log, monkeypatch):
    monkeypatch.setattr(graph_measures, "MOST", 30)
    found = fw.search.report(log)
    chosen = [place for place, each in enumerate(found.ranked) if each["trial"] in found.measures]
    assert len(chosen) == 30
    assert chosen[:10] == list(range(10))
    assert chosen[-1] == len(found.ranked) - 1
    assert np.diff(chosen).max() <= 4


def test_unknown_genomes_are_left_alone():
    found = fw.search.report([line(0, 1.0, genome={"bits": "0110"})])
    assert found.measures == {}
    assert found.best_graph is None
