# SPDX-License-Identifier: MIT
"""Run one network many times on one batch, and compute only what differs from the first run.

Enters: a network, and which stage will behave otherwise. Leaves: the same results in less time. Whatever comes before
that stage hears the very tensors that it heard in the first run, and gives again what it gave then. What a network does
between its modules need not be known: a tensor that is another, or was written to since, is simply computed with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from freewire.models.stage import GraphStage

__all__ = ["Replay"]


class _Seen(NamedTuple):
    """A tensor as it was: itself, and how often it had been written to."""

    tensor: Tensor
    version: int

    def again(self, value: Any) -> bool:
        return value is self.tensor and _version(value) == self.version


class _Call(NamedTuple):
    arguments: tuple[_Seen | None, ...]
    result: _Seen

    def matches(self, arguments: tuple[Any, ...]) -> bool:
        return (
            len(arguments) == len(self.arguments)
            and all(v is None if s is None else s.again(v) for s, v in zip(self.arguments, arguments, strict=True))
            and self.result.again(self.result.tensor)
        )


class _Unit:
    """Stands in for a module's ``forward``."""

    def __init__(self, replay: Replay, module: nn.Module) -> None:
        self.replay = replay
        self.forward = module.forward
        self.stages = frozenset(m for m in module.modules() if isinstance(m, GraphStage))
        self.calls: list[_Call] = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        plain = not options and all(value is None or isinstance(value, Tensor) for value in arguments)
        if not self.replay.recording:
            if plain and self.replay.changed not in self.stages:
                for call in self.calls:
                    if call.matches(arguments):
                        return call.result.tensor
            return self.forward(*arguments, **options)
        if not plain:
            return self.forward(*arguments, **options)
        seen = tuple(None if value is None else _seen(value) for value in arguments)
        result = self.forward(*arguments)
        if isinstance(result, Tensor):
            self.calls.append(_Call(seen, _seen(result)))
        return result


class Replay:
    """A network whose modules give again what they gave, where they hear what they heard.

    Modules must be functions of their arguments, as they are in eval mode; gradients must be off. The batch of the
    first run is held until the next, with what passes between modules.

    Args:
        model: The network. It is this object's from now on: its modules' ``forward`` is replaced.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.recording = False
        self.changed: GraphStage | None = None
        self._units = []
        waiting = [model]
        while waiting:
            module = waiting.pop()
            inside = any(isinstance(m, GraphStage) for m in module.modules())
            if isinstance(module, nn.ModuleList | nn.ModuleDict) or (inside and not isinstance(module, GraphStage)):
                waiting.extend(module.children())
            elif not isinstance(module, torch.jit.ScriptModule):  # it takes no other forward
                unit = _Unit(self, module)
                self._units.append(unit)
                module.forward = unit

    def first(self, x: Tensor) -> Any:
        """Run the network as it is."""
        for unit in self._units:
            unit.calls.clear()
        self.recording = True
        try:
            return self.model(x)
        finally:
            self.recording = False

    def again(self, x: Tensor, changed: GraphStage) -> Any:
        """Run it with one stage that behaves otherwise now; x is the first run's, or a new one."""
        self.changed = changed
        try:
            return self.model(x)
        finally:
            self.changed = None


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else x._version  # a tensor of inference mode cannot be written to outside of it


def _seen(x: Tensor) -> _Seen:
    return _Seen(x, _version(x))
