# SPDX-License-Identifier: MIT
"""How the training script of examples/imagenet/ trains under its options, and its errors."""

from __future__ import annotations

import json
import re

import pytest
import timm
import torch
from safetensors.torch import load_file

from tests.vision.imagenet import write_digits
from tests.vision.training import last, rows


class TestTraining:
    def test_decay(self, lib):
        """Weights of convolutions and of the linear layer decay; scales, shifts, biases and weights of edges do not."""
        recipe = lib.recipe.Recipe(weight_decay=0.5)
        model = timm.create_model("randwire_ws_small", channels=4, num_classes=10)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        optimizer = lib.trainer.build_optimizer(model, recipe)
        decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert decay.keys() == set(names.values())
        kinds = {("conv" in name or name == "fc.weight"): value for name, value in decay.items()}
        assert all(
            decay[name] == (0.5 if ("conv" in name or "wise" in name or name == "fc.weight") else 0) for name in decay
        ), kinds

    def test_gradients_are_those_of_the_whole_batch(self, run, tmp_path, lib, digits, finished):
        """Without batch norms, micro-batches make no difference but rounding."""
        weights = []
        for size in ("24", "8"):
            out = tmp_path / size
            options = ("--model", "vit_tiny_patch16_224", "--model-options", "img_size=32", "depth=1", "embed_dim=48")
            assert run(out, *options, "--micro-batch", size, "--epochs", "1", "--no-tensorboard") == 0
            weights.append(load_file(out / "best.safetensors"))
        one, three = weights
        assert all(torch.allclose(one[name], three[name], rtol=1e-4, atol=1e-6) for name in one)

    def test_autocast(self, run, tmp_path, finished):
        """Convolutions in bfloat16: nearly the same loss in the first steps, and weights in float32."""
        assert run(tmp_path, "--precision", "bf16", "--epochs", "1", "--lr", "0.025") == 0
        first, reference = rows(tmp_path)[0], rows(finished)[0]
        assert first["loss"] != reference["loss"]
        assert first["loss"] == pytest.approx(reference["loss"], rel=0.02)
        assert {value.dtype for value in load_file(tmp_path / "best.safetensors").values()} == {
            torch.float32,
            torch.int64,
        }

    def test_compiled(self, run, tmp_path, monkeypatch):
        """The model is traced, in training and in validation. tests/models/ compiles randomly wired ones."""
        compiled, compile_ = [], torch.nn.Module.compile

        def traced(module):
            compiled.append(module)
            compile_(module, backend="eager", fullgraph=True)

        monkeypatch.setattr(torch.nn.Module, "compile", traced)
        for name, option in (("plain", "--no-tensorboard"), ("compiled", "--compile")):
            model = ("--model", "test_resnet", "--model-options", "drop_rate=0.1")
            assert run(tmp_path / name, *model, "--epochs", "1", "--ema", "0.5", option) == 0
        assert len(compiled) == 1
        a, b = last(tmp_path / "plain"), last(tmp_path / "compiled")
        assert a.keys() == b.keys()
        assert all(torch.allclose(a[name].double(), b[name].double(), rtol=1e-3, atol=1e-5) for name in a)

    def test_unreadable_images_are_skipped_named_and_counted(self, run, lib, tmp_path, capsys):
        data = write_digits(tmp_path / "data", train=20, val=10)
        broken = data / "train" / "3" / "05.png", data / "val" / "8" / "21.png"
        for path in broken:
            path.write_bytes(path.read_bytes()[:60])
        assert run(tmp_path / "run", "--workers", "2", data=data) == 0
        printed = capsys.readouterr().out
        listed = [json.loads(line) for line in (tmp_path / "run" / "unreadable.jsonl").read_text().splitlines()]
        assert sorted(row["image"] for row in listed) == sorted(map(str, broken))
        assert all(printed.count(f"unreadable, skipped: {path}") == 1 for path in broken)
        assert [row["images"] for row in rows(tmp_path / "run") if row["kind"] == "val"] == [99, 99]

    def test_unreadable_in_the_last_validation(self, run, tmp_path, capsys):
        data = write_digits(tmp_path / "data")
        (data / "val" / "8" / "11.png").write_bytes(b"GIF89a")
        assert run(tmp_path / "run", "--epochs", "1", data=data) == 0
        assert f"unreadable, skipped: {data / 'val' / '8' / '11.png'}" in capsys.readouterr().out

    def test_too_many_unreadable_images_stop_the_run(self, run, tmp_path, capsys):
        data = write_digits(tmp_path / "data")
        for number in range(2):
            (data / "train" / str(number) / "00.png").write_bytes(b"GIF89a")
        out = tmp_path / "run"
        assert run(out, "--log-every", "1", "--epochs", "9", data=data) == 1
        message = capsys.readouterr().err
        assert "images: expected at most 1% unreadable, got 2 of 140: " in message
        assert all(str(data / "train" / str(number) / "00.png") in message for number in range(2))
        assert len((out / "unreadable.jsonl").read_text().splitlines()) == 2

    def test_dry_run(self, run, tmp_path, capsys):
        assert run(tmp_path / "none", "--dry-run") == 0
        assert not (tmp_path / "none").exists()
        printed = capsys.readouterr().out
        for pattern in (
            r"training +[\d,.]+ images/s, \d+% of the time waiting",
            r"the whole run +\d+ .* for 2 epochs of 4 steps",
            r"memory +\d\.\d\d GiB at the peak of each process, 0\.\d\d GiB of it expected for a step, [\d.]+ GiB left",
            r"disk +3 checkpoints of 0\.\d MB",
        ):
            assert re.search(pattern, printed), pattern


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            (("--model", "resnet5000"), "--model: resnet5000 cannot be built: Unknown model"),
            (("--model-options", "chanels=4"), "--model: randwire_ws_small cannot be built: .*chanels"),
            (("--batch", "128"), "--batch: expected at most 100, the number of training images, got 128"),
            (("--micro-batch", "7"), "--micro-batch: expected a divisor of the batch, 24, got 7"),
            (("--micro-batch", "1"), "model: .*micro-batches of 1 of 32 pixels, got: Expected more"),
            (("--image-size", "16"), "model: .*micro-batches of 12 of 16 pixels, got: x: expected shape"),
            (("--fsdp",), "--fsdp: expected processes that torchrun started, got a single one"),
            (("--val", "nowhere"), "nowhere"),
            (
                ("--evaluate", "nothing.safetensors"),
                "weights: expected best.safetensors of a run, got 'nothing.safet",
            ),
            (("--device", "cuda"), "--device: expected a GPU for each of the 1 processes of this machine, got 0"),
        ],
    )
    def test_is_one_sentence(self, run, tmp_path, capsys, options, match):
        assert run(tmp_path / "out", *options) == 2
        message = capsys.readouterr().err
        assert re.match(f"train.py: .*{match}", message), message
        assert message.count("\n") == 1
        assert "Traceback" not in message

    def test_a_folder_that_cannot_be_made(self, run, tmp_path, capsys):
        (tmp_path / "file").touch()
        assert run(tmp_path / "file" / "run") == 2
        match = r"train.py: --out: expected a folder that can be written, got '\S+' \(Not a directory\)\. Choose .*\n"
        assert re.fullmatch(match, capsys.readouterr().err)

    def test_results_among_the_images(self, run, tmp_path, capsys):
        data = write_digits(tmp_path / "data", train=1, val=1)
        for out in (data / "train" / "run", data / "val"):
            assert run(out, data=data) == 2
            assert "train.py: --out: expected a folder outside the images, got " in capsys.readouterr().err
        assert not (data / "train" / "run").exists()

    def test_a_batch_that_does_not_fit(self, run, lib, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(lib.memory, "available_bytes", lambda device: 33 * 2**20)
        assert run(tmp_path / "out") == 2
        assert "micro-batch: expected one that fits in memory, got 12 images of 32 pixels" in capsys.readouterr().err
        assert not (tmp_path / "out" / "checkpoints").exists()

    def test_usage(self, run, tmp_path, capsys):
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path, "--epochs", "many")
        assert stopped.value.code == 2
        assert "argument --epochs: invalid int value: 'many'" in capsys.readouterr().err
