# SPDX-License-Identifier: MIT
"""fw.log_to_tensorboard with a writer of our own; tests/vision/test_tensorboard.py has torch's, and TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import freewire as fw
from freewire.errors import GraphError, InputError
from tests.support.messages import assert_refused


@dataclass
class Writer:  # cannot be hashed
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def add_histogram(self, *call):
        self.calls.append(call)

    def add_graph(self, model, example):
        self.calls.append(("graph", model, model(example).shape))

    add_scalar = add_figure = add_histogram

    def tags(self) -> list[str]:
        return [call[0] for call in self.calls]


def test_what_is_logged():
    graph = fw.Graph.from_edges([0, 0, 1], [1, 2, 2], weight=[-2.0, 0.5, 2.0], bias=[0.0, 0.25, -0.5])
    net, writer = fw.Network(graph), Writer()
    fw.log_to_tensorboard(writer, net, torch.tensor(3))
    assert writer.tags() == ["graph", "weight", "bias", "wiring"]
    assert writer.calls[0][1:] == (net, (1, 1))
    assert writer.calls[1][1].tolist() == [-2, 0.5, 2]
    assert writer.calls[2][1].tolist() == [0.25, -0.5]  # not the input's 0
    assert isinstance(writer.calls[3][1], Figure)
    assert [call[2] for call in writer.calls[1:]] == [3, 3, 3]


def test_gradients_and_the_graph_once():
    net, writer = fw.Network(fw.generators.mlp([2, 2])), Writer()
    net(torch.ones(1, 2)).sum().backward()
    net.weight.grad[0], net.bias.grad[:] = torch.nan, torch.inf
    for step in range(2):
        fw.log_to_tensorboard(writer, net, step, picture=False)
    each = ["weight", "bias", "weight.grad", "weight.grad.not_finite", "bias.grad.not_finite"]
    assert writer.tags() == ["graph", *each, *each]
    assert writer.calls[3][1].tolist() == [1, 1, 1]
    assert writer.calls[4:6] == [("weight.grad.not_finite", 1, 0), ("bias.grad.not_finite", 2, 0)]
    fw.log_to_tensorboard(other := Writer(), net, 0, picture=False)
    assert other.tags()[0] == "graph"


def test_no_bias_and_no_edges():
    writer = Writer()
    net = fw.Network(fw.Graph.from_edges([], [], num_nodes=1, outputs=[0]), bias=False)
    fw.log_to_tensorboard(writer, net, 0, picture=False)
    assert writer.tags() == ["graph"]


def test_networks_of_a_model():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            dag = fw.generators.watts_strogatz_dag(4, 2, 0.5, seed=0)
            self.body = nn.Sequential(fw.models.GraphStage(dag, 1, 1))
            self.head = fw.Network(fw.generators.mlp([1, 1]))

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    model, writer = Model(), Writer()
    fw.log_to_tensorboard(writer, model, 0, picture=False)
    assert writer.tags() == ["body/0/weight", "head/weight", "head/bias"]
    fw.log_to_tensorboard(writer, model, 1, example=torch.zeros(2, 1, 8, 8), picture=False)
    assert writer.calls[3] == ("graph", model, (2, 1))


@pytest.mark.parametrize(
    ("change", "match", "error"),
    [
        ({"writer": None}, "writer: expected a SummaryWriter, got NoneType without add_figure, add_graph", InputError),
        ({"step": None}, "step: expected a whole number of at least 0, got None. Pass the number", InputError),
        ({"step": 1.0}, "step: expected a whole number", InputError),
        ({"step": -1}, "step: expected a whole number of at least 0, got -1", InputError),
        ({"net": nn.Linear(1, 1)}, "net: expected a Network, or a module that has one, got Linear. ", InputError),
        ({"net": fw.generators.mlp([1, 1])}, "net: expected a Network, .* got Graph. .* fw.plot", InputError),
        ({"net": fw.Network(fw.generators.mlp([1, 1]), device="meta")}, "weight: expected values", GraphError),
    ],
)
def test_refused(change, match, error):
    writer = Writer()
    arguments = {"writer": writer, "net": fw.Network(fw.generators.mlp([1, 1])), "step": 0, **change}
    assert_refused(lambda: fw.log_to_tensorboard(**arguments), match, error)
    assert not writer.calls


def test_a_compiled_model_is_logged_as_the_model_itself():
    net = fw.Network(fw.generators.mlp([2, 2]))
    model = nn.Sequential(net)
    for given, traced, names in (
        (torch.compile(net), net, ["graph", "weight", "bias"]),
        (torch.compile(model), model, ["graph", "0/weight", "0/bias"]),
    ):
        fw.log_to_tensorboard(writer := Writer(), given, 0, example=torch.ones(1, 2), picture=False)
        assert writer.tags() == names
        assert writer.calls[0][1] is traced  # torch.jit.trace refuses a compiled one
    fw.log_to_tensorboard(writer := Writer(), nn.Sequential(torch.compile(net)), 0, picture=False)
    assert writer.tags() == ["0/weight", "0/bias"]
