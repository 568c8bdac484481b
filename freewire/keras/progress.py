# SPDX-License-Identifier: MIT
"""What `Model.fit` shows while it trains: a bar where someone watches, and lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from freewire.errors import InputError, shown
from freewire.graph.arguments import whole

__all__ = ["Progress"]

#: The most lines that one training prints: 10,000 epochs of four samples would fill a log.
_LINES = 100


class Progress:
    """Shows epochs.

    Args:
        verbose: 0: nothing. 1: one bar for the whole training where stderr is a terminal, or in a notebook, and tqdm
            is installed; else lines. "auto": as 1. 2: lines, one per epoch, or about 100 if there are more epochs.
        epochs: Their number.
        steps: Batches per epoch.
    """

    def __init__(self, verbose: int | str, epochs: int, steps: int) -> None:
        level = int(verbose) if isinstance(verbose, bool) else whole(1 if str(verbose) == "auto" else verbose)
        if level not in (0, 1, 2):
            raise InputError(f"verbose: expected 0, 1 or 2, got {shown(verbose)}. 0 is silent, 1 a bar, 2 lines.")
        self._lines = bool(level)
        self._epochs, self._every = epochs, max(1, epochs // _LINES)
        self._bar: Any = None
        if level == 1 and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar, self._lines = tqdm(total=epochs * steps, unit="batch"), False
            self._bar.set_description(f"epoch 1/{epochs}", refresh=False)

    def batch(self) -> None:
        """Count a batch."""
        if self._bar is not None:
            self._bar.update()

    def epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Show an epoch, counted from 0, that is over."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {min(epoch + 2, self._epochs)}/{self._epochs}", refresh=False)
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items()}, refresh=False)
        elif self._lines and ((epoch + 1) % self._every == 0 or epoch + 1 == self._epochs):
            values = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
            print(f"epoch {epoch + 1}/{self._epochs}: {values}")

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
