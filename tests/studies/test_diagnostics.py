# SPDX-License-Identifier: MIT
"""What diagnostics measure: step length, slopes, norms by level and noise, against slow computations."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

import freewire as fw
from freewire.studies import Diagnostics
from freewire.studies.diagnostics_levels import Levels, segment_sums
from freewire.studies.diagnostics_measures import Noise, fit_parabola
from tests.studies.training import along, batch, least_squares_step_length, network, state, train

pytestmark = pytest.mark.usefixtures("one_thread")


def half_square(outputs, y):
    return 0.5 * ((outputs - y) ** 2).mean()


class TestQuadratic:
    """A linear network with one output, whose loss is a quadratic of its weights with a Hessian that we choose."""

    @staticmethod
    def quadratic(curvatures):
        net = fw.Network(fw.generators.mlp([len(curvatures), 1]), bias=False, init="uniform", dtype=torch.float64)
        x = torch.diag(torch.tensor(curvatures, dtype=torch.float64).mul(len(curvatures)).sqrt())
        return net, x, torch.ones(len(curvatures), 1, dtype=torch.float64)  # Hessian: diag(curvatures)

    @pytest.mark.parametrize(
        ("rate", "expected"),
        [(1e-3, -0.999), (0.2, -0.8), (0.5, -0.5), (1.0, 0.0), (1.5, 0.5), (2.0, 1.0), (2.5, 1.5), (10.0, 9.0)],
    )
    def test_learning_rates_are_distinguished(self, rate, expected):
        """Gradient descent on curvature h multiplies the distance to the minimum by 1 - rate h."""
        curvature = 3.0
        net, x, y = self.quadratic([curvature] * 4)
        optimizer = torch.optim.SGD(net.parameters(), lr=rate / curvature)
        with Diagnostics(net, optimizer, every=1) as diagnostics:
            records = train(net, optimizer, diagnostics, x, y, 3, half_square)
        assert len(diagnostics.records) == 3
        for record in records if rate != 1.0 else records[:1]:  # afterwards it is at the minimum
            assert record["step_length"] == pytest.approx(expected, abs=1e-9)
            assert record["misfit"] < 1e-9
            assert (record["loss_after"] > record["loss"]) == (expected > 1)
        findings = {(-0.999,): "could be larger", (0.5, 1.0): "could be smaller", (1.5, 9.0): "too large"}
        for lengths, words in findings.items():
            assert any(words in finding for finding in diagnostics.report()) == (expected in lengths)

    @pytest.mark.parametrize("name", ["momentum", "Adam", "LBFGS"])
    def test_other_optimizers(self, name):
        """On a quadratic, slope and loss at both ends determine the step length, whatever chose the step."""
        curvatures = [0.5, 1.0, 4.0]
        net, x, y = self.quadratic(curvatures)
        optimizer = {
            "momentum": lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9),
            "Adam": lambda p: torch.optim.Adam(p, lr=0.3),
            "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.4, max_iter=3),
        }[name](net.parameters())
        hessian = torch.tensor(curvatures, dtype=torch.float64)
        best = torch.linalg.solve(x, y)[:, 0]
        with Diagnostics(net, optimizer, every=1) as diagnostics:
            for _ in range(8):

                def closure():
                    optimizer.zero_grad()
                    loss = half_square(net(x), y)
                    loss.backward()
                    return loss

                loss, before = closure(), net.weight.detach().clone()
                optimizer.step(closure if name == "LBFGS" else None)
                record = diagnostics.step(x, y, half_square, None if name == "LBFGS" else loss)
                step = net.weight.detach() - before
                slope, curvature = ((before - best) * hessian * step).sum(), (step * hessian * step).sum()
                assert record["slope"] == pytest.approx(float(slope), rel=1e-9)
                assert record["step_length"] == pytest.approx(float(-curvature / slope - 1), rel=1e-9)

    def test_no_step(self):
        net, x, y = self.quadratic([1.0, 2.0])
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        with Diagnostics(net, optimizer) as diagnostics:
            (record,) = train(net, optimizer, diagnostics, x, y, 1, half_square)
        assert (record["step_length"], record["update_ratio"]) == (-1.0, 0.0)


class TestParabola:
    @pytest.mark.parametrize("seed", range(3))
    def test_least_squares(self, seed):
        numbers = np.random.default_rng(seed).normal(size=3)
        loss, slope, change = numbers[0], -1 - numbers[1] ** 2, numbers[2]
        fitted = fit_parabola(loss, slope, loss + slope + change, 0.5)
        assert fitted.step_length == pytest.approx(
            least_squares_step_length(loss, slope, loss + slope + change, 0.5), rel=1e-9
        )
        assert fitted.misfit > 0

    @pytest.mark.parametrize(
        ("numbers", "expected"),
        [
            ((0.0, -1.0, -2.0, -3.0), -1.0),  # concave, and it still falls
            ((0.0, -1.0, -1.0, -1.0), -1.0),  # straight down
            ((0.0, 3.0, 2.0, 1.0), None),  # concave, uphill
            ((0.0, 1.0, 1.0, 1.0), None),
            ((0.0, 1.0, 2.0, 3.0), -3.0),  # it started uphill
            ((0.0, 0.0, 1.0, 2.0), None),  # it started at the minimum
            ((math.nan, -1.0, 0.0, 0.0), None),
            ((1.0, -1.0, math.inf, 0.0), None),
            ((1.0, 0.0, 1.0, 0.0), -1.0),
        ],
    )
    def test_without_a_minimum_ahead(self, numbers, expected):
        assert fit_parabola(*numbers).step_length == expected


class TestAgainstReference:
    """A small network of several levels, in float64, against finite differences and autograd."""

    @pytest.mark.parametrize(("bias", "recompute"), [(True, False), (False, False), (True, True)])
    @pytest.mark.parametrize("samples", [7, 1])
    @pytest.mark.parametrize("outputs", [("y", "z"), ("z", "g")])  # neighbours in the plan, and not
    def test_record(self, bias, recompute, samples, outputs):
        net = network(bias=bias, outputs=outputs)
        x, y = batch(samples, net)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
        diagnostics = Diagnostics(net, optimizer, every=1, recompute=recompute)
        for _ in range(3):
            start = state(net)
            (record,) = train(net, optimizer, diagnostics, x, y, 1, mse_loss)
            grads = [parameter.grad.clone() for parameter in net.parameters()]
            end = state(net)
            h = 1e-5
            slopes = [
                (along(net, start, end, t + h, x, y) - along(net, start, end, t - h, x, y)) / (2 * h) for t in (0, 1)
            ]
            losses = [along(net, start, end, t, x, y) for t in (0, 1)]
            assert [record["loss"], record["loss_after"]] == pytest.approx(losses, rel=1e-12)
            assert [record["slope"], record["slope_after"]] == pytest.approx(slopes, rel=1e-6, abs=1e-9)
            expected = least_squares_step_length(losses[0], slopes[0], losses[1], slopes[1])
            concave = slopes[1] < slopes[0] < 0
            assert record["step_length"] == pytest.approx(-1 if concave else expected, rel=1e-5)
            moved = [b - a for a, b in zip(start, end, strict=True)]
            for name, values in (("gradient_norm", grads), ("weight_norm", start), ("update_norm", moved)):
                self.assert_norms(net, record, name, values)
            assert record["update_ratio"] == record["update_norm"] / record["weight_norm"]
            self.assert_noise(net, diagnostics, record, x, y, samples)

    @staticmethod
    def assert_norms(net, record, name, values):
        """Level by level, edge by edge."""
        graph = net.graph
        squares = {int(level): 0.0 for level in graph.level[graph.computed_index]}
        for target, value in zip(graph.edge_index[1], values[0].tolist(), strict=True):
            squares[int(graph.level[target])] += value**2
        for node, value in zip(graph.computed_index, values[1].tolist() if len(values) > 1 else [], strict=False):
            squares[int(graph.level[node])] += value**2
        assert record["levels"]["level"] == sorted(squares)
        assert record["levels"][name] == pytest.approx([math.sqrt(squares[level]) for level in sorted(squares)])
        assert record[name] == pytest.approx(math.sqrt(sum(squares.values())))

    @staticmethod
    def assert_noise(net, diagnostics, record, x, y, samples):
        if samples == 1:
            assert record["noise_scale"] is record["gradient_variance"] is record["gradient_square"] is None
            assert set(record["levels"]["noise_scale"]) == {None}
            return
        sizes = (samples // 2, samples - samples // 2)
        means = [
            torch.cat(torch.autograd.grad(mse_loss(net(part), target), list(net.parameters())))
            for part, target in zip(x.split(sizes), y.split(sizes), strict=True)
        ]
        variance = float(((means[0] - means[1]) ** 2).sum()) / (1 / sizes[0] + 1 / sizes[1])
        mean = sum(size * each for size, each in zip(sizes, means, strict=True)) / samples
        assert record["gradient_variance"] == pytest.approx(variance, rel=1e-9)
        assert record["gradient_square"] == pytest.approx(float((mean**2).sum()) - variance / samples, rel=1e-9)
        if len(diagnostics.records) == 1:  # no averages yet
            scale = variance / record["gradient_square"] if record["gradient_square"] > 0 else None
            assert record["noise_scale"] == pytest.approx(scale)

    def test_loss_is_computed_if_omitted(self):
        records = []
        for omitted in (False, True):
            net = network()
            x, y = batch(9, net)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
            diagnostics = Diagnostics(net, optimizer)
            if not omitted:
                records += train(net, optimizer, diagnostics, x, y, 1, mse_loss)
                continue
            train(net, optimizer, None, x, y, 1, mse_loss)
            records.append(diagnostics.step(x, y, mse_loss))
        assert records[0] == records[1]
        assert records[0]["loss"] > records[0]["loss_after"]

    def test_nodes_and_edges(self):
        net = network()
        x, y = batch(6, net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        diagnostics = Diagnostics(net, optimizer)
        start = state(net)
        train(net, optimizer, diagnostics, x, y, 1, mse_loss)
        grads, end = [parameter.grad.numpy() for parameter in net.parameters()], state(net)
        train(net, optimizer, diagnostics, x, y, 1, mse_loss)  # not measured: the tables stay
        graph, nodes, edges = net.graph, diagnostics.nodes(), diagnostics.edges()
        np.testing.assert_array_equal(edges["weight"], start[0])
        np.testing.assert_array_equal(edges["gradient"], grads[0])
        np.testing.assert_array_equal(edges["update"], end[0] - start[0])
        np.testing.assert_array_equal(np.stack((edges["source"], edges["target"])), graph.edge_index)
        np.testing.assert_array_equal(edges["level"], graph.level[graph.edge_index[1]])
        for i, name in enumerate(graph.nodes):
            into = np.flatnonzero(graph.edge_index[1] == i)
            at = np.flatnonzero(graph.computed_index == i)
            norm = math.sqrt((grads[0][into] ** 2).sum() + (grads[1][at] ** 2).sum()) if len(at) else math.nan
            np.testing.assert_allclose(nodes["gradient_norm"][i], norm)
            assert nodes["used"][i] == (name not in ("a", "b", "unused"))
            assert np.isnan(nodes["flat_share"][i]) != nodes["used"][i]

    @pytest.mark.parametrize("kind", ["mean", "sum"])
    def test_noise_scale_of_known_gradients(self, kind):
        """Per-sample gradients with a known mean and variance; a loss that sums has the same noise scale."""
        net = fw.Network(fw.generators.mlp([50, 1]), bias=False, dtype=torch.float64)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        drawn = torch.Generator().manual_seed(0)
        mean, deviation = math.sqrt(0.25 / 50), 2.0

        def loss_fn(outputs, y):  # linear: a sample's gradient is its x
            return getattr(outputs, kind)()

        with Diagnostics(net, optimizer, every=1) as diagnostics:
            for _ in range(60):
                x = mean + deviation * torch.randn(1000, 50, generator=drawn, dtype=torch.float64)
                train(net, optimizer, diagnostics, x, None, 1, loss_fn)
        factor = 1 if kind == "mean" else 1000**2
        variances, squares = (
            [record[name] / factor for record in diagnostics.records]
            for name in ("gradient_variance", "gradient_square")
        )
        assert statistics.mean(variances) == pytest.approx(50 * deviation**2, rel=0.1)
        assert statistics.mean(squares) == pytest.approx(0.25, rel=0.1)
        assert diagnostics.records[-1]["noise_scale"] == pytest.approx(800.0, rel=0.25)

    def test_noise_that_hides_the_gradient(self):
        noise = Noise()
        assert noise.add([0.1], [4.0], (2, 2)) == (4.0, pytest.approx(-0.9))
        assert noise.scales(1) == (None, [None])
        noise.add([math.nan], [1.0], (2, 2))
        noise.add([math.inf], [1.0], (2, 2))
        assert noise.variance == pytest.approx([0.4])
        for _ in range(200):
            noise.add([3.0], [4.0], (2, 2))
        assert noise.scales(1)[0] == pytest.approx(2.0, rel=1e-6)

    @pytest.mark.parametrize("chunk", [1, 3, 1000])
    def test_sums_over_chunks(self, chunk, monkeypatch):
        """Levels that begin and end within a chunk, NaN that stays in its level, and torch's sums like numpy's."""
        monkeypatch.setattr("freewire.studies.diagnostics_levels._CHUNK", chunk)
        net = network()
        graph = net.graph
        weight = [torch.randn(graph.num_edges, dtype=torch.float64) for _ in range(3)]
        bias = [torch.randn(len(graph.computed_index), dtype=torch.float64) for _ in range(3)]
        last = int(graph.edge_index[1].tolist().index(graph.nodes.index("z")))
        weight[1][last] = math.nan
        levels = Levels(graph, 3, True, torch.device("cpu"))
        squares, products = levels.sums(weight, bias, 0, lambda rows: rows[2].mul_(2))
        weight[2], bias[2] = 2 * weight[2], 2 * bias[2]
        level = np.concatenate((graph.level[graph.edge_index[1]], graph.level[graph.computed_index]))
        for k in range(3):
            numbers = torch.cat((weight[k], bias[k])).numpy()
            expected = [np.square(numbers[level == number]).sum() for number in levels.numbers]
            np.testing.assert_allclose(squares[k], expected)
            assert (products[k] == pytest.approx(numbers @ torch.cat((weight[0], bias[0])).numpy())) == (k != 1)
        rows, starts = torch.stack(weight), np.array([0, 1, 4])
        np.testing.assert_allclose(segment_sums(rows, starts, on_device=True), segment_sums(rows, starts))
