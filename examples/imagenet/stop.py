# SPDX-License-Identifier: MIT
"""Requests to stop: SIGTERM, which schedulers send before they kill, and Ctrl-C.

The run then saves a checkpoint and ends. A second Ctrl-C ends it at once.
"""

from __future__ import annotations

import signal
from types import FrameType


class StopRequests:
    """Listens for the signals from its construction until `close`.

    Attributes:
        received: The number of the signal that asked to stop; 0 if none has.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def close(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
