# SPDX-License-Identifier: MIT
"""The CUDA operators on a machine without a GPU: binding and kernels, unedited, on CPU tensors by the SIMT shim.

`library` compiles build/simt/torch/, a library that registers the operators' CUDA implementations. Within `played`,
`torch.ops.freewire.*` on CPU tensors run them.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from freewire.ops import network, sequence
from freewire.plan.packed import PackedPlan
from tests.support import native, simt

CUDA = native.ROOT / "csrc" / "cuda"
KERNELS = sorted(CUDA.rglob("*.cu"))
LIBRARY = "torch/libfreewire_simt.so"
NETWORK = ("forward", "inference", "backward", "network")
SEQUENCE = ("sequence", "sequence_backward", "recurrent")
POPULATION = ("population_forward", "population_inference", "population_backward")


@cache
def library() -> ctypes.CDLL:
    """The library, rebuilt if a source changed, and loaded into torch once per process."""
    torch_folder = Path(torch.__file__).parent
    include = torch_folder / "include"
    speaks_torch = f"{simt.KINDS['plain']} -DUSE_CUDA -DTORCH_TARGET_VERSION=0x020b000000000000 -isystem {include}"
    objects = simt.objects((str(path.relative_to(native.ROOT)) for path in KERNELS), "plain")
    for source in (
        *(str(path.relative_to(native.ROOT)) for path in CUDA.rglob("*.cpp")),
        "csrc/testing/simt/simt_torch.cpp",
    ):
        objects[simt.compiled(source, "torch")] = (source, speaks_torch)
    link = f"-shared -Wl,--no-as-needed -L{torch_folder / 'lib'} -ltorch_cpu"
    native.build(simt.BUILD, objects, {LIBRARY: (link, list(objects))})
    loaded = ctypes.CDLL(str(simt.BUILD / LIBRARY))
    loaded.simt_option.argtypes, loaded.simt_option.restype = (ctypes.c_char_p, ctypes.c_int64), ctypes.c_int64
    loaded.simt_launches.restype = ctypes.c_char_p
    return loaded


@contextmanager
def played() -> Iterator[None]:
    """Within it, operators on CPU tensors run the CUDA implementations.

    As on a GPU, they get a packed plan whose header cannot be read where the words are, and a header beside it, by
    which fake kernels tell devices apart.
    """
    library()
    registered = torch.library.Library("freewire", "IMPL")

    def as_cuda(op: Any) -> Any:
        if "Tensor plan," not in str(op._schema):
            return lambda *arguments: op._op_dk(torch._C.DispatchKey.CUDA, *arguments)

        place = [argument.name for argument in op._schema.arguments].index("plan")  # and the header follows

        def call(*arguments: Any) -> Any:
            first, (plan, header, *rest) = arguments[:place], arguments[place:]
            if plan.dtype == torch.int64 and plan.dim() == 1:
                header = header or PackedPlan(plan.numpy()).header
                plan = plan.clone()
                plan[: len(header)] = -1
            return op._op_dk(torch._C.DispatchKey.CUDA, *first, plan, header, *rest)

        return call

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is overridden: it is meant to be
        for name in (*NETWORK, *SEQUENCE, *POPULATION, "gated_sum", "gated_sum_backward"):
            op = getattr(torch.ops.freewire, name).default
            registered.impl(name, as_cuda(op), "CPU", allow_override=True)
    try:
        with (
            mock.patch.object(network, "launch_header", lambda x, header: header),
            mock.patch.object(sequence, "launch_header", lambda x, header: header),
        ):
            yield
    finally:
        registered._destroy()


@contextmanager
def device(**options: int) -> Iterator[None]:
    """Within it, the shim differs from an H100 by multiprocessors, shared_bytes, capability, driver, refuse or seed."""
    before = {name: library().simt_option(name.encode(), value) for name, value in options.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            library().simt_option(name.encode(), value)


def launches() -> dict[str, int]:
    """Kernels that have run in this process, and how often."""
    return simt.started(library().simt_launches().decode())


def instances() -> dict[str, int]:
    """Instances of kernels that have run in this process, and how often."""
    return simt.instances(library().simt_launches().decode())
