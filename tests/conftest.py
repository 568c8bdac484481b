# SPDX-License-Identifier: MIT
"""Hypothesis settings: no deadline anywhere; in CI (the variable ``CI`` is set) the same examples every time."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
