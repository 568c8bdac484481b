# SPDX-License-Identifier: MIT
"""The members of a population of recurrent networks, which run as one recurrent network: their union."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from freewire.errors import InputError
from freewire.graph import Graph
from freewire.nn.placement import pack, place
from freewire.nn.recurrent import Recurrent

__all__ = ["RecurrentMembers"]


class RecurrentMembers:
    """The union of recurrent graphs, which runs with the parameters of a population.

    Args:
        graphs: Recurrent graphs with the same numbers of inputs and outputs.
        device: Where the parameters are.
    """

    def __init__(self, graphs: Sequence[Graph], device: torch.device) -> None:
        union = Graph.union(graphs)
        self._count = len(graphs)
        # The union's edges are in an order of their own; its nodes follow one another as the members do.
        order = np.empty_like(union.edge_position)
        order[union.edge_position] = np.arange(len(order))
        self._net = Recurrent(union, device="meta")  # without values, since parameters come with each call
        self._packed = self._placed = pack(self._net.plan)
        self._order = torch.from_numpy(order)
        self.place(device)

    def place(self, device: torch.device) -> None:
        """Copy the plan to a device."""
        self._placed, self._order = place(self._packed, device), self._order.to(device)

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
        ordered = weight.index_select(0, self._order)
        y, h = self._net.run_with(own.flatten(-2), h, self._placed, ordered, bias)
        return y.unflatten(-1, (self._count, -1)).movedim(-2, 0), h
