# SPDX-License-Identifier: MIT
"""The wiring: `Graph`, an immutable directed acyclic graph in numpy arrays, and `metrics` of it. No torch here."""

from freewire.graph.data import GraphData as GraphData
from freewire.graph.fields import ACTIVATIONS as ACTIVATIONS
from freewire.graph.fields import AGGREGATIONS as AGGREGATIONS
from freewire.graph.graph import Graph as Graph
from freewire.graph.nodes import Edge as Edge
from freewire.graph.nodes import Node as Node

__all__ = ["ACTIVATIONS", "AGGREGATIONS", "Edge", "Graph", "GraphData", "Node"]
