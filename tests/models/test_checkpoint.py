# SPDX-License-Identifier: MIT
"""freewire/models/checkpoint.py: the same gradients and statistics, and less memory."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from freewire.models.checkpoint import checkpointed


def block() -> nn.Module:
    torch.manual_seed(0)
    first, last = nn.BatchNorm2d(3), nn.BatchNorm2d(3, momentum=None)
    return nn.Sequential(nn.Conv2d(2, 3, 3), first, nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 3, 1), last)


def step(module: nn.Module, x: Tensor, wrapped: bool) -> list[Tensor]:
    """y, gradients and buffers after two steps with the same random numbers."""
    torch.manual_seed(1)
    for _ in range(2):
        y = checkpointed(module, x) if wrapped else module(x)
        y.square().sum().backward()
    return [y.detach(), *(p.grad for p in module.parameters()), *module.buffers()]


def test_gradients_statistics_and_dropout_are_those_without_checkpointing() -> None:
    module = block()
    twin = copy.deepcopy(module)
    x = torch.randn(4, 2, 6, 6)
    for got, want in zip(step(module, x, True), step(twin, x, False), strict=True):
        torch.testing.assert_close(got, want)
    norm = module[1]
    assert norm.momentum == 0.1
    assert norm.num_batches_tracked == 2
    assert set(norm.state_dict()) == set(twin[1].state_dict())


def test_in_eval_mode() -> None:
    module = block().eval()
    twin = copy.deepcopy(module)
    x = torch.randn(4, 2, 6, 6)
    for got, want in zip(step(module, x, True), step(twin, x, False), strict=True):
        torch.testing.assert_close(got, want)


def test_nothing_inside_is_saved() -> None:
    kept: list[Tensor] = []
    x = torch.randn(4, 2, 6, 6)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        checkpointed(block(), x).sum().backward()
    inside = [t for t in kept if t.dim() == 4 and t.shape[0] == 4 and t.data_ptr() != x.data_ptr()]
    assert not inside
