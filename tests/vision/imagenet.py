# SPDX-License-Identifier: MIT
"""Images, class folders and shards for the tests of examples/imagenet/."""

from __future__ import annotations

import importlib
import io
import tarfile
import types
from pathlib import Path

import numpy as np
import sklearn.datasets
import torch
import webdataset
from PIL import Image

__all__ = ["CLASSES", "COUNT", "PER_SHARD", "SIZE", "Modules", "add", "batches", "content", "encoded", "entries"]
__all__ += ["pixels", "same", "samples", "tar", "write_digits", "write_folder", "write_shards"]

SIZE = 24  # of the transformed images
COUNT, PER_SHARD, CLASSES = 23, 10, 4  # of the shards


class Modules:
    """The modules of examples/imagenet/ as attributes, while they can be imported."""

    def __getattr__(self, name: str) -> types.ModuleType:
        return importlib.import_module(name)


def pixels(seed: int, shape: tuple[int, ...] = (30, 40, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "jpeg", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def add(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_folder(place: Path) -> None:
    """Three classes of 4, 3 and 5 images, one of them in a folder within, and a file that is no image."""
    for label, count in enumerate((4, 3, 5)):
        for number in range(count):
            name = "more/0.PNG" if (label, number) == (1, 0) else f"{number}.jpg"
            image = Image.fromarray(pixels(10 * label + number))
            add(place / "cab"[label] / name, encoded(image, "png" if name.endswith("PNG") else "jpeg"))
    add(place / "a" / "notes.txt", b"not an image")


def samples(lib: Modules, count: int = 12, epoch: int = 2) -> list:
    order = np.random.default_rng(0).permutation(count).tolist()
    return [lib.order.Sample(epoch, index) for index in order]


def batches(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def same(a: list, b: list) -> bool:
    return all(torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels) for x, y in zip(a, b, strict=True))


def entries() -> list[dict[str, object]]:
    """Samples of all kinds, in folders and with long names too, with other members between."""
    suffixes = ("jpg", "jpeg", "png", "webp")
    result = []
    for number in range(COUNT):
        suffix = suffixes[number % 4]
        label = {"cls": number % CLASSES} if number % 3 else {"json": {"label": number % CLASSES, "text": "x"}}
        key = ("deep/" * (number % 2)) + f"{number:06}" + "n" * (120 if number == 5 else 0)
        image = Image.fromarray(pixels(number, (9 + number % 5, 11, 3)))
        data = encoded(image, {"jpg": "jpeg"}.get(suffix, suffix))
        result.append({"__key__": key, "boxes.npy": np.zeros(number), suffix: data, **label})
    return result


def write_shards(place: Path) -> None:
    """Three shards of these samples."""
    place.mkdir()
    with webdataset.ShardWriter(str(place / "train-%04d.tar"), maxcount=PER_SHARD, verbose=0) as writer:
        for entry in entries():
            writer.write(entry)


def tar(path: Path, members: list[tuple[str, bytes]], **options) -> Path:
    with tarfile.open(path, "w", **options) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def content(source) -> list[tuple[bytes, int]]:
    return [(source.read(index), int(source.labels[index])) for index in range(len(source))]


def write_digits(place: Path, train: int = 10, val: int = 4) -> Path:
    """Class folders ``train`` and ``val`` of digits as PNGs of 32 pixels, so many of each class."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    for label in range(10):
        for number, row in enumerate(x[y == label][: train + val]):
            image = Image.fromarray((row.reshape(8, 8) * 15.9).astype(np.uint8)).resize((32, 32))
            part = "train" if number < train else "val"
            add(place / part / str(label) / f"{number:02}.png", encoded(image, "png"))
    return place
