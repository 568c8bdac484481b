# SPDX-License-Identifier: MIT
"""An executor whose tasks end in a random order, and the lines of a search without their times."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import Executor, Future
from pathlib import Path

from freewire.search import read_log


class Disordered(Executor):
    """Runs tasks one at a time in a thread: whenever it is free, one of those that wait, by chance."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._waiting: list[tuple[Future, tuple]] = []
        self._changed = threading.Condition()
        self._open = True
        self.most = 0
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def submit(self, function, /, *arguments):
        future: Future = Future()
        with self._changed:
            self._waiting.append((future, (function, arguments)))
            self.most = max(self.most, len(self._waiting))
            self._changed.notify()
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _work(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._open)
                if not self._waiting:
                    return
                future, (function, arguments) = self._waiting.pop(self._random.randrange(len(self._waiting)))
            if future.set_running_or_notify_cancel():
                future.set_result(function(*arguments))


def timeless(path: Path) -> dict[int, dict]:
    """The lines of a log by trial, in order, without what differs from run to run."""
    lines = {line["trial"]: {**line, "seconds": 0} for line in read_log(path).lines}
    assert len(lines) == path.read_bytes().count(b"\n") - 1  # nothing is there twice
    return dict(sorted(lines.items()))


def as_text(lines: dict[int, dict]) -> str:
    """Lines as text, for comparisons in which 1 is not 1.0."""
    return "\n".join(json.dumps(line, sort_keys=True) for line in lines.values())
