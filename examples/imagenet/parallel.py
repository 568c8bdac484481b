# SPDX-License-Identifier: MIT
"""The processes of a run: one without further ado, or those that torchrun starts, on one machine or several.

`World` knows this process's number and device, and adds up and compares numbers over all processes. `distribute` makes
a model train over them: with `DistributedDataParallel`, or with parameters divided among the processes (FSDP2).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from freewire.errors import InputError


class World:
    """The processes of a run; `start` makes one.

    Attributes:
        rank: Number of this process, from 0; process 0 writes all files.
        size: Number of processes.
        local_size: Number of processes on this machine.
        device: The device of this process.
    """

    def __init__(self, rank: int, size: int, local_size: int, device: torch.device) -> None:
        self.rank, self.size, self.local_size, self.device = rank, size, local_size, device

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            values = values.to(self.device, copy=True)
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Each process's value, a small object, on every process."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """If the block raises on one process, then it raises on all, and none waits for another for ever.

        The processes must not exchange anything within the block. Only `InputError` and `OSError` are passed on.
        """
        mine: Exception | None = None
        try:
            yield
        except (InputError, OSError) as error:
            mine = error
        for error in self.gather(mine):
            if error is not None:
                raise error

    def share_buffers(self, model: nn.Module) -> None:
        """Copy the buffers of process 0, the running statistics of batch norms, to every process."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers() if self.size > 1 else ():
            by_type.setdefault(buffer.dtype, []).append(buffer)
        for buffers in by_type.values():  # hundreds of small tensors: one message per type
            flat = torch.cat([buffer.flatten() for buffer in buffers])
            dist.broadcast(flat, src=0)
            for buffer, part in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(part.view_as(buffer))

    def share(self, value: Any) -> Any:
        """Process 0's value, a small object, on every process."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]


@contextmanager
def start(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, if it did, and leave them at the end.

    Args:
        device: "cuda", for one GPU per process, or "cpu".

    Raises:
        InputError: There is no such device.
    """
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if device == "cuda" and local_rank >= torch.cuda.device_count():
        raise InputError(
            f"--device: expected a GPU for each of the {local_size} processes of this machine, got "
            f"{torch.cuda.device_count()}. Start fewer processes, or pass --device cpu."
        )
    here = torch.device(device, local_rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(here)
        torch.backends.cudnn.benchmark = True  # all batches have one shape
    if "RANK" not in os.environ:
        yield World(0, 1, 1, here)
        return
    attempt = _attempt()
    store, rank, size = next(dist.rendezvous("env://"))
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=dist.PrefixStore(attempt, store),
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=30),
        device_id=here if device == "cuda" else None,
    )
    try:
        yield World(dist.get_rank(), dist.get_world_size(), local_size, here)
    finally:
        dist.destroy_process_group()


def _attempt() -> str:
    """A name for this start of the processes, under which they find each other.

    After a restart by torchrun they would otherwise find the addresses of the processes that are gone, since torchrun
    keeps one store (pytorch issue 135712). Each machine counts its own restarts, so the count does not do for several.
    """
    environment = os.environ
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return "first"
    several = int(environment.get("GROUP_WORLD_SIZE", 1)) > 1
    if several and int(environment.get("TORCHELASTIC_MAX_RESTARTS", 0)):
        raise InputError(
            "--max-restarts: expected TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of torchrun, on every "
            "machine, got none. Without it, restarted processes look for those that are gone."
        )
    return f"attempt {environment.get('TORCHELASTIC_RESTART_COUNT', 0)}"


def distribute(model: nn.Module, world: World, fsdp: bool) -> nn.Module:
    """Make a model train over all processes, which start with the weights of process 0.

    Args:
        model: The model, on this process's device; with ``fsdp`` it is changed in place.
        world: The processes.
        fsdp: Whether to divide parameters, gradients and the optimizer's state among them.
    """
    if fsdp:
        return shard(model, world)
    if world.size == 1:
        return model
    # Weights of depthwise convolutions are channels_last and contiguous at once; their gradients are copied.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # Buckets are otherwise rearranged after the first step, also the first after a restart, and sums over three and
    # more processes are rounded in another order.
    return DistributedDataParallel(model, find_unused_parameters=world.device.type == "cpu")


def shard(model: nn.Module, world: World) -> nn.Module:
    """Divide a model's parameters among the processes, in place, a group for every large part."""
    mesh = init_device_mesh(world.device.type, (world.size,))
    for part in model.children():
        for block in part if isinstance(part, nn.ModuleList | nn.Sequential) else ():
            if any(parameter.numel() for parameter in block.parameters()):
                fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


@contextmanager
def accumulating(model: nn.Module, more: bool) -> Iterator[None]:
    """Within, a backward pass only adds to this process's gradients if ``more`` passes follow before the step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(not more)
        yield
    elif isinstance(model, DistributedDataParallel) and more:
        with model.no_sync():
            yield
    else:
        yield


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor; it shares memory with it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor of all processes' parts, on the CPU; every process has to call this."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()


def restore(tensor: Tensor, value: Tensor) -> None:
    """Overwrite a tensor, or this process's part of it, with a value of the whole tensor's shape."""
    with torch.no_grad():
        if isinstance(tensor, DTensor):
            value = distribute_tensor(
                value.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None
            )
        tensor.copy_(value)
