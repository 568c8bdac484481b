# SPDX-License-Identifier: MIT
"""Activation checkpointing for modules with batch norms.

`checkpointed` calls a module without keeping anything inside it for the backward, which calls it a second time. The
second call must not update the running statistics of batch norms, or every batch would count twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from freewire.models.hooks import global_hooks_fixed, has_global_hooks

__all__ = ["checkpointed"]


@contextmanager
def _recomputing(module: nn.Module, hooked: bool) -> Iterator[None]:
    """The second call: batch norms keep their running statistics, and stages repeat their first choice of steps."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for m in norms:
        m.momentum, m.num_batches_tracked = 0.0, None
    try:
        with global_hooks_fixed(hooked):
            yield
    finally:
        for m, (momentum, batches) in zip(norms, before, strict=True):
            m.momentum, m.num_batches_tracked = momentum, batches


def checkpointed(module: nn.Module, *arguments: Any) -> Tensor:
    """``module(*arguments)``, recomputed in the backward instead of kept for it."""
    if torch.compiler.is_compiling():  # takes no context_fn here, and updates running statistics only once
        return checkpoint(module, *arguments, use_reentrant=False)
    hooked = has_global_hooks()

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _recomputing(module, hooked)

    return checkpoint(module, *arguments, use_reentrant=False, context_fn=contexts)
