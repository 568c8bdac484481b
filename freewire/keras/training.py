# SPDX-License-Identifier: MIT
"""The loop of `Model.fit`, and the measurements of `Model.evaluate`: plain PyTorch, with nothing per step but the step.

Losses are means over the samples: that of a batch counts as many times as the batch has samples, so the last partial
batch has its due weight. They are added up on the device, and read once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from freewire.keras.callbacks import Callbacks
from freewire.keras.data import Data, batches
from freewire.keras.losses import Loss, Outputs
from freewire.keras.metrics import Metric
from freewire.keras.progress import Progress

__all__ = ["Mode", "Task", "measure", "train"]


@dataclass(frozen=True)
class Task:
    """What a Model was compiled for.

    Attributes:
        network: From samples ``[B, I]`` to outputs before any softmax ``[B, O]``.
        outputs: What the Model makes of them.
        loss: What is minimised.
        metrics: What is measured besides.
    """

    network: Callable[[Tensor], Tensor]
    outputs: Outputs
    loss: Loss
    metrics: tuple[Metric, ...]


class Mode:
    """A module in training mode, or not, until the end of the ``with``."""

    def __init__(self, module: nn.Module, training: bool) -> None:
        self._module, self._training, self._before = module, training, module.training

    def __enter__(self) -> None:
        self._module.train(self._training)

    def __exit__(self, *_: object) -> None:
        self._module.train(self._before)


class _Means:
    """Means over samples of the loss and the metrics."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self._names = ["loss", *(metric.name for metric in task.metrics)]
        self._sums = [torch.zeros((), dtype=torch.float64, device=device) for _ in self._names]
        self._task, self._samples = task, 0

    def add(self, loss: Tensor, raw: Tensor, targets: Tensor) -> None:
        samples = len(targets)
        self._samples += samples
        self._sums[0].add_(loss.detach(), alpha=samples)
        if self._task.metrics:
            with torch.no_grad():
                outputs = self._task.outputs.normalise(raw.detach())
                for total, metric in zip(self._sums[1:], self._task.metrics, strict=True):
                    total.add_(metric.value(outputs, targets), alpha=samples)

    def logs(self) -> dict[str, float]:
        return {name: total.item() / self._samples for name, total in zip(self._names, self._sums, strict=True)}


def measure(task: Task, data: Data, batch_size: int) -> dict[str, float]:
    """The loss and the metrics on data, without training."""
    means = _Means(task, data.x.device)
    with torch.no_grad():
        for x, y in batches(data, batch_size, shuffle=False):
            raw = task.network(x)
            means.add(task.loss.value(raw, y, task.outputs), raw, y)
    return means.logs()


def train(
    task: Task,
    optimizer: Optimizer,
    data: Data,
    validation: Data | None,
    *,
    model: Any,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    callbacks: Callbacks,
    progress: Progress,
) -> None:
    """Train; ends early where a callback has set ``model.stop_training``."""
    network, loss_value, outputs = task.network, task.loss.value, task.outputs
    step = _closure_step if isinstance(optimizer, LBFGS) else _step
    each_batch = callbacks.wants("on_train_batch_begin", "on_train_batch_end")
    logs: dict[str, float] = {}
    callbacks.call("on_train_begin", {})
    for epoch in range(epochs):
        callbacks.call("on_epoch_begin", epoch, {})
        means = _Means(task, data.x.device)
        for number, (x, y) in enumerate(batches(data, batch_size, shuffle)):
            if each_batch:
                callbacks.call("on_train_batch_begin", number, {})

            def forward(x: Tensor = x, y: Tensor = y) -> tuple[Tensor, Tensor]:
                raw = network(x)
                return loss_value(raw, y, outputs), raw

            means.add(*step(optimizer, forward), y)
            progress.batch()
            if each_batch:
                callbacks.call("on_train_batch_end", number, means.logs())
                if model.stop_training:
                    break
        logs = means.logs()
        if validation is not None:
            with Mode(model, training=False):
                measured = measure(task, validation, batch_size)
            logs.update((f"val_{name}", value) for name, value in measured.items())
        callbacks.call("on_epoch_end", epoch, logs)
        progress.epoch(epoch, logs)
        if model.stop_training:
            break
    callbacks.call("on_train_end", logs)


Forward = Callable[[], tuple[Tensor, Tensor]]


def _step(optimizer: Optimizer, forward: Forward) -> tuple[Tensor, Tensor]:
    """One step; returns the loss and the outputs."""
    loss, raw = forward()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss, raw


def _closure_step(optimizer: Optimizer, forward: Forward) -> tuple[Tensor, Tensor]:
    """One step of an optimizer that evaluates the loss several times; returns the first loss and its outputs."""
    results: list[tuple[Tensor, Tensor]] = []

    def closure() -> float:
        loss, raw = forward()
        optimizer.zero_grad()
        loss.backward()
        results.append((loss, raw))
        return loss.item()

    optimizer.step(closure)
    return results[0]
