# SPDX-License-Identifier: MIT
"""Modules of networks of neurons: `Network`, `Recurrent` and `Population`, their reference, and files that hold one."""

from freewire.nn.network import Network as Network
from freewire.nn.population import Population as Population
from freewire.nn.recurrent import Recurrent as Recurrent
from freewire.nn.reference import reference as reference
from freewire.nn.serialization import load as load
from freewire.nn.serialization import save as save

__all__ = ["Network", "Population", "Recurrent", "load", "reference", "save"]
