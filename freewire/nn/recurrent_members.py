# SPDX-License-Identifier: MIT
"""The members of a population of recurrent networks, which run as one recurrent network: their union."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from freewire.errors import InputError
from freewire.graph import Graph
from freewire.nn.recurrent import Recurrent

__all__ = ["RecurrentMembers"]


class RecurrentMembers:
    """The union of recurrent graphs, which runs with the parameters of a population.

    Args:
        graphs: Recurrent graphs with the same numbers of inputs and outputs.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        union = Graph.union(graphs)
        self._count = len(graphs)
        # The union's edges are in an order of their own; its nodes follow one another as the members do.
        order = np.empty_like(union.edge_position)
        order[union.edge_position] = np.arange(len(order))
        self._order = torch.from_numpy(order)
        # The parameters of calls replace those of this module, which has no values.
        self._net = Recurrent(union.with_values(bias=np.full(union.num_nodes, np.nan)), device="meta")
        self._net_without_bias = Recurrent(self._net.graph, bias=False, device="meta")

    def run(
        self, x: Tensor, h: Tensor | None, per_member: bool, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run a sequence.

        Args:
            x: ``[T, B, I]``, or with ``per_member`` ``[P, T, B, I]``.
            h: The state, ``[B, states of all members]``, or None.
            per_member: Whether each member has an x of its own.
            weight: Those of the members, one after the other.
            bias: Likewise, or None.

        Returns:
            y, ``[P, T, B, O]``, and the state after the last step.
        """
        dims = 4 if per_member else 3
        if x.dim() != dims:
            layout = "[P, T, B, I]" if per_member else "[T, B, I]"
            raise InputError(f"x: expected shape {layout}, got {list(x.shape)}. Put time before the batch.")
        own = x.movedim(0, -2) if per_member else x.unsqueeze(-2).expand(*x.shape[:-1], self._count, x.shape[-1])
        if self._order.device != weight.device:
            self._order = self._order.to(weight.device)
        values = {"weight": weight.index_select(0, self._order)}
        net = self._net_without_bias
        if bias is not None:
            net, values["bias"] = self._net, bias
        y, h = functional_call(net, values, (own.flatten(-2), h))
        return y.unflatten(-1, (self._count, -1)).movedim(-2, 0), h
