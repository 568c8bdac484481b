# SPDX-License-Identifier: MIT
"""Both recipes started with timm's own training script, on two classes of tiny pictures.

No package contains that script, so these tests are collected only where ``FREEWIRE_TIMM_TRAIN`` is its path.
"""

from __future__ import annotations

import csv
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "imagenet"
SCRIPT = os.environ["FREEWIRE_TIMM_TRAIN"]
RECIPES = sorted((EXAMPLE / "timm_recipes").glob("*.yaml"))
TINY = "--epochs 2 --warmup-epochs 1 --batch-size 4 --workers 0 --device cpu --num-classes 2 --input-size 3 32 32"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f"{i}.png")
    return folder


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_starts(recipe, data, tmp_path):
    command = [sys.executable, EXAMPLE / "timm_train.py", SCRIPT, "--config", recipe, "--data-dir", data, *TINY.split()]
    command += ["--model-kwargs", "channels=8", "--output", tmp_path, "--experiment", "run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "run" / "summary.csv") as file:
        epochs = list(csv.DictReader(file))
    assert len(epochs) == 2
    assert all(math.isfinite(float(epoch["train_loss"])) for epoch in epochs)
    assert all(0 < float(epoch["eval_loss"]) < 3 for epoch in epochs)


def test_every_line_is_an_option_of_the_script():
    """It would ignore a line with another name."""
    known = {action.dest for action in runpy.run_path(SCRIPT)["parser"]._actions}
    assert {"model", "drop", "sched_on_updates"} <= known
    for recipe in RECIPES:
        assert set(yaml.safe_load(recipe.read_text())) <= known
