# SPDX-License-Identifier: MIT
"""The plan: what the kernels run, decided once for a graph.

`make_plan` turns a `Graph` into a `Plan`, plain arrays: which nodes are worth computing, which row of the tape each of
them has, and the edges as the forward (by destination) and the backward (by source) read them. No torch, so that plans
are made and tested without kernels; `Plan.pack` makes the array that the kernels receive.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire._native.planner import planner
from freewire.errors import GraphError, InputError, shown
from freewire.graph import ACTIVATIONS, AGGREGATIONS, Graph
from freewire.graph.arguments import whole
from freewire.graph.fields import LINEAR_AGGREGATIONS, PREACTIVATION_KEPT
from freewire.plan.packed import GIVEN, PackedPlan
from freewire.plan.steps import Leaks, step_graph

__all__ = ["ROW_BYTES", "Plan", "make_plan"]

# Row numbers are 32-bit.
_MAX_ROWS = 2**31

_LINEAR = tuple(AGGREGATIONS.index(name) for name in LINEAR_AGGREGATIONS)
#: The widest row, which takes the fewest index reads per edge. It was the fastest on tapes from 35 kB to 25 MB
#: (docs/design.md has the figures).
ROW_BYTES = 256

IntArray = NDArray[np.int64]
SlotArray = NDArray[np.int32]


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What the kernels run for one graph, as plain arrays; made by `make_plan`.

    A **slot** is a node's row on the tape ``[slots, columns]``. The first ``num_inputs`` slots are the inputs, in the
    order of the features; the live computed nodes follow by (level, node order), so that every edge leads to a later
    slot. **Live** nodes are those that reach an output; other computed nodes have no slot. The plan of a recurrent
    graph is that of one time step, whose last inputs are **states**, values of steps before; freewire/plan/steps.py has
    more on them. Shapes: S slots, I inputs, C = S - I computed nodes, E edges, M live edges, O outputs, L levels, V
    states.
    """

    num_nodes: int
    #: I: the inputs of the graph, and after them the states.
    num_inputs: int
    #: E: edges of the graph, and those that leaks add.
    num_edges: int
    #: Entries of the bias: computed nodes of the graph, including those without a slot, and a zero where leaks need it.
    num_biases: int
    #: Of the outputs, those that the graph names; they are the first.
    num_results: int
    #: Graph node of each slot, int64 [S].
    slot_node: IntArray
    #: First slot of each level, int64 [L + 1]; level 0 holds the inputs and the nodes without in-edges.
    level_ptr: IntArray
    #: First and one past the last in-edge of each computed slot, in canonical order, int64 [C].
    in_begin: IntArray
    in_end: IntArray
    #: Slot of each edge's source, int32 [E]; 0 where the edge is not live.
    in_src: SlotArray
    #: Row pointers of the reversed graph, int64 [S + 1]; within a row, edges into linear aggregations come first, up to
    #: out_split, int64 [S].
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
    #: Tape row of each slot in inference, where nothing is kept for a backward, int32 [S]. Slot i of the inputs has row
    #: i; an output's row is never reused; any other row is reused from the level after that of its last reader on.
    inference_row: SlotArray
    #: Slot of each output, int32 [O].
    output_slot: SlotArray
    #: Slot whose value each state has in the next step, int32 [V]; all of them are outputs. Empty unless recurrent.
    state_source: SlotArray
    #: What tells each state from the others in any plan of the graph: ascending numbers, int64 [V].
    state_key: IntArray
    #: Computed nodes in the order in which the CPU runs them, int32 [C]: level by level, or component by component.
    run_node: SlotArray
    #: First position in `run_node` of each stage, int64 [stages + 1]; [0] if the order is by component. The nodes of a
    #: stage need nothing from one another, except those of one dense block.
    stage_ptr: IntArray
    #: First position in `run_node` of each connected component, int64 [components + 1]; [0] if the order is by level.
    component_ptr: IntArray
    #: First and one past the last position of each dense block, int32 [D].
    block_begin: SlotArray
    block_end: SlotArray
    #: Row pointers into `block_src`, int64 [D + 1], and the slots of the blocks' sources, int32.
    block_src_ptr: IntArray
    block_src: SlotArray
    #: Where the padded weights of each block begin, or -1 for a block without padding, int64 [D].
    block_panel: IntArray
    #: Which source of its block an edge reads, int32 [E]; empty if no block is padded.
    panel_column: SlotArray
    #: First in-edge of each computed slot outside its dense block, int64 [C]; `in_begin` for a node in none.
    in_split: IntArray
    #: Where the out-edges in dense blocks begin, int64 [S]; they end at `out_split`.
    out_sparse: IntArray
    #: Maximum bytes of a tape row: 64, 128 or 256.
    row_bytes: int
    #: Number of nodes that no input reaches.
    num_unreachable: int
    #: Where leaks are among the weights; None where no node has one.
    leaks: Leaks | None

    @property
    def num_slots(self) -> int:
        """S: live nodes, and all inputs."""
        return len(self.slot_node)

    @property
    def num_outputs(self) -> int:
        """O."""
        return len(self.output_slot)

    @property
    def num_computed(self) -> int:
        """C: computed nodes that have a slot."""
        return self.num_slots - self.num_inputs

    @property
    def num_live_edges(self) -> int:
        """M: edges between live nodes."""
        return len(self.out_dst)

    @property
    def num_states(self) -> int:
        """V: values that a step takes over from those before it; the last inputs."""
        return len(self.state_source)

    @property
    def num_features(self) -> int:
        """Inputs of the graph."""
        return self.num_inputs - self.num_states

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

    @cached_property
    def sizes(self) -> planner.PlanSizes:
        """The sizes in the packed plan's header; csrc/plan_layout.h lists them."""
        return planner.plan_sizes(*self._packing_arguments())

    @property
    def tape_rows(self) -> int:
        """Rows of the tape that training keeps: the slots and the kept pre-activations."""
        return self.sizes.tape_rows

    @cached_property
    def inference_rows(self) -> int:
        """Different rows in `inference_row`."""
        return int(self.inference_row.max(initial=-1)) + 1

    @property
    def scratch_rows(self) -> int:
        """Rows that inference works in: `inference_rows` if that is at most three quarters of `num_slots`.

        Otherwise `num_slots`, since reusing rows makes every edge name a second row.
        """
        return self.sizes.scratch_rows

    @property
    def gather_edges(self) -> int:
        """Live edges into nodes whose aggregation is not linear: each receives a gradient of its own."""
        return self.sizes.gather_edges

    @property
    def product_fan_in(self) -> int:
        """The largest fan-in of a product."""
        return self.sizes.product_fan_in

    @property
    def flops(self) -> int:
        """Floating-point operations of a forward pass per sample; an edge counts as two."""
        return 2 * self.num_live_edges + self.num_computed

    @property
    def dense_share(self) -> float:
        """The share of live edges in dense blocks: nodes that read the same, or nearly the same, sources."""
        return self.sizes.num_block_edges / max(self.num_live_edges, 1)

    def tape_bytes(self, batch: int, itemsize: int = 4) -> int:
        """Bytes that a training step keeps between forward and backward, for ``batch`` samples, on a GPU.

        A CPU keeps as many from 16 samples on, and less for fewer.
        """
        return self.tape_rows * planner.padded_batch(batch) * itemsize

    def pack(self) -> PackedPlan:
        """The plan as one array, as the kernels receive it."""
        return PackedPlan(planner.pack(*self._packing_arguments()))

    def _packing_arguments(self) -> tuple[dict[str, NDArray[Any]], int, int, int, int]:
        arrays = {name: getattr(self, name) for name in GIVEN}
        return arrays, self.num_inputs, self.num_biases, self.num_results, self.row_bytes

    def _dense_blocks(self) -> str:
        """How many edges run in dense blocks, in words."""
        edges, count = self.sizes.num_block_edges, len(self.block_begin)
        if not count:
            return "none of them in dense blocks"
        nodes, sources = self.block_end - self.block_begin, np.diff(self.block_src_ptr)
        padding = 100 * (1 - edges / int((nodes * sources).sum()))
        return f"{edges:,} of them in {count:,} dense block{'s'[: count > 1]} ({padding:.0f} % padding)"

    def __repr__(self) -> str:
        return (
            f"Plan({self.num_slots:,} slots, {self.num_inputs:,} inputs, {self.num_outputs:,} outputs, "
            f"{self.num_live_edges:,} edges, {self.num_levels - 1:,} levels)"
        )

    def __str__(self) -> str:
        fan_in = self.in_end - self.in_begin
        levels = np.diff(self.level_ptr)
        kinds = ", ".join(
            f"{name} {count:,}"
            for codes, known in ((self.activation, ACTIVATIONS), (self.aggregation, AGGREGATIONS))
            for name, count in zip(known, np.bincount(codes, minlength=len(known)), strict=True)
            if count
        )
        states = f"{self.num_states:,} states, " if self.num_states else ""
        components = len(self.component_ptr) - 1
        order = (f"  order      component by component, {components:,} components",) if components else ()
        return "\n".join(
            (
                f"Plan: {self.num_slots:,} slots ({self.num_features:,} inputs, {states}{self.num_computed:,} "
                f"computed), {self.num_results:,} outputs",
                f"  skipped    {self.num_nodes - len(np.unique(self.slot_node)):,} nodes and "
                f"{self.num_edges - self.num_live_edges:,} edges that reach no output",
                f"  constant   {self.num_unreachable:,} nodes that no input reaches",
                f"  levels     {self.num_levels - 1:,}, at most {levels[1:].max(initial=0):,} nodes wide",
                *order,
                f"  edges      {self.num_live_edges:,}, fan-in {fan_in.min(initial=fan_in.max(initial=0)):,} to "
                f"{fan_in.max(initial=0):,}, {self._dense_blocks()}",
                f"  nodes      {kinds or 'none'}",
                f"  cost       {self.flops:,} FLOPs per sample",
                f"  memory     training keeps {self.tape_rows * 4:,} bytes per sample (fp32); inference keeps nothing "
                f"and works in {self.scratch_rows:,} rows of one tile",
                f"  kernel     whole network in one call, tiles of at most {self.row_bytes // 4} samples (fp32)",
            )
        )


