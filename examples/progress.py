# SPDX-License-Identifier: MIT
"""Progress of the examples, on stderr: a bar on a terminal, and a single line at the end anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts what has been done, in a ``with`` statement.

    Args:
        name: What is being done.
        total: The number of units to do; None if it is not known yet.
        unit: What is counted, in the singular.
        done: The number of units that are done already.
    """

    def __init__(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self._values = ""
        self._begin = time.perf_counter()
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(desc=name, total=total, unit=unit, initial=done) if is_terminal else None

    def __enter__(self) -> Progress:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar, or write the line."""
        if self._bar is not None:
            self._bar.close()
            return
        of = "" if self.total is None or self.total == self.done else f" of {self.total:,}"
        plural = "" if self.done == 1 and not of else "s"
        seconds = time.perf_counter() - self._begin
        print(f"{self.name}: {self.done:,}{of} {self.unit}{plural} in {seconds:.1f} s{self._values}", file=sys.stderr)

    def update(self, units: int = 1, **values: str) -> None:
        """Add units done, and show values by name beside the bar."""
        self.done += units
        if values:
            self._values = "".join(f", {name} {value}" for name, value in values.items())
        if self._bar is not None:
            if values:
                self._bar.set_postfix(values, refresh=False)
            self._bar.total = self.total
            self._bar.update(units)
