# SPDX-License-Identifier: MIT
"""The recipe of a training run, and its options on the command line.

`Recipe` holds everything that determines the weights at the end; it is stored in every checkpoint, and a run continues
only under the same recipe. `PRESETS` has the paper's two regimes, and a tiny one for small images. What else can be
set, `Options`, changes where and how fast a run goes, and may differ each time.

Reference:
    Xie, Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, ICCV 2019.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freewire.errors import InputError, shown

#: Learning rate and batch of the paper; other batches get a proportional rate.
PAPER_LR, PAPER_BATCH = 0.1, 256


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a run's weights, but the images and the wiring.

    Attributes:
        model: A name for `timm.create_model`; those of `freewire.timm` are among them.
        model_options: Its arguments.
        image_size: Side of the training images in pixels.
        test_crop: Share of a test image's shorter side that is kept.
        min_scale: Least area of a random crop, as a share of the image.
        flip: Whether half of the training images are mirrored.
        epochs: Number of epochs.
        batch: Images per optimizer step, over all processes.
        micro_batch: Images per pass of one process, and so per batch norm.
        lr: Highest learning rate.
        warmup_epochs: Epochs, of all, in which the learning rate rises from 0.
        momentum: Of SGD.
        weight_decay: Of parameters with two or more dimensions. Scales and shifts of batch norms, biases, and the
            weights of edges do not decay.
        label_smoothing: Probability that the target spreads over all classes.
        ema: Decay per step of the averaged weights; 0 for none.
        precision: "fp32", or "bf16" for autocast.
        seed: Seed of initial weights, order, augmentation and dropout.
    """

    model: str = "randwire_ws_small"
    model_options: dict[str, Any] = field(default_factory=dict)
    image_size: int = 224
    test_crop: float = 0.875
    min_scale: float = 0.08
    flip: bool = True
    epochs: int = 250
    batch: int = PAPER_BATCH
    micro_batch: int = 32
    lr: float = PAPER_LR
    warmup_epochs: float = 5.0
    momentum: float = 0.9
    weight_decay: float = 5e-5
    label_smoothing: float = 0.1
    ema: float = 0.0
    precision: str = "fp32"
    seed: int = 0

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The rate of an optimizer step, counted from 0: a line up from 0, then half a cosine down to 0."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.lr * step / warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * step / (self.epochs * steps_per_epoch)))

    def differences(self, other: dict[str, Any]) -> list[str]:
        """What is different in a stored recipe, a line each."""
        mine = dataclasses.asdict(self)
        return [
            f"{name}: {shown(other.get(name))} there, {shown(mine.get(name))} here"
            for name in sorted(mine.keys() | other.keys())
            if mine.get(name) != other.get(name)
        ]


#: Name of the preset -> its recipe. Edge drop 0.1 and dropout 0.2 come with the models of the regular regime. The tiny
#: one is for the 1,437 digits of make_digits.py. They fill the image, so crops are large, and ten times the paper's
#: weight decay gains a percentage point. In its last stage of 1x1 pixels batch norms see one value per image: therefore
#: 64 images per batch norm, and no more than twice the rate that is proportional to the paper's.
PRESETS = {
    "small": Recipe(model="randwire_ws_small", epochs=250),
    "regular": Recipe(model="randwire_ws_regular109", epochs=100),
    "tiny": Recipe(
        model="randwire_ws_small",
        model_options={"channels": 24},
        image_size=32,
        test_crop=1.0,
        min_scale=0.8,
        flip=False,
        epochs=40,
        batch=64,
        micro_batch=64,
        lr=0.05,
        warmup_epochs=4.0,
        weight_decay=5e-4,
    ),
}


