# SPDX-License-Identifier: MIT
"""Where operators run, threads, and hypothesis settings: no deadline; in CI (``CI`` is set) the same examples."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # torch's threads wait by spinning, and would fight
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


#: Files that take minutes. They begin first, so that no core waits for the last of them.
LONG = ("test_cuda_kernels", "test_cuda_library", "test_ops", "test_build", "test_cuda_binding", "test_benchmarks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; every process must find the same order."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


#: Where the operators run. "simt" and "streamed": the CUDA operators on the CPU shim, the network resident in shared
#: memory wherever it fits, or a level a launch. "cuda" and "cuda_streamed": the same on a GPU.
DEVICES = ("cpu", "simt", "streamed", "cuda", "cuda_streamed")


@pytest.fixture(scope="module", params=[pytest.param(d, marks=pytest.mark.gpu) if "cuda" in d else d for d in DEVICES])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device of a test's tensors, with the operators that its name above says."""
    import torch

    if "cuda" in request.param and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU that this torch can use")
    with pytest.MonkeyPatch.context() as environment:
        if "streamed" in request.param:
            environment.setenv("FREEWIRE_CUDA_TILE", "0")
        if request.param in ("simt", "streamed"):
            from tests.support import simt_torch

            with simt_torch.played():
                yield "cpu"
        else:
            yield "cuda" if "cuda" in request.param else "cpu"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, for tests of small tensors; afterwards as before."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
