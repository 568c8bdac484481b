# SPDX-License-Identifier: MIT
"""One thread for all tests, since their tensors are small; and the modules and images of examples/imagenet/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.examples import imported
from tests.vision.imagenet import SIZE, Modules, write_digits, write_folder, write_shards
from tests.vision.training import TINY

#: Needs timm's train.py, which no package contains: collected only where this variable is its path.
collect_ignore = [] if os.environ.get("FREEWIRE_TIMM_TRAIN") else ["test_timm_train.py"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def lib() -> Iterator[Modules]:
    """The modules of examples/imagenet/ by name."""
    with imported("imagenet/images"):
        yield Modules()


@pytest.fixture
def folder(tmp_path) -> Path:
    write_folder(tmp_path / "train")
    return tmp_path / "train"


@pytest.fixture
def dataset(lib, folder):
    return lib.images.Images(lib.sources.open_source(folder), lib.images.train_transform(SIZE), seed=3, replace=True)


@pytest.fixture
def shards(tmp_path) -> Path:
    write_shards(tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def run(lib, digits):
    """Run the command in this process; return its exit status."""

    def call(out: Path, *options: str, data: Path = digits) -> int:
        return lib.train.main([str(data), "--out", str(out), *TINY.split(), *options])

    return call


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory) -> Path:
    """The folder of a run with averaged weights that was not interrupted."""
    out = tmp_path_factory.mktemp("finished")
    assert run(out, "--ema", "0.5") == 0
    return out
