# SPDX-License-Identifier: MIT
"""What an ablation silences: nodes and edges of a graph, one at a time or several together, read from its arguments."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import check_ordered, whole

__all__ = ["Element", "read_elements"]


class Element(NamedTuple):
    """Nodes or edges that are silenced together.

    Attributes:
        kind: ``"node"`` or ``"edge"`` for one of them, ``"nodes"`` or ``"edges"`` for a set.
        name: A node's name, an edge's (source, target), or the label of a set.
        nodes: Indices of the nodes, in node order.
        edges: Columns of the edges, ascending.
    """

    kind: str
    name: Hashable
    nodes: tuple[int, ...] = ()
    edges: tuple[int, ...] = ()


def read_elements(graph: Graph, nodes: Any, edges: Any) -> list[Element]:
    """Everything that an ablation silences, in the caller's order, nodes first; see `ablate` for the arguments.

    Raises:
        InputError: An unknown node or edge, an empty set, another type, or nothing to silence.
    """
    index = {name: i for i, name in enumerate(graph.nodes)}

    def node(name: Any) -> int:
        found = index.get(name) if isinstance(name, Hashable) else None
        if found is None:
            raise InputError(
                f"nodes: expected names of the graph's nodes, got {shown(name)}. net.graph.nodes lists them."
            )
        return found

    def edge(column: Any) -> int:
        number = whole(column)
        if number is None or not 0 <= number < graph.num_edges:
            raise InputError(
                f"edges: expected columns of net.graph.edge_index, 0 to {graph.num_edges - 1}, got {shown(column)}. "
                "Pass places in net.weight."
            )
        return number

    elements = [
        Element("node" if single else "nodes", label if label is not None else _label(graph, found), nodes=found)
        for label, found, single in _groups("nodes", nodes, node, range(graph.num_nodes), index)
    ]
    sources, targets = graph.edge_index
    for label, found, single in _groups("edges", edges, edge, range(graph.num_edges), {}):
        name: Hashable = label
        if single and label is None:
            name = graph.nodes[int(sources[found[0]])], graph.nodes[int(targets[found[0]])]
        elif label is None:
            name = ", ".join(map(str, found))
        elements.append(Element("edge" if single else "edges", name, edges=found))
    if not elements:
        raise InputError("nodes: expected something to silence, got no nodes and no edges. Pass nodes=True, say.")
    return elements


def _label(graph: Graph, nodes: tuple[int, ...]) -> Hashable:
    names = [graph.nodes[i] for i in nodes]
    return names[0] if len(names) == 1 else ", ".join(map(str, names))


_Group = tuple[Hashable | None, tuple[int, ...], bool]  # the label if there is one, the members, whether it is no set


def _groups(
    what: str, given: Any, read: Callable[[Any], int], every: range, names: Mapping[Hashable, int]
) -> Iterable[_Group]:
    if given is None or given is False:
        return
    if given is True:
        for i in every:
            yield None, (i,), True
        return
    if isinstance(given, Mapping):
        for label, members in given.items():
            yield label, _members(what, members, read), False
        return
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(
            f"{what}: expected True, a list, or a dictionary of lists, got {shown(given)}. Put one into a list."
        )
    check_ordered(given, what, InputError)
    for member in given:
        is_set = isinstance(member, set | frozenset) and not (isinstance(member, frozenset) and member in names)
        yield None, _members(what, member, read) if is_set else (read(member),), not is_set


def _members(what: str, given: Any, read: Callable[[Any], int]) -> tuple[int, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"{what}: expected a list for each label, got {shown(given)}. Put one into a list.")
    found = tuple(sorted({read(member) for member in given}))
    if not found:
        raise InputError(f"{what}: expected at least one in each set, got an empty one. Remove it.")
    return found
