# SPDX-License-Identifier: MIT
"""The order of the training images, which depends on the seed and on nothing else.

Every epoch is a permutation of all images, divided into batches, and each batch into micro-batches of a fixed size.
The processes take turns: micro-batch ``i`` of a batch belongs to process ``i % processes``, which accumulates the
gradients of its own. So any number of processes that divides the number of micro-batches sees the same batches of the
same micro-batches, and batch norms see the same images together. A run may begin at any step, without reading what
comes before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from freewire.errors import InputError


class Sample(NamedTuple):
    """An image, by its number, in one epoch: what the dataset is indexed with."""

    epoch: int
    index: int


def derive(*numbers: int) -> int:
    """A seed below 2^63 computed from whole numbers, the same on every platform."""
    data = b"".join(int(number).to_bytes(8, "little", signed=True) for number in numbers)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers 0 to count - 1 in random order, int64; the same for every version of numpy."""
    keys = np.random.PCG64(derive(seed, epoch)).random_raw(count)
    return np.argsort(keys, kind="stable")


class Schedule(NamedTuple):
    """How a training run is divided.

    Attributes:
        images: Number of training images.
        batch: Images per optimizer step, over all processes.
        micro_batch: Images per forward and backward pass of one process.
        epochs: Epochs of the whole run.
        processes: Number of processes.
    """

    images: int
    batch: int
    micro_batch: int
    epochs: int
    processes: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch. The images left over are used in other epochs, since each has another order."""
        return self.images // self.batch

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def passes(self) -> int:
        """Forward and backward passes of each process per optimizer step."""
        return self.batch // (self.micro_batch * self.processes)

    def check(self) -> Schedule:
        """Return itself.

        Raises:
            InputError: The batch is larger than the dataset, or cannot be divided evenly.
        """
        if self.batch > self.images:
            raise InputError(
                f"--batch: expected at most {self.images}, the number of training images, got {self.batch}. Pass a "
                "smaller one."
            )
        if self.batch % self.micro_batch:
            raise InputError(
                f"--micro-batch: expected a divisor of the batch, {self.batch}, got {self.micro_batch}. Every batch "
                "norm has to see as many images as the others."
            )
        parts = self.batch // self.micro_batch
        if parts % self.processes:
            allowed = [str(n) for n in range(1, parts + 1) if parts % n == 0]
            raise InputError(
                f"processes: expected a divisor of {parts}, since a batch of {self.batch} is {parts} micro-batches of "
                f"{self.micro_batch}, got {self.processes}. Start {' or '.join(allowed[-4:])} processes, or choose "
                "another --micro-batch in a new run: another number of images per batch norm gives other results."
            )
        return self


class MicroBatches(Sampler[list[Sample]]):
    """One process's micro-batches, from a given step to the end of the run: a batch sampler for a `DataLoader`.

    Args:
        schedule: How the run is divided.
        seed: Seed of the order.
        rank: Number of this process.
        start: The first optimizer step.
    """

    def __init__(self, schedule: Schedule, seed: int, rank: int = 0, start: int = 0) -> None:
        self.schedule, self.seed, self.rank, self.start = schedule, seed, rank, start

    def __len__(self) -> int:
        """The number of micro-batches."""
        return (self.schedule.steps - self.start) * self.schedule.passes

    def __iter__(self) -> Iterator[list[Sample]]:
        """Yield the samples of one micro-batch after another."""
        images, batch, size = self.schedule.images, self.schedule.batch, self.schedule.micro_batch
        epoch = -1
        for step in range(self.start, self.schedule.steps):
            if step // self.schedule.steps_per_epoch != epoch:
                epoch = step // self.schedule.steps_per_epoch
                order = permutation(images, self.seed, epoch)
            first = step % self.schedule.steps_per_epoch * batch
            for i in range(self.rank, batch // size, self.schedule.processes):
                chosen = order[first + i * size : first + (i + 1) * size]
                yield [Sample(epoch, index) for index in chosen.tolist()]


class EveryImage(Sampler[list[Sample]]):
    """One process's share of a dataset for validation, each image once over all processes, in batches.

    Every process gets the same number of batches, since processes that divide their parameters have to run the same
    number of forward passes.

    Args:
        images: Number of images, at least one per process.
        batch: Images per batch, at most; 1 counts as 2.
        rank: Number of this process.
        processes: Number of processes.
    """

    def __init__(self, images: int, batch: int, rank: int = 0, processes: int = 1) -> None:
        if images < processes:
            raise InputError(
                f"images: expected at least one validation image per process, got {images} for {processes}. Start "
                "fewer processes."
            )
        self.mine = range(rank, images, processes)
        self.count = -(-images // (processes * max(batch, 2)))

    def __len__(self) -> int:
        """The number of batches."""
        return self.count

    def __iter__(self) -> Iterator[list[Sample]]:
        """Yield the samples of one batch after another."""
        for part in np.array_split(np.asarray(self.mine, dtype=np.int64), self.count):
            yield [Sample(0, index) for index in part.tolist()]
