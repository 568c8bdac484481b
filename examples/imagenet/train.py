# SPDX-License-Identifier: MIT
"""Train a randomly wired network on ImageNet, or on any other set of images, with the recipe of Xie et al. (2019).

    python examples/imagenet/train.py DATA --preset small --out runs/small
    torchrun --nproc-per-node 8 examples/imagenet/train.py DATA --preset regular --out runs/regular

DATA has train/ and val/ in it, each of class folders or of WebDataset shards. `--model` takes the name of any model of
freewire or timm: `--model resnet50` is the comparison that the paper makes. Weights, metrics and pictures are written
to `--out`. A run that was stopped or killed continues when the same command is given again, from its last checkpoint,
also in the middle of an epoch, and ends with the weights that it would have had anyway. docs/imagenet.md has the rest.

Reference:
    Xie, Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, ICCV 2019.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from checkpoint import Checkpoints, collect, live_tensors, put_back, stored_recipe, write
from dry_run import dry_run
from images import Images, WorkerError, make_loader, test_transform, train_transform
from log import Log, in_words
from metrics import figures_table
from order import MicroBatches
from parallel import World, start
from recipe import Options, Recipe, parse
from skipped import Skipped
from sources import check_pair, open_source
from stop import StopRequests
from torch import Tensor
from trainer import Trainer, Validation, load_model

from freewire.errors import InputError, cut


class Data(NamedTuple):
    """The images of a run."""

    train: Images
    val: Images
    classes: tuple[str, ...]


def open_data(recipe: Recipe, options: Options, world: World) -> Data:
    """Find all images, check that both sets have the same classes, and set the augmentation up."""
    with world.first():  # which indexes shards
        train, val = (open_source(place, options.out / "index") for place in (options.train, options.val))
    check_pair(train, val)
    augment = train_transform(recipe.image_size, flip=recipe.flip, min_scale=recipe.min_scale)
    return Data(
        Images(train, augment, recipe.seed, replace=True),
        Images(val, test_transform(recipe.image_size, recipe.test_crop), recipe.seed, replace=False),
        train.classes,
    )


class Session:
    """A training run on its way: what it reports and saves besides training.

    Args:
        trainer: The model in training.
        options: How the run goes.
        data: The images.
        world: The processes.
    """

    def __init__(self, trainer: Trainer, options: Options, data: Data, world: World) -> None:
        self.trainer, self.options, self.data, self.world = trainer, options, data, world
        self.recipe, self.schedule = trainer.recipe, trainer.schedule
        self.checkpoints = Checkpoints(options.out / "checkpoints", options.keep, trainer.run, world)
        self.skipped = Skipped(options.out / "unreadable.jsonl", len(data.train) + len(data.val), world)
        #: Stored in checkpoints: optimizer steps done, seconds of training, and the figures of the validations.
        self.progress: dict[str, Any] = {"step": 0, "seconds": 0.0, "last": {}, "best": {}}
        checkpoint = self.checkpoints.load()
        if checkpoint is not None:
            put_back(checkpoint, trainer.model, trainer.optimizer, trainer.average)
            self.progress = checkpoint.progress
        first = self.progress["step"]
        self.log = Log(options.out, world, self.schedule.steps, self.recipe.batch, first, options.tensorboard)
        where = f", from step {first:,}" if first else ""
        self.log.say(trainer.title() + where)
        self.log.wiring(trainer.model, options.out / "wiring.png")
        self.stop = StopRequests()
        sampler = MicroBatches(self.schedule, self.recipe.seed, world.rank, first)
        loader = make_loader(data.train, sampler, options.workers, pin_memory=world.device.type == "cuda")
        self.stream = iter(loader)
        self.validation = Validation(data.val, len(data.classes), self.recipe, options, world)
        self.reported, self.saved = time.perf_counter(), True

    def run(self) -> int:
        """Train to the end, or until asked to stop; return the exit status."""
        options, per_epoch = self.options, self.schedule.steps_per_epoch
        for step in range(self.progress["step"], self.schedule.steps):
            self.trainer.step(step, self.stream, self.skipped)
            self.log.step()
            done = step + 1
            epoch_ends, save = done % per_epoch == 0, done % options.checkpoint_every == 0
            if not epoch_ends and not save and done % options.log_every:
                continue
            stop = self.report(done)
            if epoch_ends:
                self.validate(done)
            if epoch_ends or save or stop:
                self.save(done)
            if stop:
                self.log.say(f"Stopped after step {done:,}, as requested. The same command continues.")
                return 128 + stop
        return 0 if self.saved else 1

    def report(self, done: int) -> int:
        """Report the steps since the last report; return the number of a signal that asked a process to stop, or 0."""
        now = time.perf_counter()
        seconds, self.reported = now - self.reported, now
        self.progress["seconds"] += seconds
        figures = self.trainer.counts.figures(self.world)
        self.trainer.counts.reset()
        if not math.isfinite(figures.loss):
            raise InputError(
                f"loss: expected a finite number, got {figures.loss} before step {done}. Train with a lower --rate, or "
                "with --precision fp32; the last checkpoint is good."
            )
        epoch = done / self.schedule.steps_per_epoch
        rate = self.recipe.learning_rate(done - 1, self.schedule.steps_per_epoch)
        self.log.training(done, epoch, figures, rate, figures.images / seconds)
        signals, unreadable = self.world.sum(torch.tensor([self.stop.received, self.skipped.pending])).tolist()
        if unreadable:
            self.log.say("\n".join(self.skipped.report()))
        return signals and max(self.world.gather(self.stop.received))

    def validate(self, done: int) -> None:
        """Measure the model, and the averaged weights, on the validation images; keep the best weights."""
        epoch = done // self.schedule.steps_per_epoch
        models = {"val": self.trainer.model}
        if self.trainer.average is not None:
            models["val_average"] = self.trainer.average.module
        for kind, model in models.items():
            figures = self.validation.measure(model, self.skipped)
            self.log.validation(kind, done, epoch, figures)
        # The averaged weights are those that count, where there are any: they are measured last.
        self.progress["last"] = {"epoch": epoch, **figures._asdict()}
        if figures.top1 > self.progress["best"].get("top1", -1.0):
            self.progress["best"] = self.progress["last"]
            self.write(model.state_dict(), lambda tensors: write(self.best, tensors, self.description()))

    @property
    def best(self) -> Path:
        """The file of the weights with the highest top-1 accuracy, under the names that the model has for them."""
        return self.options.out / "best.safetensors"

    def description(self) -> dict[str, Any]:
        """What is stored beside tensors."""
        return {"progress": self.progress, **dataclasses.asdict(self.trainer.run)}

    def save(self, done: int) -> None:
        """Write a checkpoint."""
        self.progress["step"] = done
        tensors = live_tensors(self.trainer.model, self.trainer.optimizer, self.trainer.average)
        self.write(tensors, lambda whole: self.checkpoints.save(done, whole, self.description()))

    def close(self) -> None:
        """End the processes that read images, close files, and listen for signals no longer."""
        self.stream.close()
        self.log.close()
        self.stop.close()

    def write(self, tensors: dict[str, Tensor], to_file: Callable[[dict[str, Tensor]], None]) -> None:
        """Let process 0 write tensors. If it cannot, training goes on, and the exit status will be 1."""
        whole = collect(tensors, self.world)
        if self.world.rank:
            return
        try:
            to_file(whole)
            self.saved = True
        except OSError as error:
            self.saved = False
            self.log.say(f"Cannot save: {cut(error, 300)}. Training goes on; the files of earlier steps are unchanged.")

    def table(self) -> str:
        """The figures of the last and of the best epoch, and the time."""
        rows = [(f"{name}, epoch {row['epoch']}", row) for name in ("last", "best") if (row := self.progress[name])]
        images, seconds = self.progress["step"] * self.recipe.batch, self.progress["seconds"]
        speed = images / max(seconds, 1e-9)
        return f"{figures_table(rows)}\n{images:,} images in {in_words(seconds)}, {speed:,.0f} images/s"


def evaluate(recipe: Recipe, options: Options, world: World) -> int:
    """Measure stored weights on the validation images; return the exit status."""
    data = open_data(recipe, options, world)
    model = load_model(options.evaluate, recipe, data.classes, world)
    skipped = Skipped(options.out / "unreadable.jsonl", len(data.val), world)
    figures = Validation(data.val, len(data.classes), recipe, options, world).measure(model, skipped)
    lines = skipped.report()
    if not world.rank:
        print("\n".join([*lines, figures_table([(str(options.evaluate)[-24:], figures._asdict())])]))
    return 0


def train(recipe: Recipe, options: Options, world: World) -> int:
    """Train, from the last checkpoint if there is one; return the exit status."""
    data = open_data(recipe, options, world)
    resuming = world.share(any(options.out.glob("checkpoints/step-*")))
    trainer = Trainer(recipe, options, data.train, data.classes, world, check_memory=options.dry_run or not resuming)
    if options.dry_run:
        return dry_run(trainer, data.train, data.val, options)
    session = Session(trainer, options, data, world)
    try:
        status = session.run()
        session.log.say(session.table())
    finally:
        session.close()
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    try:
        recipe, options = parse(argv, torch.cuda.is_available(), stored_recipe)
        with start(options.device) as world:
            return (evaluate if options.evaluate else train)(recipe, options, world)
    except (InputError, WorkerError) as error:
        rank = os.environ.get("RANK", "0")
        print(f"train.py: {f'process {rank}: ' if rank != '0' else ''}{error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
