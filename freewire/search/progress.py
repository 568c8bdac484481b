# SPDX-License-Identifier: MIT
"""What a search shows while it runs: a bar where someone watches, and lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Progress"]

#: The most lines that one search prints: a thousand trials of a millisecond would fill a log.
_LINES = 100


class Progress:
    """Shows how many trials have ended, and the best so far. Use it in a ``with``.

    Args:
        shown: Whether anything is shown: one bar where stderr is a terminal, or in a notebook, and tqdm is installed;
            else lines on stdout, at most about 100.
        total: The number of trials.
        before: Lines of the trials that ended earlier.
    """

    def __init__(self, shown: bool, total: int, before: Sequence[Mapping[str, Any]]) -> None:
        self._total, self._every = total, -(-total // _LINES)
        self._done = self._unfinished = 0
        self._best: Mapping[str, Any] | None = None
        self._bar: Any = None
        self._count(before)
        self._lines = shown
        if shown and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar, self._lines = tqdm(total=total, initial=self._done, unit="trial"), False
            self._bar.set_postfix_str(self._state(), refresh=False)

    def __enter__(self) -> Progress:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def update(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Show that these trials have ended."""
        before = self._done
        self._count(lines)
        if self._bar is not None:
            self._bar.set_postfix_str(self._state(), refresh=False)
            self._bar.update(len(lines))
        elif self._lines and (self._done // self._every > before // self._every or self._done == self._total):
            print(f"trial {self._done}/{self._total}: {self._state()}", flush=True)

    def _count(self, lines: Sequence[Mapping[str, Any]]) -> None:
        for line in lines:
            self._done += 1
            self._unfinished += line["status"] not in ("finished", "pruned")
            if line["status"] == "finished" and (self._best is None or line["value"] > self._best["value"]):
                self._best = line

    def _state(self) -> str:
        best = "none yet" if self._best is None else f"{self._best['value']:.6g} (trial {self._best['trial']})"
        return f"best {best}" + (f", {self._unfinished} failed" if self._unfinished else "")
