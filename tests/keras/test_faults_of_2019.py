# SPDX-License-Identifier: MIT
"""Every fault of the 2019 library, a test each; op_id across levels and cycles are in tests/graph/test_node_refused."""

from __future__ import annotations

import copy
import functools
import math
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import freewire as fw
from freewire import Graph, Model, Node
from tests.support.node_graphs import SAMPLES, TARGETS, classifier, xor


class TestModules:
    """eval(), to() and state_dict() recursed without end."""

    def test_eval_to_and_state_dict(self):
        m = Model(xor())
        before = m(SAMPLES)
        assert m.eval().train() is m
        assert m.to(torch.float64)(SAMPLES).dtype == torch.float64
        assert torch.equal(m.to(torch.float32)(SAMPLES), before)
        other = Model(xor())
        assert not torch.equal(other(SAMPLES), before)
        other.load_state_dict(m.state_dict())
        assert torch.equal(other(SAMPLES), before)
        assert sorted(m.state_dict()) == ["network._extra_state", "network.bias", "network.weight"]

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_train_on(self, again):
        m = Model(xor())
        m.compile("adam", "mse", metrics=["accuracy"])
        m.fit(SAMPLES, TARGETS, epochs=2, verbose=0)
        other = again(m)
        assert torch.equal(other(SAMPLES), m(SAMPLES))
        for each in (m, other):
            each.fit(SAMPLES, TARGETS, epochs=2, shuffle=False, verbose=0)
        assert torch.equal(other(SAMPLES), m(SAMPLES))  # the copy has an optimizer of its own, in the same state
        assert other.weight is not m.weight

    def test_files(self, tmp_path):
        m, other = Model(xor()), Model(xor())
        m.save_weights(tmp_path / "xor.safetensors")
        other.load_weights(tmp_path / "xor.safetensors")
        assert torch.equal(other(SAMPLES), m(SAMPLES))
        assert other.graph.edges[0].weight == m.graph.edges[0].weight
        assert torch.equal(fw.load(tmp_path / "xor.safetensors")(torch.tensor(SAMPLES).float()), m(SAMPLES))


class TestSecondModel:
    """A second Model on one Graph was silently wrong."""

    def test_is_independent(self):
        g = xor()
        first = Model(g)
        expected = first(SAMPLES)
        second = Model(g)
        second.compile("adam", "mse")
        second.fit(SAMPLES, TARGETS, epochs=3, verbose=0)
        assert torch.equal(first(SAMPLES), expected)
        assert not torch.equal(second(SAMPLES), expected)
        x = np.array([1.0, 0.0])
        for m in (second, first):  # the Nodes show the Model that wrote last
            m.update_graph()
            h = [sum(e.weight * x[g.input_nodes.index(e.start)] for e in n.in_edges) + n.bias for n in g.hidden_nodes]
            out = g.output_nodes[0]
            z = sum(e.weight / (1 + math.exp(-v)) for e, v in zip(out.in_edges, h, strict=True)) + out.bias
            assert 1 / (1 + math.exp(-z)) == pytest.approx(m(x).item(), rel=1e-5)


class TestCompile:
    def test_loss_by_both_names(self):
        for arguments in (dict(loss="mse"), dict(loss_function="mse")):
            m = Model(xor())
            m.compile(optimizer="sgd", **arguments)
            assert m.optimizer.param_groups[0]["lr"] == 0.01
        m.compile("adam", "mse")
        assert type(m.optimizer) is torch.optim.Adam

    def test_unknown_names(self):
        """They were ignored in silence."""
        m = Model(xor())
        with pytest.raises(fw.InputError, match=r"^optimizer: expected one of adadelta, .*, got 'adan'"):
            m.compile("adan", "mse")
        with pytest.raises(fw.InputError, match=r"^loss: expected one of bce, .*mse, .*, got 'mes'"):
            m.compile("adam", "mes")
        assert m.optimizer is None


class TestForward:
    def test_a_failed_forward_breaks_nothing(self):
        m = Model(xor())
        before = m(SAMPLES)
        with pytest.raises(fw.InputError):
            m([[1, 2, 3]])
        assert torch.equal(m(SAMPLES), before)

    def test_runs_without_cuda(self):
        assert Model(xor()).weight.device.type == "cpu"
        assert Model(xor(), device="meta")(torch.zeros(1, 2, device="meta")).shape == (1, 1)


