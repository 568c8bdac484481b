# SPDX-License-Identifier: MIT
"""The examples of convolutional networks, run as a user would, but shortened."""

from __future__ import annotations

import contextlib
import io
import json
import re
import types
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.examples import imported

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def damage() -> Iterator[types.ModuleType]:
    with imported("damage") as module:
        yield module


@pytest.fixture(scope="module")
def backbone() -> Iterator[types.ModuleType]:
    with imported("backbone") as module:
        yield module


def run(module: types.ModuleType, out: Path, *options: str) -> str:
    """Run the command; return its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        module.main(["--quick", "--seed", "3", "--out", str(out), *options])
    return printed.getvalue()


@pytest.fixture(scope="module")
def damaged(damage: types.ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The command's output folder and its output."""
    out = tmp_path_factory.mktemp("damage") / "made" / "by itself"
    return out, run(damage, out, "--epochs", "1")


@pytest.fixture(scope="module")
def pixels(backbone: types.ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The command's output folder and its output."""
    out = tmp_path_factory.mktemp("backbone") / "made" / "by itself"
    return out, run(backbone, out)


def assert_shows_something(path: Path) -> None:
    picture = (matplotlib.image.imread(path)[..., :3] * 255).astype(np.uint8)
    assert min(picture.shape[:2]) >= 500
    assert len(np.unique(picture[::3, ::3].reshape(-1, 3), axis=0)) > 50
    assert 0.02 < np.mean((picture != picture[2, 2]).any(axis=-1)) < 0.9


class TestDamage:
    def test_files(self, damaged):
        assert sorted(path.name for path in damaged[0].iterdir()) == ["damage.json", "damage.png"]
        assert_shows_something(damaged[0] / "damage.png")

    def test_printed_figures_are_those_written(self, damaged, damage):
        written = json.loads((damaged[0] / "damage.json").read_text())
        assert written["count"] == damage.QUICK
        assert [len(written["nodes"]), len(written["edges"])] == [3 * 16, 3 * 32]
        assert f"accuracy {written['baseline']:.2%} on {damage.QUICK} images" in damaged[1]
        for degree, mean, worst, count in re.findall(
            r"^without a node of out-degree +(\d+): +(\S+) \((\S+)\), (\d+) of them$", damaged[1], re.MULTILINE
        ):
            drops = [row["accuracy_drop"] for row in written["nodes"] if row["out_degree"] == int(degree)]
            assert len(drops) == int(count)
            assert 100 * np.mean(drops) == pytest.approx(float(mean), abs=0.0051)
            assert 100 * max(drops) == pytest.approx(float(worst), abs=0.0051)
            written["nodes"] = [row for row in written["nodes"] if row["out_degree"] != int(degree)]
        assert written["nodes"] == []

    def test_overfits_a_few_images(self, damage):
        data = damage.load_digits(0)
        assert (data.train_x.shape, data.test_x.shape) == ((1437, 1, 64, 64), (360, 1, 64, 64))
        few = damage.Digits(data.train_x[:64], data.train_y[:64], data.train_x[:64], data.train_y[:64])
        model = damage.build(0)
        damage.train(model, few, seed=0, epochs=16)
        model.eval()
        with torch.no_grad():
            assert (model(few.test_x).argmax(1) == few.test_y).float().mean() > 0.4

    def test_zero_epochs(self, damage, tmp_path, capsys):
        with pytest.raises(SystemExit):
            damage.main(["--epochs", "0", "--out", str(tmp_path)])
        assert "--epochs: expected at least 1, got 0." in capsys.readouterr().err


class TestBackbone:
    def test_table(self, pixels):
        rows = re.findall(r"^(\w.+?) {2,}(\d+\.\d)% +(\d+\.\d)%$", pixels[1], re.MULTILINE)
        names = ["all background", "backbone from scratch", "backbone of the classifier"]
        assert [name for name, *_ in rows] == names

    def test_files(self, pixels):
        assert sorted(path.name for path in pixels[0].iterdir()) == ["classifier.safetensors", "pixels.png"]
        assert_shows_something(pixels[0] / "pixels.png")

    def test_backbone_loads_all_but_the_head(self, pixels, backbone):
        path = pixels[0] / "classifier.safetensors"
        network = backbone.build(3, features_only=True)
        unused = backbone.load_backbone(network, path)
        weights = load_file(path)
        assert set(unused) == {name for name in weights if name.startswith(("head.", "fc."))}
        assert set(weights) == set(unused) | set(network.state_dict())
        assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
        assert ", ".join(sorted(unused)) in pixels[1]

    def test_file_of_another_network_is_refused(self, pixels, backbone, tmp_path):
        weights = load_file(pixels[0] / "classifier.safetensors")
        weights["foreign"] = weights.pop("stages.0.weight")
        save_file(weights, tmp_path / "other.safetensors")
        with pytest.raises(RuntimeError, match=r"got no \['stages.0.weight'\] and unexpected \['foreign'\]"):
            backbone.load_backbone(backbone.build(3, features_only=True), tmp_path / "other.safetensors")

    def test_scenes(self, backbone):
        painter, test_painter = backbone.load_painters(0)
        assert (len(painter.labels), len(test_painter.labels)) == (1437, 360)
        images, classes = painter.scenes(64)
        assert (images.shape, classes.shape) == ((64, 1, 64, 64), (64, 64, 64))
        assert 0 <= float(images.min()) < 0.01 < 0.99 < float(images.max()) <= 1
        assert set(classes.unique().tolist()) == set(range(11))
        assert all(1 <= len(each.unique()) - 1 <= 3 for each in classes)
        named, labels = painter.named(64)
        assert (named.shape, set(labels.tolist())) == ((64, 1, 64, 64), set(range(10)))
        again = backbone.load_painters(0)[0].scenes(64)
        assert torch.equal(again.images, images)
        assert torch.equal(again.classes, classes)

    def test_mean_iou(self, backbone):
        true = torch.tensor([[0, 0, 1, 10]])
        assert backbone.mean_iou(true, true) == 1
        assert backbone.mean_iou(torch.tensor([[0, 1, 1, 2]]), true) == pytest.approx((1 / 2 + 1 / 2 + 0 + 0) / 4)

    def test_overfits_a_few_images(self, backbone):
        torch.manual_seed(0)
        painter, _ = backbone.load_painters(0)
        few = painter.scenes(8)
        model = backbone.PixelClassifier(backbone.build(0, features_only=True))
        nothing = backbone.mean_iou(torch.full_like(few.classes, 10), few.classes)
        backbone.train(model, lambda count: few, steps=40, name="training")
        assert backbone.mean_iou(backbone.predict(model, few.images), few.classes) > 2.5 * nothing

    def test_zero_steps(self, backbone, tmp_path, capsys):
        with pytest.raises(SystemExit):
            backbone.main(["--steps", "0", "--out", str(tmp_path)])
        assert "--steps: expected at least 1, got 0." in capsys.readouterr().err
