# SPDX-License-Identifier: MIT
"""How much memory a call takes, said before anything is allocated.

Enters: a `Plan`, a batch, the width of its numbers. Leaves: bytes, as csrc/cpu/network/drive.h and the operators of csrc/cuda/
allocate them, and what the machine has left. No torch.
"""

from __future__ import annotations

from pathlib import Path

from freewire.plan.plan import Plan

__all__ = ["available_bytes", "call_bytes", "gpu_call_bytes"]

_PADDING = 64  # samples; kTapePadding in csrc/checks.h, kPitchColumns in csrc/cuda/network/kernels.h
_MAX_GROUPS = 16  # of tiles that share the sums of weight gradients; kMaxGroups in csrc/cpu/network/kernels.h
_SLICE = 2048  # samples; kSliceColumns in csrc/cuda/network/kernels.h
_LIST_ALIGNMENT = 32  # edges; kListAlignment in csrc/cuda/network/packed.h


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
    """Peak of what one call on the CPU allocates, a training step's backward included; parameters and x are not in it.

    Linear in edges + nodes x batch when training; without gradients in edges + (inputs + outputs) x batch and, a
    thread, the rows of one tile.

    Args:
        plan: What runs.
        batch: Samples.
        itemsize: Bytes of a stored number: 2, 4 or 8.
        training: A forward that keeps its tape, and its backward.
        threads: That torch may use.
        need_x: The backward has a gradient of x to compute.
        need_parameters: It has gradients of parameters to compute.
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
    gradients = _gradient_values(plan, batch, need_x, need_parameters) * itemsize
    sums = groups * (plan.num_live_edges + plan.num_slots - plan.num_inputs) * wide * need_parameters
    scratch = min(threads, groups) * (plan.num_slots + plan.product_fan_in) * columns * wide
    weights = plan.num_live_edges * wide + (widened if plan.gather_edges else 0)
    # y's gradient stands beside y until the backward has read it.
    return 2 * outputs + plan.tape_bytes(batch, itemsize) + max(widened, gradients + weights + sums + scratch)


def _gradient_values(plan: Plan, batch: int, need_x: bool, need_parameters: bool) -> int:
    return batch * plan.num_inputs * need_x + (plan.num_edges + plan.num_computed) * need_parameters


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
    gradients = _gradient_values(plan, batch, need_x, need_parameters) * itemsize
    adds = need_parameters and (slices > 1 or itemsize < wide)
    partial = slices * (plan.num_edges + plan.num_computed) * wide if adds else 0
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
    for group in _control_groups():
        try:
            limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
            kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            if limit != "max":
                reclaimable = sum(int(kinds.get(name, 0)) for name in ("active_file", "inactive_file"))
                left = min(left, int(limit) - int(used) + reclaimable)
        except (OSError, ValueError):
            continue  # the root has no limit, another version no such files: the rest stands
    return left


def _control_groups() -> list[Path]:
    """The process's control group of version 2 and those it lies in, innermost first, as far as they can be seen."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return [root]
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    inner = root / own
    return [inner, *(folder for folder in inner.parents if folder.is_relative_to(root))]
