# SPDX-License-Identifier: MIT
"""The form of every message: ``<argument>: expected E, got G. <remedy>``."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from freewire.errors import FreewireError, GraphError

FORM = re.compile(r"[^:\n]+: expected .+, got .+\. .+[.]", re.DOTALL)


def assert_refused(attempt: Callable[[], object], match: str, error: type[FreewireError] = GraphError) -> None:
    """Assert that ``attempt`` raises exactly ``error``, with a message of the one form that starts with ``match``."""
    with pytest.raises(error, match="^" + match) as caught:
        attempt()
    assert caught.type is error
    assert FORM.fullmatch(str(caught.value)), str(caught.value)
