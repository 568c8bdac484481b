# SPDX-License-Identifier: MIT
"""An estimate of the time, the memory and the disk space of a whole run, from a few of its batches."""

from __future__ import annotations

import resource
import sys
import time

import torch
from checkpoint import collect, live_tensors
from images import Images, make_loader
from log import in_words
from memory import available_bytes
from order import MicroBatches
from recipe import Options
from skipped import Skipped
from trainer import Trainer, Validation

WARM_UP, STEPS, SECONDS = 2, 10, 120.0  # optimizer steps before those that are timed, and at most so many of these
VALIDATIONS = 8  # batches of each process


def dry_run(trainer: Trainer, train: Images, val: Images, options: Options) -> int:
    """Train for a few steps, validate a few batches, print the estimate; nothing is written. Returns 0.

    Args:
        trainer: A model that has not been trained.
        train: The training images.
        val: The validation images.
        options: How the run goes.
    """
    world, schedule, recipe = trainer.world, trainer.schedule, trainer.recipe
    skipped = Skipped(None, len(train) + len(val), world)
    sampler = MicroBatches(schedule, recipe.seed, world.rank)
    stream = iter(make_loader(train, sampler, options.workers, pin_memory=world.device.type == "cuda"))
    steps, waited, begin = 0, 0.0, time.perf_counter()
    for number in range(min(WARM_UP + STEPS, schedule.steps)):
        if number == WARM_UP:
            steps, waited, begin = 0, 0.0, _now(world.device)
        waited += trainer.step(number, stream, skipped)
        steps += 1
        late = world.sum(torch.tensor(float(_now(world.device) - begin > SECONDS)))
        if late and number > WARM_UP:
            break
    seconds = _now(world.device) - begin
    stream.close()

    validation = Validation(val, trainer.counts.classes, recipe, options, world)
    begin = _now(world.device)
    images = validation.measure(trainer.model, skipped, batches=VALIDATIONS).images
    val_seconds = (_now(world.device) - begin) * len(val) / max(images, 1) * (2 if recipe.ema else 1)
    size = sum(t.numel() * t.element_size() for t in collect(_tensors(trainer), world).values())
    peak = max(world.gather(_peak(world.device)))
    lines = skipped.report()
    if world.rank:
        return 0

    speed = steps * recipe.batch / seconds
    epoch = schedule.steps_per_epoch * recipe.batch / speed
    expected = "" if trainer.needed is None else f", {_gib(trainer.needed)} of it expected for a step"
    whole = in_words(recipe.epochs * (epoch + val_seconds))
    table = {
        "training": f"{speed:,.1f} images/s, {waited / seconds:.0%} of the time waiting for images",
        "an epoch": f"{in_words(epoch)}, and {in_words(val_seconds)} of validation",
        "the whole run": f"{whole} for {recipe.epochs} epochs of {schedule.steps_per_epoch:,} steps",
        "memory": f"{_gib(peak)} at the peak of each process{expected}, {_gib(available_bytes(world.device))} left",
        "disk": f"{options.keep} checkpoints of {size / 1e6:,.1f} MB",
    }
    print("\n".join([*lines, trainer.title(), *(f"{name:16}{text}" for name, text in table.items())]))
    return 0


def _tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    return live_tensors(trainer.model, trainer.optimizer, trainer.average)


def _now(device: torch.device) -> float:
    """The time, when the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _peak(device: torch.device) -> int:
    """The most bytes that this process has occupied so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
