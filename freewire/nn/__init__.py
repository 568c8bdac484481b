# SPDX-License-Identifier: MIT
"""Modules: `Network`, and files that hold one."""

from freewire.nn.network import Network as Network
from freewire.nn.serialization import load as load
from freewire.nn.serialization import save as save

__all__ = ["Network", "load", "save"]
