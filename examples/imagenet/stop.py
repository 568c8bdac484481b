# SPDX-License-Identifier: MIT
"""How a run ends early: at a request, or because it cannot go on.

SIGTERM, which schedulers send before they kill, and Ctrl-C are requests: the run saves a checkpoint and ends. A second
Ctrl-C ends it at once.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from freewire.errors import FreewireError


class RunError(FreewireError, RuntimeError):
    """A run that cannot go on, though nothing is wrong with its options: every process raises it at the same place."""


class StopRequests:
    """Listens for the signals from its construction until `close`.

    Args:
        speak: Whether to confirm a request on stderr.

    Attributes:
        received: The number of the signal that asked to stop; 0 if none has.
    """

    def __init__(self, speak: bool = True) -> None:
        self.received, self.speak = 0, speak
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.speak:
            sys.stderr.write(f"{signal.Signals(number).name}: saving a checkpoint within seconds, then stopping.\n")

    def close(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
