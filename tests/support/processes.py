# SPDX-License-Identifier: MIT
"""Programs that run side by side within a time limit, none of which outlives the call that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO


@dataclass(frozen=True)
class Finished:
    """A program that has ended.

    Attributes:
        name: Its key among the commands.
        status: Its exit status; None if it was killed because the time was up.
        output: What it wrote to stdout and stderr.
        seconds: How long it ran.
    """

    name: str
    status: int | None
    output: str
    seconds: float


def run_side_by_side(
    commands: Mapping[str, Sequence[str]], at_once: int, limit: float, **options: object
) -> Iterator[Finished]:
    """Run commands, and yield each as it ends.

    Whatever happens, all that the commands have started is killed at the end: a sanitizer that is killed alone, or
    interrupted from the keyboard, leaves the program that it watches on the GPU.

    Args:
        commands: Their arguments, by name.
        at_once: How many run at a time.
        limit: Seconds for all of them together; what then still runs is killed, what has not begun never begins.
        options: Of `subprocess.Popen`.
    """
    end, waiting = time.monotonic() + limit, list(commands)
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once and time.monotonic() < end:
                name = waiting.pop(0)
                running.append(_Running(name, commands[name], options))
            for each in [each for each in running if each.process.poll() is not None or time.monotonic() >= end]:
                running.remove(each)
                yield each.finish()
            if not running and time.monotonic() >= end:
                yield from (Finished(name, None, "not started: the time was up\n", 0.0) for name in waiting)
                return
            time.sleep(0.02)
    finally:
        for each in running:
            each.finish()


@dataclass
class _Running:
    name: str
    command: Sequence[str]
    options: dict[str, object]
    output: IO[str] = field(init=False)
    start: float = field(init=False)
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (`finish` closes it)
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **self.options,  # type: ignore[call-overload]
        )

    def finish(self) -> Finished:
        """Kill what is left of it and return what it did."""
        status = self.process.poll()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with self.output:
            self.output.seek(0)
            return Finished(self.name, status, self.output.read(), time.monotonic() - self.start)
