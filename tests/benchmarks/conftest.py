# SPDX-License-Identifier: MIT
"""Quick runs in these tests use a simulated health probe, since a real one takes most of their time."""

from __future__ import annotations

import pytest

from benchmarks.harness import health, timing


@pytest.fixture(autouse=True)
def simulated_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = health.Probe(lambda: 0.01)
    for module in (health, timing):
        monkeypatch.setattr(module, "session", lambda: probe)
