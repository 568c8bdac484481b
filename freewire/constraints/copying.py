# SPDX-License-Identifier: MIT
"""Copies and pickles of modules whose weights are constrained.

torch gives a parametrized module a class of its own, which pickle cannot find, and refuses to pickle it. Its deepcopy
lets both copies share that class, so that removing a parametrization from one breaks the other. Here a copy is made of
the state, without that class, and then gets its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization, type_before_parametrizations

__all__ = ["make_copyable", "rebuild"]


def make_copyable(module: nn.Module) -> None:
    """Let ``copy.deepcopy`` and pickle copy a parametrized module, whose class is its own."""
    own: Any = type(module)
    own.__reduce_ex__ = _reduce
    if "__deepcopy__" in vars(own):
        del own.__deepcopy__


def _reduce(module: nn.Module, protocol: Any) -> tuple[Any, ...]:
    plain: Any = type_before_parametrizations(module)
    state: dict[str, Any] = plain.__getstate__(module) if hasattr(plain, "__getstate__") else module.__dict__
    return rebuild, (plain, dict(state))


def rebuild(plain: type[nn.Module], state: dict[str, Any]) -> nn.Module:
    """The module of a class and a state that `make_copyable` has written."""
    module = plain.__new__(plain)
    modules = dict(state["_modules"])
    lists = modules.pop("parametrizations")
    module.__setstate__({**state, "_modules": modules})
    for name, entry in lists.items():  # registering anything makes the class and its property
        module.register_parameter(name, nn.Parameter(torch.empty(0)))
        register_parametrization(module, name, nn.Identity(), unsafe=True)
        module.parametrizations[name] = entry  # type: ignore[operator]
    make_copyable(module)
    return module
