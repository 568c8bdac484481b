# SPDX-License-Identifier: MIT
"""A Model: what forward accepts, start values, what it writes to Nodes and Edges, its summary."""

from __future__ import annotations

import pickle
import warnings
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

import freewire as fw
from freewire import Graph, Model, Node
from freewire.pictures import subject
from tests.support.messages import assert_refused
from tests.support.node_graphs import SAMPLES, TARGETS, classifier, xor


class TestForward:
    @pytest.mark.parametrize(
        "x",
        [
            SAMPLES,
            tuple(map(tuple, SAMPLES)),
            np.array(SAMPLES),
            np.array(SAMPLES, np.uint16),
            np.array(SAMPLES, bool),
            torch.tensor(SAMPLES),
            torch.tensor(SAMPLES, dtype=torch.float64),
            [torch.tensor(row) for row in SAMPLES],
        ],
        ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}",
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_samples_of_any_form(self, x, dtype):
        m = Model(xor(), dtype=dtype)
        expected = fw.reference(m.network, torch.tensor(SAMPLES, dtype=dtype))
        torch.testing.assert_close(m(x), expected)

    def test_one_sample(self):
        m = Model(xor())
        assert m([0, 1]).shape == (1, 1)
        assert torch.equal(m([0, 1]), m(SAMPLES)[2:3])

    def test_more_dimensions(self):
        m = Model(classifier())
        x = torch.randn(3, 4, 2)
        torch.testing.assert_close(m(x)[1], m(x[1]))

    def test_gradient_of_x(self):
        x = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
        Model(xor())(x).sum().backward()
        assert x.grad.abs().sum() > 0

    def test_some_outputs_softmax(self):
        x = Node()
        names = ["softmax", "linear", "softmax", "tanh"]
        m = Model(Graph([x], [], [Node(x, activation=name) for name in names]))
        raw, out = m.network(torch.ones(5, 1)), m(torch.ones(5, 1))
        torch.testing.assert_close(out[:, [0, 2]], raw[:, [0, 2]].softmax(1))
        assert torch.equal(out[:, [1, 3]], raw[:, [1, 3]])
        out[:, 0].sum().backward()
        assert m.weight.grad.count_nonzero() == 2

    @pytest.mark.parametrize(
        ("x", "match"),
        [
            ([1, 2, 3], r"x: expected shape \[batch, 2\], or \[2\] for one sample, got \[3\]"),
            (torch.zeros(3, 28, 28), r"x: .*got \[3, 28, 28\]\. .*flatten images: x\.reshape\(len\(x\), -1\)"),
            (1.0, r"x: .*got \[\]"),
            (["a", "b"], r"x: expected numbers, got <U1"),
            ([[1, 2], [3]], r"x: expected an array of numbers"),
            ({1, 2}, r"x: expected a list or another collection with an order"),
        ],
    )
    def test_refused(self, x, match):
        m = Model(xor())
        assert_refused(lambda: m(x), match, fw.InputError)


class TestOutputGrad:
    def test_is_the_gradient_of_the_output(self):
        g = xor()
        m = Model(g)
        expected = torch.autograd.grad(m([1, 0]).sum(), [m.weight, m.bias])
        m.compile("sgd", "mse")
        m.fit(SAMPLES, TARGETS, epochs=0, verbose=0)
        for _ in range(2):  # it replaces what is there
            out = m([1, 0], output_grad=True)
        assert torch.equal(out, m([1, 0]))
        assert not out.requires_grad
        columns = g.edge_position.tolist()
        assert [edge.grad for edge in g.edges] == expected[0][columns].tolist()
        assert [node.grad for node in g.nodes] == [0, 0, *expected[1].tolist()]

    def test_a_parametrized_weight_has_none(self):
        m = Model(xor())
        parametrize.register_parametrization(m.network, "weight", torch.nn.Softplus())
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the suite ignores torch's about the gradient of a computed tensor
            m([1, 0], output_grad=True)
        assert (m.graph.edges[0].grad, m.graph.output_nodes[0].grad != 0) == (0, True)
        assert all(edge.weight > 0 for edge in m.graph.edges)

    def test_where_gradients_are_off(self):
        m = Model(xor())
        with torch.no_grad():
            m([1, 0], output_grad=True)
        assert m.graph.output_nodes[0].grad != 0


