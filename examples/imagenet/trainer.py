# SPDX-License-Identifier: MIT
"""A model in training, and its validation, for any number of processes.

`Trainer` runs one optimizer step per call, and `Validation` measures a model on all validation images. Neither reports
or saves anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import timm
import torch
import torch.distributed as dist
from checkpoint import Run, read_weights, wirings
from images import Batch, Images, make_loader
from memory import TrainingStep, check_fits
from metrics import Counts, Figures
from order import EveryImage, Schedule, derive
from parallel import World, accumulating, distribute, local, shard
from recipe import Options, Recipe
from skipped import Skipped
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.swa_utils import AveragedModel

import freewire.timm  # noqa: F401  registers the RandWire models
from freewire.errors import FreewireError, InputError, cut

#: Side in pixels of images that are too small for several threads.
SMALL = 32
POLL = 4  # batches of a validation between looks for requests to stop
DROPOUT = -1  # instead of an epoch, which is what seeds of augmentation have in this place


def set_threads(recipe: Recipe, world: World) -> None:
    """Compute with one thread on a CPU if the images are too small to divide among several.

    Two threads were no faster on 32 pixels, and far slower where other processes needed the cores too.
    """
    if world.device.type == "cpu" and recipe.image_size <= SMALL:
        torch.set_num_threads(1)


def build_model(recipe: Recipe, classes: int, world: World, divided: bool = False) -> nn.Module:
    """The model, with initial weights that the seed determines.

    Args:
        recipe: The recipe.
        classes: Number of classes.
        world: The processes.
        divided: Whether its parameters will be divided among them, for which FSDP needs their default memory format.
    """
    torch.manual_seed(derive(recipe.seed))
    try:
        model = timm.create_model(recipe.model, num_classes=classes, **recipe.model_options)
    except (AssertionError, FreewireError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"--model: {recipe.model} cannot be built: {cut(error, 300)}") from None
    return model.to(world.device, memory_format=torch.contiguous_format if divided else torch.channels_last)


def load_model(path: Path, recipe: Recipe, classes: tuple[str, ...], world: World) -> nn.Module:
    """The model with the weights of best.safetensors.

    Args:
        path: The file.
        recipe: Its recipe.
        classes: Names of the classes of the images that it is for.
        world: The processes.

    Raises:
        InputError: It is no such file, or of other classes or another network.
    """
    weights, description = read_weights(path)
    if list(classes) != description["classes"]:
        raise InputError(
            f"{path}: expected weights for these {len(classes)} classes, got weights for "
            f"{len(description['classes'])}, or for other ones. Pass the images that the run was trained on."
        )
    model = build_model(recipe, len(classes), world)
    here, there = ({name: value.shape for name, value in each.items()} for each in (model.state_dict(), weights))
    if here != there or wirings(model) != description["wirings"]:
        raise InputError(
            f"{path}: expected the weights of {recipe.model} with these options, got those of another network. Pass "
            "the options that the run was trained with, and use its version of freewire."
        )
    model.load_state_dict(weights)
    return model


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD; parameters of one dimension do not decay: scales and shifts of batch norms, biases, weights of edges."""
    decaying = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": decaying, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Any], None]:
    """How `AveragedModel` updates; torch's own function accepts no parameters that are divided among processes."""

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], updates: Any) -> None:
        mine, new = [local(tensor) for tensor in averages], [local(tensor) for tensor in values]
        if mine[0].is_floating_point():
            torch._foreach_lerp_(mine, new, 1 - decay)
        else:  # the number of batches that batch norms have seen
            torch._foreach_copy_(mine, new)

    return update


