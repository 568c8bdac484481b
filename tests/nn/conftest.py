# SPDX-License-Identifier: MIT
"""What the tests of modules share."""

from __future__ import annotations

import pytest

from freewire.ops import network as network_ops
from tests.support.storage import no_fsync as no_fsync


@pytest.fixture(params=["as_on_a_cpu", "as_on_a_gpu"])
def header(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU every call passes the plan's header, a tuple that torch.func and torch.compile must carry along."""
    if request.param == "as_on_a_gpu":
        monkeypatch.setattr(network_ops, "launch_header", lambda x, header: header)
