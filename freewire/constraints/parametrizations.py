# SPDX-License-Identifier: MIT
"""The constraints as torch parametrizations: each maps the numbers that an optimizer changes to a module's weights.

They follow one another in the order `Tied`, `Signed`, `Frozen`. What belongs to the graph (signs, groups, which edges)
is neither a parameter nor a buffer: `to_empty` would leave garbage in it, and a state_dict would repeat it. It stays on
the CPU, with a copy on the device where the weights are. A state_dict holds a hash of it, so that numbers trained under
other constraints are refused.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from freewire.constraints.checks import Groups
from freewire.constraints.spread import spread
from freewire.errors import InputError
from freewire.ops.dtypes import compute_dtype
from freewire.ops.fake import is_abstract

__all__ = ["Constraint", "Frozen", "Signed", "Tied"]

#: What a table of partial sums may have at most, so that it stays in a core's cache, and edges per partial sum.
_PARTIAL_SUMS, _STRETCH = 1 << 16, 1 << 16


class Constraint(nn.Module):
    """One constraint on the weights ``[E]`` of a module.

    Args:
        field: The edge field that it applies.
        tables: Arrays that belong to the graph.
    """

    def __init__(self, field: str, tables: dict[str, NDArray[Any]]) -> None:
        super().__init__()
        self.field = field
        digest = hashlib.sha256(field.encode())
        for array in tables.values():
            digest.update(np.ascontiguousarray(array).data)
        self._hash = digest.digest()[:8]
        with torch.inference_mode(False):  # or no backward could keep them
            self._tables = {name: torch.from_numpy(np.array(array)) for name, array in tables.items()}
        self._placed = self._tables

    def _on(self, like: Tensor) -> dict[str, Tensor]:
        """The tables on a tensor's device, those of floats in the type that its numbers are computed in."""
        first = next(iter(self._placed.values()))
        base = self._placed.get("base")
        if first.device != like.device or (base is not None and base.dtype != compute_dtype(like.dtype)):
            with torch.inference_mode(False):
                self._placed = {
                    name: table.to(like.device, compute_dtype(like.dtype) if name == "base" else None)
                    for name, table in self._tables.items()
                }
        return self._placed

    def is_same(self, other: Constraint) -> bool:
        """Whether another one is the same constraint."""
        return self._hash == other._hash

    def begin(self, weight: Tensor) -> Tensor:
        """The start value that keeps the constraint, from one ``[E]`` that need not."""
        raise NotImplementedError

    def per_edge(self, gradients: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Tensor:
        """Gradients ``[E]`` of the weights, from those of the arguments of `forward` and these arguments."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """A hash of the constraint: 64 bits as the numbers 0.0 and 1.0, which averages of state_dicts keep."""
        with torch.inference_mode(False):
            return torch.from_numpy(np.unpackbits(np.frombuffer(self._hash, np.uint8)).astype(np.float32))

    def set_extra_state(self, state: Any) -> None:
        """Do nothing: the module has called `check_hash` before anything was copied."""

    def check_hash(self, state: Any) -> None:
        """Raise `InputError` for the hash of another constraint."""
        own = self.get_extra_state()
        fits = isinstance(state, Tensor) and state.shape == own.shape
        if not fits or not (is_abstract(state) or bool(((state.cpu().float() - own).abs() < 0.25).all())):
            raise InputError(
                f"state_dict: expected that of a module with the same {self.field} of each edge, got that of another. "
                "Build the module from the graph that was trained."
            )


class Signed(Constraint):
    """Weights that keep their sign: ``weight = sign * |original|``, and ``original`` where an edge is free.

    The original of a weight is at first the weight itself, so stored weights start exactly, and optimizers, weight
    decay and clipping see its true size. A step across 0 is reflected. The slope is 1 or -1 everywhere, at 0 too, so no
    edge stops learning: of relu(original) the gradient is 0 for good once an original is negative, and softplus
    reaches 0 never and flattens on its way there.

    Args:
        sign: -1, 0 or 1 for each edge, ``[E]``.
    """

    def __init__(self, sign: NDArray[np.int8]) -> None:
        super().__init__("sign", {"negative": sign < 0, "signed": sign != 0})

    def forward(self, original: Tensor) -> Tensor:
        """The weights ``[E]`` of numbers ``[E]``."""
        return original * self._slope(original)

    def begin(self, weight: Tensor) -> Tensor:
        """Weights of the other sign get theirs."""
        return self(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The weights themselves; `InputError` if one has the other sign."""
        if not is_abstract(weight) and bool((wrong := (self._slope(weight) < 0) & (weight != 0)).any()):
            edge = int(wrong.nonzero()[0])
            raise InputError(
                f"weight: expected the sign {'-' if self._tables['negative'][edge] else '+'}1 at edge {edge}, got "
                f"{weight[edge].item():g}. Give it its sign, or remove that constraint."
            )
        return weight.clone()

    def per_edge(self, gradients: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Tensor:
        """Those of the weights."""
        return gradients[0] * self._slope(values[0])

    def extra_repr(self) -> str:
        """What ``print(net)`` shows."""
        negative, kept = (int(table.sum()) for table in self._tables.values())
        return f"{kept - negative:,} positive, {negative:,} negative, of {len(self._tables['signed']):,} edges"

    def _slope(self, original: Tensor) -> Tensor:
        """What turns numbers into weights: -1 where their sign is the other one, else 1."""
        tables = self._on(original)
        other = ((original < 0) ^ tables["negative"]) & tables["signed"]
        return other.to(original.dtype).mul_(-2).add_(1)  # in half the time of torch.where


class Frozen(Constraint):
    """Weights that never change: they are in the buffer ``value``, which no optimizer steps; their gradient is 0.

    Args:
        mask: Which edges, ``[E]``; at least one.
        like: A tensor of the weights' type, on their device.
    """

    value: Tensor

    def __init__(self, mask: NDArray[np.bool_], like: Tensor) -> None:
        super().__init__("frozen", {"index": np.flatnonzero(mask)})
        self.num_edges = len(mask)
        self.register_buffer("value", torch.empty(len(self._tables["index"]), dtype=like.dtype, device=like.device))

    def forward(self, original: Tensor) -> Tensor:
        """The weights ``[E]`` of numbers ``[E]``."""
        return original.index_copy(0, self._on(original)["index"], self.value)

    def begin(self, weight: Tensor) -> Tensor:
        """Freeze these weights."""
        self.value.copy_(weight.index_select(0, self._on(weight)["index"]))
        return weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The weights themselves, which are frozen at their new values."""
        return self.begin(weight).clone()

    def per_edge(self, gradients: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Tensor:
        """0 at frozen weights."""
        return gradients[0].index_fill(0, self._on(gradients[0])["index"], 0)

    def extra_repr(self) -> str:
        """What ``print(net)`` shows."""
        return f"{len(self.value):,} of {self.num_edges:,} edges"


class Tied(Constraint):
    """Weights of groups that share a scale each: ``weight = base * scale[group]``; the others are free.

    The parameters are ``scale [groups]``, in the order of the groups' numbers, and where there are free edges their
    weights ``[free edges]`` in canonical order. The gradient of a scale is the sum over its edges. It is summed in
    float32 where the weights have 16 bits, and in parts: edges are divided into stretches, each with a copy of the
    scales, since millions of numbers added one by one would lose digits.

    Args:
        groups: The groups of all edges.
    """

    def __init__(self, groups: Groups) -> None:
        of_edge, num_groups, num_edges = groups.of_edge, len(groups.numbers), len(groups.of_edge)
        free = np.flatnonzero(of_edge < 0)
        copies = max(1, min(num_edges // _STRETCH, _PARTIAL_SUMS // num_groups))
        stretch = -(-num_edges // copies)
        index = np.maximum(of_edge, 0)
        for k in range(1, copies):
            index[k * stretch : (k + 1) * stretch] += k * num_groups
        tables: dict[str, NDArray[Any]] = {"index": index.astype(np.int32), "lead": groups.lead}
        if len(free):
            tables["free"] = free
        if (groups.base != 1.0).any():
            tables["base"] = groups.base
        super().__init__("group", tables)
        self._copies, self.num_groups = copies, num_groups

    def forward(self, scale: Tensor, free: Tensor | None = None) -> Tensor:
        """The weights ``[E]`` of the scales ``[groups]`` and of the free edges' weights."""
        tables = self._on(scale)
        table = self._repeated(scale.to(compute_dtype(scale.dtype)))
        weight = spread(table, tables["index"], tables.get("base"), scale.dtype)
        return weight if free is None else weight.index_copy(0, tables["free"], free)

    def begin(self, weight: Tensor) -> Tensor:
        """The weights of each group follow that of one edge: the first that has a stored weight, else the first."""
        return self(*self._parts(weight))

    def right_inverse(self, weight: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The scales, and the free edges' weights; `InputError` if the weights of a group are not tied."""
        parts = self._parts(weight)
        if not is_abstract(weight):
            rounding = 8 * torch.finfo(weight.dtype).eps
            wrong = ~torch.isclose(self(*parts), weight, rtol=rounding, atol=0.0, equal_nan=True)
            if bool(wrong.any()):
                edge = int(wrong.nonzero()[0])
                raise InputError(
                    f"weight: expected base * scale for all edges of a group, got {weight[edge].item():g} at edge "
                    f"{edge}, which differs. Set the scales: net.parametrizations.weight.original"
                    f"{'0' if len(parts) > 1 else ''}."
                )
        return parts[0] if len(parts) == 1 else (parts[0], parts[1])

    def per_edge(self, gradients: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Tensor:
        """Those of the scales, and of the free edges' weights."""
        tables = self._on(gradients[0])
        gradient = self._repeated(gradients[0]).index_select(0, tables["index"])
        return gradient if len(gradients) == 1 else gradient.index_copy(0, tables["free"], gradients[1])

    def extra_repr(self) -> str:
        """What ``print(net)`` shows."""
        free = len(self._tables.get("free", ()))
        return f"{self.num_groups:,} groups, {free:,} of {len(self._tables['index']):,} edges free"

    def _repeated(self, scale: Tensor) -> Tensor:
        return scale.repeat(self._copies) if self._copies > 1 else scale

    def _parts(self, weight: Tensor) -> tuple[Tensor, ...]:
        tables = self._on(weight)
        scale = weight.index_select(0, tables["lead"])
        if "base" in tables:
            base = tables["base"].index_select(0, tables["lead"])
            scale = (scale.to(base.dtype) / base).to(weight.dtype)
        return (scale, weight.index_select(0, tables["free"])) if "free" in tables else (scale,)
