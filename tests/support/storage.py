# SPDX-License-Identifier: MIT
"""What tests of saved files share: no waiting for the disk, another user, little memory, and savers as programs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_fsync() -> Iterator[None]:
    """Files are not forced to the disk, which takes milliseconds for each of thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of everybody's, and a user who may not read and write everything, as root may."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(before)


@contextmanager
def raises_os_error(number: int, match: str | None = None) -> Iterator[None]:
    """Assert that the block raises an OSError of this ``errno``."""
    with pytest.raises(OSError, match=match) as caught:
        yield
    assert caught.value.errno == number


@contextmanager
def limited_memory(more: int) -> Iterator[None]:
    """Within it, this process may take so many more bytes of memory; for Linux."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python program given as text, which finds freewire and tests where this one does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> str:
    """Wait for a program, which must succeed, and return what it has printed."""
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert process.returncode == 0, f"exit status {process.returncode}\n{output}{errors}"
    return output