def autocast(recipe: Recipe, world: World) -> torch.autocast:
    """The precision of forward passes."""
    return torch.autocast(world.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def to_device(images: Tensor, labels: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """A batch on the device of this process, in the faster memory format."""
    images = images.to(world.device, memory_format=torch.channels_last, non_blocking=True)
    return images, labels.to(world.device, non_blocking=True)


class Trainer:
    """A model in training: one call of `step` per optimizer step.

    Args:
        recipe: The recipe.
        options: How it runs.
        images: The training images.
        classes: Names of the classes.
        world: The processes.
        check_memory: Whether to predict the memory of a step, which takes seconds, and refuse one that does not fit.

    Attributes:
        needed: Bytes that a step of each process is expected to need besides the weights, None if not predicted.

    Raises:
        InputError: The model cannot be built, does not fit, or the batch cannot be divided.
    """

    def __init__(
        self,
        recipe: Recipe,
        options: Options,
        images: Images,
        classes: tuple[str, ...],
        world: World,
        check_memory: bool = True,
    ) -> None:
        self.recipe, self.world = recipe, world
        if options.fsdp and not dist.is_initialized():
            raise InputError(
                "--fsdp: expected processes that torchrun started, got a single one. Start it by torchrun."
            )
        with world.together():
            self.schedule = Schedule(len(images), recipe.batch, recipe.micro_batch, recipe.epochs, world.size).check()
            self.model = build_model(recipe, len(classes), world, options.fsdp)
            self.needed = self._check_memory(options) if check_memory and options.memory_check else None
        self.run = Run(recipe, classes, len(images), wirings(self.model))
        self.average: Any = None
        if recipe.ema:
            self.average = AveragedModel(
                self.model, multi_avg_fn=moving_average(recipe.ema), use_buffers=True
            ).requires_grad_(False)
            if options.fsdp:
                shard(self.average.module, world)
        if options.compile:
            self.model.compile()
        self.wrapped = distribute(self.model, world, options.fsdp)
        self.optimizer = build_optimizer(self.model, recipe)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self.counts = Counts(len(classes), world.device)

    def _check_memory(self, options: Options) -> int | None:
        recipe, divided = self.recipe, options.fsdp
        step = TrainingStep(
            recipe.micro_batch,
            recipe.image_size,
            autocast=torch.bfloat16 if recipe.precision == "bf16" else None,
            states=0 if divided else 1,
            ema=recipe.ema > 0 and not divided,
            held_gradients=not divided and (self.world.size > 1 or self.schedule.passes > 1),
        )
        sharing = self.world.local_size if self.world.device.type == "cpu" else 1
        return check_fits(self.model, step, sharing)

    def title(self) -> str:
        """What is trained on what, and how."""
        recipe, schedule = self.recipe, self.schedule
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        passes = f"{schedule.processes} x {schedule.passes} x {schedule.micro_batch}"
        return (
            f"{recipe.model}, {parameters:,} parameters, on {schedule.images:,} images of {len(self.run.classes)} "
            f"classes: {recipe.epochs} epochs of {schedule.steps_per_epoch:,} steps, batches of {recipe.batch} "
            f"(processes x passes x images: {passes}), {recipe.precision}, {self.world.device.type}"
        )

    def step(self, number: int, stream: Iterator[Batch], skipped: Skipped) -> float:
        """Train on one batch, in micro-batches; return the seconds that this process waited for images."""
        passes, waited = self.schedule.passes, 0.0
        rate = self.recipe.learning_rate(number, self.schedule.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if isinstance(self.wrapped, FSDPModule):
            self.world.share_buffers(self.model)
        self.wrapped.train()
        for i in range(passes):
            begin = time.perf_counter()
            batch = next(stream)
            waited += time.perf_counter() - begin
            skipped.add(batch.unreadable)
            images, labels = to_device(batch.images, batch.labels, self.world)
            # Dropout and edge drop draw the same, whichever process and whichever attempt this is.
            torch.manual_seed(derive(self.recipe.seed, DROPOUT, number, i * self.world.size + self.world.rank))
            with accumulating(self.wrapped, more=i + 1 < passes):
                with autocast(self.recipe, self.world):
                    outputs = self.wrapped(images)
                    loss = self.criterion(outputs, labels) / passes
                loss.backward()
            self.counts.add(outputs, labels)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return waited


class Validation:
    """Measures models on all validation images, over all processes.

    Args:
        images: The validation images.
        classes: Number of classes.
        recipe: The recipe.
        options: How it runs.
        world: The processes.
    """

    def __init__(self, images: Images, classes: int, recipe: Recipe, options: Options, world: World) -> None:
        self.recipe, self.world, self.classes = recipe, world, classes
        sampler = EveryImage(len(images), recipe.micro_batch, world.rank, world.size)
        self.loader = make_loader(images, sampler, options.workers, pin_memory=world.device.type == "cuda")

    @torch.no_grad()
    def measure(
        self,
        model: nn.Module,
        skipped: Skipped,
        batches: int | None = None,
        requested: Callable[[], int] | None = None,
    ) -> Figures | None:
        """Measure a model; every process has to call this.

        Args:
            model: The model.
            skipped: Collects the images that cannot be read.
            batches: How many batches of each process. None: all.
            requested: Called by all processes now and then; if it returns anything but 0, then the result is None.
        """
        counts = Counts(self.classes, self.world.device)
        self.world.share_buffers(model)
        model.eval()
        with closing(iter(self.loader)) as found:
            for number, batch in enumerate(islice(found, batches)):
                if requested is not None and number % POLL == 0 and requested():
                    return None
                skipped.add(batch.unreadable)
                counts.add(*self._run(model, batch))
        return counts.figures(self.world)

    def _run(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores and labels of a batch."""
        images, labels = to_device(batch.images, batch.labels, self.world)
        if not len(labels):  # every process has to run the model as often as the others
            images = images.new_zeros(1, 3, self.recipe.image_size, self.recipe.image_size)
        with autocast(self.recipe, self.world):
            return model(images)[: len(labels)], labels
