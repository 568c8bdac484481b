# SPDX-License-Identifier: MIT
"""The recipes for timm's training script, by the factories that the script calls: they are the paper's recipe."""

from __future__ import annotations

import math
import runpy
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import timm
import torch
import yaml
from timm.data import create_transform, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torchvision import transforms

import freewire.timm  # noqa: F401 - registers the models

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "imagenet"
EPOCHS = {"small": 250, "regular": 100}
WARMUP = 5


@pytest.fixture(params=EPOCHS)
def regime(request) -> str:
    return request.param


@pytest.fixture
def options(regime) -> Namespace:
    """The options of the script, as it reads them from the file."""
    with open(EXAMPLE / "timm_recipes" / f"randwire_ws_{regime}.yaml") as file:
        return Namespace(**yaml.safe_load(file))


@pytest.fixture
def model(options) -> torch.nn.Module:
    with torch.device("meta"):
        return timm.create_model(options.model, drop_rate=options.drop)


def test_the_recipes_differ_only_in_what_the_paper_says():
    files = [yaml.safe_load(path.read_text()) for path in sorted((EXAMPLE / "timm_recipes").iterdir())]
    regular, small = files
    assert set(regular) == set(small)
    assert {name for name in small if small[name] != regular[name]} == {"model", "drop", "epochs"}


def test_model_and_its_regularisation(model, regime):
    c = {"small": 78, "regular": 109}[regime]
    rates = {"small": (0.0, 0.0), "regular": (0.1, 0.2)}[regime]
    assert model.feature_info[-1]["num_chs"] == {"small": 4, "regular": 8}[regime] * c
    assert (model.edge_drop, model.dropout.p) == rates


def test_classical_momentum_and_decay_of_matrices_alone(options, model):
    options.lr = 0.1
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(options))
    assert type(optimizer) is torch.optim.SGD
    (plain, decayed) = sorted(optimizer.param_groups, key=lambda group: group["weight_decay"])
    for group in (plain, decayed):
        assert (group["momentum"], group["dampening"], group["nesterov"]) == (0.9, 0, False)
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0, 5e-5)
    names = {id(p): name for name, p in model.named_parameters()}
    exempt = {names[id(p)] for p in plain["params"]}
    assert {"fc.bias", "stages.0.weight", "stages.2.nodes.31.bn.weight", "head.bn.bias"} <= exempt
    assert exempt == {name for name, p in model.named_parameters() if p.ndim < 2}
    assert {names[id(p)] for p in decayed["params"]} == set(names.values()) - exempt


@pytest.mark.parametrize("processes", [8, 32])
def test_learning_rate_at_every_step(options, regime, processes):
    """As the script computes it: in proportion to the batch, set before the first update and after every one."""
    assert (options.batch_size, options.lr_base_size, options.lr_base_scale) == (32, 256, "linear")
    peak = options.lr_base * options.batch_size * processes / options.lr_base_size
    assert peak == pytest.approx(0.1 * processes / 8)
    updates = 7
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    schedule, epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(options), updates_per_epoch=updates)
    assert epochs == EPOCHS[regime]
    warmup, total = WARMUP * updates, epochs * updates
    used = []
    for step in range(total):
        used.append(optimizer.param_groups[0]["lr"])
        schedule.step_update(step + 1)
    half_cosine = [peak * (1 + math.cos(math.pi * step / total)) / 2 for step in range(total)]
    assert used[:warmup] == pytest.approx([peak * step / warmup for step in range(warmup)])
    assert used[warmup:] == pytest.approx(half_cosine[warmup:])
    assert optimizer.param_groups[0]["lr"] == 0


def test_label_smoothing(options):
    """timm's formula is torch's."""
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 9, 3])
    expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert float(LabelSmoothingCrossEntropy(options.smoothing)(logits, labels)) == pytest.approx(float(expected))


