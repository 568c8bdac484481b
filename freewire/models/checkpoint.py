# SPDX-License-Identifier: MIT
"""Activation checkpointing of modules that count what passes through them.

Enters: a module. Leaves: its result, nothing of it kept for the backward, which runs the module once more. That second
run must not be counted: a batch norm would take its running statistics of every batch twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

__all__ = ["checkpointed"]


@contextmanager
def _uncounted(module: nn.Module) -> Iterator[None]:
    """While it lasts batch norms normalise by the batch and leave their running statistics alone."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum, m.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for m, (momentum, batches) in zip(norms, before, strict=True):
            m.momentum, m.num_batches_tracked = momentum, batches


def checkpointed(module: nn.Module, *arguments: Any) -> Tensor:
    """``module(*arguments)``, run again in the backward instead of being kept."""
    if torch.compiler.is_compiling():  # which knows of no contexts, and counts nothing twice
        return checkpoint(module, *arguments, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _uncounted(module)

    return checkpoint(module, *arguments, use_reentrant=False, context_fn=contexts)