class TestFit:
    def test_1_d_targets_with_mse(self):
        """They were broadcast to B x B."""
        m = Model(xor())
        m.compile("sgd", "mse")
        out = m(SAMPLES).detach()
        column = torch.tensor(TARGETS).float().unsqueeze(1)
        assert m.evaluate(SAMPLES, TARGETS) == pytest.approx(F.mse_loss(out, column).item())
        assert m.evaluate(SAMPLES, [[t] for t in TARGETS]) == m.evaluate(SAMPLES, TARGETS)

    def test_a_batch_larger_than_the_data(self):
        """It divided by zero."""
        m = Model(xor())
        m.compile("sgd", "mse")
        assert len(m.fit(SAMPLES, TARGETS, batch_size=100, verbose=0).history["loss"]) == 1

    @pytest.mark.parametrize("shuffle", [False, True])
    def test_the_last_partial_batch(self, shuffle):
        """It was dropped."""
        seen: list[int] = []
        m = Model(xor())
        m.network.register_forward_hook(lambda _, x, y: seen.append(len(x[0])))
        m.compile("sgd", "mse")
        m.fit(SAMPLES, TARGETS, epochs=2, batch_size=3, shuffle=shuffle, verbose=0)
        assert seen == [3, 1, 3, 1]

    def test_shuffling(self):
        seen: list[tuple[float, ...]] = []
        m = Model(xor())
        m.network.register_forward_hook(lambda _, x, y: seen.append(tuple(x[0][0].tolist())))
        m.compile("sgd", "mse")
        m.fit(SAMPLES, TARGETS, epochs=20, batch_size=1, verbose=0)
        epochs = [tuple(seen[i : i + 4]) for i in range(0, 80, 4)]
        assert all(sorted(epoch) == [(0, 0), (0, 1), (1, 0), (1, 1)] for epoch in epochs)
        assert len(set(epochs)) > 10  # of the 24 orders

    def test_x_and_y_are_shuffled_together(self):
        x = torch.arange(12.0).reshape(6, 2)
        m = Model(xor())
        pairs: list[tuple[float, float]] = []
        m.compile("sgd", lambda out, y: (pairs.append((y.item(), y.item() / 10)), (out - y).square().mean())[1])
        inputs: list[float] = []
        m.network.register_forward_hook(lambda _, x, y: inputs.append(x[0][0, 0].item()))
        m.fit(x, x[:, 0] * 10, batch_size=1, verbose=0)
        assert [second for _, second in pairs] == inputs != sorted(inputs)

    def test_no_python_loop_over_edges(self):
        """update_graph called .item() for every edge."""
        m = Model(fw.neuron_level_densenet(20, 20, 5, "relu"))
        calls = 0

        class Count(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                nonlocal calls
                calls += 1
                return function(*args, **(kwargs or {}))

        with Count():
            m.update_graph()
        assert 0 < calls < 20


class TestSoftmax:
    """crossentropy applied softmax twice."""

    def test_outputs_are_probabilities(self):
        out = Model(classifier())(SAMPLES)
        torch.testing.assert_close(out.sum(1), torch.ones(4))
        assert (out > 0).all()

    @pytest.mark.parametrize(
        "loss",
        [
            "crossentropy",
            F.cross_entropy,
            functools.partial(F.cross_entropy, reduction="mean"),
            torch.nn.CrossEntropyLoss(),
            functools.partial(torch.nn.CrossEntropyLoss, label_smoothing=0.0),
            type("Derived", (torch.nn.CrossEntropyLoss,), {})(),
        ],
    )
    def test_crossentropy_is_minus_the_log_of_the_probability(self, loss):
        m = Model(classifier())
        m.compile("sgd", loss)
        labels = torch.tensor([0, 2, 1, 1])
        expected = -m(SAMPLES)[torch.arange(4), labels].log().mean()
        assert m.evaluate(SAMPLES, labels) == pytest.approx(expected.item())

    def test_is_finite_where_a_probability_is_0(self):
        m = Model(classifier())
        with torch.no_grad():
            m.weight.mul_(1e4)
        m.compile("sgd", "crossentropy")
        assert (m(SAMPLES) == 0).any()
        assert math.isfinite(m.evaluate(SAMPLES, [2, 2, 2, 2]))
        m.fit(SAMPLES, [2, 2, 2, 2], verbose=0)
        assert m.weight.isfinite().all()


class TestInitialisation:
    @pytest.mark.parametrize(("name", "scale"), [("he", 2.0), ("self_normalized", 1.0)])
    def test_by_each_neurons_own_fan_in(self, name, scale):
        """self_normalized forgot the fan-in."""
        x = [Node() for _ in range(400)]
        h = [Node(x[:k]) for k in (25, 400) for _ in range(40)]
        g = Graph(x, h, [Node(h)])
        Model(g, initialization=name)
        for nodes, fan_in in ((h[:40], 25), (h[40:], 400)):
            deviation = np.std([edge.weight for node in nodes for edge in node.in_edges])
            assert deviation == pytest.approx(math.sqrt(scale / fan_in), rel=0.1)
        assert {node.bias for node in g.nodes} == {0}

    def test_uniform(self):
        g = fw.neuron_level_densenet(30, 30, 1, "relu")
        Model(g, "uniform")
        weights = [edge.weight for edge in g.edges]
        assert -1 <= min(weights) < -0.95 < 0.95 < max(weights) <= 1
