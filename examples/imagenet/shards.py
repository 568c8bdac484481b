# SPDX-License-Identifier: MIT
"""Images in WebDataset shards, read by number and not as a stream.

A shard is a .tar file of samples (shard_index.py). An index says where every image is, so that any process reads any
image by one call of the system: the order of a run is the same for any number of processes, and nothing has to be
skipped to resume within an epoch.

The classes are called as the lines of ``classes.txt`` beside the shards say; without this file, by their numbers.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from pathlib import Path

import numpy as np
from shard_index import load_index
from sources import Source, Texts, listed, quoted

from freewire.errors import InputError, cut

OPEN_AT_MOST = 128  # shards that a process keeps open; systems allow 1,024 files and more


class Shards(Source):
    """The images of some shards, in the order of the shards.

    Args:
        place: What the user wrote.
        paths: The shards.
        cache: A folder for the file of the index; None keeps no file.

    Raises:
        InputError: A shard is damaged, or a sample has no image or no class that fits.
    """

    def __init__(self, place: str, paths: list[str], cache: str | os.PathLike[str] | None = None) -> None:
        self.place = place
        self._paths = paths
        self._index = load_index(paths, cache)
        self._keys = Texts(self._index.keys, self._index.ends)
        self._open: dict[int, int] = {}
        self.labels = self._index.label
        if not len(self.labels):
            raise InputError(f"{quoted(place)}: expected samples in the shards, got none. Check the path.")
        self.classes = read_classes(paths[0]) or tuple(str(number) for number in range(int(self.labels.max()) + 1))
        if len(beyond := np.flatnonzero(self.labels >= len(self.classes))):
            raise InputError(
                f"{self.name(int(beyond[0]))}: expected a class from 0 to {len(self.classes) - 1}, since classes.txt "
                f"has {len(self.classes):,} names, got {self.labels[beyond[0]]}. Complete classes.txt or correct it."
            )

    def __getstate__(self) -> dict[str, object]:
        """Everything but the open files, which mean nothing in another process."""
        return {**self.__dict__, "_open": {}}

    def __del__(self) -> None:
        """Close the open files."""
        for file in self.__dict__.get("_open", {}).values():
            os.close(file)

    def name(self, index: int) -> str:
        """The shard and the key of an image."""
        return f"{self._paths[self._index.shard[index]]}: {self._keys[index]}"

    def read(self, index: int) -> bytes:
        """Read an image. A process that was forked may share open files, since `pread` does not move a position."""
        shard, size = int(self._index.shard[index]), int(self._index.size[index])
        file = self._open.pop(shard, None)
        if file is None:
            file = os.open(self._paths[shard], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._open[shard] = file  # now the last, so the first is the one not used for longest
        if len(self._open) > OPEN_AT_MOST:
            os.close(self._open.pop(next(iter(self._open))))
        data = os.pread(file, size, int(self._index.offset[index]))
        if len(data) < size:
            raise EOFError(f"the shard ends after {len(data):,} of {size:,} bytes")
        return data


def find_shards(pattern: str) -> list[str]:
    """Find the files that a pattern means, such as ``train-{0000..0099}.tar`` or ``train-*.tar``.

    Raises:
        InputError: There are none, or some of those with the numbers between braces are missing.
    """
    paths, missing = [], []
    for name in expand_braces(pattern):
        if os.path.exists(name):
            paths.append(name)
        elif found := sorted(glob.glob(name)):
            paths += found
        else:
            missing.append(name)
    if not paths:
        raise InputError(f"{quoted(pattern)}: expected shards, got no file that matches. Check the pattern.")
    if missing:
        raise InputError(
            f"{quoted(pattern)}: expected {len(missing) + len(paths):,} shards, got {len(paths):,}. "
            f"Missing are {listed(missing)}."
        )
    return paths


def expand_braces(pattern: str) -> list[str]:
    """Write out ``{00..99}`` (with the zeros in front) and ``{a,b}``, as a shell does."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    first, last, words = found.groups()
    if words is not None:
        parts = words.split(",")
    else:
        parts = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    head, tail = pattern[: found.start()], expand_braces(pattern[found.end() :])
    return [head + part + rest for part in parts for rest in tail]


def read_classes(shard: str) -> tuple[str, ...]:
    """Read the names of the classes from ``classes.txt`` in the folder of a shard; empty if there is no such file.

    Raises:
        InputError: The file cannot be read, is empty, or has a line twice.
    """
    path = Path(shard).parent / "classes.txt"
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8").rstrip().splitlines())
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{quoted(path)} cannot be read: {cut(error)}.") from error
    twice = [name for name, group in itertools.groupby(sorted(names)) if len(list(group)) > 1]
    if twice or not names or "" in names:
        got = f"some twice: {listed(twice)}" if any(twice) else "an empty line" if names else "an empty file"
        raise InputError(f"{quoted(path)}: expected a class on each line, got {got}. Correct the file.")
    return names
