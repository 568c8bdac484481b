# SPDX-License-Identifier: MIT
"""A network in plain torch operations, level by level: what the kernels must compute.

It reads a wiring (of a graph, or of a packed plan), x and parameters of any floating type on any device, and returns
node values that are differentiable in every way torch knows. Tests compare the kernels with it, and the operators run
it where torch asks for what they do not have: forward-mode derivatives and derivatives of the backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.nn import functional

from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.ops.dtypes import compute_dtype
from freewire.ops.eager import eager
from freewire.ops.fake import is_abstract
from freewire.plan.packed import SIZE_WORDS, PackedPlan
from freewire.plan.steps import StepGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ACTIVATION_FUNCTIONS",
    "Wiring",
    "node_values",
    "plan_words",
    "reference_of_members",
    "reference_of_packed_plan",
]

_Function = Callable[[Tensor], Tensor]
# Where a packed plan has these sizes.
_NUM_EDGES, _NUM_BIASES = (SIZE_WORDS[name] for name in ("num_edges", "num_biases"))

#: Klambauer et al. 2017, Self-Normalizing Neural Networks, section 2.
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def _gaussian(z: Tensor) -> Tensor:
    """exp(-z^2), whose derivative at an infinite z is 0, not 0 x infinity."""
    infinite = z.isinf()
    finite = z.masked_fill(infinite, 0)
    return torch.exp(-finite * finite).masked_fill(infinite, 0)


def _hard_sigmoid(z: Tensor) -> Tensor:
    """Torch's hard sigmoid, whose derivative at a NaN is 0; but in float64 torch's is a sixth rounded to float32."""
    missing = z.isnan()
    return functional.hardtanh(z.masked_fill(missing, 0) + 3, 0, 6).div(6).masked_fill(missing, math.nan)


def _either(condition: Tensor, z: Tensor, then: _Function, otherwise: _Function) -> Tensor:
    """``then(z)`` where the condition holds, and ``otherwise(z)`` elsewhere.

    Each function is computed at 0 instead of where the other one is used, since a gradient of 0 times an infinite or
    missing derivative would be NaN.
    """
    return torch.where(condition, then(z.masked_fill(~condition, 0)), otherwise(z.masked_fill(condition, 0)))


def _linear(z: Tensor) -> Tensor:
    return z


def _elu(z: Tensor) -> Tensor:
    """Torch's elu, whose derivative at a NaN is 1: torch's depends on where in memory the NaN is."""
    return _either(z.isnan(), z, _linear, functional.elu)


def _selu(z: Tensor) -> Tensor:
    """Torch's selu, whose derivative at a NaN is the scale.

    Autograd multiplies the gradient by 1.758 before it multiplies by e^z. It is done in two halves, which are added
    afterwards, so that this does not overflow.
    """
    half = SELU_SCALE * SELU_ALPHA / 2
    return _either(z <= 0, z, lambda z: half * functional.elu(z) + half * functional.elu(z), lambda z: SELU_SCALE * z)


def _gelu(z: Tensor) -> Tensor:
    """Torch's gelu, which in float32 is NaN at infinity and infinite from half of the largest number on.

    Past 100 both Phi(z) and sigmoid(z) are exactly 1 in every type.
    """
    return _either(z > 100, z, functional.silu, functional.gelu)


def _softplus(z: Tensor) -> Tensor:
    """Torch's softplus, which multiplies the gradient by e^z before it divides by 1 + e^z; that may overflow."""
    return _either(z > 20, z, _linear, lambda z: -functional.logsigmoid(-z))


def _hard_tanh(z: Tensor) -> Tensor:
    """Torch's hard tanh, whose derivative at a NaN is 1: torch's depends on where in memory the NaN is."""
    return _either(z.isnan(), z, _linear, functional.hardtanh)


#: Each of `ACTIVATIONS` in torch operations.
ACTIVATION_FUNCTIONS: dict[str, _Function] = {
    "linear": _linear,
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.01),
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": functional.silu,
    "softplus": _softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "gaussian": _gaussian,
    "abs": torch.abs,
    "square": lambda z: z * z,  # not torch.square, since the derivative of that, 2 z, may be infinite
    "step": lambda z: torch.relu(torch.sign(z)),  # z > 0, but with a gradient, which is 0
    "hard_tanh": _hard_tanh,
    "hard_sigmoid": _hard_sigmoid,
}


