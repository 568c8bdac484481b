# SPDX-License-Identifier: MIT
"""What edges and nodes carry: one table of edge fields, one of node fields, and the functions that nodes compute.

Constructors, canonical order, networkx, files and saved networks walk these tables, so a new field is a line here, an
argument of `Graph.from_edges` and a property of `Graph`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from freewire.graph.field_types import Choice, Field, Flag, Group, Number, Rate, Sign, Steps

#: Activation -> whether its derivative needs the pre-activation, and not just the value; training then keeps both.
#: Their order is that of their codes, which are stored in files and defined again in csrc/node_math.h: append, never
#: reorder.
_NEEDS_PREACTIVATION = {
    "linear": False,
    "relu": False,
    "leaky_relu": False,
    "elu": False,
    "selu": False,
    "gelu": True,
    "silu": True,
    "softplus": True,
    "sigmoid": False,
    "tanh": False,
    "sin": True,
    "cos": True,
    "gaussian": True,
    "abs": True,
    "square": True,
    "step": False,
    "hard_tanh": False,
    "hard_sigmoid": False,
}
#: Activation names by code.
ACTIVATIONS = tuple(_NEEDS_PREACTIVATION)
#: Activations for which the tape keeps a second row, the pre-activation.
PREACTIVATION_KEPT = tuple(name for name, needed in _NEEDS_PREACTIVATION.items() if needed)
#: Aggregation names by code; the same rules apply.
AGGREGATIONS = ("sum", "mean", "product", "max", "min", "maxabs")
#: Aggregations whose gradient is the same for all in-edges, up to their weights: `is_linear` in csrc/node_math.h.
LINEAR_AGGREGATIONS = ("sum", "mean")

ACTIVATION = Choice("activation", "node", "wiring", ACTIVATIONS)
#: Of recurrent graphs only: every edge of such a graph has a delay, and no other graph's edge has one.
DELAY = Steps("delay", "edge", "wiring")
LEAK = Rate("leak", "node", "wiring")

#: In the order in which files write them.
EDGE_FIELDS: tuple[Field, ...] = (
    Number("weight", "edge", "parameter"),
    Sign("sign", "edge", "constraint"),
    Flag("frozen", "edge", "constraint"),
    Group("group", "edge", "constraint"),
    DELAY,
)
#: In the order in which files write them and `Graph.wiring_hash` reads them.
NODE_FIELDS: tuple[Field, ...] = (
    ACTIVATION,
    Choice("aggregation", "node", "wiring", AGGREGATIONS),
    Number("bias", "node", "parameter"),
    LEAK,
)
#: All of them; no two have the same name.
FIELDS = (*NODE_FIELDS, *EDGE_FIELDS)

#: Edge attributes of other programs, in lower case -> the texts by which they mean an edge without a direction. Gephi
#: writes Undirected, igraph mutual, and tables of C. elegans EJ for an electrical junction.
UNDIRECTED = {
    "type": frozenset({"undirected", "mutual", "ej"}),
    "directed": frozenset({"false", "0", "0.0", "no"}),
}


def is_undirected(name: str, value: Any) -> bool:
    """Whether an edge's attribute says that the edge has no direction.

    Args:
        name: The attribute, in any case.
        value: Its value, of any type.
    """
    if isinstance(value, bool | np.bool_ | int | float | np.number):
        value = str(float(value != 0))  # not all integers can be shown
    return isinstance(value, str) and value.strip().lower() in UNDIRECTED.get(name.lower(), ())
