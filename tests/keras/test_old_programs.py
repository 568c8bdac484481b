# SPDX-License-Identifier: MIT
"""Programs as a user of the 2019 library wrote them: names, arguments and results, not its text."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch


def test_xor(capsys):
    from freewire import Graph, Model, Node

    torch.manual_seed(0)
    inputs = [Node(), Node()]
    hidden = [Node(inputs, activation="sigmoid") for _ in range(0, 5)]
    output = Node(hidden, activation="sigmoid")
    g = Graph(inputs, hidden, [output])
    m = Model(g)
    m.compile(optimizer="sgd", loss_function="mse")
    m.optimizer.param_groups[0]["lr"] = 2.0  # not in those programs: 0.01 takes 10,000 epochs
    m.fit([[0, 0], [1, 0], [0, 1], [1, 1]], [0, 1, 1, 0], epochs=200, batch_size=1)
    answers = [m([a, b]) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert [answer.shape for answer in answers] == [(1, 1)] * 4
    assert [round(answer.item()) for answer in answers] == [0, 1, 1, 0]
    assert "epoch 200/200: loss " in capsys.readouterr().out


def test_drawing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    from freewire import Graph, Model, Node, visualize

    inputs = [Node(), Node()]
    hidden1 = Node(inputs)
    hidden2 = Node([inputs[0], hidden1])
    hidden3 = Node([inputs[1], hidden1])
    output = Node([hidden2, hidden3])
    g = Graph(inputs, [hidden1, hidden2, hidden3], [output])
    visualize(g, title="architecture")
    weights = []
    for initialization in ("he", "uniform", "self_normalized"):  # each Model on the graph that the last one returned
        m = Model(g, initialization=initialization)
        g = m.update_graph()
        visualize(g, title=initialization)
        weights.append([edge.weight for edge in g.edges])
    assert len(set(map(tuple, weights))) == 3
    assert len(os.listdir("renders")) == 4
    assert capsys.readouterr().out.count("renders/") == 4


def test_mnist():
    from freewire import Graph, Model, Node

    random.seed(0)
    draw = np.random.default_rng(0)
    X_tr, y_tr = draw.integers(0, 128, (300, 49)), draw.integers(0, 10, 300)
    X_tr[np.arange(300), y_tr] = 255  # one bright pixel says which class it is
    y_tr = torch.tensor(y_tr, dtype=torch.long)
    X_tr = torch.tensor(X_tr, dtype=torch.float)
    X_tr = X_tr / X_tr.max()
    inputs = [Node() for _ in range(0, 49)]
    hidden = [Node(inputs, activation="selu") for _ in range(0, 40)]
    hidden2 = [Node(random.choices(hidden, k=20), activation="selu") for _ in range(0, 10)]
    outputs = [Node(hidden + hidden2, activation="softmax") for _ in range(10)]
    g = Graph(inputs, hidden + hidden2, outputs)
    assert g.num_edges == 49 * 40 + 20 * 10 + 50 * 10
    pairs = [(g.nodes.index(e.start), g.nodes.index(e.end)) for node in hidden2 for e in node.in_edges]
    assert len(set(pairs)) < len(pairs)  # parallel edges
    m = Model(g, initialization="he")
    m.compile("adam", "crossentropy")
    history = m.fit(X_tr, y_tr, epochs=20, batch_size=32, verbose=0).history["loss"]
    pred = torch.cat([m(X_tr[i * 100 : (i + 1) * 100]).cpu().detach() for i in range(3)], axis=0)
    assert pred.sum(1).numpy() == pytest.approx(1, abs=1e-5)
    correct = (pred.argmax(axis=1) == y_tr).nonzero().shape[0]
    assert correct > 250
    assert history[-1] < 1 < history[0]


def test_its_own_tests():
    from freewire import Graph, Model, Node, neuron_level_densenet

    n1 = Node()
    n2 = Node(n1)
    n3 = Node([n1, n2])
    assert n2.in_edges[0] == n1.out_edges[0]
    g = Graph([n1], [n2], [n3])
    assert (g.input_nodes[0], g.hidden_nodes[0], g.output_nodes[0]) == (n1, n2, n3)
    assert len(g.nodes) == 3
    g = neuron_level_densenet(2, 5, 1, "relu")
    assert g.input_nodes[0].bias == 0
    assert g.input_nodes[0].out_edges[0].weight == 0
    Model(g)
    assert isinstance(g.input_nodes[0].out_edges[0].weight, float)
