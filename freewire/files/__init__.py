# SPDX-License-Identifier: MIT
"""Graph files: GraphML, CSV edge lists and JSON; and writing any file atomically. No torch here."""

from freewire.files.atomic import replacing as replacing
from freewire.files.formats import read_graph as read_graph
from freewire.files.formats import write_graph as write_graph

__all__ = ["read_graph", "replacing", "write_graph"]
