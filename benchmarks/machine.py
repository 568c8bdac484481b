# SPDX-License-Identifier: MIT
"""Where a measurement was made: nothing enters, leaves what a reader needs to judge the figures, and no more.

No host name, user or path: results are meant to be shared.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import freewire as fw

__all__ = ["describe", "load"]


def describe(threads: int) -> dict[str, Any]:
    """Machine, versions and date, ready for JSON.

    Args:
        threads: That the measurement uses.
    """
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        # freewire takes the widest set it has kernels for and the processor knows, unless FREEWIRE_ISA lowers it.
        "isa": {
            "widest": torch.backends.cpu.get_cpu_capability(),
            "freewire_isa": os.environ.get("FREEWIRE_ISA"),
        },
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "freewire": fw.__version__,
        "commit": _commit(),
        "threads": threads,
        "load": load(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def load() -> float | None:
    """Mean number of processes that wanted to run in the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The checkout's commit, with ``+`` where files were changed since; None outside a checkout or before a commit."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ("git", *arguments), cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return None
    return commit + ("+" if git("status", "--porcelain") else "")