@dataclass(frozen=True)
class Options:
    """What does not change the result of a run.

    Attributes:
        train: Training images: class folders, or WebDataset shards.
        val: Validation images.
        out: Folder of checkpoints and metrics.
        workers: Processes that read images, per training process.
        device: "cuda" or "cpu".
        checkpoint_every: Optimizer steps between checkpoints within an epoch.
        keep: Number of checkpoints to keep.
        log_every: Optimizer steps between log entries.
        compile: Whether to compile the model with torch.compile.
        fsdp: Whether to divide parameters, gradients and momentum among the processes.
        tensorboard: Whether to write TensorBoard's files.
        memory_check: Whether to predict the memory of a step, and to refuse one that does not fit.
        dry_run: Whether to only estimate time and memory.
        evaluate: A file of weights to validate, instead of training.
    """

    train: str
    val: str
    out: Path
    workers: int
    device: str
    checkpoint_every: int
    keep: int
    log_every: int
    compile: bool
    fsdp: bool
    tensorboard: bool
    memory_check: bool
    dry_run: bool
    evaluate: Path | None


def parse(argv: Sequence[str] | None, cuda: bool, stored: Callable[[Path], Recipe]) -> tuple[Recipe, Options]:
    """Read the command line.

    Args:
        argv: The arguments; None for the process's.
        cuda: Whether this machine has a GPU, which determines some defaults.
        stored: Returns the recipe of a file of weights, which takes the place of a preset where it is evaluated.

    Raises:
        InputError: A value is out of range.
    """
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train a randomly wired network, or any model of timm, on ImageNet or another set of images.",
        epilog="The same command continues a run that was interrupted. Docs: docs/imagenet.md.",
    )
    data = parser.add_argument_group("data and results")
    data.add_argument("data", type=Path, nargs="?", help="folder with train/ and val/: class folders, or .tar shards")
    data.add_argument("--train", help="training images elsewhere: a folder, or a pattern of shards")
    data.add_argument("--val", help="validation images elsewhere")
    data.add_argument("--out", type=Path, default=Path("runs/imagenet"), help="folder of the run (runs/imagenet)")
    data.add_argument("--workers", type=int, default=8 if cuda else 2, help="reading processes per training process")
    data.add_argument("--checkpoint-every", type=int, default=1000, metavar="STEPS", help="besides every epoch (1000)")
    data.add_argument("--keep", type=int, default=3, help="number of checkpoints to keep (3)")
    data.add_argument("--log-every", type=int, default=50, metavar="STEPS", help="between log entries (50)")
    data.add_argument("--no-tensorboard", dest="tensorboard", action="store_false", help="write no TensorBoard files")

    recipe = parser.add_argument_group("recipe", "The preset has values for all of these.")
    recipe.add_argument("--preset", choices=PRESETS, default="small", help="the paper's regime, or tiny (small)")
    recipe.add_argument("--model", help="name of a freewire or timm model")
    recipe.add_argument("--model-options", nargs="+", default=[], metavar="NAME=VALUE", help="such as seed=1")
    recipe.add_argument("--image-size", type=int, metavar="PIXELS", help="side of the images")
    recipe.add_argument("--test-crop", type=float, metavar="SHARE", help="of a test image's shorter side that is kept")
    recipe.add_argument("--min-scale", type=float, metavar="SHARE", help="least area of a random crop")
    recipe.add_argument("--flip", action=argparse.BooleanOptionalAction, help="mirror half of the images")
    recipe.add_argument("--epochs", type=int, help="warm-up included")
    recipe.add_argument("--batch", type=int, help="images per optimizer step, over all processes")
    recipe.add_argument("--micro-batch", type=int, help="images per pass of one process, and so per batch norm")
    recipe.add_argument("--lr", type=float, help="highest learning rate; by default in proportion to the batch")
    recipe.add_argument("--warmup-epochs", type=float, help="in which the learning rate rises from 0")
    recipe.add_argument("--momentum", type=float, help="of SGD")
    recipe.add_argument("--weight-decay", type=float, help="of the weights of convolutions and linear layers")
    recipe.add_argument("--label-smoothing", type=float, help="share of the target that all classes get")
    recipe.add_argument("--ema", type=float, metavar="DECAY", help="also average the weights, 0.9999 for instance")
    recipe.add_argument("--precision", choices=("fp32", "bf16"), help="bf16 on a GPU, fp32 on a CPU by default")
    recipe.add_argument("--seed", type=int, help="of weights, order, augmentation; --model-options seed= is the wiring")

    how = parser.add_argument_group("how it runs")
    how.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda" if cuda else "cpu", help="a GPU if there is one"
    )
    how.add_argument("--compile", action="store_true", help="compile the model with torch.compile")
    how.add_argument("--fsdp", action="store_true", help="divide parameters and momentum among the processes")
    how.add_argument("--no-memory-check", dest="memory_check", action="store_false", help="do not predict the memory")
    how.add_argument("--dry-run", action="store_true", help="estimate time and memory from a few batches, and stop")
    how.add_argument("--evaluate", type=Path, metavar="FILE", help="validate these weights, best.safetensors say")
    given = vars(parser.parse_args(argv))

    preset = PRESETS[given.pop("preset")]
    if given["evaluate"]:
        preset = stored(given["evaluate"])
    changes = {f.name: given.pop(f.name) for f in dataclasses.fields(Recipe)}
    changes["model_options"] = read_options(changes["model_options"])
    if changes["model"] in (None, preset.model):
        changes["model_options"] = preset.model_options | changes["model_options"]
    changes["precision"] = changes["precision"] or ("bf16" if given["device"] == "cuda" else "fp32")
    if changes["lr"] is None and changes["batch"]:
        changes["lr"] = preset.lr * changes["batch"] / preset.batch
    chosen = {name: value for name, value in changes.items() if value is not None}
    folder = given.pop("data")
    for part in ("train", "val"):
        if given[part] is None and folder is None and not (part == "train" and given["evaluate"]):
            raise InputError(
                f"{part}: expected images, got none. Name the folder that has train/ and val/ in it, or pass --{part}."
            )
        given[part] = given[part] or str((folder or Path()) / part)
    result = dataclasses.replace(preset, **chosen), Options(**given)
    _check(*result)
    return result