class TestGraph:
    """What Nodes and Edges show."""

    def test_values_after_a_model_is_made(self):
        g = classifier()
        m = Model(g)
        assert all(isinstance(edge.weight, float) for edge in g.edges)
        assert [edge.weight for edge in g.edges] == m.weight[g.edge_position.tolist()].tolist()
        assert all(edge.grad == 0 for edge in g.edges)
        assert m.update_graph() is g is m.graph

    def test_values_after_training(self):
        g = classifier()
        m = Model(g)
        m.compile("adam", "crossentropy")
        m.fit(SAMPLES, [0, 1, 2, 0], verbose=0)
        assert [edge.weight for edge in g.edges] == m.weight[g.edge_position.tolist()].tolist()
        assert [edge.grad for edge in g.edges] == m.weight.grad[g.edge_position.tolist()].tolist()
        assert [node.bias for node in g.nodes] == [0, 0, *m.bias.tolist()]
        assert [node.grad for node in g.nodes] == [0, 0, *m.bias.grad.tolist()]
        assert any(node.bias for node in g.hidden_nodes)

    @pytest.mark.parametrize("initialization", ["he", "uniform", lambda weight, graph: 2.0])
    def test_start_values(self, initialization):
        x = [Node(), Node()]
        h = [Node(x), Node(x)]
        h[0].in_edges[1].weight = 0.5
        h[1].bias = -3
        y = Node(h)
        g = Graph(x, h, [y])
        for _ in range(2):  # for every Model
            m = Model(g, initialization)
            assert (h[0].in_edges[1].weight, h[1].bias) == (0.5, -3)
            assert (m.weight == 0.5).sum() == 1
            assert y.in_edges[0].weight != 0

    def test_start_values_of_a_copy(self):
        g = xor()
        m = Model(g.with_values(np.full(15, 0.25)))
        assert m.weight.tolist() == [0.25] * 15
        assert {edge.weight for edge in g.edges} == {0.25}  # the Nodes are the same

    def test_other_graphs(self):
        g = fw.generators.mlp([2, 3, 1], activation="tanh")
        m = Model(g)
        learnt = m.update_graph()
        assert torch.equal(fw.Network(learnt)(torch.ones(1, 2)), m(torch.ones(1, 2)))
        assert learnt.wiring_hash == g.wiring_hash

    def test_saved_network(self, tmp_path):
        m = Model(classifier())
        fw.save(m.network, tmp_path / "net.safetensors")
        out = fw.load(tmp_path / "net.safetensors")(torch.tensor(SAMPLES).float())
        assert torch.equal(out.softmax(1), m(SAMPLES))

    def test_weights_of_another_wiring(self, tmp_path):
        Model(classifier()).save_weights(tmp_path / "net.safetensors")
        m = Model(xor())
        before = m.weight.clone()
        assert_refused(lambda: m.load_weights(tmp_path / "net.safetensors"), "state_dict: .*of another", fw.InputError)
        assert torch.equal(m.weight, before)

    def test_plot(self):
        m = Model(xor())
        for drawn in (subject(m), subject(m.graph)):  # the graph's, as its Nodes show
            assert drawn.graph is m.graph
            assert drawn.weight.tolist() == m.weight.tolist()
            assert drawn.bias[2:].tolist() == m.bias.tolist()


