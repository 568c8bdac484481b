# SPDX-License-Identifier: MIT
"""The compiled planner, imported as ``planner``: the extension module that setup.py builds from csrc/planner/.

Where it is missing, importing this module raises `BuildError`.
"""

from __future__ import annotations

import platform
from pathlib import Path

from freewire.errors import BuildError, cut

#: The remedy in every message about compiled code that is missing or cannot be loaded.
BUILD_REMEDY = (
    "Build it with a C++ compiler: `make setup` in a checkout, or `pip install --no-build-isolation .` from "
    "the sources."
)

try:
    import freewire._native._planner as planner
except ImportError as error:
    raise BuildError(
        f"compiled planner: expected freewire._native._planner for Python {platform.python_version()} in "
        f"{Path(__file__).parent}, got {cut(error, 500)}. {BUILD_REMEDY}"
    ) from error

__all__ = ["BUILD_REMEDY", "planner"]
