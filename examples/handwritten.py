# SPDX-License-Identifier: MIT
"""Handwritten digits for the examples: scikit-learn's small ones, or MNIST where its files are on the disk.

MNIST (LeCun et al. 1998) is four files in the IDX format: a header of big-endian 32-bit numbers, then a byte per pixel
or label. They are read where torchvision puts them (``FOLDER/MNIST/raw``) or in the folder itself, compressed or not.
"""

from __future__ import annotations

import argparse
import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.datasets
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
USUAL = Path("data")  # where torchvision's own examples put MNIST


class Digits(NamedTuple):
    """Images ``[n, pixels]`` float32 from 0 (paper) to 1 (ink), and the digits they show, ``[n]`` int64."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, whose value `load` accepts."""
    parser.add_argument(
        "--data",
        type=_folder,
        help="folder with MNIST's four files, or with torchvision's MNIST/raw (default: ./data if it has them, else "
        "scikit-learn's 1,797 digits of 8x8 pixels)",
    )


def load_digits(seed: int) -> Digits:
    """scikit-learn's digits, split 80 to 20 with the same share of each class."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y), test_size=0.2, stratify=y, random_state=seed
    )
    return Digits(train_x, train_y, test_x, test_y)


def load(folder: Path | None = None) -> tuple[Digits, str]:
    """Read MNIST from a folder; None: from the usual one if it is there, else scikit-learn's digits.

    Returns:
        The images, and which they are.

    Raises:
        FileNotFoundError: The folder does not have MNIST's files.
        ValueError: A file has another format, or is cut short.
    """
    files = find(USUAL if folder is None else folder)
    if files:
        train_x, train_y, test_x, test_y = map(read_idx, files)
        return Digits(_pixels(train_x), _labels(train_y), _pixels(test_x), _labels(test_y)), "MNIST"
    if folder is not None:
        raise FileNotFoundError(f"{folder}: expected MNIST's files, {', '.join(FILES)} (or .gz), got others.")
    return load_digits(0), "scikit-learn's digits"


def find(folder: Path) -> list[Path]:
    """MNIST's four files in the order of `FILES`, in the folder or where torchvision puts them; else nothing."""
    for raw in (folder, folder / "raw", folder / "MNIST" / "raw"):
        found = [next(filter(Path.is_file, (raw / name, raw / f"{name}.gz")), None) for name in FILES]
        if all(found):
            return [path for path in found if path]
    return []


def _folder(text: str) -> Path:
    if not find(Path(text)):
        raise argparse.ArgumentTypeError(f"{text}: expected MNIST's files, {', '.join(FILES)} (or .gz), got others.")
    return Path(text)


def read_idx(path: Path) -> np.ndarray:
    """Read a file of bytes in the IDX format, compressed or not."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: expected a whole gzip file, got another ({error}).") from error
    dimensions = content[3] if len(content) > 3 else 0
    if content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * dimensions:
        raise ValueError(f"{path}: expected an IDX file of bytes, got another format.")
    shape = np.frombuffer(content, ">u4", dimensions, 4)
    values = np.frombuffer(content, np.uint8, -1, 4 + 4 * dimensions)
    if values.size != shape.prod(dtype=np.int64):
        raise ValueError(f"{path}: expected {list(map(int, shape))} bytes, got {values.size}. It is cut short.")
    return values.reshape(shape)


def _pixels(images: np.ndarray) -> Tensor:
    return torch.tensor(images.reshape(len(images), -1) / 255, dtype=torch.float32)


def _labels(labels: np.ndarray) -> Tensor:
    return torch.tensor(labels, dtype=torch.int64)
