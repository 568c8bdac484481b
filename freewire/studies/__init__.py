# SPDX-License-Identifier: MIT
"""Studies of trained networks, one call each, and diagnostics of a training while it runs."""

from freewire.studies.damage_results import Damage as Damage
from freewire.studies.damage_results import EdgeDamage as EdgeDamage
from freewire.studies.damage_results import NodeDamage as NodeDamage
from freewire.studies.damage_study import damage as damage
from freewire.studies.diagnostics import Diagnostics as Diagnostics
from freewire.studies.diagnostics_log import read_diagnostics as read_diagnostics
from freewire.studies.diagnostics_plot import plot_diagnostics as plot_diagnostics
from freewire.studies.metrics import top1 as top1
from freewire.studies.null_models import null_models as null_models

__all__ = [
    "Damage",
    "Diagnostics",
    "EdgeDamage",
    "NodeDamage",
    "damage",
    "null_models",
    "plot_diagnostics",
    "read_diagnostics",
    "top1",
]
