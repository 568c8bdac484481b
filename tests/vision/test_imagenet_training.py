# SPDX-License-Identifier: MIT
"""The training script of examples/imagenet/ as one process: what it writes, and that a stopped run continues."""

from __future__ import annotations

import os
import re
import resource
import signal

import matplotlib.image
import pytest
import timm
import torch
from filelock import FileLock
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import freewire as fw
from tests.vision.imagenet import tar, write_digits
from tests.vision.training import assert_same_weights, last, rows


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

    def test_what_is_evaluated(self, finished, run, capsys):
        """A checkpoint is not best.safetensors, and the options must be those of the run."""
        checkpoint = max((finished / "checkpoints").iterdir())
        assert run(finished, "--evaluate", str(checkpoint)) == 2
        assert "weights: expected best.safetensors of a run, got " in capsys.readouterr().err
        assert run(finished, "--evaluate", str(finished / "best.safetensors"), "--model-options", "channels=5") == 2
        assert "expected the weights of randwire_ws_small with these options, got those of" in capsys.readouterr().err

    def test_from_shards(self, finished, run, digits, tmp_path):
        """The same images in the same order give the same weights, whether they are files or parts of archives."""
        for part in ("train", "val"):
            files = sorted((digits / part).glob("*/*"))
            for number, first in enumerate(range(0, len(files), 37)):
                members = []
                for path in files[first : first + 37]:
                    key = f"{path.parent.name}-{path.stem}"
                    members += [(f"{key}.png", path.read_bytes()), (f"{key}.cls", path.parent.name.encode())]
                (tmp_path / part).mkdir(exist_ok=True)
                tar(tmp_path / part / f"{number:03}.tar", members)
        assert run(tmp_path / "run", "--ema", "0.5", "--workers", "1", data=tmp_path) == 0
        assert_same_weights(finished, tmp_path / "run")

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
            lib.sources.open_source(str(digits / "val")), lib.images.val_transform(32, 1), 0, False
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

    def test_after_a_request_in_a_validation(self, finished, run, lib, tmp_path, monkeypatch, capsys):
        """The validation ends without a result, and is repeated."""
        validation = lib.trainer.Validation._run

        def stopping(self, model, batch):
            if len(rows(tmp_path)) == 3:  # of the averaged weights
                os.kill(os.getpid(), signal.SIGTERM)
            return validation(self, model, batch)

        monkeypatch.setattr(lib.trainer.Validation, "_run", stopping)
        monkeypatch.setattr(lib.trainer, "POLL", 1)
        assert run(tmp_path, "--ema", "0.5", "--workers", "1") == 128 + signal.SIGTERM
        assert "Stopped after step 4, as requested." in capsys.readouterr().out
        monkeypatch.undo()
        assert run(tmp_path, "--ema", "0.5") == 0
        assert_same_weights(finished, tmp_path)
        assert [(row["kind"], row["step"]) for row in rows(tmp_path)] == [
            (row["kind"], row["step"]) for row in rows(finished)
        ]

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
        assert "Cannot save: [Errno 27] File too large. Training goes on." in capsys.readouterr().out
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000004.safetensors"]
        assert run(tmp_path, "--ema", "0.5") == 0
        assert_same_weights(finished, tmp_path)

    def test_best_weights_that_cannot_be_written(self, run, lib, tmp_path, capsys, monkeypatch):
        """The checkpoint does not call them the best, and the status is 1, though the checkpoint was written."""

        def full(path, tensors, description):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(lib.train, "write", full)
        assert run(tmp_path, "--epochs", "1") == 1
        printed = capsys.readouterr().out
        assert "Cannot save: [Errno 28] No space left on device. Training goes on" in printed
        assert "last, epoch 1" in printed
        assert "best, epoch" not in printed
        assert sorted(path.name for path in tmp_path.iterdir() if "best" in path.name) == []

    def test_damaged_files_are_not_those_that_are_kept(self, run, tmp_path, capsys):
        """The last one cannot be read; the run goes on from the one before, and removes the other."""
        run(tmp_path, "--checkpoint-every", "1", "--epochs", "1", "--keep", "2")
        _, second = sorted((tmp_path / "checkpoints").iterdir())
        second.rename(second.with_name("step-000000009.safetensors"))
        second.with_name("step-000000009.safetensors").write_bytes(b"")
        assert run(tmp_path, "--checkpoint-every", "1", "--epochs", "1", "--keep", "1") == 0
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000004.safetensors"]

    def test_one_run_per_folder(self, run, finished, capsys):
        with FileLock(finished / "lock"):
            assert run(finished, "--ema", "0.5") == 2
        assert "--out: expected a folder that no other run is using, got" in capsys.readouterr().err

    def test_without_locks(self, run, finished, lib, monkeypatch):
        """As on some network file systems: a file instead of a lock would outlive a killed run and refuse the next."""

        def fail(self, *args, **options):
            raise NotImplementedError("FileSystem does not appear to support flock")

        monkeypatch.setattr(lib.checkpoint.FileLock, "acquire", fail)
        assert run(finished, "--ema", "0.5") == 0

    def test_weights_that_are_not_finite_are_not_saved(self, run, tmp_path, capsys):
        options = ("--lr", "1e30", "--warmup-epochs", "0", "--checkpoint-every", "1", "--log-every", "1")
        assert run(tmp_path, *options) == 1
        match = r"train.py: (weights|loss): expected (a )?finite number.* Earlier checkpoints are good; train in a new"
        assert re.match(match, capsys.readouterr().err)
        assert all(
            value.isfinite().all() for path in (tmp_path / "checkpoints").iterdir() for value in last(tmp_path).values()
        )

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            (
                ("--lr", "0.1"),
                "expected a checkpoint of the same recipe, got another: lr: 0.05 there, 0.1 here. Pass",
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
        assert (
            "expected a checkpoint of a run on 110 training images, got 100. Put images that were removed back"
            in capsys.readouterr().err
        )
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
