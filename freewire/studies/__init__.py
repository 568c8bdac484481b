# SPDX-License-Identifier: MIT
"""Studies of trained networks, one call each."""

from freewire.studies.damage_study import Damage as Damage
from freewire.studies.damage_study import EdgeDamage as EdgeDamage
from freewire.studies.damage_study import NodeDamage as NodeDamage
from freewire.studies.damage_study import damage as damage
from freewire.studies.damage_study import top1 as top1

__all__ = ["Damage", "EdgeDamage", "NodeDamage", "damage", "top1"]