@dataclass(frozen=True)
class Wiring:
    """A graph in evaluation order: a row per node, inputs first, sources before their readers."""

    num_inputs: int
    #: First row of each level, and one past the last row.
    level_ptr: NDArray[np.int64]
    #: Source row, destination row and weight entry of each edge: by destination, canonical order within one.
    src: NDArray[np.int64]
    dst: NDArray[np.int64]
    edge: NDArray[np.int64]
    #: Codes of activation and aggregation, and bias entry, of each computed row.
    activation: NDArray[np.int64]
    aggregation: NDArray[np.int64]
    bias_index: NDArray[np.int64]

    @classmethod
    def of_step(cls, step: StepGraph) -> tuple[Wiring, NDArray[np.int64]]:
        """The inputs of a step and the nodes that it keeps; also the row of each node, -1 for the others.

        The others have no part in the outputs, but would turn a gradient of 0 into NaN where they are infinite.
        """
        kept = np.flatnonzero(step.keep)
        computed = kept[np.argsort(step.level[kept], kind="stable")]
        node = np.concatenate((step.inputs, computed))
        row = np.full(len(step.level), -1)
        row[node] = np.arange(len(node))
        src, dst = step.edge_index
        edge = np.flatnonzero(row[dst] >= 0)  # its source is kept too
        level = step.level[node]
        wiring = cls(
            len(step.inputs),
            np.searchsorted(level, np.arange(level.max(initial=0) + 2)),
            row[src[edge]],
            row[dst[edge]],
            edge,
            step.activation[computed].astype(np.int64),
            step.aggregation[computed].astype(np.int64),
            step.bias_entry[computed],
        )
        return wiring, row

    @classmethod
    def of_plan(cls, packed: NDArray[np.int64]) -> tuple[Wiring, NDArray[np.int64]]:
        """The live nodes of a packed plan; also the row of each output."""
        plan = PackedPlan(packed).sections
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


class _Rounded(torch.autograd.Function):
    """A value rounded to another type; derivatives pass unchanged."""

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


def node_values(
    wiring: Wiring, x: Tensor, weight: Tensor, bias: Tensor | None, stored: torch.dtype | None = None
) -> Tensor:
    """The value of every row, ``[B, rows]``.

    Args:
        wiring: The network.
        x: ``[B, I]``.
        weight: ``[E]``, of x's type and device.
        bias: ``[computed nodes]`` or None.
        stored: The type that every node's value is rounded to; None: x's type.
    """
    values = x
    for begin, end in zip(wiring.level_ptr[:-1].tolist(), wiring.level_ptr[1:].tolist(), strict=True):
        begin = max(begin, wiring.num_inputs)
        if begin < end:
            level = _level(wiring, values, weight, bias, begin, end)
            if stored not in (None, x.dtype):
                level = _Rounded.apply(level, stored)
            values = torch.cat((values, level), dim=1)
    return values


def _level(wiring: Wiring, values: Tensor, weight: Tensor, bias: Tensor | None, begin: int, end: int) -> Tensor:
    """Values of the rows ``[begin, end)``, which read only rows of ``values``: ``[B, end - begin]``."""

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
        columns.append(ACTIVATION_FUNCTIONS[ACTIVATIONS[code]](z.index_select(1, index(nodes))))
        order.append(nodes)
    return torch.cat(columns, 1).index_select(1, index(np.argsort(np.concatenate(order))))


