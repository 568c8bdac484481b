# SPDX-License-Identifier: MIT
"""What `Model.fit` calls while it trains, by Keras's names: stopping early, checkpoints, functions of the caller's.

A callback derives from `Callback` and overrides the hooks that it needs. ``logs`` is a dictionary of floats by name:
``loss``, the metrics, and at the end of an epoch their ``val_`` twins. Setting ``self.model.stop_training = True`` ends
the training. Hooks that nobody overrides cost nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from freewire.errors import InputError, cut, shown
from freewire.graph.arguments import check_number, check_ordered, check_whole

__all__ = ["Callback", "Callbacks", "EarlyStopping", "History", "LambdaCallback", "ModelCheckpoint", "TerminateOnNaN"]

Logs = Mapping[str, float]


class Callback:
    """The hooks, which do nothing. ``self.model`` is the Model, ``self.params`` has epochs, steps and batch_size."""

    model: Any = None
    params: Mapping[str, int] = {}

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first epoch; ``logs`` is empty."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last epoch, with its logs."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Before an epoch, counted from 0; ``logs`` is empty."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs) -> None:
        """Before a batch, counted from 0 in each epoch; ``logs`` is empty."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a batch; ``logs`` has the means over the epoch so far."""


class History(Callback):
    """What `Model.fit` returns.

    Attributes:
        epoch: The epochs that were trained, counted from 0.
        history: A list for each of ``loss``, metrics and their ``val_`` twins, with a value per epoch.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Append."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items())
        return f"History({len(self.epoch)} epochs{': ' if last else ''}{last})"


class LambdaCallback(Callback):
    """Calls functions.

    Args:
        hooks: Functions by the names of `Callback`'s hooks, with the arguments of those.

    Raises:
        InputError: There is no hook of that name, or something is no function.

    Example:
        >>> import freewire as fw
        >>> m = fw.Model(fw.neuron_level_densenet(1, 2, 1, "tanh"))
        >>> m.compile("adam", "mse")
        >>> show = fw.keras.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, sorted(logs)))
        >>> _ = m.fit([[0], [1]], [0, 1], verbose=0, callbacks=[show])
        0 ['loss']
    """

    def __init__(self, **hooks: Callable[..., object]) -> None:
        for name, function in hooks.items():
            if name not in HOOKS:
                raise InputError(f"{name}: expected one of {', '.join(HOOKS)}, got another name. Choose one of those.")
            if not callable(function):
                raise InputError(f"{name}: expected a function, got {shown(function)}. Pass one.")
            setattr(self, name, function)


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class TerminateOnNaN(Callback):
    """Ends the training at the first batch after which the loss is no number."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """Look at the loss."""
        if not math.isfinite(logs["loss"]):
            print(f"batch {batch}: the loss is {logs['loss']}, so training ends")
            self.model.stop_training = True


class _Monitor(Callback):
    """A callback that asks whether an epoch was the best so far.

    Args:
        monitor: The name in ``logs``.
        mode: ``"min"``, ``"max"``, or ``"auto"``: max where the name ends with accuracy or acc.
        min_delta: What counts as better, at least.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        if not (isinstance(mode, str) and mode in ("auto", "min", "max")):
            raise InputError(f"mode: expected 'auto', 'min' or 'max', got {shown(mode)}. Choose one of those.")
        if not isinstance(monitor, str):
            raise InputError(f"monitor: expected a name such as 'val_loss', got {shown(monitor)}. Pass one name.")
        self.monitor = monitor
        self.min_delta = abs(check_number("min_delta", min_delta, "a number", "0 counts any change.", InputError))
        largest = mode == "max" or (mode == "auto" and monitor.endswith(("acc", "accuracy")))
        self._sign = -1.0 if largest else 1.0
        self.best: float | None = None

    def _is_better(self, logs: Logs) -> bool:
        if self.monitor not in logs:
            needs = " Names with val_ need validation_data or validation_split." if "val_" in self.monitor else ""
            raise InputError(
                f"monitor: expected one of {', '.join(logs)}, got {shown(self.monitor)}. Choose one of those.{needs}"
            )
        value = logs[self.monitor]
        if math.isnan(value):
            return False
        if self.best is None or self._sign * value < self._sign * self.best - self.min_delta:
            self.best = value
            return True
        return False


