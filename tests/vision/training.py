# SPDX-License-Identifier: MIT
"""A short training run of examples/imagenet/, and what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

__all__ = ["TINY", "assert_same_weights", "last", "rows"]

#: A RandWire of four channels that draws random numbers in training, four steps per epoch.
TINY = "--preset tiny --model-options channels=4 edge_drop=0.5 drop_rate=0.2 --epochs 2 --warmup-epochs 0.5 --batch 24"
TINY += " --micro-batch 12 --lr 0.05 --log-every 2 --workers 0"


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def last(out: Path) -> dict[str, torch.Tensor]:
    return load_file(max((out / "checkpoints").iterdir()))


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = last(one), last(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