def _aggregate(
    name: str,
    terms: Tensor,
    dst: NDArray[np.int64],
    nodes: NDArray[np.int64],
    index: Callable[[NDArray[Any]], Tensor],
) -> Tensor:
    """Aggregates of some ``nodes`` from the ``terms [B, E]`` of edges into ``dst`` (ascending): ``[B, len(nodes)]``."""
    begin, end = np.searchsorted(dst, nodes), np.searchsorted(dst, nodes, side="right")
    fan_in = end - begin
    total = terms.new_zeros(terms.shape[0], len(nodes))
    if name in ("sum", "mean"):
        edges = np.flatnonzero(np.isin(dst, nodes))
        at = np.searchsorted(nodes, dst[edges])
        total = total.index_add(1, index(at), terms.index_select(1, index(edges)))
        return total / index(np.maximum(fan_in, 1)) if name == "mean" else total
    # The k-th terms of all nodes side by side. A node with fewer terms repeats its first, which `some` excludes: before
    # the multiplication, since a gradient of 0 times an infinite term would be a NaN.
    longest = int(fan_in.max(initial=0))
    some = np.arange(longest)[:, None] < fan_in
    edges = np.where(some, begin + np.arange(longest)[:, None], begin)[:, fan_in > 0]
    columns = terms.index_select(1, index(edges.ravel())).unflatten(1, edges.shape).unbind(1)
    for k, term in enumerate(columns):
        if k == 0:
            best = term
        elif name == "product":
            best = best * torch.where(index(some[k, fan_in > 0]), term, 1)
        else:  # a strict comparison, so that the first edge wins a tie; a NaN always wins, and the first of several
            best = torch.where(_REPLACES[name](term, best) | (term.isnan() & ~best.isnan()), term, best)
    return total.index_copy(1, index(np.flatnonzero(fan_in)), best) if longest else total


#: Aggregation -> whether a term replaces the best one before it.
_REPLACES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "max": lambda term, best: term > best,
    "min": lambda term, best: term < best,
    "maxabs": lambda term, best: term.abs() > best.abs(),
}


@eager  # it reads the plan with numpy
def reference_of_packed_plan(packed_plan: Tensor, num_outputs: int) -> Callable[..., Tensor]:
    """The network of a packed plan in plain torch operations: ``(x, weight, bias=None)`` to outputs ``[B, O]``.

    As in the kernels, sums are float32 where 16 bits store the numbers, and every node's value is rounded. A plan
    without memory, on the meta device or fake, has no wiring to read: the result then has the right shapes only.
    """
    words = plan_words(packed_plan)
    if words is None:
        return partial(_shapes_only, num_outputs)
    return _reference_of_words(words)


def plan_words(packed: Tensor) -> NDArray[np.int64] | None:
    """Packed plans, or their table, as an array, also inside transforms; None where the tensor has no values."""
    while is_functorch_wrapped_tensor(packed):
        packed = get_unwrapped(packed)
    if is_abstract(packed):
        return None
    with torch._C._DisableFuncTorch():  # inside a transform even .cpu() returns a wrapped tensor, without memory
        return packed.detach().cpu().numpy()


@eager
def reference_of_members(
    plans: Tensor, table: Tensor, num_outputs: int
) -> list[tuple[Callable[..., Tensor], slice, slice]] | None:
    """Each member of a population as `reference_of_packed_plan`, its weights and its biases; None as `plan_words`."""
    words, rows = plan_words(plans), plan_words(table)
    if words is None or rows is None:
        return None
    found = []
    for first, weight, bias, _ in rows.tolist():
        own = words[first : first + int(words[first + 1])]
        num_edges, num_biases = own[_NUM_EDGES], own[_NUM_BIASES]
        found.append((_reference_of_words(own), slice(weight, weight + num_edges), slice(bias, bias + num_biases)))
    return found


def _reference_of_words(words: NDArray[np.int64]) -> Callable[..., Tensor]:
    wiring, outputs = Wiring.of_plan(words)

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        wide = compute_dtype(x.dtype)
        biases = None if bias is None else bias.to(wide)
        values = node_values(wiring, x.to(wide), weight.to(wide), biases, stored=x.dtype)
        return values.index_select(1, torch.as_tensor(outputs, device=x.device)).to(x.dtype)

    return run


def _shapes_only(num_outputs: int, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A tensor of the outputs' shape of which every derivative depends on every argument, as a network's does."""
    total = x.sum(1, keepdim=True) + weight.sum() + (0 if bias is None else bias.sum())
    return torch.sin(total).repeat(1, num_outputs)
