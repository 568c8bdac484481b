# SPDX-License-Identifier: MIT
"""Whether hooks on all modules are registered, from which fused steps must not hide a module.

Activation checkpointing runs a stage a second time in the backward, where it must save the same tensors as in the
forward. Such hooks may have been registered or removed in between, so `global_hooks_fixed` repeats the first answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.nn.modules.module import _has_any_global_hook

__all__ = ["global_hooks_fixed", "has_global_hooks"]

_fixed: ContextVar[bool | None] = ContextVar("freewire_has_global_hooks", default=None)


def has_global_hooks() -> bool:
    """Whether a hook on all modules is registered, such as ``torch.nn.modules.module.register_module_forward_hook``."""
    fixed = None if torch.compiler.is_compiling() else _fixed.get()
    return bool(_has_any_global_hook()) if fixed is None else fixed


@contextmanager
def global_hooks_fixed(answer: bool) -> Iterator[None]:
    """Make `has_global_hooks` return one answer in this thread.

    Args:
        answer: The answer, as an earlier call returned it.
    """
    token = _fixed.set(answer)
    try:
        yield
    finally:
        _fixed.reset(token)