def read_options(pairs: Sequence[str]) -> dict[str, Any]:
    """The arguments of a model from NAME=VALUE strings; values are Python literals, or else strings."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--model-options: expected NAME=VALUE, got {shown(pair)}. Write channels=24, say.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
        try:  # checkpoints hold it as JSON, in which a tuple is a list
            options[name] = json.loads(json.dumps(options[name], allow_nan=False))
        except (TypeError, ValueError):
            raise InputError(
                f"--model-options: expected values that JSON can express, got {shown(pair)}. Pass numbers, strings, "
                "lists or dictionaries of strings."
            ) from None
    return options


def _check(recipe: Recipe, options: Options) -> None:
    """Raise `InputError` for the first number that is out of range."""
    least: dict[str, tuple[Any, float]] = {
        **{name: (getattr(recipe, name), 1) for name in ("image_size", "epochs", "batch", "micro_batch")},
        **{name: (getattr(recipe, name), 0) for name in ("seed", "warmup_epochs", "weight_decay")},
        **{name: (getattr(options, name), 1) for name in ("checkpoint_every", "keep", "log_every")},
        "workers": (options.workers, 0),
    }
    for name, (value, low) in least.items():
        if not low <= value < math.inf:
            raise InputError(f"--{name.replace('_', '-')}: expected {low} or more, got {shown(value)}.")
    for name in ("momentum", "label_smoothing", "ema"):
        if not 0 <= getattr(recipe, name) < 1:
            raise InputError(
                f"--{name.replace('_', '-')}: expected at least 0 and below 1, got {getattr(recipe, name)}."
            )
    for name in ("test_crop", "min_scale", "lr"):
        value = getattr(recipe, name)
        if not 0 < value <= (math.inf if name == "lr" else 1) or value == math.inf:
            limit = "" if name == "lr" else " and at most 1"
            raise InputError(f"--{name.replace('_', '-')}: expected more than 0{limit}, got {shown(value)}.")
    if recipe.warmup_epochs >= recipe.epochs:
        raise InputError(
            f"--warmup-epochs: expected fewer than the {recipe.epochs} epochs, got {recipe.warmup_epochs}. Pass both."
        )
