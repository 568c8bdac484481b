# SPDX-License-Identifier: MIT
"""`Genome`: one network as NEAT sees it, lists of genes; to and from JSON, and as a `freewire.Graph`.

Nodes are numbered as in neat-python: inputs -1, -2, ...; outputs 0, 1, ...; hidden nodes after these. A computed node
is a gene with a bias, an activation and an aggregation. An edge is a gene with the number of the innovation that made
it, its ends, a weight, and whether it is enabled; a disabled edge is not part of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire.errors import FileFormatError, shown
from freewire.graph import Graph
from freewire.graph.arguments import CodeArray, FloatArray, IntArray
from freewire.graph.data import GraphData
from freewire.graph.fields import ACTIVATIONS, AGGREGATIONS

__all__ = ["EDGE_GENES", "NODE_GENES", "Genome"]

#: The arrays of node genes and of edge genes, and their types.
NODE_GENES: dict[str, Any] = {"node": np.int64, "bias": np.float64, "activation": np.uint8, "aggregation": np.uint8}
EDGE_GENES: dict[str, Any] = {
    "innovation": np.int64,
    "source": np.int64,
    "target": np.int64,
    "weight": np.float64,
    "enabled": np.bool_,
}
_REMEDY = "The log is damaged, or not one of a NEAT search."


@dataclass(frozen=True, eq=False)
class Genome:
    """One network's genes. ``n`` computed nodes in order of their numbers, ``e`` edges in order of their innovations.

    Attributes:
        num_inputs: Number of inputs; their numbers are -1, -2, ...
        num_outputs: Number of outputs; their numbers are 0, 1, ..., and each has a gene.
        recurrent: Whether edges may close cycles.
        node: Number of each computed node, int64 ``[n]``.
        bias: Floats ``[n]``.
        activation: Codes into `freewire.graph.ACTIVATIONS`, uint8 ``[n]``.
        aggregation: Codes into `freewire.graph.AGGREGATIONS`, uint8 ``[n]``.
        innovation: Number of each edge's innovation, int64 ``[e]``.
        source: Number of the node where each edge starts, int64 ``[e]``.
        target: Number of the node where it ends, int64 ``[e]``.
        weight: Floats ``[e]``.
        enabled: Booleans ``[e]``.

    Example:
        >>> import freewire as fw
        >>> search = fw.search.NEAT(2, 1, population=10)
        >>> search.start(seed=0)
        >>> genome = fw.search.Genome.from_json(search.propose(0)["genome"])
        >>> genome.graph().nodes, genome.graph().num_edges
        ((-1, -2, 0), 2)
    """

    num_inputs: int
    num_outputs: int
    recurrent: bool
    node: IntArray
    bias: FloatArray
    activation: CodeArray
    aggregation: CodeArray
    innovation: IntArray
    source: IntArray
    target: IntArray
    weight: FloatArray
    enabled: NDArray[np.bool_]

    # ------------------------------------------------------------------ as a graph

    def graph(self) -> Graph:
        """The network as a graph that stores weights and biases; disabled edges are not part of it.

        Nodes are named by their numbers: first the inputs, then the computed nodes in order. The bias of node ``i`` of
        the genome is entry ``i`` of `freewire.Network.bias`, and the weight of its k-th enabled edge is entry
        ``graph.edge_position[k]`` of `freewire.Network.weight`. In a recurrent graph edges from inputs have delay 0 and
        others delay 1, as in neat-python's ``RecurrentNetwork``.
        """
        inputs = self.num_inputs
        used = self.enabled
        no_code = np.zeros(inputs, np.uint8)
        return Graph.from_data(
            GraphData(
                names=(*range(-1, -inputs - 1, -1), *self.node.tolist()),
                src=self._index(self.source[used]),
                dst=self._index(self.target[used]),
                inputs=np.arange(inputs),
                outputs=np.arange(inputs, inputs + self.num_outputs),
                fields={
                    "activation": np.concatenate((no_code, self.activation)),
                    "aggregation": np.concatenate((no_code, self.aggregation)),
                    "bias": np.concatenate((np.full(inputs, np.nan), self.bias)),
                    "weight": self.weight[used],
                },
                recurrent=self.recurrent,
            )
        )

    def _index(self, number: IntArray) -> IntArray:
        """Where nodes are among the inputs and then the computed nodes."""
        return np.where(number < 0, -number - 1, self.num_inputs + np.searchsorted(self.node, number))

    # ------------------------------------------------------------------ as JSON

    def to_json(self) -> dict[str, Any]:
        """Plain values, one list for each array, from which `from_json` makes an equal genome."""
        return {
            "num_inputs": self.num_inputs,
            "num_outputs": self.num_outputs,
            "recurrent": self.recurrent,
            "nodes": {
                "id": self.node.tolist(),
                "bias": self.bias.tolist(),
                "activation": [ACTIVATIONS[code] for code in self.activation.tolist()],
                "aggregation": [AGGREGATIONS[code] for code in self.aggregation.tolist()],
            },
            "edges": {name: getattr(self, name).tolist() for name in EDGE_GENES},
        }

    @classmethod
    def from_json(cls, value: Any) -> Genome:
        """Read a genome, such as ``line["genome"]`` of a search's log.

        Raises:
            FileFormatError: It is not one: lists are missing or of different lengths, a number is not one, an edge's
                end is no node, or genes are not in order.
        """
        sizes = [_item(value, key) for key in ("num_inputs", "num_outputs")]
        recurrent, nodes, edges = (_item(value, key) for key in ("recurrent", "nodes", "edges"))
        whole = all(type(size) is int and 0 < size < 2**31 for size in sizes)
        if not (whole and isinstance(recurrent, bool)):
            raise FileFormatError(
                f"genome: expected numbers of inputs and outputs, and true or false as recurrent, got {shown(sizes)} "
                f"and {shown(recurrent)}. {_REMEDY}"
            )
        arrays: dict[str, Any] = {
            "node": _array(nodes, "id", np.int64),
            "bias": _array(nodes, "bias", np.float64),
            "activation": _codes(nodes, "activation", _ACTIVATION_CODES),
            "aggregation": _codes(nodes, "aggregation", _AGGREGATION_CODES),
            **{name: _array(edges, name, dtype) for name, dtype in EDGE_GENES.items()},
        }
        for names in (NODE_GENES, EDGE_GENES):
            lengths = {name: len(arrays[name]) for name in names}
            if len(set(lengths.values())) > 1:
                raise FileFormatError(f"genome: expected lists of one length, got {shown(lengths)}. {_REMEDY}")
        node, innovation = arrays["node"], arrays["innovation"]
        outputs = np.arange(sizes[1])
        if len(node) < len(outputs) or (node[: len(outputs)] != outputs).any() or (np.diff(node) <= 0).any():
            raise FileFormatError(
                f"genome: expected nodes in order of their numbers, the outputs first, got {shown(node.tolist())}. "
                f"{_REMEDY}"
            )
        if (np.diff(innovation) <= 0).any():
            raise FileFormatError(
                f"genome: expected edges in order of their innovations, got {shown(innovation.tolist())}. {_REMEDY}"
            )
        for name, least in (("source", -sizes[0]), ("target", 0)):
            ends = arrays[name]
            place = np.minimum(np.searchsorted(node, ends), len(node) - 1)
            unknown = ends[(ends < least) | ((ends >= 0) & (node[place] != ends))]
            if len(unknown):
                raise FileFormatError(f"genome: expected nodes of it as {name}, got {unknown[0]}. {_REMEDY}")
        return cls(sizes[0], sizes[1], recurrent, **arrays)


_ACTIVATION_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
_AGGREGATION_CODES = {name: code for code, name in enumerate(AGGREGATIONS)}


def _item(value: Any, key: str) -> Any:
    if not isinstance(value, Mapping) or key not in value:
        raise FileFormatError(f'genome: expected an object with "{key}", got {shown(value)}. {_REMEDY}')
    return value[key]


def _array(genes: Any, key: str, dtype: Any) -> NDArray[Any]:
    """A list of numbers, or of true and false where ``dtype`` is bool."""
    values = _item(genes, key)
    try:
        array = np.array(values) if values else np.zeros(0, dtype)
    except ValueError:  # lists of different lengths
        array = np.zeros(())
    kinds = {np.bool_: "b", np.int64: "i"}.get(dtype, "if")
    right = isinstance(values, list) and array.ndim == 1 and array.dtype.kind in kinds
    if right and (dtype is not np.float64 or np.isfinite(array).all()):
        return array.astype(dtype, copy=False)
    what = {np.bool_: "true or false", np.int64: "whole numbers"}.get(dtype, "finite numbers")
    raise FileFormatError(f'genome: expected a list of {what} as "{key}", got {shown(values)}. {_REMEDY}')


def _codes(genes: Any, key: str, codes: Mapping[str, int]) -> CodeArray:
    """A list of names as their codes."""
    names = _item(genes, key)
    try:
        return np.array([codes[name] for name in names], np.uint8)
    except (KeyError, TypeError):
        raise FileFormatError(
            f'genome: expected a list of functions as "{key}", each one of {", ".join(codes)}, got {shown(names)}. '
            f"{_REMEDY}"
        ) from None
