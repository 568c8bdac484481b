# SPDX-License-Identifier: MIT
"""Networks with constraints in tests, and training them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import freewire as fw

WIRES = fw.generators.densenet(6, 12, 3, activation="tanh")
EDGES = WIRES.num_edges


def drawn(seed: int = 0) -> dict[str, np.ndarray]:
    """Constraints of all kinds on `WIRES` that fit each other, and bases: each edge in about one way, some in two."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, EDGES)
    group = np.where(kind == 0, rng.integers(0, 3, EDGES) * 5, -1)
    sign = np.where(rng.random(EDGES) < 0.6, rng.choice([-1, 1], EDGES), 0)
    base = np.where(sign == 0, 1, sign) * rng.integers(1, 9, EDGES) / 8
    return {"sign": sign, "frozen": kind == 1, "group": group, "weight": base}


def constrained(*names: str, stored: bool = True, seed: int = 0, **options: Any) -> fw.Network:
    """A network of `WIRES` with these constraints of `drawn`; with its stored weights, or drawn ones."""
    given = drawn(seed)
    graph = WIRES.with_values(given.pop("weight") if stored else None)
    torch.manual_seed(seed)
    return fw.Network(graph.with_constraints(**{name: given[name] for name in names}), **options)


def batch(samples: int = 32, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs and targets that any network of `WIRES` can be trained on."""
    x = torch.randn(samples, 6, generator=torch.Generator().manual_seed(1))
    return x.to(dtype), torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin(), x[:, 3:].sum(1)], 1).to(dtype)


def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int, look: Any = lambda: None) -> list[float]:
    """Train on `batch`, calling ``look`` after each step; the losses."""
    x, y = batch(dtype=next(net.parameters()).dtype)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        look()
        losses.append(loss.item())
    return losses
