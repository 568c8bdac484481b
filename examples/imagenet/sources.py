# SPDX-License-Identifier: MIT
"""Where the images come from: class folders, or WebDataset shards. Neither reads more than the images asked for.

`open_source` accepts a place on disk and returns a `Source`: the names of the classes, the class of every image, and
the encoded images by number. The numbers are the same on every machine and in every process, so a run can be divided
among any number of processes and can resume in the middle of an epoch. A source is small, can be pickled, and holds
its texts in arrays: a worker process that only looks at a Python object copies its memory, and there are a million.
"""

from __future__ import annotations

import os
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from freewire.errors import InputError

LISTED = 10  # names in a message
PARTS = ("train", "val")
_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = 200


def quoted(name: str | os.PathLike[str]) -> str:
    """A path or a name for a message, in quotes; the middle of a long one is an ellipsis."""
    return _QUOTE.repr(os.fspath(name))


def listed(names: Iterable[str]) -> str:
    """The first names of many, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - LISTED:,} more" if len(every) > LISTED else ""
    return ", ".join(quoted(name) for name in every[:LISTED]) + more


class Texts:
    """Many texts, one after another in an array, with the offsets where they end.

    Args:
        data: All texts joined, uint8 ``[bytes]``.
        ends: Where each ends, int64 ``[n]``.
    """

    def __init__(self, data: np.ndarray, ends: np.ndarray) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, texts: list[bytes]) -> Texts:
        """Join texts."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(np.frombuffer(b"".join(texts), np.uint8), np.cumsum(lengths))

    def __getitem__(self, index: int) -> str:
        """A text; bytes that are not UTF-8 become surrogates, as in Python's file names."""
        start = int(self.ends[index - 1]) if index > 0 else 0
        return os.fsdecode(self.data[start : int(self.ends[index])].tobytes())


class Source(ABC):
    """Encoded images by number.

    Attributes:
        place: Where the images are, as the user wrote it.
        classes: The names of the classes.
        labels: The class of every image, int64 ``[n]``, from 0.
    """

    place: str
    classes: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call an image in a message: its path, or its shard and key."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Read an image as it is encoded.

        Raises:
            OSError: It cannot be read.
        """


def open_source(place: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None) -> Source:
    """Open class folders or shards.

    Args:
        place: A folder with a folder of images for each class; or a folder with shards (.tar); or shards by a pattern:
            ``train-*.tar`` or ``train-{0000..0099}.tar``.
        cache: A folder to keep the index of shards in; made if it is missing. None reads the shards' headers each time.

    Raises:
        InputError: There is nothing of this kind, or something is wrong with it.
    """
    place = os.path.expanduser(os.fspath(place))
    # Imported here, since torchvision takes seconds to load and shards do not need it.
    if not os.path.isdir(place):
        hint = " DATA is the folder that has train/ and val/ in it." if os.path.basename(place) in PARTS else ""
        if not os.path.exists(place) and not any(character in place for character in "*?[{"):
            raise InputError(f"{quoted(place)}: expected a folder or shards, got nothing there. Check the path.{hint}")
        if os.path.isfile(place) and not place.endswith(".tar"):
            raise InputError(f"{quoted(place)}: expected a folder or shards (.tar), got another file. Name its folder.")
        from shards import Shards, find_shards

        return Shards(place, find_shards(place), cache)
    try:
        entries = list(os.scandir(place))
    except OSError as error:
        raise InputError(f"{quoted(place)} cannot be read: {error.strerror}.") from error
    shards = sorted(entry.name for entry in entries if entry.name.endswith(".tar") and not entry.is_dir())
    kept = None if cache is None else os.path.realpath(cache)
    has_folders = any(entry.is_dir() and os.path.realpath(entry) != kept for entry in entries if entry.name[0] != ".")
    if shards and has_folders:
        raise InputError(
            f"{quoted(place)}: expected either class folders or shards, got both. To use the {len(shards):,} .tar "
            f"files, write {quoted(Path(place, '*.tar'))}; to use the folders, move the .tar files away."
        )
    if shards:
        from shards import Shards

        return Shards(place, [os.path.join(place, name) for name in shards], cache)
    if not has_folders:
        raise InputError(
            f"{quoted(place)}: expected a folder for each class, or shards (.tar), got neither. Check the path."
        )
    from folders import Folders

    return Folders(place)


def check_pair(train: Source, val: Source) -> None:
    """Check that two sources have images of the same classes, in the same order.

    Raises:
        InputError: A class has images in one of them only, or the classes are numbered in another way.
    """
    ours, theirs = (
        {source.classes[label]: None for label in np.unique(source.labels).tolist()} for source in (train, val)
    )
    for here, there, lacking, other in ((val, train, ours, theirs), (train, val, theirs, ours)):
        if only := [name for name in other if name not in lacking]:
            raise InputError(
                f"{quoted(here.place)} has images of {len(only):,} class{'es' if len(only) > 1 else ''} that "
                f"{quoted(there.place)} lacks: {listed(only)}. Training and validation need the same classes."
            )
    if len(ours) < 2:
        raise InputError(
            f"{quoted(train.place)}: expected images of at least 2 classes, got 1. There is nothing to learn."
        )
    if train.classes != val.classes:
        raise InputError(
            f"The classes of {quoted(val.place)} are numbered in another way than those of {quoted(train.place)}. "
            "Training and validation need the same list of classes (classes.txt) in the same order."
        )
