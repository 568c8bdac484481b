# SPDX-License-Identifier: MIT
"""Worker processes of our own: a trial that hangs is killed, and a worker that dies is replaced.

`concurrent.futures.ProcessPoolExecutor` breaks as a whole when one of its processes dies, and cannot end a trial.
Processes are spawned: a fork would copy the locks of torch's threads but not the threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from multiprocessing.connection import wait
from typing import Any

from freewire.errors import InputError
from freewire.search.executors import lines_of
from freewire.search.trial import Task, Where, pickled
from freewire.search.worker import Worker

__all__ = ["Processes", "available_cores"]

_LOOK = 1.0  # seconds between looks at whether workers live: a child of a dead one may keep its pipe open
_STARTS = 3  # workers in a row that may be killed before they are ready; the system may have had no memory


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """Runs tasks in worker processes, which start when there is work.

    Args:
        objective: The objective.
        count: The most processes.
        threads: Threads that torch uses in each.
        timeout: Seconds that a task may take; None: any time.

    Raises:
        InputError: The objective cannot be pickled.
    """

    where = Where.CHILD

    def __init__(self, objective: Any, count: int, threads: int, timeout: float | None) -> None:
        blob = pickled(objective, Where.CHILD)
        if blob is None:
            name = getattr(objective, "__qualname__", type(objective).__name__)
            raise InputError(
                f"objective: expected a function that worker processes can import, got {name}. Define it in a module, "
                "install cloudpickle, or pass workers=0 to run all trials in this process."
            )
        self._objective, self._threads = blob, threads
        self._count, self._timeout = count, timeout
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[Worker] = []
        self._queue: deque[Task] = deque()
        self._killed_early = 0

    @property
    def free(self) -> bool:
        """Whether another task may be started."""
        return len(self._queue) + sum(worker.task is not None for worker in self._workers) < self._count

    def start(self, task: Task) -> None:
        """Give a task to a worker, or start one."""
        self._queue.append(task)
        self._assign()

    def wait(self) -> list[list[dict[str, Any]]]:
        """The lines of the tasks that have ended, once there is one.

        Raises:
            InputError: Workers cannot start, or cannot import the objective.
        """
        finished: list[list[dict[str, Any]]] = []
        while not finished:
            deadlines = [worker.deadline for worker in self._workers if worker.deadline is not None]
            patience = min([_LOOK, *(deadline - time.monotonic() for deadline in deadlines)])
            wait([worker.pipe for worker in self._workers], max(0.0, patience))
            for worker in list(self._workers):
                finished += self._look(worker)
            self._assign()
        return finished

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.kill()  # all at once, so that their ends are waited for together
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _assign(self) -> None:
        """Give waiting tasks to idle workers, and start workers for the others."""
        for worker in self._workers:
            if self._queue and worker.ready and worker.task is None and worker.give(self._queue[0], self._timeout):
                self._queue.popleft()
        starting = sum(not worker.ready for worker in self._workers)
        while starting < len(self._queue) and len(self._workers) < self._count:
            self._workers.append(Worker(self._context, self._objective, self._threads))
            starting += 1

    def _look(self, worker: Worker) -> list[list[dict[str, Any]]]:
        """See what a worker has done: the lines of its task, in a list, if that has ended."""
        answer, dead = worker.look()
        if answer is not None:
            lines = lines_of(answer)  # raises if the worker cannot import the objective
            self._killed_early = 0
            if worker.task is None:
                worker.ready = True
                return []
            worker.task = worker.deadline = None
            return [lines]
        if dead:
            return self._replace(worker)
        if worker.deadline is not None and time.monotonic() >= worker.deadline:
            text = f"timeout: the trial took longer than {self._timeout:g} seconds, so its process was killed"
            lines = worker.lines("timeout", text)
            self._workers.remove(worker)
            worker.end()
            return [lines]
        return []

    def _replace(self, worker: Worker) -> list[list[dict[str, Any]]]:
        """Remove a dead worker; the lines of its task, in a list, if it had one. `_assign` starts another."""
        self._workers.remove(worker)
        status = worker.end(patience=_LOOK)
        how = f"by signal {_signal(-status)}" if status < 0 else f"with exit status {status}"
        if not worker.ready:
            self._killed_early += 1
            if status >= 0 or self._killed_early == _STARTS:
                raise InputError(
                    f"workers: expected processes that start, got one that ended {how} before its first trial. Read "
                    'its own message above, if any. A script calls run under `if __name__ == "__main__":`.'
                )
        return [] if worker.task is None else [worker.lines("killed", f"killed: the trial's process ended {how}")]


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
