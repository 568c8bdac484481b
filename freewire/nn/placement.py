# SPDX-License-Identifier: MIT
"""Packed plans on the devices where networks run, and whether a call's memory is available there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from freewire._native.planner import planner
from freewire.errors import OutOfMemoryError
from freewire.nn.checks import DEVICES
from freewire.ops import library
from freewire.ops.fake import is_abstract
from freewire.plan import Plan, memory

__all__ = [
    "PlacedPlan",
    "call_bytes",
    "check_memory",
    "check_sequence_memory",
    "pack",
    "place",
    "sequence_call_bytes",
]

_LARGE = 1 << 28  # values on the tape and sums: a call with at least as many checks the available memory


class PlacedPlan(NamedTuple):
    """A packed plan on a device, and what a call needs to know of it on the host."""

    words: Tensor
    header: tuple[int, ...]
    num_inputs: int
    num_outputs: int
    tape_rows: int
    plan: Plan  # of which torch.compile must read no array: it would trace it as a tensor
    max_unchecked_batch: int  # a call with more samples checks the available memory
    device: torch.device | None  # of the words; None where there are no kernels for it
    leak: Tensor | None  # of the leaky nodes, float64 [K], on the device; see freewire/plan/steps.py
    weight_entry: Tensor | None  # likewise
    num_states: int


def pack(plan: Plan) -> PlacedPlan:
    """Pack a plan, on the CPU."""
    with torch.inference_mode(False):  # or no backward could keep it
        packed = plan.pack()
        words = torch.from_numpy(packed.words)
        leaks = plan.leaks
        leak = None if leaks is None else torch.from_numpy(leaks.leak)
        entry = None if leaks is None or leaks.weight_entry is None else torch.from_numpy(leaks.weight_entry)
    max_batch = (_LARGE - planner.MAX_GROUPS * plan.num_edges) // max(plan.tape_rows, 1)
    return PlacedPlan(
        words,
        packed.header,
        plan.num_inputs,
        plan.num_outputs,
        plan.tape_rows,
        plan,
        max_batch,
        words.device,
        leak,
        entry,
        plan.num_states,
    )


def place(packed: PlacedPlan, device: torch.device) -> PlacedPlan:
    """Copy what `pack` returned to a device, and load the kernels for it."""
    if device.type == "cuda":
        library.load_cuda()
    with torch.inference_mode(False):
        words, leak, entry = (
            None if tensor is None else tensor.to(device) for tensor in (packed.words, packed.leak, packed.weight_entry)
        )
    assert words is not None
    supported = words.device if device.type in DEVICES else None
    return packed._replace(words=words, leak=leak, weight_entry=entry, device=supported)


def call_bytes(plan: Plan, batch: int, like: Tensor, training: bool, **needed: bool) -> int:
    """Peak memory of one call in bytes, with ``batch`` samples of the type and on the device of ``like``."""
    itemsize = like.dtype.itemsize
    if like.device.type == "cuda":
        shared = _shared_bytes(like.device)
        return memory.gpu_call_bytes(plan, batch, itemsize, training=training, shared_bytes=shared, **needed)
    return memory.call_bytes(plan, batch, itemsize, training=training, threads=torch.get_num_threads(), **needed)


def sequence_call_bytes(
    plan: Plan, batch: int, steps: int, every: int, like: Tensor, training: bool, **needed: bool
) -> int:
    """`call_bytes` over ``steps`` time steps of a recurrent network; ``every`` as in `run_sequence`."""
    itemsize = like.dtype.itemsize
    copies = 0  # of the weights, with those of leaks behind them
    if plan.leaks is not None:
        copies = (1 if plan.leaks.weight_entry is None else 2) * plan.num_edges * itemsize
    if like.device.type == "cuda":
        shared = _shared_bytes(like.device)
        return copies + memory.gpu_sequence_bytes(
            plan, batch, steps, every, itemsize, training=training, shared_bytes=shared, **needed
        )
    threads = torch.get_num_threads()
    return copies + memory.sequence_bytes(
        plan, batch, steps, every, itemsize, training=training, threads=threads, **needed
    )


def _shared_bytes(device: torch.device) -> int:
    """The most shared memory that a block of a GPU can have."""
    # Not among the names that torch's types know.
    return torch.cuda.get_device_properties(device).shared_memory_per_block_optin  # type: ignore[attr-defined]


def check_sequence_memory(placed: PlacedPlan, x: Tensor, states: Tensor, every: int, need_parameters: bool) -> None:
    """Raise `OutOfMemoryError` where a call with x ``[T, B, I]`` cannot fit, before it allocates."""
    steps, batch = x.shape[:2]
    if steps * batch <= placed.max_unchecked_batch or is_abstract(x):
        return
    need_x = x.requires_grad
    training = torch.is_grad_enabled() and (need_x or need_parameters or states.requires_grad)
    needed = sequence_call_bytes(
        placed.plan, batch, steps, every, x, training, need_x=need_x, need_parameters=need_parameters
    )
    _check_available(
        needed,
        x.device,
        training,
        f"{steps:,} steps of {batch:,} samples",
        "Use shorter sequences, smaller batches or checkpoint_every, or torch.no_grad() where no gradient is wanted; "
        "net.memory(steps, batch)",
    )


def check_memory(plan: Plan, x: Tensor, need_parameters: bool) -> None:
    """Raise `OutOfMemoryError` where a call with x ``[B, I]`` cannot fit: before it allocates, not halfway through."""
    if is_abstract(x):
        return
    need_x = x.requires_grad
    training = torch.is_grad_enabled() and (need_x or need_parameters)
    needed = call_bytes(plan, x.shape[0], x, training, need_x=need_x, need_parameters=need_parameters)
    remedy = "Use smaller batches, or torch.no_grad() where no gradient is wanted; net.memory(batch)"
    _check_available(needed, x.device, training, f"{x.shape[0]:,} samples", remedy)


def _check_available(needed: int, device: torch.device, training: bool, got: str, remedy: str) -> None:
    available = _available_bytes(device)
    if available is not None and needed > available:
        what = "a training step" if training else "a forward"
        raise OutOfMemoryError(
            f"x: expected a batch that fits into the {available / 2**30:,.1f} GiB left on {device}, got {got}, for "
            f"which {what} takes {needed / 2**30:,.1f} GiB. {remedy} returns the bytes that a call needs."
        )


def _available_bytes(device: torch.device) -> int | None:
    """What may still be allocated. On a GPU that includes what torch has cached, but nothing of other processes."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return memory.available_bytes()
