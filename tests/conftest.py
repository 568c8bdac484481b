# SPDX-License-Identifier: MIT
"""Which tests run, on which devices, in which order; threads; hypothesis without deadlines, and repeatable in CI.

Tests marked `gpu` are dropped where there is no GPU, and those with a mark of `ON_REQUEST` unless ``-m`` names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # torch's threads wait by spinning, and would fight
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

#: Marks whose tests run only where ``-m`` names them; each has its `make` target.
ON_REQUEST = ("browser", "cuda_all", "nightly", "sanitize")

#: Files that take longest. They begin first, so that no core waits for the last of them.
LONG = (
    "cuda/test_library.py",
    "ops/test_ops.py",
    "native/test_large.py",
    "native/test_wheel.py",
    "native/test_cuda_cache.py",
    "benchmarks/test_randwire_suite.py",
    "examples/test_search_wiring.py",
    "search/test_processes.py",
)

#: Where the operators run. "simt" and "streamed" are the CUDA operators on the CPU shim: the network resident in shared
#: memory wherever it fits, or one launch per level. "cuda" and "cuda_streamed" are the same two on a GPU.
SHIM = ("simt", "streamed")
GPU = ("cuda", "cuda_streamed")
DEVICES = ("cpu", *SHIM, *GPU)

#: Files with a test marked `gpu` among those that pytest was asked for, dropped ones included.
GPU_FILES = pytest.StashKey[set[Path]]()


def has_gpu() -> bool:
    """Whether torch can use a GPU here."""
    import torch

    return torch.cuda.is_available()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--gpu``."""
    parser.addoption("--gpu", action="store_true", help="a missing GPU is an error, instead of dropping its tests")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse ``--gpu`` without a GPU."""
    if config.getoption("--gpu") and not has_gpu():
        raise pytest.UsageError("--gpu: expected a GPU that this torch can use, got none. Run it where there is one.")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by the device it runs on."""
    device = item.callspec.params.get("device") if hasattr(item, "callspec") else None
    if device in GPU:
        item.add_marker("gpu")
    elif device in SHIM:
        item.add_marker("compiler")


@pytest.hookimpl(tryfirst=True)  # before -m has its turn
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop what is not to run here, and put the long files first; every process must find the same order."""
    dropped = {name for name in ON_REQUEST if not re.search(rf"\b{name}\b", config.getoption("markexpr"))}
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    config.stash[GPU_FILES] = {item.path for item in on_gpu}
    if on_gpu and not has_gpu():
        dropped.add("gpu")
    chosen: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        chosen[dropped.isdisjoint(mark.name for mark in item.iter_markers())].append(item)
    if chosen[False]:
        config.hook.pytest_deselected(items=chosen[False])
    place = {Path(__file__).with_name(folder) / name: i for i, (folder, name) in enumerate(f.split("/") for f in LONG)}
    items[:] = sorted(chosen[True], key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device of a test's tensors, with the operators that its name above says."""
    with pytest.MonkeyPatch.context() as environment:
        if "streamed" in request.param:
            environment.setenv("FREEWIRE_CUDA_TILE", "0")
        if request.param in SHIM:
            from tests.support import simt_torch

            with simt_torch.played():
                yield "cpu"
        else:
            yield "cuda" if request.param in GPU else "cpu"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, for tests of small tensors; afterwards as before."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
