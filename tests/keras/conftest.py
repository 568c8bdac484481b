# SPDX-License-Identifier: MIT
"""One thread and one seed for every test of the 2019 face."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded(one_thread: None) -> None:
    torch.manual_seed(0)
