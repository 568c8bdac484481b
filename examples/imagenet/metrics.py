# SPDX-License-Identifier: MIT
"""Accuracy and loss, counted on the device and added up over all processes.

`Counts` adds up batches, as float64 on the device, without waiting for it; `Figures` are what is printed of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from parallel import World
from torch import Tensor
from torch.nn.functional import cross_entropy


class Figures(NamedTuple):
    """The figures of some images.

    Attributes:
        loss: Mean cross entropy, without label smoothing.
        top1: Share of the images whose class has the largest output.
        top5: Share of the images whose class is among the five largest outputs.
        balanced: Mean over the classes of top1: each class counts the same, however many images it has.
        images: Number of images.
    """

    loss: float
    top1: float
    top5: float
    balanced: float
    images: int


class Counts:
    """Sums over images, per class.

    Args:
        classes: Number of classes.
        device: Where outputs and labels are.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = classes
        self.sums = torch.zeros(classes, 4, dtype=torch.float64, device=device)  # images, top1, top5, loss

    def reset(self) -> None:
        """Count from zero again."""
        self.sums.zero_()

    @torch.no_grad()
    def add(self, outputs: Tensor, labels: Tensor) -> None:
        """Count a batch.

        Args:
            outputs: Scores ``[B, classes]``.
            labels: Classes ``[B]``.
        """
        scores = outputs.float()
        best = scores.topk(min(5, scores.shape[1]), dim=1).indices == labels[:, None]
        loss = cross_entropy(scores, labels, reduction="none")
        rows = torch.stack([torch.ones_like(loss), best[:, 0], best.any(dim=1), loss], dim=1)
        self.sums.index_add_(0, labels, rows.double())

    def figures(self, world: World) -> Figures:
        """The figures over all processes, which all have to call this."""
        sums = world.sum(self.sums).cpu()
        images, top1, top5, loss = sums.sum(dim=0).tolist()
        seen = sums[:, 0] > 0
        balanced = (sums[seen, 1] / sums[seen, 0]).sum().item() / max(int(seen.sum()), 1)
        count = max(images, 1)
        return Figures(loss / count, top1 / count, top5 / count, balanced, int(images))


def figures_table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Names, and the `Figures` of each as a mapping, as a table of a line each."""
    lines = [f"{'':24}{'loss':>8}{'top-1':>9}{'top-5':>9}{'balanced':>10}{'images':>10}"]
    for name, f in rows:
        shares = f"{f['top1']:9.2%}{f['top5']:9.2%}{f['balanced']:10.2%}"
        lines.append(f"{name:24}{f['loss']:8.4f}{shares}{f['images']:10,}")
    return "\n".join(lines)
