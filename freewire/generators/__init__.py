# SPDX-License-Identifier: MIT
"""Seeded generators of graphs: the same seed gives the same graph on every platform and version. No torch here."""

from freewire.generators.attach import attach_io as attach_io
from freewire.generators.dags import barabasi_albert_dag as barabasi_albert_dag
from freewire.generators.dags import erdos_renyi_dag as erdos_renyi_dag
from freewire.generators.dags import watts_strogatz_dag as watts_strogatz_dag
from freewire.generators.feed_forward import densenet as densenet
from freewire.generators.feed_forward import mlp as mlp
from freewire.generators.feed_forward import random_graph as random_graph

__all__ = [
    "attach_io",
    "barabasi_albert_dag",
    "densenet",
    "erdos_renyi_dag",
    "mlp",
    "random_graph",
    "watts_strogatz_dag",
]
