# SPDX-License-Identifier: MIT
"""NEAT: networks that evolve together with their wiring."""

from freewire.search.neat.genome import Genome as Genome
from freewire.search.neat.strategy import NEAT as NEAT

__all__ = ["NEAT", "Genome"]
