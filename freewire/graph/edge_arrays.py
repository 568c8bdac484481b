# SPDX-License-Identifier: MIT
"""Graphs from arrays: edge lists, matrices, and graphs side by side; no Python loop over edges."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire.errors import GraphError, shown
from freewire.graph import arguments as read
from freewire.graph.arguments import MAX_EDGES, IntArray
from freewire.graph.data import GraphData
from freewire.graph.field_types import Field
from freewire.graph.fields import DELAY, FIELDS


def read_edges(
    src: ArrayLike,
    dst: ArrayLike,
    *,
    num_nodes: int | None,
    inputs: ArrayLike | None,
    outputs: ArrayLike | None,
    fields: Mapping[str, ArrayLike | Sequence[str] | None],
    output_activation: str,
    recurrent: bool = False,
) -> GraphData:
    """Read an edge list; see `Graph.from_edges`. ``fields`` has its arguments that are edge and node fields."""
    src, dst = read.node_numbers(src, "src"), read.node_numbers(dst, "dst")
    if len(src) != len(dst):
        raise GraphError(
            f"dst: expected {len(src)} entries, as many as src, got {len(dst)}. Pass one of each per edge."
        )
    if len(src) > MAX_EDGES:
        raise GraphError(f"src: expected at most {MAX_EDGES} edges, got {len(src)}. Split the network.")
    if num_nodes is None:
        num_nodes = int(max(src.max(), dst.max())) + 1 if len(src) else 0
    num_nodes = read.node_count(num_nodes)
    for array, name in ((src, "src"), (dst, "dst")):
        _check_range(array, num_nodes, name)
    names = range(num_nodes)
    default_activation = ("linear", output_activation)
    if isinstance(activation := fields["activation"], str):  # outputs have their own
        default_activation = (activation, output_activation)
        fields = {name: given for name, given in fields.items() if name != "activation"}

    def read_field(field: Field) -> NDArray[Any] | None:
        given: Any = fields.get(field.name)
        if given is None and (field.name not in fields or field.default is None):
            return None
        if field.element == "edge":
            return field.read_array(given, len(src), lambda e: f" ({src[e]} -> {dst[e]})")
        return field.read_array(given, num_nodes)

    return GraphData(
        names=names,
        src=src,
        dst=dst,
        inputs=None if inputs is None else read.lookup(inputs, names, None, "inputs"),
        outputs=None if outputs is None else read.lookup(outputs, names, None, "outputs"),
        fields={field.name: read_field(field) for field in FIELDS},
        default_activation=default_activation,
        recurrent=recurrent,
    )


def _check_range(array: IntArray, num_nodes: int, name: str) -> None:
    if not len(array) or (array.min() >= 0 and array.max() < num_nodes):
        return
    first = np.flatnonzero((array < 0) | (array >= num_nodes))[0]
    raise GraphError(
        f"{name}: expected node numbers from 0 to {num_nodes - 1}, got {array[first]} at edge {first}. "
        "Correct it or raise num_nodes."
    )


def read_adjacency(A: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], int]:  # noqa: N803 (its usual name)
    """Read a matrix; see `Graph.from_adjacency`.

    Returns:
        Source ``[E]``, destination ``[E]`` and weight ``[E]`` of each edge, and the number of nodes.
    """
    if isinstance(A, nx.Graph):
        raise GraphError("A: expected a matrix, got a networkx graph. Use Graph.from_networkx.")
    if hasattr(A, "tocoo"):  # scipy.sparse, recognised by this method so that scipy stays optional
        matrix = A.tocsr(copy=True)
        matrix.sum_duplicates()  # what repeated entries mean in scipy
        matrix = matrix.tocoo()
        src, dst, weight = matrix.row, matrix.col, matrix.data
        shape, keep = matrix.shape, matrix.data != 0
        src, dst, weight = src[keep], dst[keep], weight[keep]
    elif read.is_tensor(A) and not A.is_meta and A.dim() == 2 and _is_sparse(A):
        shape = tuple(A.shape)
        src, dst, weight = _sparse_tensor(A)
    else:
        dense = read.as_array(A, "A")
        shape = dense.shape
        if dense.ndim == 2:
            src, dst = np.nonzero(dense)
            weight = dense[src, dst]
    if not len(shape):
        raise GraphError(
            f"A: expected a square matrix [N, N], got {shown(A)}. Pass an array, a tensor or a scipy.sparse matrix."
        )
    if len(shape) == 2 and weight.dtype == np.bool_:  # which edges there are; a list of weights has no booleans
        weight = weight.astype(np.float64)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise GraphError(
            f"A: expected a square matrix [N, N], got shape {list(shape)}. Give each node a row and a column."
        )
    return src, dst, weight, shape[0]


def _is_sparse(matrix: Any) -> bool:
    """Whether a tensor ``[N, N]`` has a sparse layout that stores single entries or blocks, not whole rows."""
    return "sparse" in str(matrix.layout) and not (matrix.is_sparse and matrix.dense_dim())


def _sparse_tensor(matrix: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Row, column and value of each nonzero of a sparse tensor ``[N, N]``, row by row; repeated entries are summed."""
    entries = matrix.detach().cpu().to_sparse(sparse_dim=2).coalesce()
    (src, dst), weight = read.as_array(entries.indices(), "A"), read.as_array(entries.values(), "A")
    order = np.lexsort((dst, src))  # a tensor that is compressed by column lists its entries so
    order = order[weight[order] != 0]
    return src[order], dst[order], weight[order]


def side_by_side(members: Sequence[GraphData]) -> GraphData:
    """One graph of several, each in canonical order, without edges between them; see `Graph.union`."""
    offsets = np.cumsum([0, *(len(member.names) for member in members)])
    names: Sequence[Hashable] = range(read.node_count(int(offsets[-1])))
    if not all(isinstance(member.names, range) for member in members):
        names = tuple((k, name) for k, member in enumerate(members) for name in member.names)

    def shifted(arrays: list[Any]) -> IntArray:
        return np.concatenate([array + offset for array, offset in zip(arrays, offsets, strict=False)])

    def joined(field: Field) -> NDArray[Any] | None:
        parts = [member.fields.get(field.name) for member in members]
        if all(part is None for part in parts):
            return None
        lengths = [len(member.src if field.element == "edge" else member.names) for member in members]
        # An edge of a graph without delays has none; its delay is not one to be filled in.
        absent = np.zeros(max(lengths), np.int64) if field is DELAY else field.empty(max(lengths))
        return field.joined([absent[:n] if part is None else part for part, n in zip(parts, lengths, strict=True)])

    return GraphData(
        names=names,
        src=shifted([m.src for m in members]),
        dst=shifted([m.dst for m in members]),
        inputs=shifted([m.inputs for m in members]),
        outputs=shifted([m.outputs for m in members]),
        fields={field.name: joined(field) for field in FIELDS},
    )
