# SPDX-License-Identifier: MIT
"""Reading the arguments that describe a graph: node names, node numbers, counts and arrays.

Each function accepts what callers may pass and returns numpy arrays of one type, or raises a `GraphError` that names
the argument. Values of edges and nodes are read by `freewire.graph.fields`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire.errors import GraphError

MAX_NODES = 2**31  # slots are 32-bit numbers
MAX_EDGES = 2**33  # kMaxEdges of csrc/planner/order.h
NAMES_SHOWN = 12  # the most nodes that an error names

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.uint8]


def show(index: IntArray, names: Sequence[Hashable]) -> str:
    """The names of these nodes, for an error."""
    shown = ", ".join(repr(names[i]) for i in index[:NAMES_SHOWN].tolist())
    return shown + (f", ... ({len(index) - NAMES_SHOWN} more)" if len(index) > NAMES_SHOWN else "")


def lookup(given: Any, names: Sequence[Hashable], index: dict[Hashable, int] | None, what: str) -> IntArray:
    """Convert the node names of argument ``what`` to indices, int64.

    Args:
        given: Node names; an array or list of node numbers where ``index`` is None.
        names: All node names.
        index: Index of each name; None where names are 0 to N-1.
        what: Name of the argument.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise GraphError(f"{what}: expected a list of node names, got {given!r:.60}. Put it into a list.")
    if index is None:
        numbers = node_numbers(given if isinstance(given, np.ndarray | list | tuple | range) else list(given), what)
        unknown = numbers[(numbers < 0) | (numbers >= len(names))]
        if len(unknown):
            raise GraphError(
                f"{what}: expected node numbers below {len(names)}, got {unknown[0]}. Correct it or raise num_nodes."
            )
        return numbers
    found = []
    for name in given:
        if not isinstance(name, Hashable) or name not in index:
            raise GraphError(
                f"{what}: expected nodes of the graph, got {name!r}. Add it to the graph or correct the name."
            )
        found.append(index[name])
    return np.array(found, np.int64)


def as_array(given: Any, what: str) -> NDArray[Any]:
    """Convert argument ``what`` as numpy does; rows of unequal length raise."""
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged rows; tensors that numpy cannot read
        raise GraphError(
            f"{what}: expected an array of numbers, got {given!r:.60} ({error}). Check its rows."
        ) from None


def node_count(given: Any) -> int:
    """Check ``num_nodes``, before anything of that size is allocated."""
    count = -1 if isinstance(given, bool) or not isinstance(given, int | np.integer) else int(given)
    if not 0 <= count < MAX_NODES:
        raise GraphError(
            f"num_nodes: expected a whole number from 0 to {MAX_NODES - 1}, got {given!r}. "
            "Correct it, or split the network."
        )
    return count


def node_numbers(given: ArrayLike, what: str) -> IntArray:
    """Convert argument ``what`` to int64; only a one-dimensional array of integers is accepted."""
    array = as_array(given, what)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise GraphError(
            f"{what}: expected a one-dimensional array of integers, got {array.dtype} of shape {list(array.shape)}. "
            "Convert it first."
        )
    return array.astype(np.int64, copy=False)
