# SPDX-License-Identifier: MIT
"""The stage that most tests of `GraphStage` use: five nodes, parallel edges, two sources and two sinks."""

from __future__ import annotations

import networkx as nx
import torch
from torch import nn

from freewire.models import GraphStage

#: a and b receive the input; c receives from a; d from a, b (twice) and c; e from b. d and e are the sinks.
EDGES = [("a", "c"), ("a", "d"), ("b", "d"), ("b", "d"), ("c", "d"), ("b", "e")]


def dag() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from("edcba")
    graph.add_edges_from(EDGES)
    return graph


def stage_of(dtype: torch.dtype = torch.float64, **options: object) -> GraphStage:
    """A stage of the graph above whose edge weights all differ."""
    torch.manual_seed(0)
    stage = GraphStage(dag(), 3, 4, **options).to(dtype)  # type: ignore[arg-type]
    nn.init.normal_(stage.weight)
    return stage
