# SPDX-License-Identifier: MIT
"""One thread for all tests, since their tensors are small; and the modules and images of examples/imagenet/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.examples import imported
from tests.support.imagenet import SIZE, Modules, write_folder, write_shards

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
