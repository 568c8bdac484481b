# SPDX-License-Identifier: MIT
"""How much memory a step takes: the peak of what torch's CPU allocator holds while it runs.

`peak_bytes` counts every tensor that torch or an operator of freewire allocates: values kept for the backward, the
tape, gradients, temporaries. It does not count what kernels allocate from the system themselves: in freewire each
thread's tile of gradients (slots times at most 256 bytes), in dense products the GEMM's packed panels.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

__all__ = ["peak_bytes"]

_CPU = 0  # "Device Type" of the profiler's CPU memory events


def peak_bytes(task: Callable[[], object]) -> int:
    """The most bytes that torch held during a call, above what it held before.

    Args:
        task: The call, made once to warm up and once to be measured.
    """
    task()
    with _stderr_silenced(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        task()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"])
        for event in events
        if event.get("name") == "[memory]" and event["args"]["Device Type"] == _CPU
    ]
    held = peak = 0
    for _, change in sorted(changes, key=lambda c: c[0]):
        held += change
        peak = max(peak, held)
    return peak


@contextlib.contextmanager
def _stderr_silenced() -> Iterator[None]:
    """Discard what the profiler's C++ part writes to stderr."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
