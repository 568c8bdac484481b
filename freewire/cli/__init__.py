# SPDX-License-Identifier: MIT
"""The command line, ``python -m freewire`` or ``freewire``: a module for each command, one that parses arguments."""

from freewire.cli.parser import main as main

__all__ = ["main"]
