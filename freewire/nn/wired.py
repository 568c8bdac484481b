# SPDX-License-Identifier: MIT
"""`Wired`: the base class of modules whose parameters belong to one graph.

Their state_dict carries the hash of the wiring. A module of another wiring refuses it, even where all shapes agree.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from freewire.errors import InputError
from freewire.graph import Graph

__all__ = ["Wired"]


class Wired(nn.Module):
    """A module of one graph, which its ``__init__`` puts into ``_graph``."""

    _graph: Graph
    _WHAT, _REMEDY = "module", "Build it from the graph that was trained."

    @property
    def graph(self) -> Graph:
        """The graph that the module was built from."""
        return self._graph

    def get_extra_state(self) -> Tensor:
        """The hash of the wiring, uint8 ``[32]``."""
        return torch.frombuffer(bytearray.fromhex(self.graph.wiring_hash), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Raise `InputError` for the hash of another wiring."""
        self._check_wiring(state)

    def _check_wiring(self, state: Any) -> None:
        own = Wired.get_extra_state(self)
        if not isinstance(state, Tensor) or state.shape != own.shape or not torch.equal(state.cpu(), own):
            raise InputError(
                f"state_dict: expected that of a {self._WHAT} with this wiring, got that of another. {self._REMEDY}"
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "_extra_state" in state_dict:  # before any weight is copied
            self._check_wiring(state_dict[prefix + "_extra_state"])
        super()._load_from_state_dict(state_dict, prefix, *args)
