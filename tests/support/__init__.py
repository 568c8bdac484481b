# SPDX-License-Identifier: MIT
"""What tests share."""

from pathlib import Path

#: The repository's root.
ROOT = Path(__file__).resolve().parents[2]
