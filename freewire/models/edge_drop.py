# SPDX-License-Identifier: MIT
"""Edge drop, the regularisation of RandWire: a training batch runs without one edge, drawn from those of all stages.

Only an edge whose target has other in-edges may be dropped. `drop_ranks` numbers those once; `kept_edges` draws one per
call, on the device of the images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from freewire.graph import Graph

__all__ = ["drop_ranks", "kept_edges"]


def drop_ranks(graphs: Sequence[Graph]) -> list[list[int]]:
    """Number the edges that may be dropped.

    Args:
        graphs: The wiring of each stage.

    Returns:
        For each stage a number per edge: consecutive over all stages from 0, or -1 if the edge may not be dropped.
    """
    ranks, following = [], 0
    for graph in graphs:
        target = graph.edge_index[1]
        droppable = np.bincount(target, minlength=graph.num_nodes)[target] > 1
        ranks.append(np.where(droppable, following + np.cumsum(droppable) - 1, -1).tolist())
        following += int(droppable.sum())
    return ranks


def kept_edges(x: Tensor, ranks: Sequence[Sequence[int]], chance: float) -> list[Tensor]:
    """Draw which edges this call uses: all, or all but one.

    Args:
        x: A tensor on the device to draw on.
        ranks: From `drop_ranks`.
        chance: Probability that one is dropped.

    Returns:
        For each stage bool ``[E]``, False for a dropped edge.
    """
    droppable = sum([sum([rank >= 0 for rank in stage]) for stage in ranks])
    chosen = torch.randint(max(1, droppable), (1,), device=x.device)
    spared = torch.rand(1, device=x.device) >= chance
    return [spared | (torch.tensor(stage, dtype=torch.int64, device=x.device) != chosen) for stage in ranks]
