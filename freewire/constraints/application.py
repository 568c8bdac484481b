# SPDX-License-Identifier: MIT
"""Applying constraints to a module of a graph, such as `freewire.Network`, and setting and reading its weights.

A module has an attribute ``graph``, kept in ``_graph``, and a parameter ``weight [E]`` in the graph's canonical edge
order. Its graph says which constraints there are: a change of one removes all parametrizations and registers those of
the changed graph, in their one order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations

from freewire.constraints.checks import check_constraints, edge_text
from freewire.constraints.copying import make_copyable
from freewire.constraints.parametrizations import Constraint, Frozen, Signed, Tied
from freewire.errors import GraphError, InputError
from freewire.graph import Graph
from freewire.graph.field_types import Number
from freewire.graph.fields import EDGE_FIELDS
from freewire.ops.fake import is_abstract

__all__ = [
    "apply_graph",
    "apply_stored",
    "check_state",
    "edge_gradient",
    "frozen",
    "is_constrained",
    "originals",
    "refreeze",
    "signed",
    "start_values",
    "tied",
]


def signed(module: nn.Module, sign: ArrayLike | None) -> None:
    """Let weights keep their sign, whatever an optimizer does; a weight of 0 keeps it too.

    A weight that has the other sign now gets its sign, unless the graph stores it or it is frozen.

    Args:
        module: A `freewire.Network` or another module with ``graph`` and ``weight``; changed in place. Its graph is
            replaced by one with these signs.
        sign: -1, 0 (free) or 1 for each edge, ``[E]`` in canonical order; None removes the constraint.

    Raises:
        GraphError: Wrong length or values; a stored weight of the other sign; signs that do not fit a group's scale.
        InputError: The module has no graph or another parametrization, or a frozen weight would change.

    Example:
        >>> import torch, freewire as fw
        >>> net = fw.Network(fw.generators.mlp([1, 2, 1]))
        >>> fw.constraints.signed(net, [1, -1, 1, -1])
        >>> (net.weight * torch.tensor([1, -1, 1, -1]) >= 0).all().item()
        True
    """
    apply_graph(module, _graph_of(module).with_constraints(sign=sign))


def frozen(module: nn.Module, mask: ArrayLike | None) -> None:
    """Keep weights as they are now: no optimizer changes them, and their gradient is 0.

    Assigning ``module.weight`` and ``reset_parameters`` still set them.

    Args:
        module: As in `signed`.
        mask: Booleans ``[E]`` in canonical order; None removes the constraint.

    Raises:
        GraphError: Wrong length or values, or a group that is frozen in part.
        InputError: The module has no graph or another parametrization.

    Example:
        >>> import freewire as fw
        >>> net = fw.Network(fw.generators.mlp([1, 1, 1]))
        >>> fw.constraints.frozen(net, [True, False])
        >>> net(net.weight.new_ones(1)).backward()
        >>> net.parametrizations.weight.original.grad[0].item()
        0.0
    """
    apply_graph(module, _graph_of(module).with_constraints(frozen=mask))


def tied(module: nn.Module, group: ArrayLike | None, base: ArrayLike | None = None) -> None:
    """Let the edges of a group share one learnable scale: their weight is ``base * scale[group]``.

    Make the optimizer afterwards: the parameters are then one scale for each group, in the order of the groups'
    numbers, and the weights of the other edges.

    Args:
        module: As in `signed`.
        group: A whole number of at least 0 for each edge, ``[E]`` in canonical order, or -1: the edge stays free. None
            removes the constraint.
        base: Numbers ``[E]``, of which those of tied edges are read: they replace the graph's stored weights there,
            and the weights start equal to them, with scale 1. Default: the stored weights, or 1 where an edge stores
            none; the weights of a group then start at a multiple of that, by which its first stored edge, or its first
            edge, keeps its weight.

    Raises:
        GraphError: Wrong lengths or values, a group that is frozen in part, or signs that do not fit one scale.
        InputError: The module has no graph or another parametrization, or a frozen weight would change.

    Example:
        >>> import freewire as fw
        >>> net = fw.Network(fw.generators.mlp([1, 2, 1]))
        >>> fw.constraints.tied(net, [0, 0, 1, -1], base=[2.0, 3.0, 1.0, 1.0])
        >>> [len(parameter) for parameter in net.parametrizations.weight.parameters()]
        [2, 1]
    """
    graph = _graph_of(module).with_constraints(group=group)
    if base is None:
        apply_graph(module, graph)
        return
    if graph.group is None:
        raise GraphError("base: expected groups to scale it, got none. Pass group, or omit base.")
    read = replace(_WEIGHT, name="base").read_array(base, graph.num_edges)
    stored = np.full(graph.num_edges, np.nan) if graph.weight is None else graph.weight
    is_tied = graph.group >= 0
    values = np.where(is_tied, read, stored)
    apply_graph(module, graph.with_values(values, graph.bias), lambda weight: _stored_at(weight, values, is_tied))


def apply_stored(module: nn.Module) -> None:
    """Apply the constraints that the module's graph has; to be called at the end of ``__init__``."""
    graph = _graph_of(module)
    if any(getattr(graph, field.name) is not None for field in EDGE_FIELDS if field.role == "constraint"):
        apply_graph(module, graph)


