# SPDX-License-Identifier: MIT
"""Train a randomly wired network on ImageNet, or on any other set of images, with the recipe of Xie et al. (2019).

    python examples/imagenet/train.py DATA --preset small --out runs/small
    torchrun --nproc-per-node 8 examples/imagenet/train.py DATA --preset regular --out runs/regular

DATA has train/ and val/ in it, each of class folders or of WebDataset shards. `--model` accepts the name of any model
of freewire or timm: `--model resnet50` is the comparison that the paper makes. Weights, metrics and pictures are
written to `--out`. A run that was stopped or killed continues when the same command is given again, from its last
checkpoint, also in the middle of an epoch, and ends with the weights that it would have had anyway.
docs/imagenet.md has the rest.

Reference:
    Xie, Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, ICCV 2019.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

import torch
from checkpoint import DIVERGED, Checkpoints, check_finite, collect, live_tensors, put_back, stored_recipe, write
from dry_run import dry_run
from images import Images, WorkerError, make_loader, train_transform, val_transform
from log import Log, in_words
from metrics import figures_table
from order import MicroBatches
from parallel import World, start
from recipe import Options, Recipe, parse
from skipped import Skipped
from sources import Source, check_pair, open_source
from stop import RunError, StopRequests
from torch import Tensor
from trainer import Trainer, Validation, load_model, set_threads

from freewire.errors import InputError, cut, shown

PATIENCE = 5.0  # seconds between looks for requests to stop, about


class Data(NamedTuple):
    """The images of a run."""

    train: Images
    val: Images
    classes: tuple[str, ...]


def open_data(recipe: Recipe, options: Options) -> Data:
    """Find all images, check that both sets have the same classes, and set the augmentation up."""
    for place in (options.train, options.val):
        if Path(place).resolve() in (options.out / "checkpoints").resolve().parents:
            raise InputError(
                f"--out: expected a folder outside the images, got {shown(str(options.out))} in {shown(place)}. There "
                "it would be taken for a class."
            )
    train, val = (open_source(place, options.out / "index") for place in (options.train, options.val))
    check_pair(train, val)
    augment = train_transform(recipe.image_size, flip=recipe.flip, min_scale=recipe.min_scale)
    return Data(Images(train, augment, recipe.seed, replace=True), val_images(val, recipe), train.classes)


def val_images(source: Source, recipe: Recipe) -> Images:
    """The validation images, without augmentation; those that cannot be read are skipped."""
    return Images(source, val_transform(recipe.image_size, recipe.test_crop), recipe.seed, replace=False)


class Session:
    """A training run on its way: what it reports and saves besides training.

    Args:
        trainer: The model in training.
        options: How the run goes.
        data: The images.
        world: The processes.
    """

    def __init__(self, trainer: Trainer, options: Options, data: Data, world: World) -> None:
        self.trainer, self.options, self.world = trainer, options, world
        self.recipe, self.schedule = trainer.recipe, trainer.schedule
        self.validation = Validation(data.val, len(data.classes), self.recipe, options, world)
        self.skipped = Skipped(options.out / "unreadable.jsonl", len(data.train) + len(data.val), world)
        with world.together():
            self.checkpoints = Checkpoints(options.out / "checkpoints", options.keep, trainer.run, world)
        #: Stored in checkpoints: steps done, the step of the last validation, seconds of training until the last report
        #: and since, and the figures of validations.
        self.progress: dict[str, Any] = {
            "step": 0,
            "validated": 0,
            "seconds": 0.0,
            "since": 0.0,
            "last": {},
            "best": {},
        }
        checkpoint = self.checkpoints.load()
        if checkpoint is not None:
            put_back(checkpoint, trainer.model, trainer.optimizer, trainer.average)
            if not world.rank:  # of all processes, since the last report
                trainer.counts.sums.copy_(checkpoint.tensors["counts"])
            self.progress = checkpoint.progress
        first, validated = self.progress["step"], self.progress["validated"]
        with world.together():
            self.log = Log(
                options.out, world, self.schedule.steps, self.recipe.batch, first, validated, options.tensorboard
            )
        self.log.say(trainer.title() + (f", from step {first:,}" if first else ""))
        self.log.wiring(trainer.model, options.out / "wiring.png")
        sampler = MicroBatches(self.schedule, self.recipe.seed, world.rank, first)
        self.stream = iter(make_loader(data.train, sampler, options.workers, pin_memory=world.device.type == "cuda"))
        self.stop = StopRequests(speak=not world.rank)
        self.unsaved: set[str] = set()  # files that could not be written when they last should have been
        self.reported = time.perf_counter() - self.progress["since"]
        self.poll = 1  # steps between looks for requests to stop

    def run(self) -> int:
        """Train to the end, or until asked to stop; return the exit status."""
        options, per_epoch, steps = self.options, self.schedule.steps_per_epoch, self.schedule.steps
        if self.progress["step"] % per_epoch == 0 and self.progress["validated"] < self.progress["step"]:
            stop = self.validate(self.progress["step"])  # the run was interrupted here
            if stop:
                return 128 + stop
        for step in range(self.progress["step"], steps):
            self.trainer.step(step, self.stream, self.skipped)
            self.log.step()
            done = step + 1
            epoch_ends, save = done % per_epoch == 0, done % options.checkpoint_every == 0
            if epoch_ends or save or done % options.log_every == 0:
                self.report(done)
            elif done % self.poll:
                continue
            stop = self.requested()
            if epoch_ends or save or stop:
                self.save(done)
            if epoch_ends and not stop:
                stop = self.validate(done)
            if stop:
                self.log.say(f"Stopped after step {done:,}, as requested. The same command continues.")
                return 128 + stop
        return 1 if self.unsaved else 0

    def requested(self) -> int:
        """The number of a signal that asked any process to stop; 0 if none did."""
        asked = self.world.sum(torch.tensor(float(self.stop.received > 0))).item()
        return max(self.world.gather(self.stop.received)) if asked else 0

    def report(self, done: int) -> None:
        """Report the steps since the last report."""
        self.report_skipped()
        seconds = time.perf_counter() - self.reported
        self.progress["seconds"] += seconds
        figures = self.trainer.counts.figures(self.world)
        self.trainer.counts.reset()
        if not math.isfinite(figures.loss):
            raise RunError(f"loss: expected a finite number, got {figures.loss} before step {done}. {DIVERGED}")
        epoch = done / self.schedule.steps_per_epoch
        lr = self.recipe.learning_rate(done - 1, self.schedule.steps_per_epoch)
        self.log.training(done, epoch, figures, lr, figures.images / seconds)
        mean = self.world.sum(torch.tensor(seconds)).item() / self.world.size  # the same on every process
        self.poll = max(1, int(PATIENCE * figures.images / (mean * self.recipe.batch)))
        self.reported = time.perf_counter()

    def report_skipped(self) -> None:
        """Report images that could not be read since this was last called."""
        if self.world.sum(torch.tensor(float(self.skipped.pending))):
            self.log.say("\n".join(self.skipped.report()))

    def validate(self, done: int) -> int:
        """Measure the model, and the averaged weights, on the validation images; keep the best weights.

        Returns:
            The number of a signal that asked a process to stop, which ends a validation without a result; or 0.
        """
        epoch = done // self.schedule.steps_per_epoch
        models = {"val": self.trainer.model}
        if self.trainer.average is not None:
            models["val_average"] = self.trainer.average.module
        for kind, model in models.items():
            figures = self.validation.measure(model, self.skipped, requested=self.requested)
            if figures is None:
                return self.requested()
            self.log.validation(kind, done, epoch, figures)
        self.report_skipped()
        self.reported = time.perf_counter()
        # The averaged weights are those that count, where there are any: they are measured last.
        last = {"epoch": epoch, **figures._asdict()}
        self.progress |= {"validated": done, "last": last}
        if last["top1"] > self.progress["best"].get("top1", -1.0):
            before, self.progress["best"] = self.progress["best"], last
            path = self.options.out / "best.safetensors"
            if not self.write("best", model.state_dict(), lambda tensors: write(path, tensors, self.description())):
                self.progress["best"] = before
        self.save(done)
        return 0

    def description(self) -> dict[str, Any]:
        """What is stored beside tensors."""
        return {"progress": self.progress, **dataclasses.asdict(self.trainer.run)}

    def save(self, done: int) -> None:
        """Write a checkpoint."""
        self.progress |= {"step": done, "since": time.perf_counter() - self.reported}
        tensors = live_tensors(self.trainer.model, self.trainer.optimizer, self.trainer.average)
        tensors["counts"] = self.world.sum(self.trainer.counts.sums)
        self.write("checkpoint", tensors, lambda whole: self.checkpoints.save(done, whole, self.description()))
        self.reported = time.perf_counter()

    def write(self, what: str, tensors: dict[str, Tensor], to_file: Callable[[dict[str, Tensor]], None]) -> bool:
        """Let process 0 write tensors. If it cannot, training goes on, and the exit status will be 1.

        Returns:
            Whether they were written.

        Raises:
            RunError: They are not finite.
        """
        whole, problem = collect(tensors, self.world), None
        if not self.world.rank:
            try:
                check_finite(whole, self.progress["step"])
                to_file(whole)
            except (OSError, RunError) as error:
                problem = error
        problem = self.world.share(problem)
        if isinstance(problem, RunError):
            raise problem
        if problem is not None:
            self.log.say(f"Cannot save: {cut(problem, 300).rstrip('.')}. Training goes on.")
        (self.unsaved.discard if problem is None else self.unsaved.add)(what)
        return problem is None

    def close(self) -> None:
        """End the processes that read images, close files, and listen for signals no longer."""
        self.stop.close()
        self.stream.close()
        self.log.close()
        self.checkpoints.close()

    def table(self) -> str:
        """The figures of the last and of the best epoch, and the speed."""
        rows = [(f"{name}, epoch {row['epoch']}", row) for name in ("last", "best") if (row := self.progress[name])]
        images, seconds = self.progress["step"] * self.recipe.batch, self.progress["seconds"]
        speed = f"{images:,} images in {in_words(seconds)}, {images / max(seconds, 1e-9):,.0f} images/s"
        return f"{figures_table(rows)}\n{speed}" if rows else speed


def evaluate(recipe: Recipe, options: Options, world: World) -> int:
    """Measure stored weights on the validation images; return the exit status."""
    with world.together():
        source = open_source(options.val, options.out / "index")
        model = load_model(options.evaluate, recipe, source.classes, world)
    skipped = Skipped(None, len(source), world)
    validation = Validation(val_images(source, recipe), len(source.classes), recipe, options, world)
    figures = validation.measure(model, skipped)
    lines = skipped.report()
    if not world.rank:
        print("\n".join([*lines, figures_table([(options.evaluate.name, figures._asdict())])]))
    return 0


def train(recipe: Recipe, options: Options, world: World) -> int:
    """Train, from the last checkpoint if there is one; return the exit status."""
    with world.together():
        data = open_data(recipe, options)
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
    """Run the command; return its exit status: 2 for a mistake of the user's, 1 for a run that failed."""
    rank = os.environ.get("RANK", "0")
    try:
        with redirect_stderr(io.StringIO()) if rank != "0" else nullcontext():  # one usage message is enough
            recipe, options = parse(argv, torch.cuda.is_available(), stored_recipe)
        with start(options.device) as world:
            set_threads(recipe, world)
            return (evaluate if options.evaluate else train)(recipe, options, world)
    except (InputError, RunError) as error:  # these are raised by all processes at the same place
        if rank == "0":
            print(f"train.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:  # what reads the output has ended
        sys.stderr.close()
        return 1
    except (WorkerError, OSError) as error:
        print(f"train.py: {f'process {rank}: ' if rank != '0' else ''}{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
