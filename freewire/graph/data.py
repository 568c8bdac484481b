# SPDX-License-Identifier: MIT
"""`GraphData`: the arrays of one graph, which every reader returns and every `Graph` is made from."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from freewire.graph.arguments import IntArray
from freewire.graph.fields import FIELDS, Field


@dataclass(frozen=True, repr=False)
class GraphData:
    """A graph in arrays, with edges in the caller's order.

    Each array by itself has been checked (types, lengths, node numbers in range). Whether they make up a graph, one
    without cycles for example, is checked by `freewire.graph.canonical.canonical`.

    Attributes:
        names: Node names ``[N]``, all different; ``range(N)`` where nodes are numbered.
        src: Index of each edge's source node, int64 ``[E]``.
        dst: Index of each edge's destination node, int64 ``[E]``.
        inputs: Indices of the inputs in order, int64; None: the nodes of in-degree 0.
        outputs: Indices of the outputs in order, int64; None: the nodes of out-degree 0.
        fields: By name of `FIELDS`, an array ``[E]`` or ``[N]`` with `Field.missing` where an edge or a node has no
            value. Where a name is absent, or its array None, no edge or node has one.
        default_activation: Names of the activations of computed nodes whose own is missing: of those that are not
            outputs, and of the outputs.
        recurrent: Whether cycles are allowed.
    """

    names: Sequence[Hashable]
    src: IntArray
    dst: IntArray
    inputs: IntArray | None = None
    outputs: IntArray | None = None
    fields: Mapping[str, NDArray[Any] | None] = field(default_factory=dict)
    default_activation: tuple[str, str] = ("relu", "linear")
    recurrent: bool = False

    def __repr__(self) -> str:
        return f"GraphData({len(self.names):,} nodes, {len(self.src):,} edges)"

    def stored(self) -> Iterator[tuple[Field, NDArray[Any]]]:
        """Each field that has an array, with that array."""
        for entry in FIELDS:
            values = self.fields.get(entry.name)
            if values is not None:
                yield entry, values
