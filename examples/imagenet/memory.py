# SPDX-License-Identifier: MIT
"""The memory that a training step needs, predicted before the first one, and compared with what is available.

`predict_peak` runs the forward and the backward of a copy of the model on fake tensors, which have sizes and layouts
but no values, so that nothing is allocated or computed. If the requested micro-batch does not fit, `check_fits` raises
`InputError` with the largest one that does.

The prediction is the sum of all tensors that are alive at one time. What a process occupies is more, and not known in
advance: glibc's allocator does not return every freed block, and oneDNN has work space and compiled code. `ALLOCATOR`
and `LIBRARIES` allow for both. The workers that load images are not counted. A RandWire is predicted node by node, as
it runs on a GPU and in mixed precision; in float32 on the CPU its stages are one operator each, and it takes half as
much.
"""

from __future__ import annotations

import copy
import os
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from freewire.errors import FreewireError, InputError, cut

__all__ = ["NotPredictableError", "TrainingStep", "available_bytes", "check_fits", "gib", "predict_peak"]

#: What a process occupies is this multiple of its tensors, and so many bytes more. Of 16 steps measured on the CPU
#: (RandWire and ResNet-50, float32 and bfloat16, 1 and 2 threads, 0.1 to 1.9 GiB), all were within 20 % of that.
ALLOCATOR, LIBRARIES = 1.2, 32 * 2**20


class NotPredictableError(InputError):
    """The memory of a model depends on the values of tensors."""


@dataclass(frozen=True)
class TrainingStep:
    """What the memory of one process depends on, besides its model.

    Attributes:
        batch: Number of images of a micro-batch.
        size: Their height and width in pixels.
        in_channels: Their channels.
        autocast: Type of mixed precision; None is without.
        channels_last: Whether the images are in channels-last layout.
        states: Tensors that the optimizer keeps per parameter: 1 for SGD with momentum.
        ema: Whether there is an exponential moving average of the model.
        held_gradients: Whether the gradients of all parameters have memory before the backward: with gradient
            accumulation, and with the buckets of DDP.
    """

    batch: int
    size: int
    in_channels: int = 3
    autocast: torch.dtype | None = None
    channels_last: bool = True
    states: int = 1
    ema: bool = False
    held_gradients: bool = False


