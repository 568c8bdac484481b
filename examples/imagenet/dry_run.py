# SPDX-License-Identifier: MIT
"""An estimate of the time, the memory and the disk space of a whole run, from a few of its batches."""

from __future__ import annotations

import resource
import sys
import time

import torch
from checkpoint import collect, live_tensors
from images import PREFETCH, Images, make_loader
from log import in_words
from memory import available_bytes, gib
from order import MicroBatches
from recipe import Options
from skipped import Skipped
from trainer import Trainer, Validation

STEPS, SECONDS = 10, 120.0  # optimizer steps that are timed, at most, and how long they may take
VALIDATIONS = 8  # batches of each process


def dry_run(trainer: Trainer, train: Images, val: Images, options: Options) -> int:
    """Train for a few steps, validate a few batches, print the estimate; return 0.

    Nothing is written but the index of shards.

    Args:
        trainer: A model that has not been trained.
        train: The training images.
        val: The validation images.
        options: How the run goes.
    """
    world, schedule, recipe = trainer.world, trainer.schedule, trainer.recipe
    if not world.rank:
        print(f"{trainer.title()}\nMeasuring, for some minutes if the batches are large ...", flush=True)
    skipped = Skipped(None, len(train) + len(val), world)
    sampler = MicroBatches(schedule, recipe.seed, world.rank)
    stream = iter(make_loader(train, sampler, options.workers, pin_memory=world.device.type == "cuda"))
    # What the workers read ahead while they and the model started would hide how slow they are.
    warm_up = 2 + options.workers * PREFETCH // schedule.passes
    steps, waited, begin = 0, 0.0, _now(world.device)
    for number in range(schedule.steps):
        if number == warm_up + STEPS:
            break
        if number == warm_up:
            steps, waited, begin = 0, 0.0, _now(world.device)
        waited += trainer.step(number, stream, skipped)
        steps += 1
        late = bool(world.sum(torch.tensor(float(_now(world.device) - begin > SECONDS))))
        if late and number < warm_up:
            warm_up = number + 1  # on which images/s would be measured with what was read ahead
        elif late:
            break
    seconds = _now(world.device) - begin
    stream.close()

    validation = Validation(val, trainer.counts.classes, recipe, options, world)
    times, images = [_now(world.device)], []
    for batches in (1, 1 + VALIDATIONS):  # the difference is without the start of the workers
        images.append(validation.measure(trainer.model, skipped, batches).images)
        times.append(_now(world.device))
    more = images[1] - images[0]
    each = (times[2] - 2 * times[1] + times[0]) / more if more else (times[2] - times[1]) / max(images[1], 1)
    val_seconds = max(each, 0.0) * len(val) * (2 if recipe.ema else 1)
    size = sum(t.numel() * t.element_size() for t in collect(_tensors(trainer), world).values())
    peak = max(world.gather(_peak(world.device)))
    lines = skipped.report()
    if world.rank:
        return 0

    speed = steps * recipe.batch / seconds
    epoch = schedule.steps_per_epoch * recipe.batch / speed
    expected = "" if trainer.needed is None else f", {gib(trainer.needed)} of it expected for a step"
    whole = in_words(recipe.epochs * (epoch + val_seconds))
    table = {
        "training": f"{speed:,.1f} images/s, {waited / seconds:.0%} of the time waiting for images",
        "an epoch": f"{in_words(epoch)}, and {in_words(val_seconds)} of validation",
        "the whole run": f"{whole} for {recipe.epochs} epochs of {schedule.steps_per_epoch:,} steps",
        "memory": f"{gib(peak)} at the peak of each process{expected}, {gib(available_bytes(world.device))} left",
        "disk": f"{options.keep} checkpoints of {size / 1e6:,.1f} MB",
    }
    print("\n".join([*lines, *(f"{name:16}{text}" for name, text in table.items())]))
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
