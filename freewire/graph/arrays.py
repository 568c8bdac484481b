# SPDX-License-Identifier: MIT
"""The arrays of a graph and what follows from them; immutable."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire.errors import shown
from freewire.graph.arguments import CodeArray, FloatArray, IntArray
from freewire.graph.canonical import reach, wiring_hash
from freewire.graph.data import GraphData
from freewire.graph.fields import EDGE_FIELDS, FIELDS

Self = TypeVar("Self", bound="GraphArrays")


class GraphArrays:
    """What a `Graph` holds; how one is made and converted is in `freewire.graph.graph`."""

    _names: Sequence[Hashable]
    _input_index: IntArray
    _output_index: IntArray
    _edge_index: IntArray
    _edge_position: IntArray
    _level: IntArray
    # and "_" with the name of each field: None where a graph has none

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: expected no change, since a Graph is immutable, got one. Build another Graph.")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickle may be older than some of the fields.
        self.__dict__.update({f"_{field.name}": None for field in FIELDS}, **state)
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False  # which numpy does not pickle

    # ------------------------------------------------------------------ nodes and edges

    @property
    def nodes(self) -> Sequence[Hashable]:
        """Node names ``[N]`` in order: a tuple, or ``range(N)`` where the graph came from arrays."""
        return self._names

    @cached_property
    def inputs(self) -> tuple[Hashable, ...]:
        """Names of the inputs, in the order of the features."""
        return tuple(self._names[i] for i in self._input_index.tolist())

    @cached_property
    def outputs(self) -> tuple[Hashable, ...]:
        """Names of the outputs, in the order of the results."""
        return tuple(self._names[i] for i in self._output_index.tolist())

    @property
    def num_nodes(self) -> int:
        """Number of nodes ``N``, inputs included."""
        return len(self._names)

    @property
    def num_edges(self) -> int:
        """Number of edges ``E``; parallel edges are counted one by one."""
        return self._edge_index.shape[1]

    @property
    def num_computed(self) -> int:
        """Number of nodes that are not inputs."""
        return len(self._names) - len(self._input_index)

    @property
    def depth(self) -> int:
        """Number of edges on the longest path; in a recurrent graph, of edges without delay."""
        return int(self._level.max(initial=0))

    @property
    def edge_index(self) -> IntArray:
        """Indices into `nodes`, int64 ``[2, E]``: source and destination of each edge, in canonical order."""
        return self._edge_index

    @property
    def edge_position(self) -> IntArray:
        """Column of the caller's i-th edge, int64 ``[E]``; for a networkx graph, the i-th of ``G.edges``."""
        return self._edge_position

    @property
    def input_index(self) -> IntArray:
        """Indices of the inputs into `nodes`, int64."""
        return self._input_index

    @property
    def output_index(self) -> IntArray:
        """Indices of the outputs into `nodes`, int64."""
        return self._output_index

    @cached_property
    def computed_index(self) -> IntArray:
        """Indices of the nodes that are not inputs, in node order, int64: the order of `Network.bias`."""
        computed = np.ones(self.num_nodes, np.bool_)
        computed[self._input_index] = False
        index = np.flatnonzero(computed)
        index.flags.writeable = False
        return index

    @property
    def level(self) -> IntArray:
        """Number of edges on the longest path that ends at each node, int64 ``[N]``; see `depth`."""
        return self._level

    # ------------------------------------------------------------------ fields, one property each

    @property
    def activation(self) -> CodeArray:
        """Codes into `ACTIVATIONS`, uint8 ``[N]``; an input's is linear."""
        return self.__dict__["_activation"]

    @property
    def aggregation(self) -> CodeArray:
        """Codes into `AGGREGATIONS`, uint8 ``[N]``; an input's is sum."""
        return self.__dict__["_aggregation"]

    @property
    def bias(self) -> FloatArray | None:
        """Stored biases, float64 ``[N]``, NaN where a node has none; None where no node has one."""
        return self.__dict__["_bias"]

    @property
    def weight(self) -> FloatArray | None:
        """Stored weights, float64 ``[E]`` in canonical order, NaN where an edge has none; None if no edge has one."""
        return self.__dict__["_weight"]

    @property
    def sign(self) -> NDArray[np.int8] | None:
        """The sign that each weight keeps, int8 ``[E]`` (0: free), or None; see `freewire.constraints`."""
        return self.__dict__["_sign"]

    @property
    def frozen(self) -> NDArray[np.bool_] | None:
        """Which weights are not trained, bool ``[E]``, or None; see `freewire.constraints`."""
        return self.__dict__["_frozen"]

    @property
    def delay(self) -> IntArray | None:
        """Steps that each edge delays its source's value by, int64 ``[E]``; None unless the graph is recurrent."""
        return self.__dict__["_delay"]

    @property
    def leak(self) -> FloatArray | None:
        """Leak of each node, float64 ``[N]``, NaN where it is not stored, which means 1; None where no node has one."""
        return self.__dict__["_leak"]

    @property
    def recurrent(self) -> bool:
        """Whether edges have delays, so that there may be cycles: the graph of a `freewire.Recurrent`."""
        return self.delay is not None

    @property
    def group(self) -> IntArray | None:
        """Groups of edges that share one learnable scale, int64 ``[E]`` (-1: none), or None."""
        return self.__dict__["_group"]

    def with_constraints(self: Self, **given: ArrayLike | None) -> Self:
        """Copy the graph with other constraints on the weights; those that are not named stay.

        Args:
            **given: ``sign``, ``frozen`` or ``group``: numbers ``[E]`` in canonical order, as in `Graph.from_edges`;
                None: no edge has one.

        Raises:
            GraphError: A length or a value does not fit.

        Example:
            >>> import freewire as fw
            >>> fw.generators.mlp([2, 1]).with_constraints(sign=[1, -1]).sign.tolist()
            [1, -1]
        """
        state = dict(self.__dict__)
        fields = {field.name: field for field in EDGE_FIELDS if field.role == "constraint"}
        for name, values in given.items():
            if name not in fields:
                raise TypeError(f"with_constraints: expected {', '.join(fields)}, got {shown(name)}. Use one of those.")
            field = fields[name]
            array = None if values is None else field.read_array(values, self.num_edges, self._show_edge)
            state[f"_{name}"] = None if array is None or field.is_missing(array).all() else array
        copy = object.__new__(type(self))
        copy.__setstate__(state)
        return copy

    def _show_edge(self, edge: int) -> str:
        u, v = (shown(self._names[i]) for i in self._edge_index[:, edge].tolist())
        return f" ({u} -> {v})"

    # ------------------------------------------------------------------ paths

    @cached_property
    def reaches_output(self) -> NDArray[np.bool_]:
        """Whether a path leads from each node to an output, bool ``[N]``."""
        return reach(self._edge_index, self._output_index, self.num_nodes, backward=True, recurrent=self.recurrent)

    @cached_property
    def reachable_from_input(self) -> NDArray[np.bool_]:
        """Whether a path leads from an input to each node, bool ``[N]``."""
        return reach(self._edge_index, self._input_index, self.num_nodes, backward=False, recurrent=self.recurrent)

    @cached_property
    def wiring_hash(self) -> str:
        """SHA-256 (hex) of nodes, inputs, outputs, edges, activations and aggregations; not of names or weights."""
        return wiring_hash(self.to_data())

    def to_data(self) -> GraphData:
        """The graph's arrays, read-only; `from_data` makes an equal graph of them."""
        return GraphData(
            names=self._names,
            src=self._edge_index[0],
            dst=self._edge_index[1],
            inputs=self._input_index,
            outputs=self._output_index,
            fields={field.name: self.__dict__[f"_{field.name}"] for field in FIELDS},
        )

    def __repr__(self) -> str:
        parts = [f"{self.num_nodes:,} nodes"]
        dead, unreachable = int((~self.reaches_output).sum()), int((~self.reachable_from_input).sum())
        if dead:
            parts.append(f"{dead:,} of them reaching no output")
        if unreachable:
            parts.append(f"{unreachable:,} of them unreachable from the inputs")
        parts += [
            f"{len(self._input_index):,} inputs",
            f"{len(self._output_index):,} outputs",
            f"{self.num_edges:,} edges",
            f"depth {self.depth:,}",
        ]
        if self.delay is not None:
            parts.append(f"recurrent, delays up to {int(self.delay.max(initial=0)):,}")
        return f"Graph({', '.join(parts)})"
