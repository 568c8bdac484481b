# SPDX-License-Identifier: MIT
"""Write scikit-learn's 1,797 handwritten digits as class folders of PNG files, for training on a small machine.

    python examples/imagenet/make_digits.py FOLDER

writes ``FOLDER/train/0/0000.png`` and so on: 80 % of each class to ``train``, the rest to ``val``. The digits have 8x8
pixels and are enlarged to 32x32, white ink on black. The number of a file is that of the digit in scikit-learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sklearn.datasets
from PIL import Image
from sklearn.model_selection import train_test_split

SIDE = 32  # of the enlarged digits, in pixels
INK = 16  # the largest value of a pixel in scikit-learn's digits


def plan(labels: np.ndarray, seed: int) -> dict[Path, int]:
    """The file of each digit, relative to the folder, for a random split with the same share of each class."""
    numbers = np.arange(len(labels))
    train, _ = train_test_split(numbers, test_size=0.2, stratify=labels, random_state=seed)
    chosen = set(train.tolist())
    return {
        Path("train" if number in chosen else "val", str(labels[number]), f"{number:04}.png"): number
        for number in numbers.tolist()
    }


def enlarge(digit: np.ndarray) -> Image.Image:
    """A digit ``[8, 8]`` from 0 (paper) to 16 (ink) as a grey image, white on black."""
    grey = (digit * (255 / INK)).round().astype(np.uint8)
    return Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def others(folder: Path, labels: np.ndarray) -> list[Path]:
    """What is in a folder that this script has not written, with any seed."""
    files = {Path(part, str(label), f"{i:04}.png") for part in ("train", "val") for i, label in enumerate(labels)}
    known = files | {parent for file in files for parent in file.parents}
    return sorted(path for path in folder.rglob("*") if path.relative_to(folder) not in known)


def write(folder: Path, seed: int) -> tuple[int, int]:
    """Write all digits, and remove those of another split; returns how many there are for training and validation."""
    digits = sklearn.datasets.load_digits()
    files = plan(digits.target, seed)
    for old in folder.rglob("*.png"):
        if old.relative_to(folder) not in files:
            old.unlink()
    for parent in {file.parent for file in files}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for file, number in files.items():
        enlarge(digits.images[number]).save(folder / file)
    train = sum(file.parts[0] == "train" for file in files)
    return train, len(files) - train


def main(argv: Sequence[str] | None = None) -> None:
    """Write the digits to the folder on the command line."""
    parser = argparse.ArgumentParser(description="Write scikit-learn's handwritten digits as class folders of PNGs.")
    parser.add_argument("folder", type=Path, help="where to write; empty, missing, or written by this script before")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (0)")
    options = parser.parse_args(argv)
    folder: Path = options.folder
    if not 0 <= options.seed < 2**32:
        parser.error(f"--seed: expected a whole number from 0 to {2**32 - 1}, got {options.seed}.")
    if folder.exists() and not folder.is_dir():
        parser.error(f"{folder} is a file. Name a folder that is empty or missing.")
    if strange := others(folder, sklearn.datasets.load_digits().target):
        parser.error(f"{folder} holds something else: {strange[0]}. Name a folder that is empty or missing.")
    try:
        train, val = write(folder, options.seed)
    except OSError as error:
        parser.exit(1, f"{parser.prog}: {error.filename or folder} cannot be written: {error.strerror}.\n")
    print(f"{train:,} images for training in {folder / 'train'}/, {val:,} for validation in {folder / 'val'}/")


if __name__ == "__main__":
    main()