def apply_graph(module: Any, graph: Graph, start: Callable[[Tensor], Tensor] = lambda weight: weight) -> None:
    """Replace the module's graph by one that differs in constraints, and in stored weights perhaps, and apply those.

    Args:
        module: As in `signed`; unchanged where this raises.
        graph: The graph.
        start: Returns the start value of the weights ``[E]`` from the present ones, which it may change.

    Raises:
        GraphError: The constraints do not fit each other.
        InputError: As in `signed`.
    """
    before = _graph_of(module)
    parts = _constraints(module)
    groups, sign = check_constraints(graph)
    with torch.inference_mode(False), torch.no_grad():  # the first alone enables gradients
        now = module.weight.detach().clone()
        weight = start(now.clone())
        new: list[Constraint] = [Tied(groups)] if groups is not None else []
        new += [Signed(sign)] if sign is not None else []
        new += [Frozen(graph.frozen, now)] if graph.frozen is not None else []
        for part in new:
            weight = part.begin(weight)
        stay = None
        if graph.frozen is not None and before.frozen is not None and parts:
            stay = torch.from_numpy(before.frozen & graph.frozen).to(now.device)
            _check_kept(graph, stay, now, weight)
        scale = originals(module)[0].clone() if parts and new and new[0].is_same(parts[0]) else None
        if parts:
            _remove(module)
        parameter: Any = module.weight
        parameter.copy_(weight)
        for part in new:
            register_parametrization(module, "weight", part)
        if scale is not None and isinstance(new[0], Tied):
            own = originals(module)[0]
            own.copy_(torch.where(_close(scale.abs(), own.abs()), torch.copysign(scale, own), own))
        if isinstance(frozen_part := new[-1] if new else None, Frozen):  # exactly, whatever was rounded above
            _freeze(module, frozen_part, now, stay)
    if new:
        make_copyable(module)
    module._graph = graph


def _remove(module: nn.Module) -> None:
    trained = any(original.requires_grad for original in originals(module))
    with torch.enable_grad():  # torch leaves a parameter only where the weights have a gradient
        remove_parametrizations(module, "weight")
    if "weight" in module._buffers:
        weight: Any = module._buffers.pop("weight")
        module.register_parameter("weight", nn.Parameter(weight, requires_grad=trained))


def _freeze(module: nn.Module, part: Frozen, now: Tensor, stay: Tensor | None) -> None:
    """Freeze the weights that the other constraints make; those that were frozen before stay."""
    weight: Any = tuple(originals(module))
    for other in list(_list(module))[:-1]:
        weight = (other(*weight),)
    part.begin(weight[0] if stay is None else torch.where(stay, now, weight[0]))


def _close(a: Tensor, b: Tensor) -> Tensor:
    return torch.isclose(a, b, rtol=8 * torch.finfo(a.dtype).eps, atol=0.0, equal_nan=True)


