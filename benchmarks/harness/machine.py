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

__all__ = ["cores", "describe", "describe_gpu", "load"]


def describe(threads: int) -> dict[str, Any]:
    """Machine, versions and date, ready for JSON.

    Args:
        threads: That the measurement uses.
    """
    return {
        "cpu": _cpu(),
        "cores": cores(),
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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float | None:
    """Mean number of processes that wanted to run in the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe_gpu() -> dict[str, Any]:
    """The current GPU, its driver and its clocks as they are now, ready for JSON."""
    properties = torch.cuda.get_device_properties()
    asked = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit", "temperature.gpu")
    query = ("nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader")
    told = _output(*query, f"--id={_pci(properties)}") or _output(*query)
    values = [value.strip() for value in told.split(",")] if told else [None] * len(asked)
    driver, sm, memory, fastest, power, temperature = values if len(values) == len(asked) else [None] * len(asked)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "driver": driver,
        "clocks": f"{sm} of {fastest}, memory {memory}",
        "power_limit": power,
        "temperature": temperature,
    }


def _pci(properties: Any) -> str:
    """How nvidia-smi finds a GPU whatever $CUDA_VISIBLE_DEVICES says."""
    return f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The checkout's commit, with ``+`` where files were changed since; None outside a checkout or before a commit."""
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    return None if commit is None else commit + ("+" if _output("git", "status", "--porcelain") else "")


def _output(*command: str) -> str | None:
    """What a program prints; None where it fails or is not there."""
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