def test_plain_augmentation(options, model):
    """Random resized crop and flip, and nothing else."""
    data = resolve_data_config(vars(options), model=model)
    shared = {"input_size": data["input_size"], "mean": data["mean"], "std": data["std"]}
    crop, flip, *rest = create_transform(
        **shared,
        is_training=True,
        scale=options.scale,
        ratio=options.ratio,
        hflip=options.hflip,
        vflip=options.vflip,
        color_jitter=options.color_jitter,
        auto_augment=options.aa,
        interpolation=options.train_interpolation,
        re_prob=options.reprob,
    ).transforms
    assert tuple(crop.size) == (224, 224)
    assert (crop.scale, crop.interpolation) == ((0.08, 1.0), transforms.InterpolationMode.BILINEAR)
    assert crop.ratio == pytest.approx((3 / 4, 4 / 3))
    assert (type(flip), flip.p) == (transforms.RandomHorizontalFlip, 0.5)
    assert [type(step).__name__ for step in rest] == ["MaybeToTensor", "Normalize"]
    assert (options.mixup, options.cutmix) == (0, 0)
    resize, centre, *rest = create_transform(
        **shared, interpolation=data["interpolation"], crop_pct=data["crop_pct"]
    ).transforms
    assert (resize.size, resize.interpolation) == (256, transforms.InterpolationMode.BILINEAR)
    assert tuple(centre.size) == (224, 224)
    assert [type(step).__name__ for step in rest] == ["MaybeToTensor", "Normalize"]
    assert rest[1].mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert rest[1].std.tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_resnet50_is_trained_and_tested_on_the_same_pictures(options):
    """Whatever timm's own defaults for that model are."""
    with torch.device("meta"):
        model = timm.create_model("resnet50")
    data = resolve_data_config(vars(options), model=model)
    assert (data["input_size"], data["crop_pct"], data["interpolation"]) == ((3, 224, 224), 0.875, "bilinear")


def test_precision(options):
    assert (options.amp, options.amp_dtype, options.channels_last) == (True, "bfloat16", True)


class TestLauncher:
    @pytest.fixture
    def run(self, monkeypatch):
        """Run the launcher as Python would run it, in this process."""

        def launch(*arguments: object) -> None:
            launcher = EXAMPLE / "timm_train.py"
            monkeypatch.setattr(sys, "argv", [str(launcher), *map(str, arguments)])
            monkeypatch.setattr(sys, "path", [str(launcher.parent), *sys.path])
            runpy.run_path(str(launcher), run_name="__main__")

        return launch

    def test_runs_the_script_as_python_would(self, run, tmp_path, capsys):
        """With its own arguments, its folder searched first, and the models registered."""
        (tmp_path / "beside_the_script.py").write_text("value = 7\n")
        script = tmp_path / "train.py"
        script.write_text(
            "import sys, timm, beside_the_script\n"
            "if __name__ == '__main__':\n"
            "    print(sys.argv[1:], beside_the_script.value, timm.is_model('randwire_ws_small'))\n"
        )
        run(script, "--config", "x.yaml")
        assert capsys.readouterr().out == "['--config', 'x.yaml'] 7 True\n"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "the following arguments are required: PATH/train.py"),
            (("nowhere/train.py",), "nowhere/train.py: expected timm's train.py, got no file. Clone timm, "),
        ],
    )
    def test_refused(self, run, arguments, said, capsys):
        with pytest.raises(SystemExit, match=r"^2$"):
            run(*arguments)
        assert f"timm_train.py: error: {said}" in capsys.readouterr().err

    def test_without_timm(self, run, tmp_path, monkeypatch, capsys):
        (tmp_path / "train.py").touch()
        monkeypatch.delitem(sys.modules, "freewire.timm")
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(SystemExit, match=r"^2$"):
            run(tmp_path / "train.py")
        said = "timm_train.py: error: timm: expected it to be installed, got none. Run `pip install timm`.\n"
        assert capsys.readouterr().err.endswith(said)
