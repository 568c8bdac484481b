# SPDX-License-Identifier: MIT
"""Plans: what the kernels run for a graph, and the memory that a call takes. No torch."""

from freewire.graph.fields import PREACTIVATION_KEPT as PREACTIVATION_KEPT
from freewire.plan.memory import gpu_forward_tile as gpu_forward_tile
from freewire.plan.plan import Plan as Plan
from freewire.plan.plan import make_plan as make_plan

__all__ = ["PREACTIVATION_KEPT", "Plan", "gpu_forward_tile", "make_plan"]
