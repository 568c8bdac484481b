# SPDX-License-Identifier: MIT
"""The wiring: which node reads which, checked once and immutable from then on.

Enters: a networkx graph, edge arrays or an adjacency matrix. Leaves: `Graph`, numpy arrays of nodes and edges in
one canonical order. Everything downstream (plan, kernels, weights, files) relies on that order, so it is fixed
here and nowhere else. No torch: a wiring is data, and building one must not need a deep-learning framework.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire import _arguments as read
from freewire._arguments import ACTIVATIONS, AGGREGATIONS, UNSET, CodeArray, FloatArray, IntArray
from freewire._levels import levels, spread
from freewire._networkx import read_networkx, write_networkx
from freewire.errors import GraphError

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

    # Set by _build.
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
        src, dst = read.node_numbers(src, "src"), read.node_numbers(dst, "dst")
        if len(src) != len(dst):
            raise GraphError(
                f"dst: expected {len(src)} entries, as many as src, got {len(dst)}. Give one of each an edge."
            )
        if num_nodes is None:
            num_nodes = int(max(src.max(), dst.max())) + 1 if len(src) else 0
        num_nodes = read.node_count(num_nodes)
        for array, name in ((src, "src"), (dst, "dst")):
            outside = np.flatnonzero((array < 0) | (array >= num_nodes))
            if len(outside):
                raise GraphError(
                    f"{name}: expected node numbers from 0 to {num_nodes - 1}, got {array[outside[0]]} at edge "
                    f"{outside[0]}. Correct it or raise num_nodes."
                )
        weights = read.column(weight, np.float64, len(src), "weight", "an edge", lambda e: f" ({src[e]} -> {dst[e]})")
        names = range(num_nodes)
        codes: list[CodeArray | None] = []
        for names_given, known, what in (
            (activation, ACTIVATIONS, "activation"),
            (aggregation, AGGREGATIONS, "aggregation"),
        ):
            codes.append(None if isinstance(names_given, str) else read.codes(names_given, known, what, num_nodes))
        if codes[1] is None:
            codes[1] = np.full(num_nodes, read.code(aggregation, AGGREGATIONS, "aggregation"), np.uint8)
        return cls._build(
            names,
            src,
            dst,
            inputs=None if inputs is None else read.lookup(inputs, names, None, "inputs"),
            outputs=None if outputs is None else read.lookup(outputs, names, None, "outputs"),
            default_activation=(activation if isinstance(activation, str) else "linear", output_activation),
            activation=codes[0],
            aggregation=codes[1],
            weight=weights,
            bias=read.column(bias, np.float64, num_nodes, "bias", "a node"),
            sign=read.column(sign, np.int8, len(src), "sign", "an edge"),
            frozen=read.column(frozen, np.bool_, len(src), "frozen", "an edge"),
        )

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
        if isinstance(A, nx.Graph):
            raise GraphError("A: expected a matrix, got a networkx graph. Use Graph.from_networkx.")
        if hasattr(A, "tocoo"):  # scipy.sparse, told by its own conversion so that scipy stays optional
            matrix = A.tocsr(copy=True)
            matrix.sum_duplicates()  # what repeated entries mean in scipy
            matrix = matrix.tocoo()
            src, dst, weight = matrix.row, matrix.col, matrix.data
            shape, keep = matrix.shape, matrix.data != 0
            src, dst, weight = src[keep], dst[keep], weight[keep]
        else:
            dense = read.as_array(A, "A")
            shape = dense.shape
            if dense.ndim == 2:
                src, dst = np.nonzero(dense)
                weight = dense[src, dst]
        if len(shape) != 2 or shape[0] != shape[1]:
            raise GraphError(
                f"A: expected a square matrix [N, N], got shape {list(shape)}. Give each node a row and a column."
            )
        return cls.from_edges(
            src.astype(np.int64),
            dst.astype(np.int64),
            num_nodes=shape[0],
            inputs=inputs,
            outputs=outputs,
            weight=weight,
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
        if not isinstance(graphs, Iterable):
            raise GraphError(f"graphs: expected a list of Graph objects, got {type(graphs).__name__}. Make it a list.")
        members = list(graphs)
        if not members:
            raise GraphError("graphs: expected at least one Graph, got none. Pass a list of graphs.")
        for g in members:
            if not isinstance(g, Graph):
                raise GraphError(f"graphs: expected Graph objects, got {type(g).__name__}. Build a Graph of it first.")
        offsets = np.cumsum([0, *(g.num_nodes for g in members)])
        names: Sequence[Hashable] = range(int(offsets[-1]))
        if not all(isinstance(g._names, range) for g in members):
            names = tuple((k, name) for k, g in enumerate(members) for name in g._names)

        def joined(parts: Iterable[Any], missing: Any) -> Any:
            parts = list(parts)
            if all(p is None for p, _ in parts):
                return None
            return np.concatenate([np.full(n, missing) if p is None else p for p, n in parts])

        edges = np.concatenate([g._edge_index + offset for g, offset in zip(members, offsets, strict=False)], axis=1)
        return cls._build(
            names,
            edges[0],
            edges[1],
            inputs=np.concatenate([g._input_index + o for g, o in zip(members, offsets, strict=False)]),
            outputs=np.concatenate([g._output_index + o for g, o in zip(members, offsets, strict=False)]),
            activation=np.concatenate([g._activation for g in members]),
            aggregation=np.concatenate([g._aggregation for g in members]),
            weight=joined(((g._weight, g.num_edges) for g in members), np.nan),
            bias=joined(((g._bias, g.num_nodes) for g in members), np.nan),
            sign=joined(((g._sign, g.num_edges) for g in members), np.int8(0)),
            frozen=joined(((g._frozen, g.num_edges) for g in members), False),
        )

    @classmethod
    def _build(
        cls,
        names: Sequence[Hashable],
        src: IntArray,
        dst: IntArray,
        *,
        inputs: IntArray | None,
        outputs: IntArray | None,
        default_activation: tuple[str, str] = ("relu", "linear"),
        activation: CodeArray | None = None,
        aggregation: CodeArray | None = None,
        weight: FloatArray | None = None,
        bias: FloatArray | None = None,
        sign: NDArray[np.int8] | None = None,
        frozen: NDArray[np.bool_] | None = None,
    ) -> Graph:
        """Check a wiring and freeze it; every constructor and the file reader end here.

        ``inputs`` and ``outputs`` are node indices; NaN in ``weight`` or ``bias`` means not given, `UNSET` in the
        codes that the defaults hold.
        """
        num_nodes = len(names)
        if not isinstance(names, range) and all(type(name) is int and name == i for i, name in enumerate(names)):
            names = range(num_nodes)  # nothing to keep, and nothing to write to a file
        in_degree = np.bincount(dst, minlength=num_nodes)
        out_degree = np.bincount(src, minlength=num_nodes)
        if inputs is None:
            inputs = np.flatnonzero(in_degree == 0)
        if outputs is None:
            outputs = np.flatnonzero(out_degree == 0)
        heard = inputs[in_degree[inputs] > 0]
        if len(heard):
            raise GraphError(
                f"inputs: expected nodes without in-edges, got {read.show(heard, names)} with "
                f"{in_degree[heard[0]]} in-edge(s) at the first. Remove those edges, or feed a node of its own instead."
            )
        for what, index in (("inputs", inputs), ("outputs", outputs)):
            values, counts = np.unique(index, return_counts=True)
            if len(values) < len(index):
                raise GraphError(
                    f"{what}: expected each node once, got {read.show(values[counts > 1], names)} more than once. "
                    "Name it once; copy columns outside the network."
                )
        level = levels(src, dst, in_degree, names)
        if not len(outputs):
            raise GraphError("outputs: expected at least one node, got none. Name the nodes whose values you want.")

        # rank: a node's place in (level, node order). One key instead of a two-key sort: half the time.
        rank = np.empty(num_nodes, np.int64)
        rank[np.argsort(level, kind="stable")] = np.arange(num_nodes)
        order = np.argsort(rank[dst] * num_nodes + rank[src], kind="stable")
        edge_position = np.empty(len(order), np.int64)
        edge_position[order] = np.arange(len(order))

        usual, at_output = (
            read.code(name, ACTIVATIONS, what)
            for name, what in zip(default_activation, ("activation", "output_activation"), strict=True)
        )
        activations = np.full(num_nodes, usual, np.uint8)
        activations[outputs] = at_output
        aggregations = np.zeros(num_nodes, np.uint8)
        for codes, given in ((activations, activation), (aggregations, aggregation)):
            if given is not None:
                np.copyto(codes, given, where=given != UNSET)
            codes[inputs] = 0

        at_inputs = np.zeros(0) if bias is None else np.nan_to_num(bias[inputs])
        if bias is not None and at_inputs.any():
            first = inputs[np.flatnonzero(at_inputs)[0]]
            raise GraphError(
                f"bias: expected 0 at an input, got {bias[first]} at {names[first]!r}. "
                "An input's value is the feature itself: add the bias to a node that reads it."
            )
        if bias is not None:
            bias = bias.copy()
            bias[inputs] = np.nan
        self = object.__new__(cls)
        self.__setstate__(
            {
                "_names": names,
                "_input_index": inputs.astype(np.int64),
                "_output_index": outputs.astype(np.int64),
                "_level": level,
                "_edge_index": np.stack((src[order], dst[order])).astype(np.int64),
                "_edge_position": edge_position,
                "_activation": activations,
                "_aggregation": aggregations,
                "_weight": None if weight is None or np.isnan(weight).all() else weight[order],
                "_bias": None if bias is None or np.isnan(bias).all() else bias,
                "_sign": None if sign is None or not sign.any() else sign[order],
                "_frozen": None if frozen is None or not frozen.any() else frozen[order],
            }
        )
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: expected no change, since a Graph is immutable, got one. Build another Graph.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: expected no change, since a Graph is immutable, got one. Build another Graph.")

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
        return self._spread(self._output_index, backward=True)

    @cached_property
    def hears_input(self) -> NDArray[np.bool_]:
        """Whether a path leads from an input to each node, bool ``[N]``."""
        return self._spread(self._input_index, backward=False)

    @cached_property
    def wiring_hash(self) -> str:
        """SHA-256 (hex) of nodes, inputs, outputs, edges, activations and aggregations; not of names or weights."""
        digest = hashlib.sha256(b"freewire wiring 1")  # the layout below, should it ever change
        sizes = np.array([self.num_nodes, self.num_edges, len(self._input_index), len(self._output_index)])
        for array in (sizes, self._input_index, self._output_index, self._edge_index):
            digest.update(array.astype("<i8").tobytes())
        digest.update(self._activation.tobytes())
        digest.update(self._aggregation.tobytes())
        return digest.hexdigest()

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
        values = {}
        for name, given, length in (("weight", weight, self.num_edges), ("bias", bias, self.num_nodes)):
            array = None if given is None else np.array(given, np.float64)
            if array is not None and array.shape != (length,):
                raise GraphError(
                    f"{name}: expected {length} values, got shape {list(array.shape)}. Give one a"
                    f"{'n edge' if name == 'weight' else ' node'}."
                )
            values[f"_{name}"] = array
        other = object.__new__(Graph)
        other.__setstate__({**self.__dict__, **values})
        return other

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

    def _spread(self, start: IntArray, *, backward: bool) -> NDArray[np.bool_]:
        src, dst = self._edge_index
        near, far = (dst, src) if backward else (src, dst)
        reached = spread(start, near, far, self._level[dst], self.num_nodes, backward=backward)
        reached.flags.writeable = False
        return reached
