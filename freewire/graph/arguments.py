# SPDX-License-Identifier: MIT
"""Reading what callers pass when they describe a graph, and saying clearly what is wrong with it.

Enters: names, numbers and arrays of any kind. Leaves: numpy arrays of one kind, or a `GraphError`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire.errors import GraphError

#: Activation names by code. The codes stand in files and in csrc/node_math.h: append, never reorder.
ACTIVATIONS = (
    "linear",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "softplus",
    "sigmoid",
    "tanh",
    "sin",
    "cos",
    "gaussian",
    "abs",
    "square",
    "step",
    "hard_tanh",
    "hard_sigmoid",
)
#: Aggregation names by code, under the same rule.
AGGREGATIONS = ("sum", "mean", "product", "max", "min", "maxabs")

UNSET = 255  # in an array of codes: the node says nothing, the argument decides
MAX_NODES = 2**31  # slots are 32-bit numbers
MAX_EDGES = 2**33  # kMaxEdges of csrc/planner/order.h
NAMES_SHOWN = 12  # an error names at most so many nodes

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.uint8]


def show(index: IntArray, names: Sequence[Hashable]) -> str:
    shown = ", ".join(repr(names[i]) for i in index[:NAMES_SHOWN].tolist())
    return shown + (f", ... ({len(index) - NAMES_SHOWN} more)" if len(index) > NAMES_SHOWN else "")


def lookup(given: Any, names: Sequence[Hashable], index: dict[Hashable, int] | None, what: str) -> IntArray:
    """Node names to indices, int64; ``index`` None means that names are 0 to N-1."""
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
    """As numpy sees it; rows of unequal length raise."""
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged rows; tensors that numpy cannot read
        raise GraphError(
            f"{what}: expected an array of numbers, got {given!r:.60} ({error}). Check its rows."
        ) from None


def node_count(given: Any) -> int:
    """``num_nodes``, checked before anything of that size is allocated."""
    count = -1 if isinstance(given, bool) or not isinstance(given, int | np.integer) else int(given)
    if not 0 <= count < MAX_NODES:
        raise GraphError(
            f"num_nodes: expected a whole number from 0 to {MAX_NODES - 1}, got {given!r}. "
            "Correct it; a larger network must be several."
        )
    return count


def node_numbers(given: ArrayLike, what: str) -> IntArray:
    array = as_array(given, what)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise GraphError(
            f"{what}: expected a one-dimensional array of integers, got {array.dtype} of shape {list(array.shape)}. "
            "Convert it first."
        )
    return array.astype(np.int64, copy=False)


def column(
    given: ArrayLike | None,
    dtype: Any,
    length: int,
    what: str,
    unit: str,
    detail: Callable[[int], str] = lambda _: "",
) -> Any:
    if given is None:
        return None
    array = as_array(given, what)
    if array.size and array.dtype.kind not in "biuf":
        raise GraphError(f"{what}: expected numbers, got {given!r:.60}. Give one number {unit}.")
    if array.shape != (length,):
        raise GraphError(f"{what}: expected shape [{length}], one {unit}, got {list(array.shape)}. Check its length.")
    allowed = {np.int8: "-1, 0 or 1", np.bool_: "true or false"}.get(dtype, "numbers")
    fits = ~np.isnan(array) if allowed == "numbers" else np.isin(array, (0, 1) if dtype is np.bool_ else (-1, 0, 1))
    if not fits.all():
        first = int(np.flatnonzero(~fits)[0])
        raise GraphError(
            f"{what}: expected {allowed}, got {array[first]} at {unit.split()[-1]} {first}{detail(first)}. "
            f"Correct it or leave {what} out."
        )
    return array.astype(dtype)


def codes(given: Sequence[str], known: tuple[str, ...], what: str, num_nodes: int) -> CodeArray:
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise GraphError(f"{what}: expected a name or a list of names, got {given!r:.60}. Names are those of the docs.")
    names, where = np.unique(np.asarray(given, dtype=str), return_inverse=True)
    if where.shape != (num_nodes,):
        raise GraphError(f"{what}: expected one name or {num_nodes}, one a node, got {where.size}. Check its length.")
    return np.array([code(str(name), known, what) for name in names], np.uint8)[where]


def code(name: Any, known: tuple[str, ...], what: str) -> int:
    if name not in known:
        raise GraphError(f"{what}: expected one of {', '.join(known)}, got {name!r}. Choose one of those.")
    return known.index(name)


def number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if number != number:
        raise GraphError(f"{what}: expected a number, got {value!r}. Correct it or leave the attribute out.")
    return number


def flag(value: Any, what: str) -> bool:
    if not isinstance(value, bool | int | np.bool_) or value not in (0, 1):
        raise GraphError(f"{what}: expected true or false, got {value!r}. Correct it or leave the attribute out.")
    return bool(value)


def sign(value: Any, what: str) -> int:
    if not isinstance(value, int | float | np.number) or value not in (-1, 0, 1):
        raise GraphError(f"{what}: expected -1, 0 or 1, got {value!r}. Correct it or leave the attribute out.")
    return int(value)
