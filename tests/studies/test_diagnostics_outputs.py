# SPDX-License-Identifier: MIT
"""Where measurements go: the log, TensorBoard, findings in words, and pictures."""

from __future__ import annotations

import copy
import json
import math

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import freewire as fw
from freewire.studies import Diagnostics, plot_diagnostics, read_diagnostics
from freewire.studies.diagnostics_report import findings
from tests.studies.training import classes, train

pytestmark = pytest.mark.usefixtures("one_thread")


class Writer:
    def __init__(self):
        self.written = {}

    def add_scalar(self, name, value, step):
        self.written[name, step] = value


@pytest.fixture(scope="module")
def records():
    net, x, y = classes()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Diagnostics(net, optimizer, every=2) as diagnostics:
        train(net, optimizer, diagnostics, x, y, 50)
    return list(diagnostics.records)


class TestLog:
    def test_lines_are_records(self, tmp_path):
        """Each is there at once, as JSON of any reader, and read back as the same numbers, NaN included."""
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        path = tmp_path / "log.jsonl"
        diagnostics = Diagnostics(net, optimizer, every=1, log=path)
        for k in range(1, 4):
            if k == 3:
                with torch.no_grad():
                    net.bias[0] = math.nan
            train(net, optimizer, diagnostics, x, y, 1)
            assert len(read_diagnostics(path)) == k

        def refuse(constant):
            raise AssertionError(constant)

        lines = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
        assert lines[2]["loss"] == "NaN"
        assert lines[0] == diagnostics.records[0]
        np.testing.assert_equal(read_diagnostics(path), list(diagnostics.records))

    def test_continued_after_a_kill(self, tmp_path):
        path = tmp_path / "log.jsonl"
        for cut in (b'{"st', b'{"step": 7, "loss"'):
            net, x, y = classes()
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            before = path.read_bytes() if path.exists() else b""
            path.write_bytes(before + cut)
            assert len(read_diagnostics(path)) == before.count(b"\n")
            with Diagnostics(net, optimizer, log=str(path)) as diagnostics:
                train(net, optimizer, diagnostics, x, y, 11)
            assert path.read_bytes().startswith(before)
            assert len(read_diagnostics(path)) == before.count(b"\n") + 2


class TestTensorBoard:
    def test_scalars(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        writer = Writer()
        diagnostics = Diagnostics(net, optimizer, every=3, writer=writer)
        train(net, optimizer, diagnostics, x, y, 4)
        assert {step for _, step in writer.written} == {0, 3}
        for name in ("loss", "step_length", "gradient_norm", "update_ratio", "dead", "saturated"):
            assert writer.written[f"diagnostics/{name}", 3] == diagnostics.records[1][name]
        assert not any(value is None for value in writer.written.values())


class TestFindings:
    """Records of an ordinary training, changed in one way, have the one finding."""

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({}, None),
            ({"loss": math.nan}, "The loss is not finite from step 10 on"),
            ({"gradient_norm": math.inf}, "The gradient is not finite from step 10 on"),
            (
                {"step_length": -0.97},
                "Steps end far from the minimum (median step length -0.97): the learning rate could",
            ),
            ({"step_length": 0.6}, "Steps end beyond the minimum (median step length 0.60)"),
            ({"step_length": 1.2}, "Steps end higher than they start (median step length 1.20): the learning rate is"),
            ({"misfit": 0.8}, "Losses and slopes do not fit a parabola (median misfit 0.8)"),
            ({"update_ratio": 1e-8}, "Steps hardly change the weights (median update-to-weight ratio 1e-08"),
            ({"update_ratio": 0.5}, "Steps change a large part of the weights (median update-to-weight ratio 0.5"),
            ({"dead": 7}, "7 of 27 units are dead"),
            ({"saturated": 15}, "15 of 27 units are saturated"),
            ({"levels.dead": [0, 7, 0]}, "Most units of level 2 are dead."),
            ({"levels.saturated": [8, 7, 0]}, "Most units of levels 1, 2 are saturated."),
            ({"levels.gradient_norm": [1e-7, 1.0, 0.5]}, "Gradients of levels differ by orders of magnitude: 1e-07 at"),
            ({"noise_scale": None}, "The gradient of 32 samples is mostly noise: a larger batch"),
            ({"noise_scale": 1000.0}, "The gradient of 32 samples is mostly noise (noise scale 1,000 samples)"),
            ({"noise_scale": 1.0}, "The gradient of 32 samples has little noise (noise scale 1 samples)"),
        ],
    )
    def test_each(self, records, changed, said):
        ordinary = {"step_length": -0.5, "noise_scale": 30.0, "update_ratio": 1e-3, "misfit": 0.01, "dead": 0}
        records = [{**copy.deepcopy(record), **ordinary} for record in records]
        for record in records:
            record["levels"]["dead"] = [0, 0, 0]
        for record in records[5:]:
            for name, value in changed.items():
                where = record["levels"] if name.startswith("levels.") else record
                where[name.removeprefix("levels.")] = value
        found = findings(records)
        assert len(found) == (said is not None), found
        assert said is None or found[0].startswith(said)

    def test_text(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-5)
        diagnostics = Diagnostics(net, optimizer, every=1)
        train(net, optimizer, diagnostics, x, y, 2)
        numbers, *found = str(diagnostics).splitlines()
        assert numbers.startswith("Step 1: loss ")
        assert "step length -1," in numbers
        assert " (medians of 2 measurements); noise scale " in numbers
        assert numbers.endswith("of 27 units")
        assert [line.removeprefix("- ") for line in found] == diagnostics.report()


