# SPDX-License-Identifier: MIT
"""What a `Graph` that was made of Nodes has besides: its lists of Nodes and Edges, by the names of the 2019 library."""

from __future__ import annotations

import numpy as np

from freewire.graph.arguments import FloatArray
from freewire.graph.arrays import GraphArrays
from freewire.graph.node_lists import Claim, NodeLists
from freewire.graph.nodes import Edge, Node

__all__ = ["NodeViews"]


class NodeViews(GraphArrays):
    """The four lists; a Graph that was not made of Nodes has none of them, and `hasattr` says so."""

    @property
    def node_lists(self) -> NodeLists | None:
        """What Nodes and Edges of this graph read their weights from; None unless the graph was made of Nodes."""
        claim: Claim | None = self.__dict__.get("_claim")
        return None if claim is None else claim.lists

    @property
    def input_nodes(self) -> list[Node]:
        """The list of inputs that the graph was made of."""
        return self._made_of("input_nodes").inputs

    @property
    def hidden_nodes(self) -> list[Node]:
        """The list of hidden Nodes that the graph was made of."""
        return self._made_of("hidden_nodes").hidden

    @property
    def output_nodes(self) -> list[Node]:
        """The list of outputs that the graph was made of; `outputs` has them in the order of the results."""
        return self._made_of("output_nodes").outputs

    @property
    def edges(self) -> list[Edge]:
        """All Edges, by the Node where they end; `edge_position` says which column each of them is."""
        return self._made_of("edges").edges

    def written_values(self) -> tuple[FloatArray | None, FloatArray | None]:
        """What Nodes and Edges show, in the order of arrays: the stored values until a Model has written to them.

        Returns:
            Weights ``[E]`` in canonical order and biases ``[N]``, NaN where there is none; None where there are none.
        """
        lists = self.node_lists
        if lists is None or lists.weight is None:
            return self.weight, self.bias
        weight, bias = np.empty(self.num_edges), np.full(self.num_nodes, np.nan)
        weight[self.edge_position] = lists.weight
        if lists.bias is not None:
            bias[self.computed_index] = lists.bias[self.computed_index]
        return weight, bias

    def _made_of(self, name: str) -> NodeLists:
        lists = self.node_lists
        if lists is None:
            instead = {"input_nodes": "inputs", "hidden_nodes": "nodes", "output_nodes": "outputs"}
            raise AttributeError(
                f"{name}: expected a graph that was made of fw.Node objects, got another. Use graph."
                f"{instead.get(name, 'edge_index')}."
            )
        return lists