def _check_kept(graph: Graph, stay: Tensor, now: Tensor, weight: Tensor) -> None:
    changed = stay & ~_close(now, weight)
    if not is_abstract(weight) and bool(changed.any()):
        edge = int(changed.nonzero()[0])
        raise InputError(
            f"weight: expected frozen weights to stay, got a change from {now[edge].item():g} to "
            f"{weight[edge].item():g} at {edge_text(graph, edge)}. Set those weights first, or freeze them later."
        )


# ---------------------------------------------------------------------------------- weights of a constrained module


def is_constrained(module: nn.Module) -> bool:
    """Whether constraints are applied to a module's weights."""
    return is_parametrized(module, "weight") and isinstance(_list(module)[0], Constraint)


def originals(module: nn.Module) -> list[Tensor]:
    """The tensors that an optimizer changes in place of a module's weights: one, or two where some edges are tied."""
    found = _list(module)
    return [found.original] if found.is_tensor else [getattr(found, f"original{i}") for i in range(found.ntensors)]


def start_values(module: nn.Module, weight: Tensor) -> tuple[Tensor, ...]:
    """The values of `originals` for which the weights start at ``weight [E]``, or at what the constraints make of it.

    Frozen weights are set at once.
    """
    parts = list(_list(module))
    for part in parts:
        weight = part.begin(weight)
    found: Any = weight
    for part in reversed(parts):
        found = part.right_inverse(found)
    return found if isinstance(found, tuple) else (found,)


def refreeze(module: nn.Module, weight: Tensor) -> None:
    """Set a module's frozen weights, if it has any, to those of ``weight [E]``."""
    if is_constrained(module) and isinstance(last := _list(module)[-1], Frozen):
        last.begin(weight.to(last.value.device))


def edge_gradient(module: nn.Module) -> Tensor | None:
    """The gradients ``[E]`` behind a module's weights, after a backward.

    Those of the weights themselves; 0 where a weight is frozen, and that of the group's scale where it is tied. None
    before a backward, and where weights are computed in another way.
    """
    if not is_parametrized(module, "weight"):
        weight: Any = module.weight
        return weight.grad if weight.is_leaf else None
    if not is_constrained(module):
        return None
    values = tuple(originals(module))
    if all(value.grad is None for value in values):
        return None
    gradients = tuple(torch.zeros_like(value) if value.grad is None else value.grad for value in values)
    with torch.no_grad():
        for part in _list(module):
            if not isinstance(part, Constraint):
                return None
            gradients, values = (part.per_edge(gradients, values),), (part(*values),)
    return gradients[0]


def check_state(module: nn.Module, state_dict: dict[str, Any], prefix: str) -> None:
    """Raise `InputError` for a state_dict of other constraints of the same kinds, before anything is copied.

    torch itself refuses those of other kinds, whose names differ.
    """
    prefix += "parametrizations.weight."
    if is_constrained(module) and {prefix + name for name in _list(module).state_dict()} <= state_dict.keys():
        for i, part in enumerate(_list(module)):
            if isinstance(part, Constraint):
                part.check_hash(state_dict[f"{prefix}{i}._extra_state"])


_WEIGHT = next(field for field in EDGE_FIELDS if isinstance(field, Number) and field.name == "weight")


def _list(module: nn.Module) -> Any:
    parametrizations: Any = module.parametrizations
    return parametrizations.weight


def _graph_of(module: Any) -> Graph:
    graph = getattr(module, "graph", None)
    if not isinstance(graph, Graph) or not isinstance(getattr(module, "weight", None), Tensor):
        raise InputError(
            f"module: expected a module with a graph and weights, got {type(module).__name__}. Pass a freewire Network."
        )
    return graph


def _constraints(module: nn.Module) -> list[Constraint]:
    """The constraints that are applied now; `InputError` where there are other parametrizations too."""
    if not is_parametrized(module, "weight"):
        return []
    for part in _list(module):
        if not isinstance(part, Constraint):
            raise InputError(
                f"weight: expected no other parametrization, got {type(part).__name__}. Remove it, and register it "
                "after the constraints."
            )
    return list(_list(module))


def _stored_at(weight: Tensor, values: Any, where: Any) -> Tensor:
    mask = torch.from_numpy(where).to(weight.device)
    return torch.where(mask, torch.from_numpy(values).to(weight), weight)
