# SPDX-License-Identifier: MIT
"""The damage study of a trained network, from the file of its weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import matplotlib.image
import pytest
import timm
import torch

import freewire as fw
import freewire.timm
from tests.vision.imagenet import add, write_digits

CLASSES = tuple("0123456789")


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=1, val=2)


@pytest.fixture
def saved(lib, tmp_path):
    """Write the weights of an untrained network to best.safetensors as a run does."""

    def write(model: torch.nn.Module, recipe, classes: tuple[str, ...] = CLASSES, **more: torch.Tensor) -> Path:
        run = lib.checkpoint.Run(recipe, classes, 10, lib.checkpoint.wirings(model))
        description = {"progress": {}, **dataclasses.asdict(run)}
        path = tmp_path / "run" / "best.safetensors"
        path.parent.mkdir(exist_ok=True)
        lib.checkpoint.write(path, {**model.state_dict(), **more}, description)
        return path

    return write


@pytest.fixture
def recipe(lib):
    options = {"channels": 2, "seed": 3}
    return dataclasses.replace(lib.recipe.PRESETS["tiny"], model_options=options, micro_batch=8)


@pytest.fixture
def model(recipe):
    torch.manual_seed(0)
    return timm.create_model(recipe.model, num_classes=10, **recipe.model_options)


@pytest.fixture
def images(lib, digits):
    source = lib.sources.open_source(digits / "val")
    return lib.images.Images(source, lib.images.val_transform(32, 1.0), seed=0, replace=False)


def test_results(lib, saved, recipe, model, digits, images, capsys):
    """They are those of the network in the file on the images chosen; the picture has both plots."""
    path = saved(model, recipe)
    assert lib.damage.main([str(path), str(digits), "--images", "5"]) == 0
    result = json.loads((path.parent / "damage.json").read_text())
    batch = lib.images.collate([images[lib.order.Sample(0, index)] for index in (0, 4, 8, 12, 16)])
    want = fw.studies.damage(model.to(memory_format=torch.channels_last), [batch[:2]], edges=False)
    assert result["nodes"] == [row._asdict() for row in want.nodes]
    assert (result["baseline"], result["count"]) == (want.baseline, 5)
    assert len(result["edges"]) == sum(graph.num_edges for graph in graphs(model))
    assert str(want) in capsys.readouterr().out  # which goes on with the edges
    picture = matplotlib.image.imread(path.parent / "damage.png")
    assert picture.shape[1] > 2 * picture.shape[0] > 500
    assert sorted(each.name for each in path.parent.iterdir()) == ["best.safetensors", "damage.json", "damage.png"]


def graphs(model) -> list[fw.Graph]:
    return [part.graph for part in model.modules() if isinstance(part, fw.models.GraphStage)]


@pytest.mark.parametrize(("count", "sizes"), [(20, [8, 8, 4]), (9, [8, 1])])
def test_batches(lib, images, count, sizes):
    """Each image once, or a part with the same share of every class."""
    world = lib.parallel.World(0, 1, 1, torch.device("cpu"))
    batches = lib.damage.Batches(images, count, 8, world)
    found = list(batches)
    assert [len(labels) for _, labels in found] == sizes
    assert len(batches) == len(sizes)
    labels = torch.cat([labels for _, labels in found])
    assert labels.tolist() == [index * 20 // count // 2 for index in range(count)]


class TestMistakes:
    """Each is one sentence, and nothing is written."""

    @pytest.fixture
    def refused(self, lib, capsys):
        def check(path: Path, data: Path, match: str, *options: str) -> None:
            assert lib.damage.main([str(path), str(data), *options]) == 2
            message = capsys.readouterr().err
            assert message.startswith("damage.py: ")
            assert match in message
            assert message.count("\n") == 1
            assert not list(path.parent.glob("damage*"))

        return check

    def test_files(self, refused, saved, recipe, model, digits, tmp_path):
        refused(tmp_path / "none", digits, "weights: expected best.safetensors of a run, got '")
        other = add(tmp_path / "run" / "other.safetensors", b"nothing")
        refused(other, digits, "other.safetensors': ")
        checkpoint = saved(model, recipe, **{"momentum.fc.weight": torch.zeros(1)})
        refused(checkpoint, digits, "best.safetensors': a checkpoint, which has more than weights in it.")

    def test_a_model_without_stages(self, refused, saved, recipe, digits):
        options = {"img_size": 32, "depth": 1, "embed_dim": 48}
        plain = dataclasses.replace(recipe, model="vit_tiny_patch16_224", model_options=options)
        path = saved(timm.create_model(plain.model, num_classes=10, **options), plain)
        refused(
            path, digits, "expected a randomly wired network, got vit_tiny_patch16_224. There are no nodes or edges"
        )

    @pytest.mark.parametrize("change", [{"seed": 4}, {"channels": 3}])
    def test_another_network(self, refused, saved, recipe, model, digits, change):
        """Other wirings of the same sizes have weights of the same shapes."""
        path = saved(model, dataclasses.replace(recipe, model_options=recipe.model_options | change))
        refused(
            path, digits, "expected the weights of randwire_ws_small with these options, got those of another network."
        )

    def test_images(self, refused, saved, recipe, model, digits, tmp_path):
        path = saved(model, recipe)
        refused(path, digits, "--images: expected 1 or more, got 0.", "--images", "0")
        refused(path, tmp_path / "none", "expected a folder or shards, got nothing there")
        refused(path, write_digits(tmp_path / "few", 1, 1) / "train" / "0", "expected a folder for each class")
        refused(
            saved(model, recipe, CLASSES[::-1]), digits, "expected weights for these 10 classes, got weights for 10, or"
        )

    def test_unreadable_images(self, lib, saved, recipe, model, tmp_path, capsys):
        data = write_digits(tmp_path / "data", train=1, val=1)
        broken = add(data / "val" / "5" / "01.png", b"GIF89a")
        assert lib.damage.main([str(saved(model, recipe)), str(data), "--images", "2"]) == 1
        said = (
            f"damage.py: images: expected at most 1% unreadable, got 1 of 2: {broken} (not an image, or of an unknown "
        )
        assert capsys.readouterr().err == f"{said}format). Put good copies in their place.\n"

    def test_no_place_for_the_results(self, lib, saved, recipe, model, digits, monkeypatch, capsys):
        path = saved(model, recipe)
        (path.parent / "damage.png").mkdir()
        monkeypatch.setattr(lib.damage, "study", lambda *arguments: fw.studies.Damage(0.5, 2.0, (), ()))
        assert lib.damage.main([str(path), str(digits)]) == 1
        assert f"damage.py: The results cannot be written to {path.parent}: " in capsys.readouterr().err
