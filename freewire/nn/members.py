# SPDX-License-Identifier: MIT
"""The members of a population: what callers may pass as one, and the values that their parameters start with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freewire.errors import GraphError, InputError, shown
from freewire.graph import Graph
from freewire.graph.fields import EDGE_FIELDS
from freewire.nn.initialisers import INITIALISERS, Initialiser, draw_weights, fill_stored
from freewire.nn.member_runs import ends_of
from freewire.nn.network import Network
from freewire.nn.recurrent import Recurrent

__all__ = ["Member", "check_alike", "check_biases", "common", "graph_of", "read_members", "start_members"]

# Members whose weights are drawn at once.
_AT_ONCE = 512
_CONSTRAINTS = [field.name for field in EDGE_FIELDS if field.role == "constraint"]

#: What a population is made of.
Member = Graph | Network | Recurrent


class SideBySide:
    """The edges of several graphs side by side, which is all that the named initialisers read of a graph."""

    def __init__(self, graphs: list[Graph]) -> None:
        counts = np.array([graph.num_nodes for graph in graphs], np.int64)
        self.num_nodes = int(counts.sum())
        first = np.repeat(np.cumsum(counts) - counts, [graph.num_edges for graph in graphs])
        self.edge_index: NDArray[np.int64] = np.concatenate([graph.edge_index for graph in graphs], axis=1) + first


def read_members(members: Any, numbers: Sequence[int] | None = None) -> list[Member]:
    """The members as a list; ``numbers`` are theirs in messages, by default from 0.

    Raises:
        InputError: There is none.
        GraphError: One is neither a graph nor a network, or its weights have constraints.
    """
    if isinstance(members, Graph | torch.nn.Module) or not isinstance(members, Iterable):
        raise InputError(
            f"members: expected a list of graphs or networks, got {type(members).__name__}. Pass several in a list."
        )
    found = list(members)
    if not found:
        raise InputError("members: expected at least one graph or network, got none. Pass a list of them.")
    for i, member in zip(range(len(found)) if numbers is None else numbers, found, strict=True):
        if not isinstance(member, Graph | Network | Recurrent):
            raise GraphError(
                f"members: expected graphs or networks, got {type(member).__name__} as member {i}. Convert it first, "
                "for example with Graph.from_networkx."
            )
        graph = graph_of(member)
        if not isinstance(member, Graph) and member.weight.is_meta:
            raise InputError(
                f"members: expected networks with weights, got one on the meta device as member {i}. Load its weights "
                "first, or pass its graph."
            )
        constrained = [name for name in _CONSTRAINTS if getattr(graph, name) is not None]
        if constrained:
            raise GraphError(
                f"members: expected weights without constraints, got {', '.join(constrained)} in member {i}. Remove "
                f"them: graph.with_constraints({', '.join(f'{name}=None' for name in constrained)})."
            )
        if isinstance(member, Recurrent) and (member.leak is not None or member.steps > 1 or member.batch_first):
            raise InputError(
                f"members: expected recurrent networks of default settings, got learn_leak, steps or batch_first in "
                f"member {i}. Pass its graph."
            )
    return found


def graph_of(member: Member) -> Graph:
    """The wiring of a member."""
    return member if isinstance(member, Graph) else member.graph


def check_alike(graphs: Mapping[int, Graph], like: Graph) -> None:
    """Raise `GraphError` unless graphs have as many inputs and outputs as another, and delays if it has."""
    for i, graph in graphs.items():
        if graph.recurrent != like.recurrent:
            kinds = ["graphs without delays", "recurrent graphs"]
            raise GraphError(
                f"members: expected {kinds[like.recurrent]}, like the first one, got one of {kinds[graph.recurrent]} "
                f"as member {i}. Put them into two populations."
            )
        for what, own, other in (
            ("inputs", graph.input_index, like.input_index),
            ("outputs", graph.output_index, like.output_index),
        ):
            if len(own) != len(other):
                raise GraphError(
                    f"members: expected {len(other)} {what} in each, like the first one, got {len(own)} in member {i}. "
                    "All members of a population read as many features and return as many results."
                )


def check_biases(members: Mapping[int, Member], bias: bool) -> None:
    """Raise `InputError` where a population without biases would lose those of a member."""
    for i, member in members.items() if not bias else ():
        stored = graph_of(member).bias
        has_values = stored is not None and bool(np.any(np.nan_to_num(stored)))
        if has_values or (not isinstance(member, Graph) and member.bias is not None):
            raise InputError(
                f"bias: expected True, since member {i} has biases, got False. Omit it, or remove the biases."
            )


def start_members(members: list[Member], weight: Tensor, bias: Tensor | None, init: str | Initialiser | None) -> None:
    """Fill the parameters of members, one after the other, without gradients.

    Those of networks are copied. Those of graphs start as `freewire.Network` says, with draws for many members at once.
    """
    if len(members) > _AT_ONCE:
        _start_in_parts(members, weight, bias, init)
        return
    graphs = [graph_of(member) for member in members]
    edges, nodes = (of_members.tolist() for of_members in ends_of(graphs))
    named = "he" if init is None else init
    with torch.no_grad():
        if isinstance(named, str):
            if named not in INITIALISERS:
                draw_weights(weight, graphs[0], named)  # raises
            INITIALISERS[named](weight, SideBySide(graphs))
        if bias is not None:
            bias.zero_()
        if init is None:
            fill_stored(weight, _stored([graph.weight for graph in graphs], edges))
            if bias is not None:
                own = [None if graph.bias is None else graph.bias[graph.computed_index] for graph in graphs]
                fill_stored(bias, _stored(own, nodes))
        for i, member in enumerate(members):
            part = weight[edges[i] : edges[i + 1]]
            if isinstance(member, Graph):
                if callable(named):
                    draw_weights(part, member, named)
                continue
            part.copy_(member.weight)
            if bias is not None and member.bias is not None:
                bias[nodes[i] : nodes[i + 1]].copy_(member.bias)


def _start_in_parts(members: list[Member], weight: Tensor, bias: Tensor | None, init: str | Initialiser | None) -> None:
    """`start_members` of a part after the other, which needs memory for one only."""
    edges, nodes = ends_of([graph_of(member) for member in members])
    for begin in range(0, len(members), _AT_ONCE):
        end = min(begin + _AT_ONCE, len(members))
        own = None if bias is None else bias[nodes[begin] : nodes[end]]
        start_members(members[begin:end], weight[edges[begin] : edges[end]], own, init)


def _stored(values: list[NDArray[np.float64] | None], ends: list[int]) -> NDArray[np.float64] | None:
    """Stored values one after the other, NaN where a graph has none; None if none has."""
    if all(own is None for own in values):
        return None
    counts = np.diff(ends)
    return np.concatenate(
        [np.full(count, np.nan) if own is None else own for own, count in zip(values, counts, strict=True)]
    )


def common(members: list[Member], what: str, default: Any) -> Any:
    """What all networks among the members have in common: their ``dtype``, or whether they have a ``bias``.

    Raises:
        InputError: They differ.
    """
    networks = [member for member in members if not isinstance(member, Graph)]
    found = [net.weight.dtype if what == "dtype" else net.bias is not None for net in networks]
    if not found:
        return default
    if any(value != found[0] for value in found):
        raise InputError(
            f"{what}: expected networks that agree, got {shown(found[0])} and "
            f"{shown(next(value for value in found if value != found[0]))}. Pass {what}=... or convert some."
        )
    return found[0]
