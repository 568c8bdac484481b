# SPDX-License-Identifier: MIT
"""Where trials run that do not run in processes of our own: in this process, or wherever an executor runs them.

Each class here, and `freewire.search.processes.Processes`, is a crew: ``start`` a task while it is ``free``, ``wait``
for the lines of those that have ended.
"""

from __future__ import annotations

import concurrent.futures
import json
import time
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol

from freewire.errors import InputError, cut, shown
from freewire.search.trial import Task, Where, ended, pickled, random_state_kept, run_task

__all__ = ["Crew", "InExecutor", "InThisProcess", "lines_of"]

_QUEUED = 1000  # tasks that wait in an executor whose workers we cannot count
#: What a future raises where a worker could not even unpickle the call: every other trial would end in the same way.
_NO_IMPORT = (ImportError, AttributeError, TypeError, ValueError)


class Crew(Protocol):
    """Runs tasks.

    Attributes:
        where: Where it runs them.
    """

    where: Where

    @property
    def free(self) -> bool:
        """Whether another task may be started."""

    def start(self, task: Task) -> None:
        """Start a task."""

    def wait(self) -> list[list[dict[str, Any]]]:
        """The lines of one or more tasks, each a list, as soon as one has ended.

        Raises:
            InputError: No worker can run the objective.
        """

    def close(self) -> None:
        """Stop whatever runs."""


class InThisProcess:
    """Runs one task at a time, here, when it is waited for; nothing needs to be pickled.

    Args:
        objective: The objective.
    """

    where = Where.HERE

    def __init__(self, objective: Any) -> None:
        self._objective = objective
        self._task: Task | None = None

    @property
    def free(self) -> bool:
        """Whether another task may be started."""
        return self._task is None

    def start(self, task: Task) -> None:
        """Keep a task until it is waited for."""
        self._task = task

    def wait(self) -> list[list[dict[str, Any]]]:
        """Run the task."""
        task, self._task = self._task, None
        assert task is not None
        with random_state_kept():
            return [lines_of(run_task(self._objective, task))]

    def close(self) -> None:
        """Nothing runs."""


class InExecutor:
    """Runs tasks by any executor. It is the caller's: what hangs or breaks there is out of our hands.

    Args:
        executor: The executor.
        objective: The objective.
        most: Tasks that are submitted at a time; None: as many as the executor has workers, twice, so that none waits,
            or 1,000 if it does not say.

    Raises:
        InputError: ``executor`` is not one.
    """

    def __init__(self, executor: Any, objective: Any, most: int | None) -> None:
        if not isinstance(executor, Executor):
            raise InputError(
                f"executor: expected a concurrent.futures.Executor, got {shown(executor)}. For Dask pass "
                "client.get_executor(); docs/search.md has one for Ray."
            )
        self.where = Where.HERE if isinstance(executor, ThreadPoolExecutor) else Where.ANYWHERE
        blob = pickled(objective, self.where)
        self._executor, self._objective = executor, objective if blob is None else blob
        workers = getattr(executor, "_max_workers", None)
        self._most = most or (2 * workers if isinstance(workers, int) else _QUEUED)
        self._running: dict[Future[str], tuple[Task, float]] = {}

    @property
    def free(self) -> bool:
        """Whether another task may be submitted."""
        return len(self._running) < self._most

    def start(self, task: Task) -> None:
        """Submit a task."""
        try:
            future = self._executor.submit(run_task, self._objective, task)
        except RuntimeError as error:  # shut down, or broken
            raise _unusable(error) from error
        self._running[future] = task, time.perf_counter()

    def wait(self) -> list[list[dict[str, Any]]]:
        """The lines of the tasks that have ended, once there is one."""
        done, _ = concurrent.futures.wait(self._running, return_when=concurrent.futures.FIRST_COMPLETED)
        return [self._lines(future) for future in done]

    def close(self) -> None:
        """Cancel what has not begun. What runs goes on, but nobody waits for it."""
        for future in self._running:
            future.cancel()

    def _lines(self, future: Future[str]) -> list[dict[str, Any]]:
        task, start = self._running.pop(future)
        try:
            return lines_of(future.result())
        except (BrokenExecutor, CancelledError) as error:
            raise _unusable(error) from error
        except InputError:
            raise
        except _NO_IMPORT as error:
            raise _no_import("objective", f"{type(error).__name__}: {cut(error)}") from error
        except Exception as error:  # such as Dask's KilledWorker: the executor goes on
            text = f"the executor lost the trial's worker: {type(error).__name__}: {cut(error)}"
            seconds = round(time.perf_counter() - start, 6)
            return [{**line, "seconds": seconds} for line in ended(task.lines, "killed", text)]


def lines_of(text: str) -> list[dict[str, Any]]:
    """The lines in what `run_task` returned.

    Raises:
        InputError: The worker could not unpickle the objective or the strategy.
    """
    answer = json.loads(text)
    if "broken" in answer:
        raise _no_import(answer["broken"], answer["why"])
    lines: list[dict[str, Any]] = answer["lines"]
    return lines


def _no_import(what: str, why: str) -> InputError:
    kind = {"objective": "a function", "strategy": "a class"}[what]
    return InputError(
        f"{what}: expected {kind} that workers can import, got one that they cannot ({why}). Define it, and "
        "what it needs, in a module that is installed, or in the folder that they start in, on every worker."
    )


def _unusable(error: BaseException) -> InputError:
    return InputError(
        f"executor: expected one that goes on, got one that is shut down or broken ({type(error).__name__}: "
        f"{cut(error)}). Continue from the log with a new one, or with executor=None, which replaces workers that die."
    )
