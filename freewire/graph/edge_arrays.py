# SPDX-License-Identifier: MIT
"""Graphs from arrays: edge lists, matrices, and graphs side by side.

Enters: what the constructors of `Graph` are given. Leaves: what `Graph._build` takes. No Python loop over edges.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from freewire.errors import GraphError
from freewire.graph import arguments as read
from freewire.graph.arguments import ACTIVATIONS, AGGREGATIONS, MAX_EDGES, CodeArray, IntArray

if TYPE_CHECKING:
    from freewire.graph.graph import Graph


def read_edges(
    src: ArrayLike,
    dst: ArrayLike,
    *,
    num_nodes: int | None,
    inputs: ArrayLike | None,
    outputs: ArrayLike | None,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    activation: str | Sequence[str],
    aggregation: str | Sequence[str],
    output_activation: str,
    sign: ArrayLike | None,
    frozen: ArrayLike | None,
) -> dict[str, Any]:
    """The arguments of `Graph._build`; see `Graph.from_edges`."""
    src, dst = read.node_numbers(src, "src"), read.node_numbers(dst, "dst")
    if len(src) != len(dst):
        raise GraphError(f"dst: expected {len(src)} entries, as many as src, got {len(dst)}. Give one of each an edge.")
    if len(src) > MAX_EDGES:
        raise GraphError(f"src: expected at most {MAX_EDGES} edges, got {len(src)}. A larger network must be several.")
    if num_nodes is None:
        num_nodes = int(max(src.max(), dst.max())) + 1 if len(src) else 0
    num_nodes = read.node_count(num_nodes)
    for array, name in ((src, "src"), (dst, "dst")):
        _check_range(array, num_nodes, name)
    names = range(num_nodes)
    codes: list[CodeArray | None] = []
    weights = read.column(weight, np.float64, len(src), "weight", "an edge", lambda e: f" ({src[e]} -> {dst[e]})")
    for names_given, known, what in (
        (activation, ACTIVATIONS, "activation"),
        (aggregation, AGGREGATIONS, "aggregation"),
    ):
        codes.append(None if isinstance(names_given, str) else read.codes(names_given, known, what, num_nodes))
    if codes[1] is None:
        codes[1] = np.full(num_nodes, read.code(aggregation, AGGREGATIONS, "aggregation"), np.uint8)
    return dict(
        names=names,
        src=src,
        dst=dst,
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


def _check_range(array: IntArray, num_nodes: int, name: str) -> None:
    if not len(array) or (array.min() >= 0 and array.max() < num_nodes):
        return
    first = np.flatnonzero((array < 0) | (array >= num_nodes))[0]
    raise GraphError(
        f"{name}: expected node numbers from 0 to {num_nodes - 1}, got {array[first]} at edge {first}. "
        "Correct it or raise num_nodes."
    )


def read_adjacency(A: Any) -> dict[str, Any]:  # noqa: N803 (the matrix's usual name)
    """A matrix as arguments of `Graph.from_edges`; see `Graph.from_adjacency`."""
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
    return dict(src=src, dst=dst, num_nodes=shape[0], weight=weight)


def joined(graphs: Iterable[Graph], kind: type[Graph]) -> dict[str, Any]:
    """The arguments of `Graph._build` for graphs (of class ``kind``) side by side; see `Graph.union`."""
    if not isinstance(graphs, Iterable):
        raise GraphError(f"graphs: expected a list of Graph objects, got {type(graphs).__name__}. Make it a list.")
    members = list(graphs)
    if not members:
        raise GraphError("graphs: expected at least one Graph, got none. Pass a list of graphs.")
    for g in members:
        if not isinstance(g, kind):
            raise GraphError(f"graphs: expected Graph objects, got {type(g).__name__}. Build a Graph of it first.")
    offsets = np.cumsum([0, *(g.num_nodes for g in members)])
    names: Sequence[Hashable] = range(read.node_count(int(offsets[-1])))
    if not all(isinstance(g.nodes, range) for g in members):
        names = tuple((k, name) for k, g in enumerate(members) for name in g.nodes)

    def column(parts: Iterable[Any], missing: Any) -> Any:
        parts = list(parts)
        if all(p is None for p, _ in parts):
            return None
        return np.concatenate([np.full(n, missing) if p is None else p for p, n in parts])

    edges = np.concatenate([g.edge_index + offset for g, offset in zip(members, offsets, strict=False)], axis=1)
    return dict(
        names=names,
        src=edges[0],
        dst=edges[1],
        inputs=np.concatenate([g.input_index + o for g, o in zip(members, offsets, strict=False)]),
        outputs=np.concatenate([g.output_index + o for g, o in zip(members, offsets, strict=False)]),
        activation=np.concatenate([g.activation for g in members]),
        aggregation=np.concatenate([g.aggregation for g in members]),
        weight=column(((g.weight, g.num_edges) for g in members), np.nan),
        bias=column(((g.bias, g.num_nodes) for g in members), np.nan),
        sign=column(((g.sign, g.num_edges) for g in members), np.int8(0)),
        frozen=column(((g.frozen, g.num_edges) for g in members), False),
    )
