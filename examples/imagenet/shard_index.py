# SPDX-License-Identifier: MIT
"""The index of WebDataset shards: where every image is, and its class.

A shard is a .tar file. Consecutive members of the same name up to the first dot are a sample: its image (.jpg, .jpeg,
.png or .webp) and its class, as a number in .cls or under "label" in .json. Other members are ignored.

`load_index` accepts the shards and goes through their headers once. For many shards that takes minutes, so the index is
kept in a file (arrays, without pickle) for as long as the shards have the same names, sizes and times.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock
from sources import Texts, quoted
from tqdm import tqdm

from freewire.errors import InputError, cut, shown
from freewire.files import replacing

IMAGES = ("jpg", "jpeg", "png", "webp")
CLASSES_AT_MOST = 1_000_000
LABEL_BYTES_AT_MOST = 1 << 20  # of a .json; more is not the description of an image
SUFFIXES_LISTED = 5  # in a message
VERSION = 1  # of the file of the index


class Index(NamedTuple):
    """Where the images are; arrays with an entry per image.

    Attributes:
        shard: The number of the shard, int32.
        offset: Where the image begins in it, in bytes, int64.
        size: The bytes of the image, int64.
        label: The class, int64.
        keys: The bytes of all keys, joined, uint8.
        ends: Where each key ends, int64.
    """

    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    keys: np.ndarray
    ends: np.ndarray


def load_index(paths: list[str], cache: str | os.PathLike[str] | None) -> Index:
    """Load the index of shards, or make it and keep it.

    Args:
        paths: The shards.
        cache: The folder of the file; None keeps no file.

    Raises:
        InputError: A shard is damaged, or ``cache`` cannot be a folder.
    """
    if cache is None:
        return build_index(paths)
    stamp = describe(paths)
    places = "\0".join(os.path.abspath(path) for path in paths)
    file = Path(cache, f"shards-{hashlib.blake2b(os.fsencode(places), digest_size=8).hexdigest()}.npz")
    if (index := read_index(file, stamp)) is not None:
        return index
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{quoted(file.parent)}: expected a folder for the index of the shards, got '{error.strerror}'. "
            "Choose another one."
        ) from error
    with alone(f"{file}.lock"):
        if (index := read_index(file, stamp)) is None:  # another process may have made it meanwhile
            index = build_index(paths)
            try:
                with replacing(file) as stream:
                    np.savez(stream, stamp=np.frombuffer(stamp, np.uint8), **index._asdict())
            except OSError as error:
                print(f"The index of the shards was not kept in {file}: {error.strerror}.", file=sys.stderr)
    return index


def describe(paths: list[str]) -> bytes:
    """A digest of the shards' names, sizes and times."""
    try:
        files = [(os.path.basename(path), (s := os.stat(path)).st_size, s.st_mtime_ns) for path in paths]
    except OSError as error:
        raise InputError(f"{quoted(error.filename)} cannot be read: {error.strerror}.") from error
    return hashlib.blake2b(repr((VERSION, files)).encode()).digest()


def read_index(file: Path, stamp: bytes) -> Index | None:
    """Read an index; None if there is none, or if it is damaged or belongs to other shards."""
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if arrays["stamp"].tobytes() == stamp:
                return Index(**{name: arrays[name] for name in Index._fields})
    except Exception:  # zipfile, whose checksums find a changed byte, zlib and numpy raise a dozen different ones
        pass
    return None


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Let the processes of a machine do something one at a time, so that one builds the index and the others wait.

    Some network file systems have no locks. There everyone builds the index, and each replaces the file as a whole.
    """
    lock = FileLock(path, fallback_to_soft=False)
    with suppress(OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Member(NamedTuple):
    """Where a member's content begins in its shard, and its bytes."""

    offset: int
    size: int


