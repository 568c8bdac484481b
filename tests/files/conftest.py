# SPDX-License-Identifier: MIT
"""What the tests of files share."""

from __future__ import annotations

from tests.support.storage import no_fsync as no_fsync
