# SPDX-License-Identifier: MIT
"""Reading ``values``, the numbers that colour the nodes of a picture, such as activations for one sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import FloatArray, as_array, show

__all__ = ["read_values"]

_ONE = "Pass the values for one sample, such as net.activations(x[0])."


def read_values(values: Any, graph: Graph) -> FloatArray:
    """Node values ``[N]`` in node order, NaN where a mapping has none.

    Args:
        values: ``[N]`` numbers in node order, or a mapping from node names to numbers; tensors too.
        graph: The wiring.

    Raises:
        InputError: Another length or an unknown name; a batch; what is not a number.
    """
    if not isinstance(values, Mapping):
        found = _numbers(values, "values")
        if found.shape != (graph.num_nodes,):
            raise InputError(
                f"values: expected {graph.num_nodes} numbers, one per node, got shape {list(found.shape)}. {_ONE}"
            )
        return found
    index = {name: i for i, name in enumerate(graph.nodes)}
    unknown = [name for name in values if name not in index]
    if unknown or not values:
        known = show(np.arange(graph.num_nodes), graph.nodes)
        what = f"unknown {shown(unknown[0])}" if unknown else "none"
        raise InputError(f"values: expected names of nodes, got {what}. Use those of this graph: {known}.")
    found = np.full(graph.num_nodes, np.nan)
    for name, value in values.items():
        number = _numbers(value, "values")
        if number.size != 1:
            raise InputError(
                f"values: expected one number per node, got shape {list(number.shape)} for node {shown(name)}. {_ONE}"
            )
        found[index[name]] = number.item()
    return found


def _numbers(given: Any, what: str) -> FloatArray:
    array = as_array(given, what, InputError)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what}: expected numbers, got {shown(given)}. {_ONE}")
    return array.astype(np.float64)
