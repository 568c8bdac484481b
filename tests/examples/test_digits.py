# SPDX-License-Identifier: MIT
"""What a new user tries first: the digits example (its tables, files and accuracy), and the README's code."""

from __future__ import annotations

import contextlib
import io
import re
import statistics
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

import freewire as fw
from tests.support import ROOT
from tests.support.examples import imported

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits() -> Iterator[types.ModuleType]:
    """The example as a module."""
    with imported("digits") as module:
        sys.modules["other_ways"].ROUNDS = 2
        yield module


@pytest.fixture(scope="module")
def run(digits: types.ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Run the command for two epochs; return its output folder, and what it wrote to stdout and stderr."""
    out = tmp_path_factory.mktemp("digits") / "made" / "by itself"
    printed, progress = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(progress):
        digits.main(["--epochs", "2", "--seed", "3", "--out", str(out)])
    return out, printed.getvalue(), progress.getvalue()


class TestDigits:
    def test_split_is_stratified_and_fixed_by_the_seed(self, digits):
        data = digits.load_digits(0)
        assert (len(data.train_x), len(data.test_x)) == (1437, 360)
        assert float(data.train_x.min()) == 0.0
        assert float(data.train_x.max()) == 1.0
        everything = torch.bincount(torch.cat((data.train_y, data.test_y)))
        np.testing.assert_allclose(torch.bincount(data.test_y), 0.2 * everything, atol=1)
        assert all(torch.equal(a, b) for a, b in zip(data, digits.load_digits(0), strict=True))
        assert not torch.equal(data.test_x, digits.load_digits(1).test_x)

    def test_wiring(self, digits):
        graph = digits.build(0).graph
        assert (len(graph.inputs), len(graph.outputs), graph.num_nodes) == (64, 10, 374)
        assert digits.build(0).graph.wiring_hash == graph.wiring_hash
        assert digits.build(1).graph.wiring_hash != graph.wiring_hash

    def test_evaluate_counts_correct_answers(self, digits):
        x = torch.eye(4)
        assert digits.evaluate(torch.nn.Identity(), x, torch.tensor([0, 1, 2, 0])) == 0.75

    def test_zero_epochs(self, digits, tmp_path, capsys):
        with pytest.raises(SystemExit):
            digits.main(["--epochs", "0", "--out", str(tmp_path)])
        assert "--epochs: expected at least 1, got 0." in capsys.readouterr().err

    @pytest.mark.nightly
    def test_accuracy_over_five_seeds(self, digits):
        accuracies = []
        for seed in range(5):
            data, net = digits.load_digits(seed), digits.build(seed)
            digits.train(net, data, seed)
            accuracies.append(digits.evaluate(net, data.test_x, data.test_y))
        assert statistics.mean(accuracies) >= 0.96, accuracies


class TestCommand:
    def test_table(self, run):
        rows = re.findall(r"^(.+?) {2,}(\d+\.\d)% +([\d,]+) +(\d+\.\d\d)$", run[1], re.MULTILINE)
        assert [name.split(" (")[0] for name, *_ in rows] == [
            "freewire, 300 neurons",
            "dense, equal parameters",
            "dense, equal neurons",
        ]
        parameters = [int(row[2].replace(",", "")) for row in rows]
        assert parameters[1] == pytest.approx(parameters[0], rel=0.01)
        assert parameters[2] == 300 * (64 + 1 + 10) + 10
        assert all(float(accuracy) > 50 and float(ms) > 0 for _, accuracy, _, ms in rows)

    def test_other_ways(self, run):
        lines = re.findall(
            r"^(.+?) {2,}(\d+\.\d\d) \((\d+\.\d)x\) {2,}(\d+\.\d\d) \((\d+\.\d)x\)$", run[1], re.MULTILINE
        )
        names = ["freewire, one call", "torch.sparse CSR, level by level", "masked dense layers, level by level"]
        assert [name for name, *_ in lines] == names
        assert lines[0][2::2] == ("1.0", "1.0")

    def test_progress_is_one_line_per_training(self, run):
        assert "\r" not in run[2]
        assert len(re.findall(r"^.+: 2 epochs in [\d.]+ s, loss [\d.]+, test [\d.]+%$", run[2], re.MULTILINE)) == 3
        assert run[2].count("\n") == 3

    def test_files(self, run):
        assert sorted(path.name for path in run[0].iterdir()) == ["digits.safetensors", "training.png", "wiring.png"]

    @pytest.mark.parametrize("name", ["training.png", "wiring.png"])
    def test_pictures_are_not_empty(self, run, name):
        picture = matplotlib.image.imread(run[0] / name)[..., :3]
        assert picture.shape[0] >= 500
        assert picture.shape[1] >= 1000
        colours = np.unique((picture[::3, ::3].reshape(-1, 3) * 255).astype(np.uint8), axis=0)
        assert len(colours) > 100
        background = picture[2, 2]
        assert 0.02 < np.mean(np.abs(picture - background).max(axis=-1) > 0.1) < 0.9

    def test_network_is_saved(self, run, digits):
        loaded = fw.load(run[0] / "digits.safetensors")
        assert loaded.graph.wiring_hash == digits.build(3).graph.wiring_hash
        data = digits.load_digits(3)
        shown = re.search(r"^freewire.* (\d+\.\d)%", run[1], re.MULTILINE)
        assert f"{digits.evaluate(loaded, data.test_x, data.test_y):.1%}" == f"{shown[1]}%"


class TestReadme:
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_every_example_runs(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        first, *others = re.findall(r"^```python\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)
        assert len(first.splitlines()) <= 12
        names: dict[str, object] = {}
        torch.manual_seed(0)
        exec(compile(first, "README.md", "exec"), names)
        assert float(re.search(r"error (\S+)", capsys.readouterr().out)[1]) < 0.05
        for example in others:  # they continue the first
            exec(compile(example, "README.md", "exec"), names)

    def test_links_exist(self):
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", self.text) + re.findall(r'src="([^"]+)"', self.text)
        assert links
        for link in links:
            assert (ROOT / link).exists(), link

    def test_is_short(self):
        assert len(self.text.splitlines()) < 150