class EarlyStopping(_Monitor):
    """Ends the training when a value has not become better for some epochs.

    Args:
        monitor: Its name in the logs.
        min_delta: The least change that counts as better.
        patience: Epochs without a better value that end the training. 0 and 1 both end it at the first.
        mode: ``"min"``, ``"max"``, or ``"auto"``, which is max for accuracies.
        restore_best_weights: Whether the Model has the weights of its best epoch afterwards.

    Attributes:
        stopped_epoch: The epoch, counted from 0, after which the training ended; -1 if it was not ended.
        best_epoch: The best epoch so far.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = check_whole("patience", patience, 0, "It is a number of epochs.", error=InputError)
        self.restore_best_weights = restore_best_weights
        self.stopped_epoch = self.best_epoch = -1
        self._best_weights: list[torch.Tensor] = []

    def on_train_begin(self, logs: Logs) -> None:
        """Forget earlier trainings."""
        self.best = None
        self.stopped_epoch = self.best_epoch = -1
        self._best_weights = []

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Compare."""
        if self._is_better(logs):
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._best_weights = [p.detach().clone() for p in self.model.parameters()]
        elif epoch and epoch - self.best_epoch >= self.patience:  # the first epoch ends nothing, even if it is NaN
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs) -> None:
        """Restore the best weights, if asked to."""
        with torch.no_grad():
            for parameter, best in zip(self.model.parameters(), self._best_weights, strict=False):
                parameter.copy_(best)


class ModelCheckpoint(_Monitor):
    """Saves the network after epochs, by `Model.save_weights`: safetensors, written atomically.

    Args:
        path: The file, which may hold fields such as ``"{epoch:03d}-{val_loss:.3f}.safetensors"``. The epoch is
            counted from 1 there, as in Keras.
        monitor: The value that says which epoch is best; not read without ``save_best_only``.
        save_best_only: Whether to save only when the value has become better, than in earlier trainings with this
            object too, so that a training which is continued does not replace a better file.
        mode: ``"min"``, ``"max"``, or ``"auto"``, which is max for accuracies.

    Raises:
        InputError: ``path`` is no path; and while training, if it holds an unknown field.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode, 0.0)
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"path: expected the path of a file, got {shown(path)}. Pass text.")
        self.path = os.fspath(path)
        self.save_best_only = save_best_only

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save."""
        if self.save_best_only and not self._is_better(logs):
            return
        try:
            path = self.path.format_map({**logs, "epoch": epoch + 1})
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"path: expected fields of epoch, {', '.join(logs)}, got {shown(self.path)} ({cut(error)}). Correct it."
            ) from error
        self.model.save_weights(path)


class Callbacks:
    """A list of callbacks as one, which calls only the hooks that are overridden.

    Args:
        given: Callbacks, or one.
        model: What they get as ``model``.
        params: What they get as ``params``.
        history: Is called before them.
    """

    def __init__(
        self, given: Callback | Iterable[Callback] | None, model: Any, params: Mapping[str, int], history: History
    ) -> None:
        check_ordered(given, "callbacks", InputError)
        listed: list[Any] = [given]
        if not isinstance(given, Callback):
            listed = [] if given is None else list(given) if isinstance(given, Iterable) else [given]
        for callback in listed:
            if not isinstance(callback, Callback):
                remedy = "Derive from that class."
                if isinstance(callback, type):
                    remedy += " Make an object of it: add ()."
                elif isinstance(callback, LRScheduler):
                    remedy = "For a scheduler: LambdaCallback(on_epoch_end=lambda epoch, logs: scheduler.step())."
                raise InputError(f"callbacks: expected fw.keras.Callback objects, got {shown(callback)}. {remedy}")
            callback.model, callback.params = model, params
        called = [history, *listed]
        self._hooks = {name: [getattr(c, name) for c in called if _overrides(c, name)] for name in HOOKS}

    def wants(self, *hooks: str) -> bool:
        """Whether one of these hooks does anything."""
        return any(self._hooks[hook] for hook in hooks)

    def call(self, hook: str, *arguments: Any) -> None:
        """Call a hook of all callbacks, in their order."""
        for function in self._hooks[hook]:
            function(*arguments)


def _overrides(callback: Callback, hook: str) -> bool:
    return hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)