class TestText:
    def test_summary(self, capsys):
        Model(classifier()).summary()
        assert capsys.readouterr().out == (
            "level  nodes  activations  in-edges  parameters\n"
            "    0      2  input 2             0           0\n"
            "    1      4  tanh 4              8          12\n"
            "    2      3  linear 3           18          21\n"
            "softmax over 3 outputs\n"
            "33 parameters: 26 weights, 7 biases\n"
        )

    def test_summary_of_a_deep_graph_is_short(self, capsys):
        m = Model(fw.neuron_level_densenet(1, 100, 1, "relu"))
        m.summary()
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 + 24 + 1 + 1
        assert lines[13] == "... (78 more levels)"
        assert lines[-2].split()[0] == "101"

    def test_count_params_is_that_of_weights_and_biases(self):
        m = Model(xor())
        assert m.count_params() == sum(p.numel() for p in m.parameters()) == 15 + 6
        assert m.graph.num_edges == 15

    def test_repr(self):
        assert "softmax outputs: 3" in repr(Model(classifier()))

    def test_a_notebook_shows_a_picture_with_the_names(self):
        text = Model(xor())._repr_svg_()
        assert text.startswith("<svg")
        assert ">inputs[0]</text>" in text
        assert "hidden hidden[0], bias 0<" in text
        assert Model(xor(), device="meta")._repr_svg_() is None


class TestRefused:
    def test_saving(self, tmp_path):
        match = r"net: expected a freewire Network, got Model\. Pass its network: fw\.save\(model\.network, path\)"
        assert_refused(lambda: fw.save(Model(xor()), tmp_path / "net.safetensors"), match, fw.InputError)

    def test_graph(self):
        assert_refused(lambda: Model([Node()]), r"graph: expected a freewire Graph, got list\. Make one: fw\.Graph")

    def test_initialization(self):
        match = r"initialization: expected one of he, .*self_normalized, or a function, got 'hee'"
        assert_refused(lambda: Model(xor(), "hee"), match, fw.InputError)
        assert_refused(lambda: Model(xor(), ["he"]), r"initialization: expected one of he, .*'he'", fw.InputError)

    def test_a_refused_model_leaves_the_graph_free(self):
        g = xor()
        with pytest.raises(fw.InputError):
            Model(g, lambda weight, graph: "a")
        assert g.edges[0].weight == 0
        Model(g)
        assert g.edges[0].weight != 0


def test_to_another_process():
    """As multiprocessing sends it; starting a process would take seconds, and show no more."""
    g = xor()
    m = Model(g)
    other_graph, other = pickle.loads(ForkingPickler.dumps((g, m)))
    assert other.graph is other_graph
    assert torch.equal(other(SAMPLES), m(SAMPLES))
    assert [edge.weight for edge in other.update_graph().edges] == [edge.weight for edge in g.edges]
    assert other_graph.nodes[0] is not g.nodes[0]


class TestDensenet:
    def test_wiring(self):
        g = fw.neuron_level_densenet(2, 5, 1, "relu")
        assert (len(g.input_nodes), len(g.hidden_nodes), len(g.output_nodes)) == (2, 5, 1)
        assert [len(node.in_edges) for node in g.hidden_nodes] == [2, 3, 4, 5, 6]
        assert [len(node.out_edges) for node in g.hidden_nodes] == [5, 4, 3, 2, 1]
        assert len(g.output_nodes[0].in_edges) == 7
        assert {node.activation for node in g.hidden_nodes} == {"relu"}
        assert g.output_nodes[0].activation == "linear"
        assert g.wiring_hash == fw.generators.densenet(2, 5, 1).wiring_hash

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ((0, 5, 1, "relu"), "input_size: expected a whole number of at least 1, got 0"),
            ((2, 5.0, 1, "relu"), r"hidden_size: .*got 5\.0"),
            ((2, 5, -1, "relu"), "output_size: .*got -1"),
            ((2, 5, 1, "rleu"), "activation: expected one of"),
        ],
    )
    def test_refused(self, arguments, match):
        assert_refused(lambda: fw.neuron_level_densenet(*arguments), match)
