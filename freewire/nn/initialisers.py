# SPDX-License-Identifier: MIT
"""How a network's parameters start: the named initialisers, and values that a graph has stored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from freewire.errors import InputError
from freewire.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["INITIALISERS", "Initialiser", "draw_weights", "fill_stored", "whole"]

#: ``init(weight, graph)`` fills the weights ``[E]`` in place, or returns them.
Initialiser = Callable[[Tensor, Graph], Any]


def _he(weight: Tensor, graph: Graph) -> None:
    """He et al. 2015."""
    _fill_normal(weight, np.sqrt(2.0 / _fan_in(graph)))


def _xavier(weight: Tensor, graph: Graph) -> None:
    """Glorot and Bengio 2010, with the source's fan-out."""
    src = graph.edge_index[0]
    fan_out = np.bincount(src, minlength=graph.num_nodes)[src]
    _fill_normal(weight, np.sqrt(2.0 / (_fan_in(graph) + fan_out)))


def _self_normalized(weight: Tensor, graph: Graph) -> None:
    """Klambauer et al. 2017."""
    _fill_normal(weight, np.sqrt(1.0 / _fan_in(graph)))


def _uniform(weight: Tensor, _: Graph) -> None:
    weight.uniform_(-1.0, 1.0)


INITIALISERS: dict[str, Initialiser] = {
    "he": _he,
    "xavier": _xavier,
    "uniform": _uniform,
    "self_normalized": _self_normalized,
}


def draw_weights(weight: Tensor, graph: Graph, init: str | Initialiser) -> None:
    """Fill the weights ``[E]`` in place, from torch's generator.

    Raises:
        InputError: No initialiser has that name.
    """
    if isinstance(init, str) and init in INITIALISERS:
        init = INITIALISERS[init]
    if not callable(init):
        names = ", ".join(map(repr, INITIALISERS))
        raise InputError(f"init: expected None, {names} or a function, got {init!r}. Choose one of those.")
    drawn = init(weight, graph)
    if isinstance(drawn, Tensor) and drawn is not weight:
        weight.copy_(drawn)


@contextmanager
def whole(parameter: Tensor) -> Iterator[Tensor]:
    """A tensor of all of a parameter's elements, to be filled in place, without gradients.

    Of a parameter that FSDP has divided, a process holds a part, while an initialiser fills all edges. Each process
    then fills a whole tensor; the first one's is divided, so that all parts belong together.
    """
    distributed = sys.modules.get("torch.distributed.tensor")  # importing it takes half a second
    with torch.no_grad():
        if distributed is None or not isinstance(parameter, distributed.DTensor):
            yield parameter
        else:
            filled = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
            yield filled
            parameter.copy_(distributed.distribute_tensor(filled, parameter.device_mesh, parameter.placements))


def fill_stored(parameter: Tensor, stored: NDArray[np.float64] | None) -> None:
    """Copy stored values, of the parameter's shape, over it where they are given (not NaN)."""
    if stored is not None:
        values = torch.from_numpy(stored.copy()).to(parameter)
        parameter.copy_(torch.where(values.isnan(), parameter, values))


def _fan_in(graph: Graph) -> NDArray[np.int64]:
    """The fan-in of each edge's destination, ``[E]``."""
    dst = graph.edge_index[1]
    return np.bincount(dst, minlength=graph.num_nodes)[dst]


def _fill_normal(weight: Tensor, deviation: NDArray[np.float64]) -> None:
    weight.normal_()
    weight.mul_(torch.from_numpy(deviation).to(weight))
