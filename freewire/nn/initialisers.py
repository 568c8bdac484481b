# SPDX-License-Identifier: MIT
"""How a network's parameters start: the named initialisers, and values that a graph has stored."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from freewire.constraints.application import is_constrained, originals, start_values
from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import as_array
from freewire.ops.fake import is_abstract

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["INITIALISERS", "InitFunction", "Initialiser", "draw_weights", "fill_stored", "start_weights", "undivided"]

#: ``init(weight, graph)`` fills the weights ``[E]`` in place, or returns them, or one number for all.
Initialiser = Callable[[Tensor, Graph], Any]


class Wires(Protocol):
    """What the named initialisers read of a graph."""

    @property
    def edge_index(self) -> NDArray[np.int64]:
        """Sources and destinations, ``[2, E]``."""

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""


def _he(weight: Tensor, graph: Wires) -> None:
    """He et al. 2015."""
    _fill_normal(weight, np.sqrt(2.0 / _fan_in(graph)))


def _xavier(weight: Tensor, graph: Wires) -> None:
    """Glorot and Bengio 2010, with the source's fan-out."""
    src = graph.edge_index[0]
    fan_out = np.bincount(src, minlength=graph.num_nodes)[src]
    _fill_normal(weight, np.sqrt(2.0 / (_fan_in(graph) + fan_out)))


def _self_normalized(weight: Tensor, graph: Wires) -> None:
    """Klambauer et al. 2017."""
    _fill_normal(weight, np.sqrt(1.0 / _fan_in(graph)))


def _uniform(weight: Tensor, _: Wires) -> None:
    weight.uniform_(-1.0, 1.0)


INITIALISERS: dict[str, Callable[[Tensor, Wires], None]] = {
    "he": _he,
    "xavier": _xavier,
    "uniform": _uniform,
    "self_normalized": _self_normalized,
}


class InitFunction:
    """A caller's initialiser, which a network keeps for `Network.reset_parameters`.

    A copy keeps it, and so does a pickle where Python can pickle the function. Where it cannot (a lambda, a function
    inside another), the pickle is written all the same, and the network read from it raises `InputError` when it is to
    be initialised again.

    Args:
        function: The initialiser; None where a pickle does not have it.
        name: What an error calls it.
    """

    def __init__(self, function: Initialiser | None, name: str = "") -> None:
        self.function, self.name = function, name or shown(function)

    def __call__(self, weight: Tensor, graph: Graph) -> Any:
        """Call the function."""
        if self.function is None:
            raise InputError(
                f"init: expected the function that the network was built with, got none, since pickle cannot store "
                f"{self.name}. Set the weights yourself, or define the function at the top of a module."
            )
        return self.function(weight, graph)

    def __deepcopy__(self, _: dict[int, Any]) -> InitFunction:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            pickle.dumps(self.function)
        except Exception:  # what a caller's object raises may be anything
            return InitFunction, (None, self.name)
        return InitFunction, (self.function, self.name)


def draw_weights(weight: Tensor, graph: Graph, init: str | Initialiser) -> None:
    """Fill the weights ``[E]`` in place, from torch's generator or by a caller's function.

    Raises:
        InputError: No initialiser has that name; or a function leaves a weight unset, or returns something other than
            numbers of the weights' shape. The weights are then as before.
    """
    if isinstance(init, str) and init in INITIALISERS:
        INITIALISERS[init](weight, graph)
        return
    if not callable(init):
        names = ", ".join(map(repr, INITIALISERS))
        raise InputError(f"init: expected None, {names} or a function, got {shown(init)}. Choose one of those.")
    drawn = torch.full_like(weight, torch.nan)  # so that weights which the function does not set are noticed
    returned = init(drawn, graph)
    if returned is not None and returned is not drawn:
        drawn.copy_(_numbers(returned, drawn))
    if not is_abstract(drawn) and bool((missing := drawn.isnan()).any()):
        edge = int(missing.nonzero()[0])
        u, v = (graph.nodes[end] for end in graph.edge_index[:, edge].tolist())
        raise InputError(
            f"init: expected a number for each weight, got NaN at edge {edge} ({shown(u)} -> {shown(v)}). Fill all "
            "weights in place, or return them."
        )
    weight.copy_(drawn)


def _numbers(returned: Any, weight: Tensor) -> Tensor:
    """What an initialiser returned as a tensor of the weights' shape, or without dimensions for all of them alike."""
    got = None
    if isinstance(returned, Tensor):
        values = returned.detach()
        if values.is_meta and not weight.is_meta:
            got = "a tensor on the meta device, which has no values"
        elif values.layout != torch.strided:
            values = values.to_dense()
        if values.is_complex() or values.dtype == torch.bool:
            got = f"a tensor of {values.dtype}"
    else:
        array = as_array(returned, "init", InputError)
        if array.dtype.kind not in "iuf":
            got, array = f"{type(returned).__name__} {shown(returned)}", np.zeros(0)
        values = torch.from_numpy(array.astype(np.float64))
    if got is None and values.dim() and values.shape != weight.shape:
        got = f"shape {list(values.shape)}"
    if got is not None:
        raise InputError(
            f"init: expected weights of shape {list(weight.shape)} or one number from the function, got {got}. "
            "Return one number per edge, or None after filling the weights in place."
        )
    return values


@contextmanager
def undivided(parameter: Tensor) -> Iterator[Tensor]:
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


@contextmanager
def start_weights(module: Any) -> Iterator[Tensor]:
    """The weights ``[E]`` of a module with a graph, to be filled in place, without gradients.

    Where they are constrained, the module's weights become what the constraints make of those filled in: magnitudes
    with the sign of each edge, and multiples of a group's first weight.
    """
    if not is_constrained(module):
        with undivided(module.weight) as weight:
            yield weight
        return
    own = originals(module)
    with torch.no_grad():
        weight = torch.empty(module.graph.num_edges, dtype=own[0].dtype, device=own[0].device)
        yield weight
        distributed = sys.modules.get("torch.distributed.tensor")
        if distributed is not None and isinstance(own[0], distributed.DTensor):  # all processes take the first one's
            everywhere = [distributed.Replicate()] * own[0].device_mesh.ndim
            weight = distributed.distribute_tensor(weight, own[0].device_mesh, everywhere).to_local()
        for original, values in zip(own, start_values(module, weight), strict=True):
            with undivided(original) as whole:
                whole.copy_(values)


def fill_stored(parameter: Tensor, stored: NDArray[np.float64] | None) -> None:
    """Copy stored values, of the parameter's shape, over it where they are given (not NaN)."""
    if stored is not None:
        values = torch.from_numpy(stored.copy()).to(parameter)
        parameter.copy_(torch.where(values.isnan(), parameter, values))


def _fan_in(graph: Wires) -> NDArray[np.int64]:
    """The fan-in of each edge's destination, ``[E]``."""
    dst = graph.edge_index[1]
    return np.bincount(dst, minlength=graph.num_nodes)[dst]


def _fill_normal(weight: Tensor, deviation: NDArray[np.float64]) -> None:
    weight.normal_()
    weight.mul_(torch.from_numpy(deviation).to(weight))