class TestPictures:
    def test_panels(self, records):
        figure = plot_diagnostics(records)
        titles = [axes.get_title() for axes in figure.axes]
        assert "normalised step length" in titles[1]
        (length,) = (line for line in figure.axes[1].lines if len(line.get_xdata()) == len(records))
        np.testing.assert_allclose(length.get_ydata(), [record["step_length"] for record in records])
        mesh = figure.axes[4].collections[0].get_array()
        np.testing.assert_allclose(mesh, np.array([record["levels"]["gradient_norm"] for record in records]).T)

    def test_drawn_again_on_the_same_figure(self, records):
        figure = Figure(figsize=(14, 6), layout="constrained")
        assert plot_diagnostics(records, figure) is figure
        count = len(figure.axes)
        assert len(plot_diagnostics(records[:1], figure).axes) == count

    def test_numbers_that_are_missing(self, records):
        """A first batch of one sample, a NaN, step lengths far outside, and two runs in one log."""
        records = [copy.deepcopy(record) for record in [*records[:4], *records[:2]]]
        records[0] |= {"noise_scale": None, "step_length": None}
        records[1] |= {"loss": math.nan, "step_length": 40.0}
        records[2]["levels"]["gradient_norm"] = [math.nan, 0.0, math.inf]
        figure = plot_diagnostics(records)
        figure.canvas.draw()
        assert figure.axes[0].get_title() == "loss of the batch, not finite at the bars"

    def test_live_picture(self, tmp_path, monkeypatch):
        """It is there after the first measurement, redrawn when drawing is due, and drawn once more at the end."""
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        path, drawn = tmp_path / "live.png", []
        small = Figure(figsize=(2, 1))
        monkeypatch.setattr(Diagnostics, "plot", lambda self: drawn.append(len(self.records)) or small)
        with Diagnostics(net, optimizer, every=1, figure=path) as diagnostics:
            train(net, optimizer, diagnostics, x, y, 3)
            assert drawn == [1]
            assert matplotlib.image.imread(path).shape == (100, 200, 4)
            diagnostics._next_drawing = 0.0
            train(net, optimizer, diagnostics, x, y, 2)
        assert drawn == [1, 4, 5]
        assert [each.name for each in tmp_path.iterdir()] == ["live.png"]


def test_public_names():
    assert fw.studies.Diagnostics is Diagnostics
    assert {"Diagnostics", "plot_diagnostics", "read_diagnostics"} <= set(fw.studies.__all__)
