# SPDX-License-Identifier: MIT
"""What plans should hold, in plain Python lists."""

from __future__ import annotations

import freewire as fw
from freewire.graph import AGGREGATIONS
from freewire.plan import Plan

LINEAR = ("sum", "mean")


def live_edges(g: fw.Graph, plan: Plan) -> list[tuple[int, int, int]]:
    """(canonical number, source slot, destination slot) of the edges between nodes that have a slot."""
    slot = {node: s for s, node in enumerate(plan.slot_node.tolist())}
    pairs = enumerate(g.edge_index.T.tolist())
    return [(e, slot[u], slot[v]) for e, (u, v) in pairs if u in slot and v in slot]


def kind(plan: Plan, slot: int) -> str:
    """The aggregation of a computed slot."""
    return AGGREGATIONS[plan.aggregation[slot - plan.num_inputs]]
