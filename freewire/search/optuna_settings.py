# SPDX-License-Identifier: MIT
"""What a sampler or a pruner of Optuna says of itself for a log's header.

Optuna offers no way to ask for it, but its classes keep an argument ``x`` as ``_x``, or as ``x``.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

__all__ = ["described"]


def described(what: str, owner: Any) -> dict[str, Any]:
    """The name of an object's class, and those of its arguments that JSON can hold.

    Samplers and pruners that are arguments of others are described in turn. Not included: the seed, since a search has
    its own; functions; and arguments that the class does not keep.

    Args:
        what: What to call it.
        owner: A sampler or a pruner.

    Returns:
        The class's name at ``what``, and an argument's value at ``what`` with ``.`` and its name.

    Example:
        >>> class Every:
        ...     def __init__(self, steps, seed=None):
        ...         self._steps = steps
        >>> described("pruner", Every(3))
        {'pruner': 'Every', 'pruner.steps': 3}
    """
    found: dict[str, Any] = {what: type(owner).__name__}
    for argument in inspect.signature(type(owner)).parameters:
        if argument in ("seed", "warn_independent_sampling"):
            continue
        name, value = f"{what}.{argument}", getattr(owner, f"_{argument}", getattr(owner, argument, None))
        if type(value).__module__.startswith("optuna."):
            found |= described(name, value)
        elif value is not None and _is_json(value):  # None is the default of most arguments that newer versions add
            found[name] = value
    return found


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
