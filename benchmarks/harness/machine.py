# SPDX-License-Identifier: MIT
"""Describe the machine on which a measurement was made, as far as a reader needs to judge the figures.

There is no host name, user or path, since results are meant to be shared.
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
        threads: Number of threads that the measurement uses.
    """
    return {
        "cpu": _cpu(),
        "cores": cores(),
        # freewire uses the widest instruction set that it has kernels for and the processor supports, unless
        # FREEWIRE_ISA lowers it.
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
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float | None:
    """Mean number of runnable processes in the last minute; None where the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def describe_gpu() -> dict[str, Any]:
    """The current GPU, its driver and its present clocks, ready for JSON."""
    properties = torch.cuda.get_device_properties()
    asked = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit", "temperature.gpu")
    query = ("nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader")
    values_text = _output(*query, f"--id={_pci(properties)}") or _output(*query)
    values = [value.strip() for value in values_text.split(",")] if values_text else [None] * len(asked)
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
    """The GPU's PCI address, by which nvidia-smi finds it regardless of $CUDA_VISIBLE_DEVICES."""
    return f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The checkout's commit, with ``+`` if files were changed since; None outside a checkout or before a commit."""
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    return None if commit is None else commit + ("+" if _output("git", "status", "--porcelain") else "")


def _output(*command: str) -> str | None:
    """What a program prints; None if it fails or is not installed."""
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
