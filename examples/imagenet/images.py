# SPDX-License-Identifier: MIT
"""From encoded images to batches: decoding, augmentation, and images that cannot be read.

A sampler yields a `Sample` for each image of a batch, `Images` decodes and transforms it, `collate` makes the `Batch`,
and `make_loader` has worker processes do so ahead of time. What comes out for a sample depends on the seed, the epoch
and the image alone, so it is the same for any number of workers and processes, and after resuming.

The augmentation is that of Goyal et al. (2017): a random part of the image, mirrored or not. Images are resized as
tensors, which takes three quarters of the time that it takes with Pillow.
"""

from __future__ import annotations

import io
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

import numpy as np
import torch
from order import Sample, derive
from PIL import Image, UnidentifiedImageError
from sources import Source
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2

from freewire.errors import FreewireError, cut

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's training images, per channel
ATTEMPTS = 10  # to replace an image; if one in a hundred cannot be read, ten in a row never happens
PREFETCH = 4  # batches ahead per worker
GRACE = 60  # seconds that a worker goes on for after it was asked to end

Transform = Callable[[Image.Image], Tensor]


class WorkerError(FreewireError, RuntimeError):
    """A process that loads images has ended without an error of its own, as when the system runs out of memory."""


class Unreadable(NamedTuple):
    """An image that could not be read or decoded, and why."""

    name: str
    reason: str


class Item(NamedTuple):
    """A transformed image ``[3, H, W]`` and its class; no class means that the image is skipped."""

    image: Tensor
    label: int | None
    unreadable: list[Unreadable]


class Batch(NamedTuple):
    """Images ``[B, 3, H, W]`` float32, their classes ``[B]`` int64, and the images that could not be read."""

    images: Tensor
    labels: Tensor
    unreadable: list[Unreadable]


class Images(Dataset[Item]):
    """The images of a source, decoded and transformed.

    Args:
        source: The encoded images.
        transform: Makes a tensor of an image; its random numbers come from torch's default generator.
        seed: The seed of the augmentation and of the replacements.
        replace: Whether another image takes the place of one that cannot be read, so that batches keep their size, as
            in training. False skips it.
    """

    def __init__(self, source: Source, transform: Transform, seed: int, replace: bool) -> None:
        self.source, self.transform, self.seed, self.replace = source, transform, seed, replace

    def __len__(self) -> int:
        """The number of images."""
        return len(self.source)

    def __getitem__(self, sample: Sample) -> Item:
        """Read, decode and transform an image."""
        unreadable = []
        index = sample.index
        with seeded(derive(self.seed, sample.epoch, sample.index)):
            for attempt in range(1, ATTEMPTS + 1 if self.replace else 2):
                try:
                    image = decode(self.source.read(index))
                except Exception as error:  # decoders raise whatever they come across, SyntaxError included
                    unreadable.append(Unreadable(self.source.name(index), explain(error)))
                    index = derive(self.seed, sample.epoch, sample.index, attempt) % len(self.source)
                else:
                    return Item(self.transform(image), int(self.source.labels[index]), unreadable)
            return Item(self.transform(Image.new("RGB", (8, 8))), None, unreadable)  # for its shape only


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's default generator of the CPU, and put it back afterwards.

    `torch.manual_seed` would seed the generators of all GPUs too, and nobody would put those back.
    """
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def decode(data: bytes) -> Image.Image:
    """Decode an image to three channels of 8 bits, as torchvision does: rotation tags and transparency are ignored."""
    with warnings.catch_warnings():
        # Thousands of ImageNet's files have damaged EXIF data. The warnings would differ with the interpreter's
        # filters, which may even turn them into errors, and the pixels are right.
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as image:
            if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow would cut 16 bits off at 255
                return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
            return image.convert("RGB")


def explain(error: Exception) -> str:
    """A short reason, the same in every process."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"  # Pillow's text has an address in it
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without the path, which is the image's name
    return cut(f"{type(error).__name__}: {error}".replace("\n", " "), 120)


def train_transform(size: int, flip: bool = True, min_scale: float = 0.08) -> Transform:
    """The augmentation of Goyal et al.: a random part of the image, resized, and mirrored half of the time.

    Args:
        size: The height and width of the result in pixels.
        flip: Whether to mirror; not for what looks different in a mirror, such as digits.
        min_scale: The smallest part of the image's area to show.
    """
    crop = v2.RandomResizedCrop(size, scale=(min_scale, 1.0), ratio=(3 / 4, 4 / 3), antialias=True)
    mirror = [v2.RandomHorizontalFlip()] if flip else []
    return v2.Compose([v2.PILToTensor(), crop, *mirror, *normalise()])


def val_transform(size: int, crop: float = 0.875) -> Transform:
    """Resize the shorter side, then cut out the centre.

    Args:
        size: The height and width of the result in pixels.
        crop: Which part of the shorter side the result shows.
    """
    resize = v2.Resize(round(size / crop), antialias=True)
    return v2.Compose([v2.PILToTensor(), resize, v2.CenterCrop(size), *normalise()])


def normalise() -> list[v2.Transform]:
    """From pixels, uint8, to float32 of mean 0 and deviation 1 over ImageNet."""
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


def collate(items: list[Item]) -> Batch:
    """Make a batch of items, without those that are skipped, which may be all."""
    kept = [item for item in items if item.label is not None]
    # default_collate stacks in shared memory if this is a worker, so the batch is not copied again
    images = default_collate([item.image for item in kept or items])[: len(kept)]
    labels = torch.tensor([item.label for item in kept], dtype=torch.int64)
    return Batch(images, labels, [report for item in items for report in item.unreadable])


class Loader(DataLoader[Item]):
    """torch's loader; but the death of a worker is always found where a batch is asked for, and is a `WorkerError`."""

    def __iter__(self) -> Iterator[Batch]:
        """Go through the batches once; the workers end with the iteration, or when it is closed.

        torch installs a signal handler that raises wherever the program is when a worker dies, and once more whenever
        another process ends: in a step, while saving, at exit. Without it torch finds the worker within 5 seconds.
        """
        if not self.num_workers or threading.current_thread() is not threading.main_thread():
            return self._explained(super().__iter__())
        before = signal.getsignal(signal.SIGCHLD)
        batches = super().__iter__()
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
        return self._explained(batches)

    def _explained(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        try:
            yield from batches
        except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
            # An error of the code in a worker begins with "Caught". A dead worker also breaks the connection over which
            # a batch it has finished is fetched.
            if str(error).startswith("Caught") and "DataLoader worker process" in str(error):
                raise
            if isinstance(error, RuntimeError) and not re.match(r"DataLoader worker \(pid", str(error)):
                raise
            raise WorkerError(
                "A process that loads images was killed or has crashed. Most often memory has run out, or /dev/shm is "
                "full: use fewer --workers or smaller batches. Training can resume from the last checkpoint."
            ) from error


def _outlive_signals(worker: int) -> None:
    """Keep a worker alive when the whole group of processes is asked to stop: the run ends it, after saving."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(GRACE)


def make_loader(
    dataset: Images, batch_sampler: Iterable[list[Sample]], workers: int, pin_memory: bool = False
) -> Loader:
    """Make a loader of batches; each worker runs on one thread.

    Args:
        dataset: The images.
        batch_sampler: The samples of each batch.
        workers: The number of processes; 0 loads in this one.
        pin_memory: Whether to copy batches to memory from which GPUs can copy at full speed.
    """
    return Loader(
        dataset,
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_outlive_signals,
        # Every pass draws a seed for the workers. From the default generator, it would change what dropout draws in a
        # run that resumes within an epoch.
        generator=torch.Generator(),
    )
