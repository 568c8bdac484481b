# SPDX-License-Identifier: MIT
"""The training script of examples/imagenet/ as one process: what it writes, that it continues, and its errors."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from pathlib import Path

import matplotlib.image
import pytest
import timm
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import freewire as fw
from tests.support.imagenet import write_digits

#: A RandWire of four channels that draws random numbers in training, four steps per epoch.
TINY = "--preset tiny --model-options channels=4 edge_drop=0.5 drop_rate=0.2 --epochs 2 --warmup-epochs 0.5 --batch 24"
TINY += " --micro-batch 12 --rate 0.05 --log-every 2 --workers 0"


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def run(lib, digits):
    """Run the command in this process; return its exit status."""

    def call(out: Path, *options: str, data: Path = digits) -> int:
        return lib.train.main([str(data), "--out", str(out), *TINY.split(), *options])

    return call


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory) -> Path:
    """The folder of a run with averaged weights that was not interrupted."""
    out = tmp_path_factory.mktemp("finished")
    assert run(out, "--ema", "0.5") == 0
    return out


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def last(out: Path) -> dict[str, torch.Tensor]:
    return load_file(max((out / "checkpoints").iterdir()))


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = last(one), last(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


class TestFinished:
    def test_metrics(self, finished):
        found = rows(finished)
        assert [(row["kind"], row["step"]) for row in found] == [
            *[("train", 2), ("train", 4), ("val", 4), ("val_average", 4)],
            *[("train", 6), ("train", 8), ("val", 8), ("val_average", 8)],
        ]
        assert found[0]["learning_rate"] == pytest.approx(0.05 / 2)  # the second of two steps of warm-up
        assert all(row["images"] == 40 for row in found if row["kind"] != "train")
        assert all(0 <= row["top1"] <= row.get("top5", 1) <= 1 for row in found)
        assert all(row["top1"] == pytest.approx(row["balanced"]) for row in found if "balanced" in row)

    def test_tensorboard(self, finished):
        events = EventAccumulator(str(finished / "tensorboard"), size_guidance={"images": 0})
        events.Reload()
        for tag, key in (
            ("train/loss", "loss"),
            ("train/images_per_second", "images_per_second"),
            ("val/top1", "top1"),
        ):
            want = [(row["step"], row[key]) for row in rows(finished) if row["kind"] == tag.split("/")[0]]
            got = [(event.step, event.value) for event in events.Scalars(tag)]
            assert [step for step, _ in got] == [step for step, _ in want]
            assert [value for _, value in got] == pytest.approx([value for _, value in want])
        assert len(events.Images("wiring")) == 1

    def test_picture_of_the_wiring(self, finished):
        picture = matplotlib.image.imread(finished / "wiring.png")
        assert picture.shape[1] > 2 * picture.shape[0] > 500  # three stages side by side
        assert 0.02 < (picture[..., :3].min(axis=-1) < 0.9).mean() < 0.5

    def test_best_weights(self, finished, lib, run, capsys):
        """They are those of the best epoch, loadable by name, and measured as they were in training."""
        best = max((row for row in rows(finished) if row["kind"] == "val_average"), key=lambda row: row["top1"])
        weights = load_file(finished / "best.safetensors")
        model = timm.create_model("randwire_ws_small", channels=4, num_classes=10)
        model.load_state_dict(weights)
        if best["step"] == 8:
            averaged = {name: value for name, value in last(finished).items() if name.startswith("average.module.")}
            assert all(torch.equal(value, weights[name[15:]]) for name, value in averaged.items())
        capsys.readouterr()
        assert run(finished, "--evaluate", str(finished / "best.safetensors")) == 0
        assert f"{best['loss']:8.4f}{best['top1']:9.2%}{best['top5']:9.2%}" in capsys.readouterr().out

    def test_the_same_command_again(self, finished, run, capsys):
        """It prints the table and changes nothing."""
        files = {path: path.stat().st_mtime_ns for path in (finished / "checkpoints").iterdir()}
        before = rows(finished)
        assert run(finished, "--ema", "0.5") == 0
        assert "last, epoch 2" in capsys.readouterr().out
        assert rows(finished) == before
        assert {path: path.stat().st_mtime_ns for path in (finished / "checkpoints").iterdir()} == files

    def test_damage_of_the_checkpoint(self, finished, digits, lib):
        model = timm.create_model("randwire_ws_small", channels=4, num_classes=10)
        model.load_state_dict(load_file(finished / "best.safetensors"))
        images = lib.images.Images(
            lib.sources.open_source(str(digits / "val")), lib.images.test_transform(32, 1), 0, False
        )
        batch = lib.images.collate([images[lib.order.Sample(0, index)] for index in range(20)])
        study = fw.studies.damage(model, [(batch.images, batch.labels)], edges=False)
        assert len(study.nodes) == 96


class TestContinues:
    """A run that was stopped ends with the weights, and the metrics, of one that was not."""

    @pytest.fixture
    def stopping(self, lib, monkeypatch):
        """Ask the process to stop within a step."""

        def at(number: int, signum: int = signal.SIGTERM) -> None:
            step = lib.trainer.Trainer.step

            def stepping(trainer, now, *arguments):
                if now == number:
                    os.kill(os.getpid(), signum)
                return step(trainer, now, *arguments)

            monkeypatch.setattr(lib.trainer.Trainer, "step", stepping)

        return at

    @pytest.mark.parametrize(("step", "signum"), [(2, signal.SIGTERM), (5, signal.SIGINT)])
    def test_after_a_request_to_stop(self, finished, run, stopping, tmp_path, monkeypatch, capsys, step, signum):
        stopping(step, signum)
        assert run(tmp_path, "--ema", "0.5") == 128 + signum
        done = step + 2 - step % 2  # the next report
        assert f"Stopped after step {done}, as requested. The same command continues." in capsys.readouterr().out
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        monkeypatch.undo()
        assert run(tmp_path, "--ema", "0.5", "--workers", "2") == 0
        assert f"from step {done}" in capsys.readouterr().out
        assert_same_weights(finished, tmp_path)
        for mine, theirs in zip(rows(tmp_path), rows(finished), strict=True):
            speed = {"images_per_second": 0.0}
            assert mine | speed == theirs | speed

    def test_after_an_error_within_an_epoch(self, finished, run, lib, tmp_path, monkeypatch):
        """What was logged after the last checkpoint is logged once."""
        step = lib.trainer.Trainer.step

        def failing(trainer, now, *arguments):
            if now == 7:
                raise ZeroDivisionError
            return step(trainer, now, *arguments)

        monkeypatch.setattr(lib.trainer.Trainer, "step", failing)
        every = ("--ema", "0.5", "--checkpoint-every", "5", "--log-every", "1")
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, *every)
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "train", "st')  # cut off
        monkeypatch.undo()
        assert run(tmp_path, *every) == 0
        assert [row["step"] for row in rows(tmp_path) if row["kind"] == "train"] == list(range(1, 9))
        assert_same_weights(finished, tmp_path)

    def test_a_damaged_checkpoint_is_passed_over(self, finished, run, tmp_path, capsys):
        assert run(tmp_path, "--ema", "0.5") == 0
        newest = max((tmp_path / "checkpoints").iterdir())
        newest.write_bytes(newest.read_bytes()[:-1000])
        assert run(tmp_path, "--ema", "0.5") == 0
        assert f"{newest}: cannot be read" in capsys.readouterr().out
        assert_same_weights(finished, tmp_path)
        for path in (tmp_path / "checkpoints").iterdir():
            path.write_bytes(b"nothing")
        assert run(tmp_path, "--ema", "0.5") == 2
        assert "expected a checkpoint that can be read, got 2 damaged ones. Remove them" in capsys.readouterr().err


class TestCheckpoints:
    def test_the_last_are_kept(self, run, tmp_path):
        assert run(tmp_path, "--checkpoint-every", "1", "--keep", "2", "--no-tensorboard") == 0
        assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
            "step-000000007.safetensors",
            "step-000000008.safetensors",
        ]
        assert not (tmp_path / "tensorboard").exists()

    @pytest.mark.filterwarnings("ignore:Exception in thread")  # TensorBoard's, whose file is full too
    def test_no_space_left(self, run, finished, lib, tmp_path, capsys, monkeypatch):
        """Training goes on, the earlier checkpoint is as it was, the status says so, and the run can be continued."""
        step, limits = lib.trainer.Trainer.step, resource.getrlimit(resource.RLIMIT_FSIZE)

        def filling(trainer, now, *arguments):
            if now == 5:  # files may grow no larger than this
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            return step(trainer, now, *arguments)

        monkeypatch.setattr(lib.trainer.Trainer, "step", filling)
        try:
            assert run(tmp_path, "--ema", "0.5") == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
        assert (
            "Cannot save: [Errno 27] File too large. Training goes on; the files of earlier" in capsys.readouterr().out
        )
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000004.safetensors"]
        assert run(tmp_path, "--ema", "0.5") == 0
        assert_same_weights(finished, tmp_path)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            (
                ("--rate", "0.1"),
                "expected a checkpoint of the same recipe, got another: rate: 0.05 there, 0.1 here. Pass",
            ),
            (
                ("--model-options", "channels=4"),
                "'edge_drop': 0.5} there, {'channels': 4} here. Pass",
            ),
            (("--model-options", "channels=4", "edge_drop=0.5", "drop_rate=0.2", "seed=1"), "model_options: "),
        ],
    )
    def test_of_another_recipe(self, run, finished, capsys, options, match):
        assert run(finished, "--ema", "0.5", *options) == 2
        assert match in capsys.readouterr().err

    def test_of_other_images(self, run, finished, digits, tmp_path, capsys):
        write_digits(tmp_path / "more", train=11)
        assert run(finished, "--ema", "0.5", data=tmp_path / "more") == 2
        assert "expected a checkpoint of a run on 110 training images, got 100. Pass" in capsys.readouterr().err
        for part in ("train", "val"):
            (tmp_path / "more" / part / "7").rename(tmp_path / "more" / part / "seven")
        assert run(finished, "--ema", "0.5", data=tmp_path / "more") == 2
        assert "of these 10 classes, got one of 10; missing in it: seven. Pass" in capsys.readouterr().err
        assert run(finished, "--evaluate", str(finished / "best.safetensors"), data=tmp_path / "more") == 2
        assert "expected weights for these 10 classes, got weights for 10, or for other ones" in capsys.readouterr().err

    def test_of_another_wiring(self, run, finished, lib, monkeypatch, capsys):
        monkeypatch.setattr(lib.trainer, "wirings", lambda model: {"stages.0": "0" * 64})
        assert run(finished, "--ema", "0.5") == 2
        assert "expected a checkpoint of the same wiring, got another" in capsys.readouterr().err


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
        assert run(tmp_path, "--precision", "bf16", "--epochs", "1", "--rate", "0.025") == 0
        first, reference = rows(tmp_path)[0], rows(finished)[0]
        assert first["loss"] != reference["loss"]
        assert first["loss"] == pytest.approx(reference["loss"], rel=0.02)
        assert {value.dtype for value in last(tmp_path).values()} == {torch.float32, torch.int64}

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

    def test_too_many_unreadable_images_stop_the_run(self, run, tmp_path, capsys):
        data = write_digits(tmp_path / "data")
        for number in range(2):
            (data / "train" / str(number) / "00.png").write_bytes(b"GIF89a")
        out = tmp_path / "run"
        assert run(out, "--log-every", "1", "--epochs", "9", data=data) == 2
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
            r"memory +0\.\d\d GiB at the peak of each process, 0\.\d\d GiB of it expected for a step, [\d.]+ GiB left",
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
            (("--rate", "1e30"), "loss: expected a finite number, got nan before step 4. Train with a lower --rate"),
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
