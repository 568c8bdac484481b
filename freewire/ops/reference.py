# SPDX-License-Identifier: MIT
"""The slow, obvious network: what the kernels must compute, written in plain torch operations.

Enters: a wiring, x and parameters, of any floating type on any device. Leaves: node values, differentiable in every
way torch knows. It is the yardstick of the tests, and stands in for the kernels where torch asks for what a compiled
operator does not have: forward-mode derivatives and derivatives of the backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from freewire.errors import InputError
from freewire.graph import ACTIVATIONS, AGGREGATIONS, Graph
from freewire.plan.plan import unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from freewire.nn.network import Network

_FUNCTIONS = {
    "linear": lambda z: z,
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.01),
    "elu": functional.elu,
    "selu": torch.selu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "gaussian": lambda z: torch.exp(-z * z),
    "abs": torch.abs,
    "square": torch.square,
    "step": lambda z: torch.relu(torch.sign(z)),  # (z > 0), with a gradient that is there, and 0
    "hard_tanh": functional.hardtanh,
    # Not torch's function: its float64 derivative is a sixth rounded to float32.
    "hard_sigmoid": lambda z: functional.hardtanh(z + 3, 0, 6) / 6,
}


@dataclass(frozen=True)
class Wiring:
    """A graph in evaluation order: row r is a node, inputs first, sources before their readers."""

    num_inputs: int
    #: First row of each level, and one past the last row.
    level_ptr: NDArray[np.int64]
    #: Source row, destination row and weight entry of each edge, destinations ascending, canonical within one.
    src: NDArray[np.int64]
    dst: NDArray[np.int64]
    edge: NDArray[np.int64]
    #: Codes and bias entry of each row that is no input.
    activation: NDArray[np.int64]
    aggregation: NDArray[np.int64]
    bias_index: NDArray[np.int64]

    @classmethod
    def of_graph(cls, graph: Graph) -> tuple[Wiring, NDArray[np.int64]]:
        """Every node of a graph, dead ones too; also the row of each node."""
        computed = graph.computed_index
        by_level = np.argsort(graph.level[computed], kind="stable")
        node = np.concatenate((graph.input_index, computed[by_level]))
        row = np.empty(graph.num_nodes, np.int64)
        row[node] = np.arange(graph.num_nodes)
        src, dst = row[graph.edge_index]
        level_ptr = np.searchsorted(graph.level[node], np.arange(graph.depth + 2))
        computed_node = node[len(graph.input_index) :]
        wiring = cls(
            len(graph.input_index),
            level_ptr,
            src,
            dst,
            np.arange(graph.num_edges),
            graph.activation[computed_node].astype(np.int64),
            graph.aggregation[computed_node].astype(np.int64),
            by_level,
        )
        return wiring, row

    @classmethod
    def of_plan(cls, packed: NDArray[np.int64]) -> tuple[Wiring, NDArray[np.int64]]:
        """The live nodes of a packed plan; also the row of each output."""
        plan = unpack(packed)
        fan_in = plan["in_end"] - plan["in_begin"]
        num_inputs = len(plan["out_split"]) - len(fan_in)
        dst = np.repeat(np.arange(len(fan_in)), fan_in)
        edge = np.arange(len(dst)) + np.repeat(plan["in_begin"] - (np.cumsum(fan_in) - fan_in), fan_in)
        wiring = cls(
            num_inputs,
            plan["level_ptr"],
            plan["in_src"][edge].astype(np.int64),
            dst + num_inputs,
            edge,
            plan["activation"].astype(np.int64),
            plan["aggregation"].astype(np.int64),
            plan["bias_index"].astype(np.int64),
        )
        return wiring, plan["output_slot"].astype(np.int64)


class _Stored(torch.autograd.Function):
    """A value as another type stores it; derivatives pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype).to(value.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: Any) -> Tensor:
        return tangent.view_as(tangent)


def evaluate(
    wiring: Wiring, x: Tensor, weight: Tensor, bias: Tensor | None, stored: torch.dtype | None = None
) -> Tensor:
    """The value of every row, ``[B, rows]``.

    Args:
        wiring: The network.
        x: ``[B, I]``.
        weight: ``[E]``, of x's type and device.
        bias: ``[computed nodes]`` or None.
        stored: A type that every node's value is rounded to; None: x's.
    """
    values = x
    for begin, end in zip(wiring.level_ptr[:-1].tolist(), wiring.level_ptr[1:].tolist(), strict=True):
        begin = max(begin, wiring.num_inputs)
        if begin < end:
            level = _level(wiring, values, weight, bias, begin, end)
            if stored not in (None, x.dtype):
                level = _Stored.apply(level, stored)
            values = torch.cat((values, level), dim=1)
    return values


