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

__all__ = ["PlacedPlan", "call_bytes", "check_memory", "pack", "place"]

_LARGE = 1 << 28  # values on the tape and sums: a call with at least as many checks the available memory


class PlacedPlan(NamedTuple):
    """A packed plan on a device, and what a call needs to know of it on the host."""

    words: Tensor
    header: tuple[int, ...]
    num_inputs: int
    num_outputs: int
    tape_rows: int
    plan: Plan
    max_unchecked_batch: int  # a call with more samples checks the available memory
    device: torch.device | None  # of the words; None where there are no kernels for it


def pack(plan: Plan) -> PlacedPlan:
    """Pack a plan, on the CPU."""
    with torch.inference_mode(False):  # or no backward could keep it
        packed = plan.pack()
        words = torch.from_numpy(packed.words)
    max_batch = (_LARGE - planner.MAX_GROUPS * plan.num_edges) // max(plan.tape_rows, 1)
    return PlacedPlan(
        words, packed.header, plan.num_inputs, plan.num_outputs, plan.tape_rows, plan, max_batch, words.device
    )


def place(packed: PlacedPlan, device: torch.device) -> PlacedPlan:
    """Copy what `pack` returned to a device, and load the kernels for it."""
    if device.type == "cuda":
        library.load_cuda()
    with torch.inference_mode(False):
        words = packed.words.to(device)
    return packed._replace(words=words, device=words.device if device.type in DEVICES else None)


def call_bytes(plan: Plan, batch: int, like: Tensor, training: bool, **needed: bool) -> int:
    """Peak memory of one call in bytes, with ``batch`` samples of the type and on the device of ``like``."""
    itemsize = like.dtype.itemsize
    if like.device.type == "cuda":
        # Not among the names that torch's types know.
        shared = torch.cuda.get_device_properties(like.device).shared_memory_per_block_optin  # type: ignore[attr-defined]
        return memory.gpu_call_bytes(plan, batch, itemsize, training=training, shared_bytes=shared, **needed)
    return memory.call_bytes(plan, batch, itemsize, training=training, threads=torch.get_num_threads(), **needed)


def check_memory(plan: Plan, x: Tensor, need_parameters: bool) -> None:
    """Raise `OutOfMemoryError` where a call with x ``[B, I]`` cannot fit: before it allocates, not halfway through."""
    if is_abstract(x):
        return
    need_x = x.requires_grad
    training = torch.is_grad_enabled() and (need_x or need_parameters)
    needed = call_bytes(plan, x.shape[0], x, training, need_x=need_x, need_parameters=need_parameters)
    available = _available_bytes(x.device)
    if available is not None and needed > available:
        what = "a training step" if training else "a forward"
        raise OutOfMemoryError(
            f"x: expected a batch that fits into the {available / 2**30:,.1f} GiB left on {x.device}, got "
            f"{x.shape[0]:,} samples, for which {what} takes {needed / 2**30:,.1f} GiB. "
            "Use smaller batches, or torch.no_grad() where no gradient is wanted; net.memory(batch) returns the bytes "
            "that a call needs."
        )


def _available_bytes(device: torch.device) -> int | None:
    """What may still be allocated. On a GPU that includes what torch has cached, but nothing of other processes."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return memory.available_bytes()
