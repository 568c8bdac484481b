# SPDX-License-Identifier: MIT
"""How much memory a call takes, computed before anything is allocated, and how much is available.

The sizes come from the compiled planner, which adds up what workspace.h and sequence_workspace.h of csrc/cpu/network
and csrc/cuda/network give the kernels. No torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from freewire._native.planner import planner
from freewire.plan.plan import Plan

__all__ = [
    "available_bytes",
    "call_bytes",
    "gpu_call_bytes",
    "gpu_forward_tile",
    "gpu_sequence_bytes",
    "sequence_bytes",
]

# Larger batches are not counted sample by sample: no sample takes so much memory that these would not fit in 64 bits.
_MOST_COUNTED = 1 << 24
# Nor are longer sequences step by step.
_MOST_STEPS_COUNTED = 1 << 16


def call_bytes(
    plan: Plan,
    batch: int,
    itemsize: int,
    *,
    training: bool,
    threads: int,
    need_x: bool = True,
    need_parameters: bool = True,
) -> int:
    """The most bytes that one call on the CPU holds at once, besides the parameters and x.

    Linear in edges + nodes x batch in training; without gradients in edges + (inputs + outputs) x batch and, per
    thread, the rows of one tile.

    Args:
        plan: The plan to run.
        batch: Number of samples.
        itemsize: Bytes of a stored number: 2, 4 or 8.
        training: Count a forward that keeps its tape and its backward, and not a forward without gradients.
        threads: Number of threads that torch may use.
        need_x: The backward computes the gradient of x.
        need_parameters: The backward computes the gradients of the parameters.
    """
    return _scaled(
        lambda samples: planner.cpu_call_bytes(
            plan.sizes, samples, itemsize, training, threads, need_x, need_parameters
        ),
        batch,
    )


def sequence_bytes(
    plan: Plan,
    batch: int,
    steps: int,
    every: int,
    itemsize: int,
    *,
    training: bool,
    threads: int,
    need_x: bool = True,
    need_parameters: bool = True,
) -> int:
    """`call_bytes` over a sequence of a recurrent network.

    Args:
        plan: The plan of one step.
        batch: Number of samples.
        steps: Number of time steps.
        every: The steps between two whose states are kept for the backward; 0: the values of all nodes are kept.
        itemsize: Bytes of a stored number: 2, 4 or 8.
        training: Count a forward that keeps something and its backward, and not a forward without gradients.
        threads: Number of threads that torch may use.
        need_x: The backward computes the gradient of x.
        need_parameters: The backward computes the gradients of the parameters.
    """
    return _scaled_sequence(
        lambda samples, frames: planner.cpu_sequence_bytes(
            plan.sizes, samples, frames, every, itemsize, training, threads, need_x, need_parameters
        ),
        batch,
        steps,
    )


def gpu_call_bytes(
    plan: Plan,
    batch: int,
    itemsize: int,
    *,
    training: bool,
    shared_bytes: int,
    need_x: bool = True,
    need_parameters: bool = True,
) -> int:
    """`call_bytes` for a GPU.

    Args:
        plan: The plan to run.
        batch: Number of samples.
        itemsize: Bytes of a stored number: 2, 4 or 8.
        training: Count a forward that keeps its tape and its backward, and not a forward without gradients.
        shared_bytes: The most shared memory that a block of this GPU can have, in bytes.
        need_x: The backward computes the gradient of x.
        need_parameters: The backward computes the gradients of the parameters.
    """
    return _scaled(
        lambda samples: planner.gpu_call_bytes(
            plan.sizes, samples, itemsize, training, shared_bytes, need_x, need_parameters
        ),
        batch,
    )


def gpu_sequence_bytes(
    plan: Plan,
    batch: int,
    steps: int,
    every: int,
    itemsize: int,
    *,
    training: bool,
    shared_bytes: int,
    need_x: bool = True,
    need_parameters: bool = True,
) -> int:
    """`sequence_bytes` for a GPU.

    Args:
        plan: The plan of one step.
        batch: Number of samples.
        steps: Number of time steps.
        every: The steps between two whose states are kept for the backward; 0: the values of all nodes are kept.
        itemsize: Bytes of a stored number: 2, 4 or 8.
        training: Count a forward that keeps something and its backward, and not a forward without gradients.
        shared_bytes: The most shared memory that a block of this GPU can have, in bytes.
        need_x: The backward computes the gradient of x.
        need_parameters: The backward computes the gradients of the parameters.
    """
    return _scaled_sequence(
        lambda samples, frames: planner.gpu_sequence_bytes(
            plan.sizes, samples, frames, every, itemsize, training, shared_bytes, need_x, need_parameters
        ),
        batch,
        steps,
    )


def gpu_forward_tile(plan: Plan, batch: int, itemsize: int, *, shared_bytes: int, multiprocessors: int) -> int:
    """Samples per tile of a forward without gradients on a GPU; 0 where the rows do not fit in shared memory.

    Args:
        plan: The plan to run.
        batch: Number of samples.
        itemsize: Bytes of a stored number: 2, 4 or 8.
        shared_bytes: The most shared memory that a block of this GPU can have, in bytes.
        multiprocessors: Number of the GPU's multiprocessors.

    Example:
        >>> import freewire as fw
        >>> plan = fw.plan.make_plan(fw.generators.mlp([8, 16, 4]))
        >>> fw.plan.gpu_forward_tile(plan, 4096, 4, shared_bytes=227 << 10, multiprocessors=132)
        32
    """
    return planner.gpu_forward_tile(plan.sizes, batch, itemsize, False, shared_bytes, multiprocessors)


def _scaled(count: Callable[[int], int], number: int, most: int = _MOST_COUNTED) -> int:
    """count(number) of samples or steps, scaled up from fewer where the number is too large for 64 bits."""
    parts = -(-number // most)
    return count(number) if parts <= 1 else parts * count(-(-number // parts))


def _scaled_sequence(count: Callable[[int, int], int], batch: int, steps: int) -> int:
    """count(batch, steps), scaled up from smaller numbers of both."""
    return _scaled(lambda samples: _scaled(partial(count, samples), steps, _MOST_STEPS_COUNTED), batch)


def available_bytes() -> int | None:
    """Bytes this process may still allocate: free and reclaimable memory and swap, within its control group's limit.

    None on systems other than Linux, which do not report it.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    reported = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    if "MemAvailable" not in reported:
        return None
    left = reported["MemAvailable"] + reported.get("SwapFree", 0)
    for group in _control_groups():
        try:
            limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
            kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            if limit != "max":
                reclaimable = sum(int(kinds.get(name, 0)) for name in ("active_file", "inactive_file"))
                left = min(left, int(limit) - int(used) + reclaimable)
        except (OSError, ValueError):
            continue  # the root group has no limit, and version 1 has no such files
    return left


def _control_groups() -> list[Path]:
    """The process's control group (version 2) and its parents, innermost first, as far as they are visible."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [root]
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    inner = root / own
    return [inner, *(folder for folder in inner.parents if folder.is_relative_to(root))]
