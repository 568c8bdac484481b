# SPDX-License-Identifier: MIT
"""`Wired`: the base class of modules whose parameters belong to one graph.

Their state_dict carries the hash of the wiring. A module of another wiring refuses it, even where all shapes agree.

People average state_dicts entry by entry, cast them, and load them in place, so the hash is a tensor that survives
arithmetic: its 256 bits as the numbers 0.0 and 1.0, whose mean with themselves is exact in every floating type. Its
shape depends on the hash too: 16 dimensions, eight of which are doubled by the hash's first bytes. Thus
``torch.distributed.checkpoint``, which copies into a module's tensors and compares only shapes before it does, refuses
another wiring while the weights are whole; two wirings have the same shape about once in 260,000 pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from freewire.constraints.application import check_state, edge_gradient
from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.ops.fake import is_abstract
from freewire.pictures.svg import svg

__all__ = ["Wired"]

# What averages of rounded values may be off by. Among a hundred averaged state_dicts one of another wiring is noticed.
_TOLERANCE = 0.005


class Wired(nn.Module):
    """A module of one graph, which its ``__init__`` puts into ``_graph``."""

    _graph: Graph
    _WHAT, _REMEDY = "module", "Build it from the graph that was trained."

    @property
    def graph(self) -> Graph:
        """The graph that the module was built from."""
        return self._graph

    @property
    def _wiring_hash(self) -> str:
        return self.graph.wiring_hash

    def _repr_svg_(self) -> str | None:
        """What a notebook shows; None, on the meta device, for the usual text."""
        return None if any(parameter.is_meta for parameter in self.parameters()) else svg(self)

    def edge_gradient(self) -> Tensor | None:
        """Gradients ``[E]`` of the weights, None before a backward; see `freewire.constraints` for tied weights."""
        return edge_gradient(self)

    def get_extra_state(self) -> Tensor:
        """The hash of the wiring: its bits as float32, in a shape of 16 dimensions that depends on it too."""
        with torch.inference_mode(False):
            return torch.from_numpy(_bits(bytes.fromhex(self._wiring_hash)))

    def set_extra_state(self, state: Tensor) -> None:
        """Raise `InputError` for the hash of another wiring.

        Args:
            state: From `get_extra_state`, perhaps averaged with others of the same wiring or cast to another type; or
                as an array, or from a first version (uint8 ``[32]``).
        """
        self._check_wiring(state)

    def _check_wiring(self, state: Any) -> None:
        digest = bytes.fromhex(self._wiring_hash)
        bits, octets = _bits(digest), np.frombuffer(digest, np.uint8)
        shape = tuple(getattr(state, "shape", (0,)))
        if shape == bits.shape and isinstance(state, Tensor) and is_abstract(state):
            return  # it has no values
        for own, scale in ((bits, 1.0), (octets / 255.0, 255.0)):
            if shape == own.shape and np.allclose(_values(state) / scale, own, rtol=0.0, atol=_TOLERANCE):
                return
        if not _is_hash(state):
            raise InputError(
                f"state_dict: expected the wiring's hash as _extra_state, got {shown(state)}. Average state_dicts with "
                "weights that sum to 1, and keep this entry."
            )
        raise InputError(
            f"state_dict: expected that of a {self._WHAT} with this wiring, got that of another. {self._REMEDY}"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "_extra_state" in state_dict:  # before any weight is copied
            self._check_wiring(state_dict[prefix + "_extra_state"])
        check_state(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _bits(digest: bytes) -> NDArray[np.float32]:
    """The bits of a digest of 32 bytes as 0.0 and 1.0, in the shape that its first eight bytes make."""
    shape = [1] * 16
    for octet in digest[:8]:  # 2**8 bits
        shape[octet % 16] *= 2
    return np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float32).reshape(shape)


def _is_hash(state: Any) -> bool:
    """Whether a state can be that of some wiring: 256 bits, or 32 bytes of a first version."""
    if getattr(state, "shape", None) is None:
        return False
    values = _values(state).ravel()
    limit = {256: 1.0, 32: 255.0}.get(values.size, -1.0)
    rounded = np.round(values)
    return bool(
        (np.abs(values - rounded) <= _TOLERANCE * limit).all() and (rounded >= 0).all() and (rounded <= limit).all()
    )


def _values(state: Any) -> NDArray[np.float64]:
    """The numbers of a tensor or an array; NaN, which equals nothing, where it has none."""
    try:
        return np.asarray(state.detach().cpu().double().numpy() if isinstance(state, Tensor) else state, np.float64)
    except (TypeError, ValueError, RuntimeError):
        return np.full(state.shape, np.nan)
