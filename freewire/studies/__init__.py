# SPDX-License-Identifier: MIT
"""Studies of trained networks, one call each."""

from freewire.studies.damage_results import Damage as Damage
from freewire.studies.damage_results import EdgeDamage as EdgeDamage
from freewire.studies.damage_results import NodeDamage as NodeDamage
from freewire.studies.damage_study import damage as damage
from freewire.studies.metrics import top1 as top1

__all__ = ["Damage", "EdgeDamage", "NodeDamage", "damage", "top1"]
