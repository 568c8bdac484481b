# SPDX-License-Identifier: MIT
"""Plans against plain Python lists."""

from __future__ import annotations

import re
import time

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import freewire as fw
from freewire.graph import ACTIVATIONS
from freewire.plan import PREACTIVATION_KEPT, make_plan
from tests.support.graphs import CASES, graphs
from tests.support.messages import assert_refused
from tests.support.plans import LINEAR, kind, live_edges

either = st.booleans()


def slow_slots(g: fw.Graph, every_node: bool) -> list[int]:
    """Graph node of each slot: the inputs, then by (level, node order) what reaches an output."""
    wires = nx.DiGraph(g.edge_index.T.tolist())
    wires.add_nodes_from(range(g.num_nodes))
    outputs = g.output_index.tolist()
    alive = set(outputs).union(*(nx.ancestors(wires, v) for v in outputs))
    computed = [v for v in g.computed_index.tolist() if every_node or v in alive]
    return [*g.input_index.tolist(), *sorted(computed, key=lambda v: (g.level[v], v))]


class TestSlots:
    """Which nodes are computed, and their order."""

    @given(graphs(), either)
    def test_live_nodes_by_level_then_node_order(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        expected = slow_slots(g, every_node)
        assert plan.slot_node.tolist() == expected
        assert plan.num_slots == len(expected)
        assert plan.num_inputs == len(g.inputs)
        assert plan.num_nodes == g.num_nodes
        assert plan.num_edges == g.num_edges
        assert plan.num_biases == g.num_nodes - len(g.inputs)
        assert plan.num_computed == len(expected) - len(g.inputs)

    @given(graphs(), either)
    def test_an_edge_leads_to_a_later_slot(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        for _, source, destination in live_edges(g, plan):
            assert source < destination
            assert destination >= plan.num_inputs

    @given(graphs(), either)
    def test_level_ptr(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        level = [int(g.level[v]) for v in plan.slot_node]
        assert level == sorted(level)
        assert plan.num_levels == max(level) + 1
        assert plan.level_ptr.tolist() == [sum(x < k for x in level) for k in range(plan.num_levels + 1)]

    @given(graphs())
    def test_outputs(self, g):
        plan = make_plan(g)
        assert plan.slot_node[plan.output_slot].tolist() == g.output_index.tolist()
        assert plan.num_outputs == len(g.outputs)

    @given(graphs())
    def test_with_every_node_each_is_an_output_in_node_order(self, g):
        plan = make_plan(g, every_node=True)
        assert plan.slot_node[plan.output_slot].tolist() == list(range(g.num_nodes))
        assert plan.num_slots == plan.num_outputs == g.num_nodes
        assert plan.num_live_edges == g.num_edges

    @given(graphs(), either)
    def test_codes_and_bias_of_each_computed_slot(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        nodes = plan.slot_node[plan.num_inputs :].tolist()
        biases = g.computed_index.tolist()
        assert plan.activation.tolist() == [g.activation[v] for v in nodes]
        assert plan.aggregation.tolist() == [g.aggregation[v] for v in nodes]
        assert plan.bias_index.tolist() == [biases.index(v) for v in nodes]

    @given(graphs(), either)
    def test_a_second_row_for_each_node_that_keeps_its_preactivation(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        expected, row = [], plan.num_slots
        for code in plan.activation:
            needs = ACTIVATIONS[code] in PREACTIVATION_KEPT
            expected.append(row if needs else -1)
            row += needs
        assert plan.kept_row.tolist() == expected
        assert plan.tape_rows == row

    def test_the_kept_are_those_whose_derivative_does_not_follow_from_the_value(self):
        # Two arguments with one value and two derivatives; sine and cosine of x and pi - x or -x.
        assert set(PREACTIVATION_KEPT) == {
            *("gelu", "silu", "softplus"),  # no inverse in closed form, or one that loses digits
            *("sin", "cos", "gaussian", "abs", "square"),
        }

    def test_dead_nodes_have_no_slot(self):
        plan = make_plan(CASES["dead"])  # 2 and 3 reach no output
        assert plan.slot_node.tolist() == [0, 1, 4]
        assert plan.num_live_edges == 2
        assert plan.num_edges == 5
        assert plan.num_biases == 4
        assert plan.num_computed == 2
        assert plan.bias_index.tolist() == [0, 3]

    def test_an_unread_input_keeps_its_slot(self):
        plan = make_plan(CASES["disconnected"])
        assert plan.slot_node.tolist() == [0, 2, 4, 3, 1, 5]
        assert plan.level_ptr.tolist() == [0, 4, 6]  # 3 has no in-edges: level 0, after the inputs


class TestEdges:
    """The edges as the forward and the backward read them."""

    @given(graphs(), either)
    def test_in_edges(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        live = live_edges(g, plan)
        for c in range(plan.num_slots - plan.num_inputs):
            mine = range(plan.in_begin[c], plan.in_end[c])
            here = [(e, source) for e, source, to in live if to == c + plan.num_inputs]
            assert list(mine) == [e for e, _ in here]
            assert plan.in_src[mine.start : mine.stop].tolist() == [source for _, source in here]
        alive = {e for e, _, _ in live}
        assert plan.in_src.shape == (g.num_edges,)
        assert all(plan.in_src[e] == 0 for e in range(g.num_edges) if e not in alive)

    @given(graphs(), either)
    def test_out_edges_into_linear_nodes_first(self, g, every_node):
        """Those outside of dense blocks, then those in dense blocks, then those into other nodes."""
        plan = make_plan(g, every_node=every_node)
        live = live_edges(g, plan)
        assert plan.num_live_edges == len(live)
        assert (plan.out_ptr[0], plan.out_ptr[-1]) == (0, len(live))
        in_blocks = {e for a, b in zip(plan.in_begin, plan.in_split, strict=True) for e in range(a, b)}
        for s in range(plan.num_slots):
            row = slice(plan.out_ptr[s], plan.out_ptr[s + 1])
            linear = [(e, to) for e, u, to in live if u == s and kind(plan, to) in LINEAR]
            dense = [(e, to) for e, to in linear if e in in_blocks]
            sparse = [(e, to) for e, to in linear if e not in in_blocks]
            rest = [(e, to) for e, u, to in live if u == s and kind(plan, to) not in LINEAR]
            found = list(zip(plan.out_edge[row].tolist(), plan.out_dst[row].tolist(), strict=True))
            assert found == sparse + dense + rest
            assert plan.out_sparse[s] == plan.out_ptr[s] + len(sparse)
            assert plan.out_split[s] == plan.out_ptr[s] + len(linear)

    @given(graphs())
    def test_dead_edges_are_not_read(self, g):
        plan = make_plan(g)
        read = [e for a, b in zip(plan.in_begin, plan.in_end, strict=True) for e in range(a, b)]
        assert sorted(read) == sorted(plan.out_edge.tolist())
        assert sorted(read) == np.flatnonzero(g.reaches_output[g.edge_index[1]]).tolist()


class TestPlan:
    """The plan as a whole."""

    @pytest.mark.parametrize("name", CASES)
    def test_arrays_are_read_only_and_typed(self, name):
        plan = make_plan(CASES[name])
        arrays = {field: value for field, value in vars(plan).items() if isinstance(value, np.ndarray)}
        assert len(arrays) == 28
        wide = {"slot_node", "level_ptr", "in_begin", "in_end", "out_ptr", "out_split", "out_edge", "out_sparse"}
        wide |= {"stage_ptr", "component_ptr", "block_src_ptr", "block_panel", "in_split", "state_key"}
        for field, array in arrays.items():
            assert array.dtype == (np.int64 if field in wide else np.int32), field
            assert not array.flags.writeable, field

    def test_a_plan_is_frozen(self):
        with pytest.raises(AttributeError, match="cannot assign to field 'num_nodes'"):
            make_plan(CASES["diamond"]).num_nodes = 5

    @given(graphs(), st.integers(0, 200), st.sampled_from([4, 8]))
    def test_cost(self, g, batch, itemsize):
        plan = make_plan(g)
        assert plan.flops == 2 * plan.num_live_edges + plan.num_slots - plan.num_inputs
        padded = next(b for b in range(batch, batch + 64) if b % 64 == 0)
        assert plan.tape_bytes(batch, itemsize) == plan.tape_rows * padded * itemsize

    @pytest.mark.parametrize(
        ("graph", "share"),
        [
            (fw.generators.mlp([5, 7, 6, 4]), 1.0),
            (fw.generators.mlp([5, 7, 3]), 35 / 56),  # three nodes are too few
            (fw.generators.mlp([3, 7, 4]), 28 / 49),  # three sources are too few
            (CASES["chain"], 0.0),
            (CASES["no_edges"], 0.0),
        ],
    )
    def test_dense_share(self, graph, share):
        assert make_plan(graph).dense_share == pytest.approx(share)

    def test_rows_are_wide_by_default(self):
        assert make_plan(CASES["diamond"]).row_bytes == 256
        for asked in (64, 128, 256):
            assert make_plan(CASES["diamond"], row_bytes=asked).row_bytes == asked

    @pytest.mark.parametrize("asked", [0, 32, 100, 512, "64", -64])
    def test_row_bytes_of_other_sizes_are_refused(self, asked):
        assert_refused(
            lambda: make_plan(CASES["diamond"], row_bytes=asked),
            rf"row_bytes: expected 64, 128 or 256, got {asked!r}\. ",
            fw.InputError,
        )

    def test_print(self):
        text = str(make_plan(CASES["disconnected"]))
        assert "6 slots (3 inputs, 3 computed), 3 outputs" in text
        assert re.search(r"skipped +3 nodes and 1 edges that reach no output", text)
        assert re.search(r"levels +1, at most 2 nodes wide", text)
        assert re.search(r"edges +2, fan-in 0 to 1, none of them in dense blocks", text)
        assert re.search(r"order +component by component, 3 components", text)
        assert re.search(r"nodes +linear 3, sum 3", text)
        assert re.search(r"cost +7 FLOPs per sample", text)
        assert re.search(r"memory +training keeps 24 bytes per sample \(fp32\); inference keeps nothing", text)
        assert "works in 6 rows of one tile" in text
        assert re.search(r"kernel +whole network in one call, tiles of at most 64 samples", text)
        assert re.search(r"constant +2 nodes that no input reaches", str(make_plan(CASES["unreachable"])))
        text = str(make_plan(CASES["random"]))
        assert re.search(r"skipped +27 nodes", text)
        assert re.search(r"nodes +linear 5, gelu \d+, sum \d+", text)
        assert re.search(r"levels +21,", text)  # of live nodes; the others reach level 22
        assert CASES["random"].depth == 22

    @given(graphs(), either)
    def test_every_plan_prints(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        lines = str(plan).splitlines()
        assert len(lines) == 9 + (len(plan.component_ptr) > 1)
        assert lines[0].startswith(f"Plan: {plan.num_slots} slots ({plan.num_inputs} inputs")

    def test_a_chain_of_5000(self):
        start = time.perf_counter()
        plan = make_plan(fw.Graph.from_edges(np.arange(5000), np.arange(1, 5001)))
        assert time.perf_counter() - start < 5
        assert plan.num_levels == 5001
        assert plan.slot_node.tolist() == list(range(5001))
        assert plan.level_ptr.tolist() == list(range(5002))
        assert plan.out_dst.tolist() == list(range(1, 5001))

    def test_a_hundred_thousand_edges_in_two_seconds(self):
        g = fw.generators.random_graph(100, 10_000, 10, fan_in=10, seed=0)
        assert g.num_edges > 100_000
        start = time.perf_counter()
        words = make_plan(g).pack().words
        assert time.perf_counter() - start < 2
        assert words.dtype == np.int64