def predict_peak(model: nn.Module, step: TrainingStep) -> int:
    """The most bytes that tensors take at any time of a training step: model, optimizer, average, activations.

    Args:
        model: Classifies images. It is not called or changed, only copied to fake tensors; neither compiled nor
            wrapped for several processes.
        step: What is trained.

    Raises:
        NotPredictableError: The model calls an operator that does not accept fake tensors, one that reads a value say.
        InputError: The model does not accept such images.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
        >>> predict_peak(model, TrainingStep(batch=1000, size=2, channels_last=False))
        177048
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    twin = _fake_copy(model, mode).train()
    fixed = [*twin.parameters(), *twin.buffers()]
    parameters = _nbytes(twin.parameters())
    device = fixed[0].device if fixed else torch.device("cpu")
    layout = torch.channels_last if step.channels_last else torch.contiguous_format
    with mode:
        images = torch.empty(step.batch, step.in_channels, step.size, step.size, device=device, memory_format=layout)
        labels = torch.empty(step.batch, dtype=torch.int64, device=device)
        for parameter in twin.parameters():
            parameter.grad = torch.empty_like(parameter) if step.held_gradients and parameter.requires_grad else None
        gradients = [p.grad for p in twin.parameters() if p.grad is not None]
        with _Alive([*fixed, *gradients, images, labels]) as alive:
            try:
                with torch.autocast(device.type, dtype=step.autocast, enabled=step.autocast is not None):
                    loss = cross_entropy(twin(images), labels)
                loss.backward()
            except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException) as error:
                raise NotPredictableError(
                    f"model: expected operators that accept tensors without values, got {cut(error.func)}. The memory "
                    "of this model can only be measured."
                ) from None
            except (AssertionError, FreewireError, RuntimeError, TypeError, ValueError) as error:
                raise InputError(
                    f"model: expected one that can train on micro-batches of {step.batch} of {step.size} pixels, got: "
                    f"{cut(error).rstrip('.')}. Choose another --image-size or --micro-batch."
                ) from error
    peak = alive.peak
    if device.type == "cuda":  # the optimizer computes all parameters at once, from as many temporary values
        peak = max(peak, _nbytes(fixed) + 2 * parameters)
    return peak + step.states * parameters + step.ema * _nbytes(fixed)


class _Alive(TorchDispatchMode):
    """Counts the bytes of ``tensors`` and of what operators return, as long as anything refers to their storage."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self.storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.now = self.peak = 0
        for tensor in tensors:
            self.add(tensor)

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is counted already."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self.storages:
            return

        def freed(_: object) -> None:
            del self.storages[key]
            self.now -= size

        self.storages[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the operator and count what it returns."""
        results = func(*args, **(kwargs or {}))
        for result in tree_iter(results):
            if isinstance(result, Tensor):
                self.add(result)
        return results


def _fake_copy(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy that has fake parameters and buffers, of the same sizes and layouts."""
    fake: dict[int, Any] = {}  # what deepcopy takes for a copy of the tensor of this id
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and id(tensor) not in fake:
                fake[id(tensor)] = mode.from_tensor(tensor, static_shapes=True)
    return copy.deepcopy(model, fake)


def _nbytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def available_bytes(device: torch.device, root: Path = Path("/")) -> int:
    """The memory that all processes of this machine can still allocate on a device: of its own, or the machine's.

    The machine's is limited by the control groups that this process is in, those of a container for example.

    Args:
        device: Where the model is.
        root: Folder of ``proc`` and ``sys``.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        info = (root / "proc/meminfo").read_text()
    except OSError:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", info, re.MULTILINE)
    return max(0, min([int(found[1]) * 1024 if found else 2**63, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """The bytes left in each control group with a limit, versions 1 and 2, from this process's own to the outermost."""
    names = (
        ("memory.max", "memory.current", "inactive_file"),
        (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    )
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        limit, usage, reclaimable = names[bool(controllers)]
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        own = top / path.lstrip("/")
        for group in (own, *own.parents):  # a container sees its own group as the top, whatever its path is outside
            try:
                most = int((group / limit).read_text())  # "max" if there is none
                files = re.search(rf"^{reclaimable} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
                yield most - int((group / usage).read_text()) + (int(files[1]) if files else 0)
            except (OSError, ValueError):
                pass
            if group == top:
                break


def check_fits(model: nn.Module, step: TrainingStep, processes: int = 1, available: int | None = None) -> int | None:
    """Raise unless a training step fits in memory.

    Call it when the model is on its device, before the optimizer has made its states.

    Args:
        model: As for `predict_peak`.
        step: What is trained.
        processes: How many of them share the device.
        available: Bytes for all of them. None: `available_bytes`.

    Returns:
        The bytes that each process will need besides what its model takes already, or None if that cannot be predicted.

    Raises:
        InputError: The model does not accept such images, or they do not fit: the message names the largest power
            of two that does.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    each = (available_bytes(device) if available is None else available) // processes
    present = _nbytes([*model.parameters(), *model.buffers()])

    def need(batch: int) -> int:
        return int(ALLOCATOR * (predict_peak(model, replace(step, batch=batch)) - present)) + LIBRARIES

    try:
        needed = need(step.batch)
    except NotPredictableError:
        return None
    if needed <= each:
        return needed
    smaller = step.batch // 2
    if smaller < 2:
        smaller = 0
    else:  # activations grow in proportion, so two batches give about those of all others
        at_smaller = need(smaller)
        images = smaller + (each - at_smaller) * (step.batch - smaller) // max(1, needed - at_smaller)
        smaller = 2 ** (min(images, step.batch - 1).bit_length() - 1) if images > 0 else 0
        while smaller > 1 and need(smaller) > each:
            smaller //= 2
    remedy = (
        f"Use {smaller}: gradients of more micro-batches are then accumulated."
        if smaller > 1  # batch norm needs more than one
        else "Not even 2 images would fit: use a smaller model, smaller images, fewer processes or another device."
    )
    raise InputError(
        f"--micro-batch: expected one that fits in memory, got {step.batch} images of {step.size} pixels, which need "
        f"{gib(needed)} per process, while {gib(each)} are available to each of {processes}. {remedy}"
    )


def gib(size: int) -> str:
    """A number of bytes, readable."""
    return f"{size / 2**30:.2f} GiB"
