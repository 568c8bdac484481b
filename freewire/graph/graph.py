# SPDX-License-Identifier: MIT
"""The wiring: which node reads which, checked once and immutable from then on.

Enters: a networkx graph, edge arrays or an adjacency matrix. Leaves: `Graph`, numpy arrays of nodes and edges in
one canonical order. Everything downstream (plan, kernels, weights, files) relies on that order, so it is fixed
here and nowhere else. No torch: a wiring is data, and building one must not need a deep-learning framework.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire.graph.arguments import ACTIVATIONS, AGGREGATIONS, CodeArray, FloatArray, IntArray
from freewire.graph.canonical import canonical, reach, stored_values, wiring_hash
from freewire.graph.edge_arrays import joined, read_adjacency, read_edges
from freewire.graph.networkx_conversion import read_networkx, write_networkx

__all__ = ["ACTIVATIONS", "AGGREGATIONS", "Graph"]


class Graph:
    """A directed acyclic wiring of named nodes; immutable.

    Made by `from_networkx`, `from_edges`, `from_adjacency` or `union`, never by calling the class.

    Edges stand in **canonical order**: by the destination's (level, node order), then by the source's (level, node
    order), then in the caller's order. It is the order of `Network.weight`, and no version or device changes it. A
    node's level is the number of edges on the longest path that ends at it.

    Example:
        >>> import freewire as fw
        >>> g = fw.Graph.from_edges([0, 1, 0], [2, 2, 1], num_nodes=3)
        >>> g.inputs, g.outputs, g.depth
        ((0,), (2,), 2)
        >>> g.edge_index.tolist()
        [[0, 0, 1], [1, 2, 2]]
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(
            "Graph: expected one of Graph.from_networkx, Graph.from_edges, Graph.from_adjacency or Graph.union, "
            "got a direct call. Use one of those."
        )

    # Made by _canonical.canonical.
    _names: Sequence[Hashable]
    _input_index: IntArray
    _output_index: IntArray
    _edge_index: IntArray
    _edge_position: IntArray
    _level: IntArray
    _activation: CodeArray
    _aggregation: CodeArray
    _weight: FloatArray | None
    _bias: FloatArray | None
    _sign: NDArray[np.int8] | None
    _frozen: NDArray[np.bool_] | None

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_networkx(
        cls,
        G: nx.DiGraph,  # noqa: N803 (networkx's own name for it)
        inputs: Iterable[Hashable] | None = None,
        outputs: Iterable[Hashable] | None = None,
        activation: str = "relu",
        output_activation: str = "linear",
    ) -> Graph:
        """Read a networkx ``DiGraph`` or ``MultiDiGraph``; time is linear in nodes and edges.

        Args:
            G: Any hashable node names. Node attributes ``activation``, ``aggregation`` and ``bias``, edge attributes
                ``weight``, ``sign`` and ``frozen`` are read; a node's own attributes win over the arguments. An input
                is not computed, so its ``activation`` and ``aggregation`` have no meaning and are not read.
            inputs: Node names in the order of the features. Left out: those with an attribute ``freewire_input``, in
                the order of its values (`to_networkx` writes it), or if there is none the nodes of in-degree 0.
            outputs: Node names in the order of the results. Left out: those with an attribute ``freewire_output``, or
                if there is none the nodes of out-degree 0.
            activation: Of every computed node that is no output.
            output_activation: Of the outputs.

        Raises:
            GraphError: A cycle (named), an unknown node, an input with in-edges, a repeated input or output, no
                output, an unknown activation, a NaN weight.

        Example:
            >>> import networkx as nx, freewire as fw
            >>> g = fw.Graph.from_networkx(nx.DiGraph([("x", "h"), ("x", "y"), ("h", "y")]))
            >>> g.nodes, g.depth
            (('x', 'h', 'y'), 2)
        """
        return cls._build(**read_networkx(G, inputs, outputs), default_activation=(activation, output_activation))

    @classmethod
    def from_edges(
        cls,
        src: ArrayLike,
        dst: ArrayLike,
        *,
        num_nodes: int | None = None,
        inputs: ArrayLike | None = None,
        outputs: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        activation: str | Sequence[str] = "relu",
        aggregation: str | Sequence[str] = "sum",
        output_activation: str = "linear",
        sign: ArrayLike | None = None,
        frozen: ArrayLike | None = None,
    ) -> Graph:
        """Build from arrays; nodes are named 0 to ``num_nodes - 1``. No Python loop over edges.

        Args:
            src: Integers ``[E]``, where each edge starts.
            dst: Integers ``[E]``, where it ends.
            num_nodes: ``N``; left out: the largest number that occurs, plus one.
            inputs: Node numbers in the order of the features; left out: those of in-degree 0.
            outputs: Node numbers in the order of the results; left out: those of out-degree 0.
            weight: Floats ``[E]``, the start value of each weight.
            bias: Floats ``[N]``; an input's must be 0.
            activation: One name for all computed nodes but the outputs, or ``N`` names.
            aggregation: One name, or ``N`` names.
            output_activation: Of the outputs, where ``activation`` is one name.
            sign: Integers -1, 0 or 1, ``[E]``. Reserved.
            frozen: Booleans ``[E]``. Reserved.

        Raises:
            GraphError: As `from_networkx`, and for arrays whose lengths or types do not fit.

        Example:
            >>> import freewire as fw
            >>> fw.Graph.from_edges([0, 1], [2, 2], weight=[0.5, -1.0]).num_edges
            2
        """
        wiring = read_edges(
            src,
            dst,
            num_nodes=num_nodes,
            inputs=inputs,
            outputs=outputs,
            weight=weight,
            bias=bias,
            activation=activation,
            aggregation=aggregation,
            output_activation=output_activation,
            sign=sign,
            frozen=frozen,
        )
        return cls._build(**wiring)

    @classmethod
    def from_adjacency(
        cls,
        A: Any,  # noqa: N803 (the matrix's usual name)
        inputs: ArrayLike | None = None,
        outputs: ArrayLike | None = None,
        activation: str | Sequence[str] = "relu",
        output_activation: str = "linear",
        *,
        aggregation: str | Sequence[str] = "sum",
        bias: ArrayLike | None = None,
    ) -> Graph:
        """Read an adjacency matrix: ``A[u, v] != 0`` is an edge ``u -> v`` of that weight.

        Args:
            A: ``[N, N]``, dense (anything numpy takes) or a ``scipy.sparse`` matrix; nodes are named 0 to N-1.
            inputs: As in `from_edges`, and so the arguments that follow.
            outputs: Node numbers.
            activation: One name, or ``N`` names.
            output_activation: Of the outputs.
            aggregation: One name, or ``N`` names.
            bias: Floats ``[N]``.

        Raises:
            GraphError: ``A`` is not square, or as `from_networkx`.

        Example:
            >>> import freewire as fw
            >>> fw.Graph.from_adjacency([[0, 2.0], [0, 0]]).edge_index.tolist()
            [[0], [1]]
        """
        return cls.from_edges(
            **read_adjacency(A),
            inputs=inputs,
            outputs=outputs,
            bias=bias,
            activation=activation,
            aggregation=aggregation,
            output_activation=output_activation,
        )

    @classmethod
    def union(cls, graphs: Iterable[Graph]) -> Graph:
        """Put graphs side by side, without edges between them; inputs and outputs follow in the graphs' order.

        Args:
            graphs: One or more. Where all of them are numbered 0 to N-1, so is the union (one graph's numbers after
                the other's); else node ``name`` of the k-th graph becomes ``(k, name)``.

        Raises:
            GraphError: No graph given.

        Example:
            >>> import freewire as fw
            >>> a = fw.generators.mlp([2, 1])
            >>> fw.Graph.union([a, a]).inputs
            (0, 1, 3, 4)
        """
        return cls._build(**joined(graphs, cls))

    @classmethod
    def _build(cls, *wiring: Any, **values: Any) -> Graph:
        """A graph of what `_canonical.canonical` takes; every constructor and the file reader end here."""
        return cls._of(canonical(*wiring, **values))

    @classmethod
    def _of(cls, state: dict[str, Any]) -> Graph:
        (self := object.__new__(cls)).__setstate__(state)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: expected no change, since a Graph is immutable, got one. Build another Graph.")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False  # numpy's pickles forget it

    # ------------------------------------------------------------------ what it is

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
        """``N``, inputs included."""
        return len(self._names)

    @property
    def num_edges(self) -> int:
        """``E``, parallel edges counted one by one."""
        return self._edge_index.shape[1]

    @property
    def depth(self) -> int:
        """Edges on the longest path."""
        return int(self._level.max(initial=0))

    @property
    def edge_index(self) -> IntArray:
        """Indices into `nodes`, int64 ``[2, E]``: source and destination of each edge, in canonical order."""
        return self._edge_index

    @property
    def edge_position(self) -> IntArray:
        """The column of the caller's i-th edge, int64 ``[E]``; a networkx graph's i-th edge is that of ``G.edges``."""
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
        """Indices of the nodes that are no inputs, in node order, int64: the order of `Network.bias`."""
        computed = np.ones(self.num_nodes, np.bool_)
        computed[self._input_index] = False
        index = np.flatnonzero(computed)
        index.flags.writeable = False
        return index

    @property
    def level(self) -> IntArray:
        """Edges on the longest path that ends at each node, int64 ``[N]``."""
        return self._level

    @property
    def activation(self) -> CodeArray:
        """Codes into `ACTIVATIONS`, uint8 ``[N]``; an input's is linear."""
        return self._activation

    @property
    def aggregation(self) -> CodeArray:
        """Codes into `AGGREGATIONS`, uint8 ``[N]``; an input's is sum."""
        return self._aggregation

    @property
    def weight(self) -> FloatArray | None:
        """Stored weights, float64 ``[E]`` in canonical order, NaN where an edge has none; None if no edge has one."""
        return self._weight

    @property
    def bias(self) -> FloatArray | None:
        """Stored biases, float64 ``[N]``, NaN where a node has none; None where no node has one."""
        return self._bias

    @property
    def sign(self) -> NDArray[np.int8] | None:
        """Reserved: the sign each weight must keep, int8 ``[E]`` (0: free), or None."""
        return self._sign

    @property
    def frozen(self) -> NDArray[np.bool_] | None:
        """Reserved: which weights are not trained, bool ``[E]``, or None."""
        return self._frozen

    @cached_property
    def reaches_output(self) -> NDArray[np.bool_]:
        """Whether a path leads from each node to an output, bool ``[N]``."""
        return reach(self, self._output_index, backward=True)

    @cached_property
    def hears_input(self) -> NDArray[np.bool_]:
        """Whether a path leads from an input to each node, bool ``[N]``."""
        return reach(self, self._input_index, backward=False)

    @cached_property
    def wiring_hash(self) -> str:
        """SHA-256 (hex) of nodes, inputs, outputs, edges, activations and aggregations; not of names or weights."""
        return wiring_hash(self)

    # ------------------------------------------------------------------ out again

    def to_networkx(self) -> nx.DiGraph | nx.MultiDiGraph:
        """The graph as networkx sees it; `from_networkx` reads it back to an equal graph.

        Returns:
            A ``DiGraph``, or a ``MultiDiGraph`` where two edges join one pair. Computed nodes carry ``activation``,
            ``aggregation`` and, where stored, ``bias``; edges carry ``weight``, ``sign`` and ``frozen`` where stored;
            nodes carry ``freewire_input`` and ``freewire_output``, their place in `inputs` and `outputs`.

        Example:
            >>> import freewire as fw
            >>> fw.generators.mlp([2, 3, 1]).to_networkx()
            <networkx.classes.digraph.DiGraph object at 0x...>
        """
        return write_networkx(self)

    def with_values(self, weight: ArrayLike | None = None, bias: ArrayLike | None = None) -> Graph:
        """The same wiring with other stored weights and biases.

        Args:
            weight: Floats ``[E]`` in canonical order, NaN where an edge stores none; None: no edge does.
            bias: Floats ``[N]`` in node order, NaN where a node stores none; None: no node does.

        Raises:
            GraphError: A length does not fit.
        """
        state = dict(self.__dict__)
        state["_weight"] = stored_values(weight, self.num_edges, "weight", "an edge")
        state["_bias"] = stored_values(bias, self.num_nodes, "bias", "a node")
        return Graph._of(state)

    def __repr__(self) -> str:
        parts = [f"{self.num_nodes:,} nodes"]
        deaf, dead = int((~self.hears_input).sum()), int((~self.reaches_output).sum())
        if dead:
            parts.append(f"{dead:,} of them reaching no output")
        if deaf:
            parts.append(f"{deaf:,} of them hearing no input")
        parts += [
            f"{len(self._input_index):,} inputs",
            f"{len(self._output_index):,} outputs",
            f"{self.num_edges:,} edges",
            f"depth {self.depth:,}",
        ]
        return f"Graph({', '.join(parts)})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self  # immutable
