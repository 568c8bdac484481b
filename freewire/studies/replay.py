# SPDX-License-Identifier: MIT
"""Run a network many times on one batch, computing only what differs from the first run.

`Replay` records the calls of a network's modules in a first run. In later runs one stage behaves differently, and every
module before it receives the same tensors as in the first run and returns the same result without computing it. What a
network does between its modules need not be known: a call with a different tensor, or with one that was written to in
the meantime, is computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from freewire.models.stage import GraphStage

__all__ = ["Replay"]


class _Seen(NamedTuple):
    """A tensor, and how often it had been written to."""

    tensor: Tensor
    version: int

    def is_same(self, value: Any) -> bool:
        return value is self.tensor and _version(value) == self.version


class _Call(NamedTuple):
    arguments: tuple[_Seen | None, ...]
    result: _Seen

    def matches(self, arguments: tuple[Any, ...]) -> bool:
        return (
            len(arguments) == len(self.arguments)
            and all(v is None if s is None else s.is_same(v) for s, v in zip(self.arguments, arguments, strict=True))
            and self.result.is_same(self.result.tensor)
        )


class _Unit:
    """Replaces a module's ``forward``."""

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
    """A network whose modules return the results of a recorded run where their arguments are the same.

    Modules must be functions of their arguments, as they are in eval mode, and gradients must be off. The tensors that
    were passed between modules are kept until the next recorded run.

    Args:
        model: The network. It belongs to this object from now on: its modules' ``forward`` is replaced.
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
            elif not isinstance(module, torch.jit.ScriptModule):  # whose forward cannot be replaced
                unit = _Unit(self, module)
                self._units.append(unit)
                module.forward = unit

    def record(self, x: Tensor) -> Any:
        """Run the network and record the calls.

        Args:
            x: The batch.
        """
        for unit in self._units:
            unit.calls.clear()
        self.recording = True
        try:
            return self.model(x)
        finally:
            self.recording = False

    def rerun(self, x: Tensor, changed: GraphStage) -> Any:
        """Run the network with one stage that behaves differently now.

        Args:
            x: The recorded run's batch, or another one.
            changed: The stage.
        """
        self.changed = changed
        try:
            return self.model(x)
        finally:
            self.changed = None


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else x._version  # outside of inference mode its tensors cannot be written to


def _seen(x: Tensor) -> _Seen:
    return _Seen(x, _version(x))
