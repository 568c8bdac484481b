# SPDX-License-Identifier: MIT
"""The plan: what the kernels run for one graph, and the memory that a call needs. No torch here."""

from freewire.plan.plan import PREACTIVATION_KEPT as PREACTIVATION_KEPT
from freewire.plan.plan import Plan as Plan
from freewire.plan.plan import make_plan as make_plan

__all__ = ["PREACTIVATION_KEPT", "Plan", "make_plan"]
