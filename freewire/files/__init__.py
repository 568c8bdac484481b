# SPDX-License-Identifier: MIT
"""Graph files: GraphML, CSV edge lists, JSON and others; and writing any file atomically. No torch here."""

from freewire.files.atomic import replacing as replacing
from freewire.files.formats import read_graph as read_graph
from freewire.files.formats import write_graph as write_graph
from freewire.files.neat_writing import write_neat_python as write_neat_python

__all__ = ["read_graph", "replacing", "write_graph", "write_neat_python"]
