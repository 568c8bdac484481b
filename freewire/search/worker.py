# SPDX-License-Identifier: MIT
"""A worker process: both ends of its pipe.

The worker says that it is there, gets the objective, says that it could unpickle it, and then gets one task after the
other. What it sends is JSON, what it gets is pickled by the process that has started it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Any

from freewire.search.trial import Task, broken, ended, run_task

__all__ = ["Worker"]


class Worker:
    """Our end: a process, and what it does.

    Args:
        context: How to start it.
        objective: The objective, pickled.
        threads: Threads that torch uses in it.

    Attributes:
        pipe: Readable when there is something to `look` at.
        ready: Whether it has unpickled the objective.
        task: What it runs; None if nothing.
        deadline: When the task has taken too long, by `time.monotonic`; None: never.
    """

    def __init__(self, context: SpawnContext, objective: bytes, threads: int) -> None:
        self.pipe, far = context.Pipe()
        self._process = context.Process(target=_work, args=(far, threads), name="freewire search")
        with _interrupts_blocked():
            self._process.start()
        far.close()
        self._objective: bytes | None = objective
        self.ready = False
        self.task: Task | None = None
        self.deadline: float | None = None
        self._since = 0.0

    def give(self, task: Task, timeout: float | None) -> bool:
        """Send it a task; False if it has died.

        Args:
            task: The task.
            timeout: Seconds that it may take.
        """
        if not self._send(pickle.dumps(task)):
            return False
        self.task, self._since = task, time.monotonic()
        self.deadline = None if timeout is None else self._since + timeout
        return True

    def look(self) -> tuple[str | None, bool]:
        """What it has sent, and whether it has died. If both, what it sent is the last."""
        # In this order: a process that has ended sends no more, so nothing is missed between the two looks.
        dead = self._process.exitcode is not None
        try:
            text = self.pipe.recv_bytes().decode() if self.pipe.poll() else None
        except (EOFError, OSError):
            return None, True  # it has ended, or has closed its end: no message can arrive
        if text is not None and self._objective is not None:  # only now, as a large one would wait for its start
            self._send(self._objective)
            self._objective = text = None
        return text, dead and text is None

    def lines(self, status: str, error: str) -> list[dict[str, Any]]:
        """The lines of its task, which it has not finished."""
        assert self.task is not None
        seconds = round(time.monotonic() - self._since, 6)
        return [{**line, "seconds": seconds} for line in ended(self.task.lines, status, error)]

    def kill(self) -> None:
        """Kill it without waiting for its end."""
        self._process.kill()

    def end(self, patience: float = 0.0) -> int:
        """Wait ``patience`` seconds for it to end by itself, then kill it.

        Returns:
            Its exit status; negative: the signal that ended it.
        """
        self._process.join(patience)
        self._process.kill()
        self._process.join()
        self.pipe.close()
        return self._process.exitcode or 0

    def _send(self, data: bytes) -> bool:
        try:
            self.pipe.send_bytes(data)
        except OSError:
            return False
        return True


def _work(pipe: Connection, threads: int) -> None:
    """What the process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent decides what happens
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _end_with_parent()
    import torch

    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has closed its end
        pipe.send_bytes(b"here")
        objective: Any = None
        try:
            objective = pickle.loads(pipe.recv_bytes())
        except BaseException as error:  # a module may call sys.exit as it is imported
            pipe.send_bytes(broken("objective", error).encode())
        else:
            pipe.send_bytes(b'{"lines": []}')
        while True:
            task: Task = pickle.loads(pipe.recv_bytes())
            pipe.send_bytes(run_task(objective, task).encode())


def _end_with_parent() -> None:
    """Exit in the middle of a trial as soon as the parent has exited, in whatever way."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Delay SIGINT; a process that is started meanwhile does not get it before it ignores it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
