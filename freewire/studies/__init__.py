# SPDX-License-Identifier: MIT
"""Studies of trained networks and of wirings, one call each, and diagnostics of a training while it runs."""

from freewire.studies.ablation_results import Ablation as Ablation
from freewire.studies.ablation_results import Silenced as Silenced
from freewire.studies.ablation_study import ablate as ablate
from freewire.studies.comparison_results import Comparison as Comparison
from freewire.studies.comparison_results import Scores as Scores
from freewire.studies.comparison_study import compare as compare
from freewire.studies.damage_results import Damage as Damage
from freewire.studies.damage_results import EdgeDamage as EdgeDamage
from freewire.studies.damage_results import NodeDamage as NodeDamage
from freewire.studies.damage_study import damage as damage
from freewire.studies.diagnostics import Diagnostics as Diagnostics
from freewire.studies.diagnostics_log import read_diagnostics as read_diagnostics
from freewire.studies.diagnostics_plot import plot_diagnostics as plot_diagnostics
from freewire.studies.metrics import top1 as top1
from freewire.studies.null_models import null_models as null_models
from freewire.studies.sign_flips import SignFlips as SignFlips
from freewire.studies.sign_flips import sign_flip_test as sign_flip_test

__all__ = [
    "Ablation",
    "Comparison",
    "Damage",
    "Diagnostics",
    "EdgeDamage",
    "NodeDamage",
    "Scores",
    "SignFlips",
    "Silenced",
    "ablate",
    "compare",
    "damage",
    "null_models",
    "plot_diagnostics",
    "read_diagnostics",
    "sign_flip_test",
    "top1",
]
