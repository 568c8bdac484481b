# SPDX-License-Identifier: MIT
"""What the tests of modules share."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from freewire.nn import network as network_module
from freewire.plan.packed import PackedPlan


@pytest.fixture(params=["as_on_a_cpu", "as_on_a_gpu"])
def header(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU every call passes the plan's header, a tuple that torch.func and torch.compile must carry along."""
    if request.param == "as_on_a_gpu":
        place = network_module.place

        def with_header(plan: Any, device: torch.device) -> Any:
            return place(plan, device)._replace(header=PackedPlan(plan.words.numpy()).header)

        monkeypatch.setattr(network_module, "place", with_header)
