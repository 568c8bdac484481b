# SPDX-License-Identifier: MIT
"""Which nodes and edges does a trained network depend on? Remove every one of them in turn, as in the paper.

    python examples/imagenet/damage.py runs/small/best.safetensors DATA

The network is built from the recipe in the file and measured on the validation images as it is, and then without each
node and each edge of its randomly wired stages, without retraining. The mean accuracy drops by degree are printed;
damage.png, the paper's plots, and damage.json, every measurement, are written beside the file. The network runs
hundreds of times on every image: of ImageNet's, ``--images 2000`` will do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from checkpoint import stored_recipe
from images import Images, make_loader, val_transform
from order import Sample
from parallel import World
from skipped import Skipped
from sources import open_source
from stop import RunError
from torch import Tensor
from tqdm import tqdm
from trainer import autocast, load_model, set_threads, to_device

import freewire as fw
from freewire.errors import InputError, cut, shown
from freewire.files import replacing


class Batches:
    """Batches, of at most ``size`` images, of ``count`` images: evenly spread, since folders are in order of class."""

    def __init__(self, images: Images, count: int, size: int, world: World) -> None:
        self.world, self.skipped = world, Skipped(None, count, world)
        chosen = np.arange(count) * len(images) // count
        samples = [Sample(0, index) for index in chosen.tolist()]
        batches = [samples[begin : begin + size] for begin in range(0, count, size)]
        self.loader = make_loader(images, batches, workers=0)  # reading takes little time beside hundreds of runs

    def __len__(self) -> int:
        """The number of batches."""
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches on the device; unreadable images are skipped and reported."""
        for batch in self.loader:
            self.skipped.add(batch.unreadable)
            for line in self.skipped.report():
                tqdm.write(line)
            if len(batch.labels):
                yield to_device(batch.images, batch.labels, self.world)


def study(path: Path, data: str, limit: int | None) -> fw.studies.Damage:
    """Measure every damaged version of the network in a file, on at most so many images."""
    recipe = stored_recipe(path)
    world = World(0, 1, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    set_threads(recipe, world)
    val = Path(data, "val")
    source = open_source(val if val.is_dir() else data, path.parent / "index")
    model = load_model(path, recipe, source.classes, world)
    if not any(isinstance(part, fw.models.GraphStage) for part in model.modules()):
        raise InputError(
            f"{path}: expected a randomly wired network, got {recipe.model}. There are no nodes or edges to remove."
        )
    images = Images(source, val_transform(recipe.image_size, recipe.test_crop), recipe.seed, replace=False)
    batches = Batches(images, min(limit or len(images), len(images)), recipe.micro_batch, world)
    with tqdm(desc=recipe.model, unit=" runs", disable=None) as bar, autocast(recipe, world):

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return fw.studies.damage(model, batches, progress=show)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="damage.py", description="Remove every node and every edge in turn.")
    parser.add_argument("file", type=Path, metavar="FILE", help="best.safetensors of a run")
    parser.add_argument("data", metavar="DATA", help="folder with val/ in it, or the validation images themselves")
    parser.add_argument("--images", type=int, metavar="N", help="of how many validation images (all)")
    options = parser.parse_args(argv)
    folder: Path = options.file.parent
    try:
        if options.file.is_file() and not os.access(folder, os.W_OK):  # and not after hours of measuring
            raise InputError(f"FILE: expected one in a folder that can be written, got {shown(str(folder))}. Copy it.")
        if options.images is not None and options.images < 1:
            raise InputError(f"--images: expected 1 or more, got {options.images}.")
        result = study(options.file, options.data, options.images)
    except (InputError, RunError, OSError) as error:
        print(f"damage.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130
    print(result)
    figure = result.plot()
    figure.suptitle(f"Damage to a network that recognises {result.baseline:.1%} of {result.count:,.0f} images")
    try:
        with replacing(folder / "damage.png") as file:
            figure.savefig(file, dpi=130)
        with replacing(folder / "damage.json") as file:
            file.write(json.dumps(result.to_dict(), indent=1).encode() + b"\n")
    except OSError as error:
        print(f"damage.py: The results cannot be written to {folder}: {cut(error, 300).rstrip('.')}.", file=sys.stderr)
        return 1
    print(f"\nWritten to {folder}/: damage.png, and every measurement as damage.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