def build_index(paths: list[str]) -> Index:
    """Go through the headers of all shards, showing the progress on a terminal.

    Raises:
        InputError: A shard is damaged, or a sample has no image or no class.
    """
    rows: list[tuple[int, int, int, int]] = []
    keys: list[bytes] = []
    for number, path in enumerate(tqdm(paths, "index", unit="shard", disable=None)):
        with open_shard(path) as file:
            for key, members in samples_of(path, file):
                where = f"{quoted(path)}, sample {quoted(key)}"
                image = next((members[suffix] for suffix in IMAGES if suffix in members), None)
                if image is None:
                    have = ", ".join(f".{cut(suffix, 20)}" for suffix in list(members)[:SUFFIXES_LISTED])
                    raise InputError(
                        f"{where}: expected an image (.{', .'.join(IMAGES)}), got only {have}. Correct the shard."
                    )
                rows.append((number, image.offset, image.size, read_label(where, file, members)))
                keys.append(os.fsencode(key))
    shard, offset, size, label = np.array(rows, np.int64).reshape(-1, 4).T.copy()
    texts = Texts.of(keys)
    return Index(shard.astype(np.int32), offset, size, label, texts.data, texts.ends)


@contextmanager
def open_shard(path: str) -> Iterator[BinaryIO]:
    """Open a shard; what goes wrong while its headers are read becomes a sentence with its name.

    Raises:
        InputError: The file is no .tar, or it is damaged or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            yield file
    except tarfile.TarError as error:
        raise InputError(
            f"{quoted(path)}: expected a complete .tar, not compressed, got a damaged one or another file "
            f"({cut(error)}). Copy the shard again."
        ) from error
    except OSError as error:
        raise InputError(f"{quoted(path)} cannot be read: {error.strerror}.") from error


def samples_of(path: str, file: BinaryIO) -> Iterator[tuple[str, dict[str, Member]]]:
    """Go through the samples of a shard: the key, and the members by suffix.

    Names are divided as webdataset divides them: at the first dot after the last slash, suffixes in small letters.

    Raises:
        InputError: A sample has the same suffix twice.
    """
    current: str | None = None
    members: dict[str, Member] = {}
    for info in headers_of(file):
        divided = re.fullmatch(r"((?:.*/)?[^.]+)\.([^/]*)", info.name, re.DOTALL)
        if not info.isreg() or divided is None or re.match("__[^/]*__(/|$)", info.name):
            continue
        key, suffix = divided[1], divided[2].lower()
        if key != current:
            if current is not None:
                yield current, members
            current, members = key, {}
        if suffix in members:
            raise InputError(f"{quoted(path)}: expected every file once, got {quoted(info.name)} twice. Correct it.")
        members[suffix] = Member(info.offset_data, info.size)
    if current is not None:
        yield current, members


def headers_of(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Go through the headers of a .tar.

    Raises:
        TarError: The file is no .tar, or it is damaged.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        yield from tar
        # tarfile ends without an error at a header that it cannot read, and where the file was cut between members
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"no header and no end of the archive at byte {tar.offset:,}")


def read_label(where: str, file: BinaryIO, members: dict[str, Member]) -> int:
    """Read the class of a sample.

    Raises:
        InputError: There is none, or it is no whole number from 0 to `CLASSES_AT_MOST`.
    """
    member = members.get("cls") or members.get("json")
    if member is None:
        raise InputError(f'{where}: expected its class in .cls or as "label" in .json, got neither. Correct the shard.')
    content = os.pread(file.fileno(), min(member.size, LABEL_BYTES_AT_MOST), member.offset)
    label: object = content
    if "cls" in members:
        if re.fullmatch(rb"\s*[0-9]{1,18}\s*", content):
            label = int(content)
    else:
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            label = json.loads(content)["label"]
    if type(label) is not int or not 0 <= label < CLASSES_AT_MOST:
        raise InputError(
            f"{where}: expected a class from 0 to {CLASSES_AT_MOST - 1:,}, got {shown(label)}. Correct the shard."
        )
    return label
