# SPDX-License-Identifier: MIT
"""Losses and metrics: their values against torch's, the targets that each reads, and what is refused."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import freewire as fw
from freewire import Model
from tests.support.messages import assert_refused
from tests.support.node_graphs import SAMPLES, TARGETS, classifier, xor

LABELS = torch.tensor([0, 2, 1, 1])
ONE_HOT = F.one_hot(LABELS, 3)


def value(m: Model, loss: object, targets: object, metrics: object = ()) -> float | list[float] | dict[str, float]:
    m.compile("sgd", loss, metrics=metrics)
    return m.evaluate(SAMPLES, targets)


class TestValues:
    @pytest.mark.parametrize(
        ("names", "function"),
        [
            (("mse", "MSELoss", "mean_squared_error", nn.MSELoss, nn.MSELoss(), F.mse_loss), F.mse_loss),
            (("mae", "L1", "l1_loss", "mean_absolute_error", nn.L1Loss()), F.l1_loss),
            (("huber", nn.HuberLoss()), F.huber_loss),
            (("smooth_l1", "SmoothL1Loss", nn.SmoothL1Loss()), F.smooth_l1_loss),
            (("bce", "binary_crossentropy", nn.BCELoss()), F.binary_cross_entropy),
            ((lambda out, y: (out - y).abs().max(),), lambda out, y: (out - y).abs().max()),
        ],
    )
    def test_of_numbers(self, names, function):
        m = Model(xor())
        column = torch.tensor(TARGETS).float().unsqueeze(1)
        expected = function(m(SAMPLES), column).item()
        for name in names:
            for targets in (TARGETS, column, column.int(), column.bool(), torch.tensor(TARGETS).double()):
                assert value(m, name, targets) == pytest.approx(expected, rel=1e-6), name

    @pytest.mark.parametrize("loss", ["crossentropy", "CrossEntropyLoss", "categorical_crossentropy", F.cross_entropy])
    @pytest.mark.parametrize("activation", ["softmax", "linear"])
    def test_of_classes(self, loss, activation):
        m = Model(classifier(activation=activation))
        expected = F.cross_entropy(m.network(torch.tensor(SAMPLES).float()), LABELS).item()
        for targets in (LABELS, LABELS.int(), LABELS.double(), LABELS.tolist(), LABELS.unsqueeze(1), ONE_HOT):
            assert value(m, loss, targets) == pytest.approx(expected, rel=1e-5)

    def test_of_class_probabilities(self):
        m = Model(classifier())
        targets = torch.rand(4, 3).softmax(1)
        assert value(m, "crossentropy", targets) == pytest.approx(-(targets * m(SAMPLES).log()).sum(1).mean().item())

    def test_class_weights_go_where_the_model_is(self):
        m = Model(classifier(), dtype=torch.float64)
        weight = torch.tensor([1.0, 2.0, 3.0])
        expected = F.cross_entropy(m.network(torch.tensor(SAMPLES).double()), LABELS, weight.double()).item()
        assert value(m, nn.CrossEntropyLoss(weight), LABELS) == pytest.approx(expected)

    def test_bce_of_linear_outputs_reads_logits(self):
        m = Model(xor(output_activation="linear"))
        expected = F.binary_cross_entropy(m(SAMPLES).sigmoid().flatten(), torch.tensor(TARGETS).float()).item()
        for loss in ("bce", nn.BCEWithLogitsLoss()):
            assert value(m, loss, TARGETS) == pytest.approx(expected)

    def test_options_of_torchs_losses(self):
        m = Model(classifier())
        smoothed = F.cross_entropy(m.network(torch.tensor(SAMPLES).float()), LABELS, label_smoothing=0.1).item()
        assert value(m, nn.CrossEntropyLoss(label_smoothing=0.1), LABELS) == pytest.approx(smoothed)
        ignoring = nn.CrossEntropyLoss(ignore_index=-1)
        assert value(m, ignoring, [0, 2, -1, -1]) == pytest.approx(-m(SAMPLES)[[0, 1], [0, 2]].log().mean().item())


class TestMetrics:
    def test_accuracy_of_one_output(self):
        for loss in ("mse", "bce"):
            m = Model(xor())
            expected = ((m(SAMPLES).flatten() > 0.5) == torch.tensor(TARGETS)).float().mean().item()
            assert value(m, loss, TARGETS, ["accuracy"])[1] == expected
        m = Model(xor(output_activation="linear"))
        with torch.no_grad():
            m.weight.zero_()
            m.bias.fill_(0.25)
        assert value(m, "bce", [1, 1, 1, 0], ["acc"])[1] == 0.75  # logits: above 0 is a 1

    def test_accuracy_of_classes(self):
        m = Model(classifier())
        expected = (m(SAMPLES).argmax(1) == LABELS).float().mean().item()
        for loss, targets in (("crossentropy", LABELS), ("crossentropy", ONE_HOT), ("mse", ONE_HOT)):
            assert value(m, loss, targets, "accuracy")[1] == expected

    def test_accuracy_of_several_labels(self):
        m = Model(classifier(activation="sigmoid"))
        targets = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]])
        expected = ((m(SAMPLES) > 0.5) == targets).float().mean().item()
        assert value(m, "bce", targets, ["accuracy"])[1] == expected

    def test_functions(self):
        def largest(outputs: torch.Tensor, targets: torch.Tensor) -> float:
            return (outputs - targets).abs().max().item()

        m = Model(xor())
        m.compile("sgd", "mse", metrics=[largest, "mae"])
        found = m.evaluate(SAMPLES, TARGETS, return_dict=True)
        error = (m(SAMPLES).flatten() - torch.tensor(TARGETS)).abs()
        assert found["largest"] == pytest.approx(error.max().item())
        assert found["mae"] == pytest.approx(error.mean().item())

    def test_metrics_read_probabilities(self):
        m = Model(classifier())
        expected = (m(SAMPLES) - ONE_HOT).abs().mean().item()
        assert value(m, "crossentropy", ONE_HOT, ["mae"])[1] == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("metrics", "match"),
        [
            (["acuracy"], "metrics: expected names of accuracy, .*, or functions, got 'acuracy'"),
            (3, "metrics: expected names of .*, got 3"),
            ({"mae", "mse"}, "metrics: expected a list or another collection with an order"),
            (["mae", "mae"], "metrics: expected different names, got 'mae' twice"),
        ],
    )
    def test_refused(self, metrics, match):
        assert_refused(lambda: Model(xor()).compile("sgd", "mse", metrics=metrics), match, fw.InputError)

    @pytest.mark.parametrize(
        ("metrics", "match"),
        [
            (["mae"], r"metrics: expected targets of the outputs' shape \[4, 3\], got \[4\]"),
            ([lambda out, y: None], r"metrics: expected one number from <lambda>, got None"),
            ([lambda out, y: out], r"metrics: expected one number from <lambda>, got shape \[4, 3\]"),
        ],
    )
    def test_refused_when_measured(self, metrics, match):
        assert_refused(lambda: value(Model(classifier()), "crossentropy", LABELS, metrics), match, fw.InputError)


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "loss", "match"),
        [
            (xor, "mes", r"loss: expected one of bce, .*, or a function, got 'mes'"),
            (xor, 3, r"loss: expected a name or a function .*, got 3\. The names are bce"),
            (xor, "crossentropy", r"loss: expected two outputs or more for crossentropy, .*got 1, .*Use 'bce'"),
            (xor, nn.CrossEntropyLoss(), r"loss: expected two outputs or more for crossentropy"),
            (classifier, "bce", r"loss: expected outputs that are all hard_sigmoid or sigmoid for bce, got softmax"),
            (xor, nn.BCEWithLogitsLoss(), r"loss: expected .* all linear for bce on logits, got sigmoid"),
            (classifier, functools.partial(F.nll_loss, reduction="mean"), r"loss: expected a loss of probabilities"),
            (classifier, nn.NLLLoss(), r"loss: expected a loss of probabilities .*Use 'crossentropy'"),
        ],
    )
    def test_losses(self, make, loss, match):
        assert_refused(lambda: Model(make()).compile("sgd", loss), match, fw.InputError)

    def test_some_outputs_softmax(self):
        x = fw.Node()
        m = Model(fw.Graph([x], [], [fw.Node(x, activation=name) for name in ("softmax", "softmax", "linear")]))
        match = r"loss: expected softmax at all outputs or at none for crossentropy, got 2 of 3"
        assert_refused(lambda: m.compile("sgd", "crossentropy"), match, fw.InputError)

    @pytest.mark.parametrize(
        ("loss", "targets", "match"),
        [
            ("crossentropy", [0, 1, 2, 3], r"y: expected classes from 0 to 2, .*has 3 outputs, got 3 at sample 3"),
            ("crossentropy", [0, -1, 2, 0], r"y: expected classes from 0 to 2, .*got -1 at sample 1"),
            ("crossentropy", [0, 1.5, 2, 0], r"y: expected classes from 0 to 2, whole numbers, got 1\.5 at sample 1"),
            ("crossentropy", torch.zeros(4, 2), r"y: expected shape \[samples, 3\], .*or \[samples\], a class each"),
            ("crossentropy", 2 * ONE_HOT, r"y: expected probabilities from 0 to 1 for crossentropy, got .* 0 to 2"),
            ("mse", [0, 1, 2, 0], r"y: expected shape \[samples, 3\], a number per output, for mse, got \[4\]"),
            ("mse", torch.zeros(4, 3, 1), r"y: expected shape \[samples, 3\].*got \[4, 3, 1\]"),
            (lambda out, y: out, LABELS, r"loss: expected one number as a tensor from <lambda>, got shape \[4, 3\]"),
            (lambda out, y: 3.0, LABELS, r"loss: expected one number as a tensor from <lambda>, got float"),
        ],
    )
    def test_targets(self, loss, targets, match):
        m = Model(classifier())
        m.compile("sgd", loss)
        assert_refused(lambda: m.evaluate(SAMPLES, targets), match, fw.InputError)

    def test_probabilities(self):
        m = Model(xor())
        m.compile("sgd", "bce")
        match = "y: expected probabilities from 0 to 1 for bce, got values from -1 to 1"
        assert_refused(lambda: m.fit(SAMPLES, [1, -1, 1, -1]), match, fw.InputError)
