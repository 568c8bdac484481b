# SPDX-License-Identifier: MIT
"""The plan: what the kernels will run, decided once for a graph.

Enters: a `Graph`. Leaves: `Plan`, plain arrays: which nodes are worth computing, in which row of the tape each one
stands, and the edges as the forward (by destination) and the backward (by source) read them. No torch, so it is
made and tested without compiled code; `Plan.pack` lays it out as csrc/plan_view.h reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire._native.planner import planner
from freewire.errors import GraphError, InputError
from freewire.graph import ACTIVATIONS, AGGREGATIONS, Graph

__all__ = ["PREACTIVATION_KEPT", "Plan", "make_plan"]

#: Activations whose derivative the value alone does not tell; the tape keeps a second row for their argument.
PREACTIVATION_KEPT = ("gelu", "silu", "softplus", "sin", "cos", "gaussian", "abs", "square")

#: Rows are 32-bit numbers.
_MAX_ROWS = 2**31

_MAGIC = 0x7269776565726600 | 2  # "freewir", layout 2
_LINEAR = tuple(AGGREGATIONS.index(name) for name in ("sum", "mean"))
# The widest row: fewest index reads an edge. It won on tapes from 35 kB to 25 MB (docs/design.md has the figures).
_ROW_BYTES = 256

# What Plan.pack() lays out, in PlanView's order: after the sizes, each section's first word and length.
_NUM_SIZES = 17
_SECTIONS = (
    ("level_ptr", np.int64),
    ("in_begin", np.int64),
    ("in_end", np.int64),
    ("in_src", np.int32),
    ("out_ptr", np.int64),
    ("out_split", np.int64),
    ("out_dst", np.int32),
    ("out_edge", np.int64),
    ("out_position", np.int64),
    ("share_begin", np.int64),
    ("activation", np.int32),
    ("aggregation", np.int32),
    ("bias_index", np.int32),
    ("kept_row", np.int32),
    ("output_slot", np.int32),
    ("preset_slot", np.int32),
    ("output_of_slot", np.int32),
    ("group_node", np.int32),
    ("group_edge", np.int64),
    ("slot_row", np.int32),
    ("row_src", np.int32),
)
#: In-edges of one node whose gradients a GPU's warp sums up together; kGroupEdges of csrc/plan_view.h.
_GROUP_EDGES = 32

IntArray = NDArray[np.int64]
SlotArray = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Plan:
    """What the kernels run for one graph, as plain arrays; made by `make_plan`.

    A **slot** is a node's row on the tape ``[slots, columns]``. The first ``num_inputs`` slots are the inputs, in the
    order of the features; the live computed nodes follow by (level, node order), so that every edge leads to a later
    slot. **Live** nodes are those that reach an output; the others are left out. S slots, I inputs, C = S - I
    computed, E edges, M live edges, O outputs, L levels.
    """

    num_nodes: int
    num_inputs: int
    num_edges: int
    #: Graph node of each slot, int64 [S].
    slot_node: IntArray
    #: First slot of each level, int64 [L + 1]; level 0 holds the inputs and the nodes that hear nothing.
    level_ptr: IntArray
    #: First and one past the last in-edge of each computed slot, in canonical order, int64 [C].
    in_begin: IntArray
    in_end: IntArray
    #: Slot of each edge's source, int32 [E]; 0 where the edge is not live.
    in_src: SlotArray
    #: Rows of the reversed graph, int64 [S + 1]; within a row, edges into linear aggregations first, up to out_split.
    out_ptr: IntArray
    out_split: IntArray
    #: Destination slot, int32 [M], and canonical edge number, int64 [M].
    out_dst: SlotArray
    out_edge: IntArray
    #: Codes of each computed slot, int32 [C].
    activation: SlotArray
    aggregation: SlotArray
    #: Entry of the bias vector (computed nodes in node order) of each computed slot, int32 [C].
    bias_index: SlotArray
    #: Tape row of the slot's kept pre-activation, or -1, int32 [C].
    kept_row: SlotArray
    #: Tape row of each slot where nothing is kept for a backward, int32 [S]. Slot i of the inputs has row i; an
    #: output's row is its own for good; any other is given, once its last reader's level is over, to a later level's.
    inference_row: SlotArray
    #: Slot of each output, int32 [O].
    output_slot: SlotArray
    #: Bytes of a tape row at most: 64, 128 or 256.
    row_bytes: int
    #: Nodes of the graph that no input reaches.
    num_deaf: int

    @property
    def num_slots(self) -> int:
        """S: live nodes, and all inputs."""
        return len(self.slot_node)

    @property
    def num_outputs(self) -> int:
        """O."""
        return len(self.output_slot)

    @property
    def num_live_edges(self) -> int:
        """M: edges between live nodes."""
        return len(self.out_dst)

    @property
    def num_computed(self) -> int:
        """Computed nodes of the graph, those left out included: the length of the bias."""
        return self.num_nodes - self.num_inputs

    @property
    def num_levels(self) -> int:
        """L: level 0 included."""
        return len(self.level_ptr) - 1

    @property
    def level_widths(self) -> IntArray:
        """Computed nodes of each level, int64 [L]."""
        widths = np.diff(self.level_ptr)
        widths[0] -= self.num_inputs
        return widths

    @property
    def tape_rows(self) -> int:
        """Rows of the tape that training keeps: the slots and the kept pre-activations."""
        return self.num_slots + int((self.kept_row >= 0).sum())

    @cached_property
    def inference_rows(self) -> int:
        """Rows of the tape where nothing is kept for a backward."""
        return int(self.inference_row.max(initial=-1)) + 1

    @property
    def scratch_rows(self) -> int:
        """Rows that a call works in where nothing is kept: `inference_rows` if that saves a quarter of the slots' own.

        Else the slots', since every edge would have to name a second row.
        """
        return self.inference_rows if 4 * self.inference_rows <= 3 * self.num_slots else self.num_slots

    @property
    def gather_edges(self) -> int:
        """Live edges into nodes whose aggregation is not linear: each receives a gradient of its own."""
        return int((self.in_end - self.in_begin)[~np.isin(self.aggregation, _LINEAR)].sum())

    @property
    def product_fan_in(self) -> int:
        """The largest fan-in of a product."""
        return int((self.in_end - self.in_begin)[self.aggregation == AGGREGATIONS.index("product")].max(initial=0))

    @property
    def flops(self) -> int:
        """Floating-point operations of a forward pass a sample, an edge counted as two."""
        return 2 * self.num_live_edges + len(self.in_begin)

    @cached_property
    def dense_share(self) -> float:
        """The share of live edges that lead into a node with a twin: one of its level that reads the same sources."""
        fan_in = self.in_end - self.in_begin
        if not fan_in.sum():
            return 0.0
        twins = planner.twin_edges(self.level_ptr, self.num_inputs, self.in_begin, self.in_end, self.in_src)
        return float(twins / fan_in.sum())

    def tape_bytes(self, batch: int, itemsize: int = 4) -> int:
        """Bytes that a training step keeps between forward and backward, for ``batch`` samples."""
        return self.tape_rows * -(-batch // 64) * 64 * itemsize

    def pack(self) -> IntArray:
        """The plan as one int64 array, laid out as csrc/plan_view.h says; `unpack` reads it back."""
        fan_in = self.in_end - self.in_begin
        gather_edges = self.gather_edges
        out_position = np.zeros(self.num_edges if gather_edges else 0, np.int64)
        if gather_edges:
            out_position[self.out_edge] = np.arange(self.num_live_edges)
        shares = np.where(np.isin(self.aggregation, _LINEAR), 0, fan_in)
        share_begin = np.cumsum(shares) - shares if gather_edges else np.empty(0, np.int64)
        feeds_gathers = np.flatnonzero(self.out_split < self.out_ptr[1:])
        preset_slot = np.union1d(feeds_gathers, self.output_slot).astype(np.int32)
        output_of_slot = np.full(self.num_slots, -1, np.int32)
        output_of_slot[self.output_slot] = np.arange(self.num_outputs)
        groups = np.maximum(-(-fan_in // _GROUP_EDGES), 1)  # one at least: it sums up the bias's gradient too
        group_node = np.repeat(np.arange(len(fan_in), dtype=np.int32), groups)
        group_edge = self.in_begin[group_node] + _GROUP_EDGES * _counted(groups)
        reuses = self.scratch_rows < self.num_slots
        sizes = {
            "magic": _MAGIC,
            "num_words": 0,
            "num_inputs": self.num_inputs,
            "num_slots": self.num_slots,
            "num_outputs": self.num_outputs,
            "num_edges": self.num_edges,
            "num_live_edges": self.num_live_edges,
            "num_biases": self.num_computed,
            "tape_rows": self.tape_rows,
            "gather_edges": gather_edges,
            "product_fan_in": self.product_fan_in,
            "row_bytes": self.row_bytes,
            "num_levels": self.num_levels,
            "level_width": int(self.level_widths.max(initial=0)),
            "num_presets": len(preset_slot),
            "num_groups": len(group_node),
            "num_rows": self.scratch_rows,
        }
        made = {
            "out_position": out_position,
            "share_begin": share_begin,
            "preset_slot": preset_slot,
            "output_of_slot": output_of_slot,
            "group_node": group_node,
            "group_edge": group_edge,
            "slot_row": self.inference_row if reuses else self.inference_row[:0],
            "row_src": self.inference_row[self.in_src] if reuses else self.in_src[:0],
        }
        sections: list[Any] = [made[name] if name in made else getattr(self, name) for name, _ in _SECTIONS]
        header = len(sizes) + 2 * len(sections)
        starts = header + np.cumsum([0, *(-(-section.nbytes // 8) for section in sections)])
        packed = np.empty(starts[-1], np.int64)  # zeros() would be slower: the system clears it in small pages
        packed[starts[1:] - 1] = 0  # the half word behind a section of odd length
        packed[: len(sizes)] = list(sizes.values())
        packed[1] = len(packed)
        packed[len(sizes) : header : 2] = starts[:-1]
        packed[len(sizes) + 1 : header : 2] = [len(section) for section in sections]
        for section, start in zip(sections, starts, strict=False):
            packed[start:].view(section.dtype)[: len(section)] = section
        return packed

    def __str__(self) -> str:
        dropped = self.num_nodes - self.num_slots
        fan_in = self.in_end - self.in_begin
        levels = np.diff(self.level_ptr)
        kinds = ", ".join(
            f"{name} {count:,}"
            for codes, known in ((self.activation, ACTIVATIONS), (self.aggregation, AGGREGATIONS))
            for name, count in zip(known, np.bincount(codes, minlength=len(known)), strict=True)
            if count
        )
        return "\n".join(
            (
                f"Plan: {self.num_slots:,} slots ({self.num_inputs:,} inputs, {len(fan_in):,} computed), "
                f"{self.num_outputs:,} outputs",
                f"  left out   {dropped:,} nodes, {self.num_edges - self.num_live_edges:,} edges, reaching no output",
                f"  no input   reaches {self.num_deaf:,} nodes: they are constants",
                f"  levels     {self.num_levels - 1:,}, up to {levels[1:].max(initial=0):,} nodes wide",
                f"  edges      {self.num_live_edges:,}, fan-in {fan_in.min(initial=fan_in.max(initial=0)):,} to "
                f"{fan_in.max(initial=0):,}, {self.dense_share:.0%} of them in dense blocks",
                f"  nodes      {kinds or 'none'}",
                f"  cost       {self.flops:,} FLOPs a sample; training keeps {self.tape_rows * 4:,} bytes each (fp32), "
                f"inference nothing, and works in {self.scratch_rows:,} rows of one tile",
                f"  kernel     whole network in one call, tiles of up to {self.row_bytes // 4} samples (fp32)",
            )
        )


def _counted(counts: IntArray) -> IntArray:
    """0 to count - 1 for each count, in a row."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def make_plan(graph: Graph, *, every_node: bool = False, row_bytes: int | None = None) -> Plan:
    """Plan a graph.

    Args:
        graph: The wiring.
        every_node: Compute all nodes and make each of them an output, in node order; else only what reaches an output.
        row_bytes: Bytes of a tape row at most: 64, 128 or 256. Left out: 256.

    Raises:
        InputError: Another ``row_bytes``.
        GraphError: More tape rows than 32-bit numbers count.

    Example:
        >>> import freewire as fw
        >>> fw.plan.make_plan(fw.generators.mlp([2, 3, 1])).num_levels
        3
    """
    num_nodes = graph.num_nodes
    if row_bytes not in (None, 64, 128, 256):
        raise InputError(f"row_bytes: expected 64, 128 or 256, got {row_bytes!r}. Leave it out to have it chosen.")
    inputs, computed = graph.input_index, graph.computed_index
    keep = np.ones(num_nodes, np.bool_) if every_node else graph.reaches_output.copy()
    keep[inputs] = False
    edges = planner.edge_lists(graph.edge_index, graph.level, inputs, keep, np.isin(graph.aggregation, _LINEAR))
    slot_of, slot_node = edges["slot_of"], edges["slot_node"]
    kept, num_slots = slot_node[len(inputs) :], len(slot_node)

    activation = graph.activation[kept].astype(np.int32)
    keeps = np.isin(activation, [ACTIVATIONS.index(name) for name in PREACTIVATION_KEPT])
    if num_slots + np.count_nonzero(keeps) > _MAX_ROWS:
        raise GraphError(
            f"graph: expected at most {_MAX_ROWS} tape rows, one a node and one more for each whose activation is one "
            f"of {', '.join(PREACTIVATION_KEPT)}, got {num_slots + np.count_nonzero(keeps)}. Choose other activations, "
            "or make several networks of it."
        )
    kept_row = np.where(keeps, num_slots + np.cumsum(keeps) - 1, -1).astype(np.int32)
    bias_of = np.full(num_nodes, -1, np.int32)
    bias_of[computed] = np.arange(len(computed), dtype=np.int32)
    output_slot = slot_of if every_node else slot_of[graph.output_index]
    is_output = np.zeros(num_slots, np.bool_)
    is_output[output_slot] = True
    inference_row = planner.inference_rows(
        edges["level_ptr"], len(inputs), edges["out_ptr"], edges["out_split"], edges["out_dst"], is_output
    )
    plan = Plan(
        num_nodes=num_nodes,
        num_inputs=len(inputs),
        num_edges=graph.num_edges,
        slot_node=slot_node,
        level_ptr=edges["level_ptr"],
        in_begin=edges["in_begin"],
        in_end=edges["in_end"],
        in_src=edges["in_src"],
        out_ptr=edges["out_ptr"],
        out_split=edges["out_split"],
        out_dst=edges["out_dst"],
        out_edge=edges["out_edge"],
        activation=activation,
        aggregation=graph.aggregation[kept].astype(np.int32),
        bias_index=bias_of[kept],
        kept_row=kept_row,
        inference_row=inference_row,
        output_slot=output_slot,
        row_bytes=_ROW_BYTES if row_bytes is None else row_bytes,
        num_deaf=int(np.count_nonzero(~graph.reachable_from_input)),
    )
    for field in fields(plan):
        value = getattr(plan, field.name)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return plan


def plan_header(packed: IntArray) -> tuple[int, ...]:
    """The first words of `Plan.pack`'s array, which say how large everything else is."""
    return tuple(packed[: _NUM_SIZES + 2 * len(_SECTIONS)].tolist())


def unpack(packed: IntArray) -> dict[str, NDArray[Any]]:
    """The sections of `Plan.pack`'s array by name, as views."""
    table = packed[_NUM_SIZES : _NUM_SIZES + 2 * len(_SECTIONS)].reshape(-1, 2)
    return {
        name: packed[start:].view(dtype)[:length]
        for (name, dtype), (start, length) in zip(_SECTIONS, table.tolist(), strict=True)
    }
