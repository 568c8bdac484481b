# SPDX-License-Identifier: MIT
"""`eager`: keep a function out of what ``torch.compile`` traces, without importing its tracer.

``torch.compiler.disable`` imports Dynamo where it decorates, which takes a second and 75 MB at ``import freewire``,
whether or not the program ever compiles anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

__all__ = ["eager"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def eager(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function that ``torch.compile`` must not trace; it is called as it is, after a graph break."""
    disabled: list[Callable[_P, _R]] = []  # at most one, made once: Dynamo compiles again for every new function

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not torch.compiler.is_dynamo_compiling():
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **kwargs)

    return call
