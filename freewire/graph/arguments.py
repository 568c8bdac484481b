# SPDX-License-Identifier: MIT
"""Reading the arguments that describe a graph: node names, node numbers, counts and arrays.

Each function accepts what callers may pass and returns numpy arrays of one type, or raises a `GraphError` that names
the argument. Values of edges and nodes are read by `freewire.graph.fields`. Rules of the whole package are here
too: what counts as a whole number (`whole`), which text is a number (`plain`), that a set has no order
(`check_ordered`), and checks of single numbers that every package uses with its own class of error.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from freewire.errors import FreewireError, GraphError, cut, shown

MAX_NODES = 2**31  # slots are 32-bit numbers
MAX_EDGES = 2**33  # kMaxEdges of csrc/planner/order.h
NAMES_SHOWN = 12  # the most nodes that an error names

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.uint8]


def show(index: IntArray, names: Sequence[Hashable]) -> str:
    """The names of these nodes, for an error."""
    listed = ", ".join(shown(names[i]) for i in index[:NAMES_SHOWN].tolist())
    return listed + (f", ... ({len(index) - NAMES_SHOWN} more)" if len(index) > NAMES_SHOWN else "")


def whole(value: Any) -> int | None:
    """A whole number of any type (Python's, numpy's, a tensor without dimensions) as an int, or None.

    Booleans and floats are not whole numbers, not even 3.0. A tensor of one entry is a list of it.
    """
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return None if is_tensor(value) and value.ndim else operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # torch raises the last two
        return None


def check_whole(
    name: str,
    value: Any,
    least: int,
    remedy: str,
    most: int | None = None,
    error: type[FreewireError] = GraphError,
) -> int:
    """The argument ``name`` as an int; ``error`` unless it is a whole number from ``least`` to ``most``."""
    number = whole(value)
    if number is None or number < least:
        raise error(f"{name}: expected a whole number of at least {least}, got {shown(value)}. {remedy}")
    if most is not None and number > most:
        raise error(f"{name}: expected a whole number of at most {most}, got {shown(value)}. {remedy}")
    return number


def check_number(name: str, value: Any, expected: str, remedy: str, error: type[FreewireError] = GraphError) -> float:
    """The argument ``name`` as a float; ``error``, which asks for what is ``expected``, unless it is a number."""
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if number != number:
        raise error(f"{name}: expected {expected}, got {shown(value)}. {remedy}")
    return number


def check_probability(name: str, value: Any, error: type[FreewireError] = GraphError) -> float:
    """The argument ``name`` as a float; ``error`` unless it is a number from 0 to 1."""
    number: Any = value if isinstance(value, Real) and not isinstance(value, bool) else -1
    if not 0 <= number <= 1:
        raise error(f"{name}: expected a probability from 0 to 1, got {shown(value)}. Choose one in that range.")
    return float(number)


def check_flag(name: str, value: Any) -> bool:
    """The argument ``name`` as a bool; `GraphError` unless it is one."""
    if not isinstance(value, bool | np.bool_):
        raise GraphError(f"{name}: expected True or False, got {shown(value)}. Correct it.")
    return bool(value)


def check_ordered(given: Any, what: str, error: type[FreewireError] = GraphError) -> None:
    """Raise ``error`` for a set given as argument ``what``, whose order counts.

    The order of a set of strings differs from one process to the next. Dictionaries, their keys and networkx's views
    keep an order, and so does a subclass of set that can be reversed.
    """
    if isinstance(given, set | frozenset) and not hasattr(given, "__reversed__"):
        raise error(
            f"{what}: expected a list or another collection with an order, got a {type(given).__name__}. Its "
            "order may change from run to run: pass a list, such as sorted(...) of it."
        )


def distinct_names(given: Iterable[Hashable], count: int) -> tuple[Hashable, ...]:
    """The argument ``names`` as ``count`` different node names."""
    check_ordered(given, "names")
    names = tuple(given)
    try:
        different = len(set(names))
    except TypeError as error:
        raise GraphError(f"names: expected names that can be hashed, got others ({cut(error)}). Use text.") from None
    if not len(names) == different == count:
        raise GraphError(
            f"names: expected {count} different names, got {len(names)}, {different} of them different. "
            "Pass one per node."
        )
    return names


def lookup(given: Any, names: Sequence[Hashable], index: Mapping[Hashable, int] | None, what: str) -> IntArray:
    """Convert the node names of argument ``what`` to indices, int64.

    Args:
        given: Node names; an array or list of node numbers where ``index`` is None.
        names: All node names.
        index: Index of each name; None where names are 0 to N-1.
        what: Name of the argument.
    """
    check_ordered(given, what)
    if is_tensor(given):
        given = as_array(given, what)
    if isinstance(given, str | bytes) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise GraphError(f"{what}: expected a list of node names, got {shown(given)}. Put it into a list.")
    if index is None:
        numbers = node_numbers(given if isinstance(given, np.ndarray | list | tuple | range) else list(given), what)
        unknown = numbers[(numbers < 0) | (numbers >= len(names))]
        if len(unknown):
            remedy = "Correct it." if unknown[0] < 0 else "Correct it or raise num_nodes."
            raise GraphError(f"{what}: expected node numbers from 0 to {len(names) - 1}, got {unknown[0]}. {remedy}")
        return numbers
    found = []
    for name in given:
        try:
            found.append(index[name])
        except (KeyError, TypeError):  # TypeError: a name that cannot be hashed, perhaps only in part
            raise GraphError(
                f"{what}: expected nodes of the graph, got {shown(name)}. Add it to the graph or correct the name."
            ) from None
    return np.array(found, np.int64)


def as_array(given: Any, what: str, error: type[FreewireError] = GraphError) -> NDArray[Any]:
    """Convert argument ``what`` to an array.

    Args:
        given: What numpy converts; torch tensors of any type, layout and device, with a gradient or without.
        what: Name of the argument.
        error: What to raise.

    Raises:
        GraphError: Rows of unequal length, a set, a tensor without values (on the meta device), or masked entries.
    """
    check_ordered(given, what, error)
    if np.ma.is_masked(given):
        raise error(f"{what}: expected a value everywhere, got an array with masked entries. Fill them first.")
    try:
        return _tensor_values(given) if is_tensor(given) else np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as caught:
        reason = caught
    tensors = [part for part in (given if isinstance(given, list | tuple) else [given]) if is_tensor(part)]
    if any(tensor.is_meta for tensor in tensors):
        raise error(f"{what}: expected values, got a tensor on the meta device, which has none. Pass one with values.")
    if tensors and not is_tensor(given):  # such as numbers of type bfloat16, or with gradients
        try:
            return np.asarray([_tensor_values(part) if is_tensor(part) else part for part in given])
        except (ValueError, TypeError, RuntimeError) as caught:
            reason = caught
    remedy = "Check its rows." if isinstance(reason, ValueError) else "Convert it to a numpy array first."
    raise error(f"{what}: expected an array of numbers, got {shown(given)} ({cut(reason)}). {remedy}")


def is_tensor(given: Any) -> bool:
    """Whether it is a torch tensor, recognised by its methods so that torch is not imported here."""
    return hasattr(given, "detach") and hasattr(given, "layout")


def _tensor_values(tensor: Any) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    try:
        return tensor.resolve_conj().resolve_neg().numpy()
    except TypeError:
        if not tensor.dtype.is_floating_point:
            raise
        return tensor.double().numpy()  # bfloat16, say, which numpy does not have


def node_count(given: Any) -> int:
    """Check ``num_nodes``, before anything of that size is allocated."""
    count = whole(given)
    if count is None or not 0 <= count < MAX_NODES:
        raise GraphError(
            f"num_nodes: expected a whole number from 0 to {MAX_NODES - 1}, got {shown(given)}. "
            "Correct it, or split the network."
        )
    return count


def node_numbers(given: ArrayLike, what: str) -> IntArray:
    """Convert argument ``what`` to int64; only a one-dimensional array of integers is accepted."""
    if isinstance(given, Iterator):
        raise GraphError(f"{what}: expected a one-dimensional array of integers, got {shown(given)}. Make it a list.")
    array = as_array(given, what)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise GraphError(
            f"{what}: expected a one-dimensional array of integers, got {cut(array.dtype)} of shape "
            f"{list(array.shape)}. Convert it first."
        )
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise GraphError(f"{what}: expected numbers below 2**63, got {array.max()}. Correct it.")
    return array.astype(np.int64, copy=False)


def plain(text: str) -> str:
    """Return text of a number; ValueError if it has underscores or digits of other scripts, as Python allows."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return text


def as_number(value: Any) -> float:
    """Convert a number, or plain text of one, to a float; ValueError for a boolean, NaN, and digits beyond float64."""
    found = float(plain(value) if isinstance(value, str) else value)
    if found != found or isinstance(value, bool | np.bool_):
        raise ValueError(value)
    if isinstance(value, str) and found in (np.inf, -np.inf) and "inf" not in value.lower():
        raise ValueError(value)
    return found