def make_plan(
    graph: Graph, *, every_node: bool = False, row_bytes: int | None = None, learn_leak: bool = False
) -> Plan:
    """Make the plan of a graph, or of one step of a recurrent graph.

    Args:
        graph: The graph to plan.
        every_node: Compute all nodes and make each of them an output, in node order. By default only nodes that reach
            an output are computed.
        row_bytes: Maximum bytes of a tape row: 64, 128 or 256 (default).
        learn_leak: Whether leaks are parameters, so that a stored leak of 1 is one too.

    Raises:
        InputError: ``row_bytes`` is another number.
        GraphError: The tape would have more rows than 32-bit numbers count.

    Example:
        >>> import freewire as fw
        >>> fw.plan.make_plan(fw.generators.mlp([2, 3, 1])).num_levels
        3
    """
    width = ROW_BYTES if row_bytes is None else whole(row_bytes)
    if width not in (64, 128, 256):
        raise InputError(f"row_bytes: expected 64, 128 or 256, got {shown(row_bytes)}. Omit it to use 256.")
    step = step_graph(graph, every_node=every_node, learn_leak=learn_leak)
    inputs = step.inputs
    edges = planner.edge_lists(step.edge_index, step.level, inputs, step.keep, np.isin(step.aggregation, _LINEAR))
    slot_of, slot_node = edges["slot_of"], edges["slot_node"]
    kept, num_slots = slot_node[len(inputs) :], len(slot_node)

    activation = step.activation[kept].astype(np.int32)
    keeps = np.isin(activation, [ACTIVATIONS.index(name) for name in PREACTIVATION_KEPT])
    if num_slots + np.count_nonzero(keeps) > _MAX_ROWS:
        raise GraphError(
            f"graph: expected at most {_MAX_ROWS} tape rows, one per node and a second for each node whose activation "
            f"is one of {', '.join(PREACTIVATION_KEPT)}, got {num_slots + np.count_nonzero(keeps)}. Choose other "
            "activations, or split the graph into several networks."
        )
    kept_row = np.where(keeps, num_slots + np.cumsum(keeps) - 1, -1).astype(np.int32)
    results, states = slot_of[step.outputs], slot_of[step.state_source]
    # What the next step reads is an output too: it is computed last, and its gradient does not start from zero.
    output_slot = np.concatenate((results, states[~np.isin(states, results)]))
    is_output = np.zeros(num_slots, np.bool_)
    is_output[output_slot] = True
    # A state's row is written while the sources of others are still read, so no source may lie there.
    is_output[len(inputs) - len(states) : len(inputs)] = True
    inference_row = planner.inference_rows(
        level_ptr=edges["level_ptr"],
        num_inputs=len(inputs),
        component=edges["component"],
        out_ptr=edges["out_ptr"],
        out_sparse=edges["out_sparse"],
        out_split=edges["out_split"],
        out_dst=edges["out_dst"],
        is_output=is_output,
    )
    plan = Plan(
        num_nodes=graph.num_nodes,
        num_inputs=len(inputs),
        num_edges=step.edge_index.shape[1],
        num_biases=step.num_biases,
        num_results=len(results),
        slot_node=step.node[slot_node],
        level_ptr=edges["level_ptr"],
        in_begin=edges["in_begin"],
        in_end=edges["in_end"],
        in_src=edges["in_src"],
        out_ptr=edges["out_ptr"],
        out_split=edges["out_split"],
        out_dst=edges["out_dst"],
        out_edge=edges["out_edge"],
        activation=activation,
        aggregation=step.aggregation[kept].astype(np.int32),
        bias_index=step.bias_entry[kept].astype(np.int32),
        kept_row=kept_row,
        inference_row=inference_row,
        output_slot=output_slot,
        state_source=states,
        state_key=step.state_key,
        run_node=edges["run_node"],
        stage_ptr=edges["stage_ptr"],
        component_ptr=edges["component_ptr"],
        block_begin=edges["block_begin"],
        block_end=edges["block_end"],
        block_src_ptr=edges["block_src_ptr"],
        block_src=edges["block_src"],
        block_panel=edges["block_panel"],
        panel_column=edges["panel_column"],
        in_split=edges["in_split"],
        out_sparse=edges["out_sparse"],
        row_bytes=width,
        leaks=step.leaks,
        num_unreachable=int(np.count_nonzero(~graph.reachable_from_input)),
    )
    for field in fields(plan):
        value = getattr(plan, field.name)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return plan
