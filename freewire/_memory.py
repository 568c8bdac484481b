# SPDX-License-Identifier: MIT
"""How much memory a call takes, said before anything is allocated.

Enters: a `Plan`, a batch, the width of its numbers. Leaves: bytes, as csrc/cpu/drive.h and the operators of csrc/cuda/
allocate them, and what the machine has left. No torch.
"""

from __future__ import annotations

from pathlib import Path

from freewire.plan import Plan

__all__ = ["available_bytes", "call_bytes", "gpu_call_bytes"]

_PADDING = 64  # samples; kTapePadding in csrc/checks.h, kPitchColumns in csrc/cuda/kernels.h
_MAX_GROUPS = 16  # of tiles that share the sums of weight gradients; kMaxGroups in csrc/cpu/kernels.h
_SLICE = 2048  # samples; kSliceColumns in csrc/cuda/kernels.h
_LIST_ALIGNMENT = 32  # edges; kListAlignment in csrc/cuda/packed.h


def call_bytes(plan: Plan, batch: int, itemsize: int, *, training: bool, threads: int) -> int:
    """Peak of what one call on the CPU allocates, a training step's backward included; parameters and x are not in it.

    Linear in edges + nodes x batch when training; without gradients in edges + (inputs + outputs) x batch and, a
    thread, the rows of one tile.

    Args:
        plan: What runs.
        batch: Samples.
        itemsize: Bytes of a stored number: 2, 4 or 8.
        training: A forward that keeps its tape, and the backward with gradients of x and of all parameters.
        threads: That torch may use.
    """
    wide = max(itemsize, 4)  # what is computed in
    row = plan.row_bytes
    while row > 64 and batch * wide <= row:
        row //= 2
    columns = row // wide
    tiles = -(-batch // columns)
    widened = (plan.num_edges + plan.num_computed) * wide if itemsize < wide else 0
    outputs = batch * plan.num_outputs * itemsize
    if not training:
        return outputs + widened + min(threads, tiles) * plan.scratch_rows * columns * itemsize
    groups = min(tiles, _MAX_GROUPS)
    gradients = (batch * plan.num_inputs + plan.num_edges + plan.num_computed) * itemsize
    sums = groups * (plan.num_live_edges + plan.num_slots - plan.num_inputs) * wide
    scratch = min(threads, groups) * (plan.num_slots + plan.product_fan_in) * columns * wide
    weights = plan.num_live_edges * wide + (widened if plan.gather_edges else 0)
    # y's gradient stands beside y until the backward has read it.
    return 2 * outputs + plan.tape_bytes(batch, itemsize) + max(widened, gradients + weights + sums + scratch)


def gpu_call_bytes(plan: Plan, batch: int, itemsize: int, *, training: bool, shared_bytes: int) -> int:
    """The same on a GPU whose blocks have so many bytes of shared memory at most."""
    wide = max(itemsize, 4)
    pitch = -(-batch // _PADDING) * _PADDING
    computed = plan.num_slots - plan.num_inputs
    outputs = batch * plan.num_outputs * itemsize

    def resident(rows: int, width: int) -> bool:
        return 2 * (rows + 1) * width + 4 * (plan.num_slots + plan.num_levels + 1) <= shared_bytes

    def packed(edges: int, lists: int, described: int) -> int:
        return (edges // _LIST_ALIGNMENT + lists) * _LIST_ALIGNMENT * 2 * wide + lists * described

    node_bytes, slot_bytes = (16, 20) if wide == 4 else (24, 24)
    forward = packed(plan.num_edges, computed, node_bytes + 4)
    if not training:
        rows = plan.scratch_rows
        return outputs + (forward if resident(rows, itemsize) else rows * pitch * itemsize)
    fits = resident(plan.num_slots, itemsize)
    slices = -(-batch // _SLICE)
    gradients = (batch * plan.num_inputs + plan.num_edges + plan.num_computed) * itemsize
    partial = slices * (plan.num_edges + plan.num_computed) * wide if slices > 1 or itemsize < wide else 0
    rows = (computed + plan.gather_edges) * pitch * wide
    if resident(plan.num_slots, wide):
        rows += packed(plan.num_live_edges, plan.num_slots, slot_bytes + 4)
    else:
        rows += plan.num_slots * pitch * wide
    backward = gradients + partial + rows
    return 2 * outputs + plan.tape_bytes(batch, itemsize) + max(forward if fits else 0, backward)


def available_bytes() -> int | None:
    """What this process may still allocate: free and reclaimable memory and swap, within its control group's limit.

    None where the system does not tell (other than Linux).
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    told = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    if "MemAvailable" not in told:
        return None
    left = told["MemAvailable"] + told.get("SwapFree", 0)
    group = Path("/sys/fs/cgroup")  # version 2, as a container sees its own
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        if limit != "max":
            left = min(left, int(limit) - int(used) + int(cached.get("file", 0)))
    except (OSError, ValueError):
        pass  # no such group, or another version's: the machine's figure stands
    return left