def _level(wiring: Wiring, values: Tensor, weight: Tensor, bias: Tensor | None, begin: int, end: int) -> Tensor:
    """Values of the rows ``[begin, end)``, which read only rows that stand in ``values``: ``[B, end - begin]``."""

    def index(array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), device=values.device)

    first, last = np.searchsorted(wiring.dst, (begin, end))
    edges = slice(first, last)
    terms = values.index_select(1, index(wiring.src[edges])) * weight.index_select(0, index(wiring.edge[edges]))
    own = slice(begin - wiring.num_inputs, end - wiring.num_inputs)
    columns, order = [], []
    for code in np.unique(wiring.aggregation[own]):
        nodes = np.flatnonzero(wiring.aggregation[own] == code)
        columns.append(_aggregate(AGGREGATIONS[code], terms, wiring.dst[edges] - begin, nodes, index))
        order.append(nodes)
    z = torch.cat(columns, 1).index_select(1, index(np.argsort(np.concatenate(order))))
    if bias is not None:
        z = z + bias.index_select(0, index(wiring.bias_index[own]))
    columns, order = [], []
    for code in np.unique(wiring.activation[own]):
        nodes = np.flatnonzero(wiring.activation[own] == code)
        columns.append(_FUNCTIONS[ACTIVATIONS[code]](z.index_select(1, index(nodes))))
        order.append(nodes)
    return torch.cat(columns, 1).index_select(1, index(np.argsort(np.concatenate(order))))


def _aggregate(
    name: str,
    terms: Tensor,
    dst: NDArray[np.int64],
    nodes: NDArray[np.int64],
    index: Callable[[NDArray[Any]], Tensor],
) -> Tensor:
    """Aggregate ``terms [B, E]`` of edges into ``dst`` (ascending) for some ``nodes``: ``[B, len(nodes)]``."""
    begin, end = np.searchsorted(dst, nodes), np.searchsorted(dst, nodes, side="right")
    fan_in = end - begin
    total = terms.new_zeros(terms.shape[0], len(nodes))
    if name in ("sum", "mean"):
        edges = np.flatnonzero(np.isin(dst, nodes))
        at = np.searchsorted(nodes, dst[edges])
        total = total.index_add(1, index(at), terms.index_select(1, index(edges)))
        return total / index(np.maximum(fan_in, 1)) if name == "mean" else total
    # The k-th terms of all nodes side by side; a node with fewer repeats its first, which `some` then passes over.
    longest = int(fan_in.max(initial=0))
    some = np.arange(longest)[:, None] < fan_in
    edges = np.where(some, begin + np.arange(longest)[:, None], begin)[:, fan_in > 0]
    columns = terms.index_select(1, index(edges.ravel())).unflatten(1, edges.shape).unbind(1)
    for k, term in enumerate(columns):
        if k == 0:
            best = term
        elif name == "product":
            best = torch.where(index(some[k, fan_in > 0]), best * term, best)
        else:  # strict, so that the first edge keeps a tie; a NaN always wins
            best = torch.where(_beats(name, term, best) | term.isnan(), term, best)
    return total.index_copy(1, index(np.flatnonzero(fan_in)), best) if longest else total


def _beats(name: str, term: Tensor, best: Tensor) -> Tensor:
    if name == "max":
        return term > best
    if name == "min":
        return term < best
    return term.abs() > best.abs()


def check_features(x: Tensor, num_inputs: int) -> None:
    """Raise unless x is a tensor ``[..., num_inputs]``."""
    if not isinstance(x, Tensor):
        raise InputError(f"x: expected a torch.Tensor, got {type(x).__name__}. Convert it: torch.as_tensor(x).")
    if x.dim() == 0 or x.shape[-1] != num_inputs:
        raise InputError(
            f"x: expected shape [..., {num_inputs}], one feature an input, got {list(x.shape)}. "
            "Put the features last; net.graph.inputs names them in order."
        )


def reference(net: Network, x: Tensor) -> Tensor:
    """What ``net(x)`` means, computed by plain torch operations, level by level.

    Slow, and differentiable in every way; use it to check a result, not to train.

    Args:
        net: The network; its parameters are converted to x's type.
        x: ``[..., I]``, any floating type, on the network's device.

    Returns:
        ``[..., O]`` in x's type.

    Raises:
        InputError: Another number of features.

    Example:
        >>> import torch, freewire as fw
        >>> net = fw.Network(fw.generators.mlp([3, 4, 2]))
        >>> x = torch.randn(5, 3)
        >>> torch.allclose(fw.reference(net, x.double()).float(), net(x), atol=1e-5)
        True
    """
    check_features(x, len(net.graph.inputs))
    wiring, row = Wiring.of_graph(net.graph)
    bias = None if net.bias is None else net.bias.to(x.dtype)
    flat = x.reshape(x.shape[:-1].numel(), x.shape[-1])
    values = evaluate(wiring, flat, net.weight.to(x.dtype), bias)
    outputs = torch.as_tensor(row[net.graph.output_index], device=x.device)
    return values.index_select(1, outputs).reshape(*x.shape[:-1], len(outputs))
