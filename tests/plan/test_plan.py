# SPDX-License-Identifier: MIT
"""Plans against plain Python lists, and the packed layout against the C++ header that reads it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.plan import PREACTIVATION_KEPT, Plan, make_plan
from freewire.plan import plan as plan_module
from freewire.plan.plan import unpack
from tests.support.graphs import CASES, graphs
from tests.support.messages import assert_refused

CSRC = Path(__file__).resolve().parents[2] / "csrc"
LINEAR = ("sum", "mean")

either = st.booleans()


def slow_slots(g: fw.Graph, every_node: bool) -> list[int]:
    """Graph node of each slot: the inputs, then by (level, node order) what reaches an output."""
    wires = nx.DiGraph(g.edge_index.T.tolist())
    wires.add_nodes_from(range(g.num_nodes))
    outputs = g.output_index.tolist()
    alive = set(outputs).union(*(nx.ancestors(wires, v) for v in outputs))
    computed = [v for v in g.computed_index.tolist() if every_node or v in alive]
    return [*g.input_index.tolist(), *sorted(computed, key=lambda v: (g.level[v], v))]


def live_edges(g: fw.Graph, plan: Plan) -> list[tuple[int, int, int]]:
    """(canonical number, source slot, destination slot) of the edges between nodes that have a slot."""
    slot = {node: s for s, node in enumerate(plan.slot_node.tolist())}
    pairs = enumerate(g.edge_index.T.tolist())
    return [(e, slot[u], slot[v]) for e, (u, v) in pairs if u in slot and v in slot]


def kind(plan: Plan, slot: int) -> str:
    """The aggregation of a computed slot."""
    return AGGREGATIONS[plan.aggregation[slot - plan.num_inputs]]


class TestSlots:
    """Which nodes are computed, and in which row."""

    @given(graphs(), either)
    def test_live_nodes_by_level_then_node_order(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        expected = slow_slots(g, every_node)
        assert plan.slot_node.tolist() == expected
        assert plan.num_slots == len(expected)
        assert plan.num_inputs == len(g.inputs)
        assert plan.num_nodes == g.num_nodes
        assert plan.num_edges == g.num_edges
        assert plan.num_computed == g.num_nodes - len(g.inputs)

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
    def test_every_node_makes_each_an_output_in_node_order(self, g):
        plan = make_plan(g, every_node=True)
        assert plan.slot_node[plan.output_slot].tolist() == list(range(g.num_nodes))
        assert plan.num_slots == plan.num_outputs == g.num_nodes
        assert plan.num_live_edges == g.num_edges

    @given(graphs(), either)
    def test_what_each_computed_slot_is(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        nodes = plan.slot_node[plan.num_inputs :].tolist()
        biases = g.computed_index.tolist()
        assert plan.activation.tolist() == [g.activation[v] for v in nodes]
        assert plan.aggregation.tolist() == [g.aggregation[v] for v in nodes]
        assert plan.bias_index.tolist() == [biases.index(v) for v in nodes]

    @given(graphs(), either)
    def test_a_row_is_kept_for_each_that_needs_its_preactivation(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        expected, row = [], plan.num_slots
        for code in plan.activation:
            needs = ACTIVATIONS[code] in PREACTIVATION_KEPT
            expected.append(row if needs else -1)
            row += needs
        assert plan.kept_row.tolist() == expected
        assert plan.tape_rows == row

    def test_the_kept_are_those_whose_value_hides_the_derivative(self):
        # Two arguments with one value and two derivatives; sine and cosine of x and pi - x or -x.
        assert set(PREACTIVATION_KEPT) == {
            *("gelu", "silu", "softplus"),  # no inverse in closed form, or one that loses digits
            *("sin", "cos", "gaussian", "abs", "square"),
        }

    def test_dead_nodes_are_left_out(self):
        plan = make_plan(CASES["dead"])  # 2 and 3 lead nowhere
        assert plan.slot_node.tolist() == [0, 1, 4]
        assert plan.num_live_edges == 2
        assert plan.num_edges == 5
        assert plan.num_computed == 4
        assert plan.bias_index.tolist() == [0, 3]

    def test_an_unread_input_keeps_its_slot(self):
        plan = make_plan(CASES["disconnected"])
        assert plan.slot_node.tolist() == [0, 2, 4, 3, 1, 5]
        assert plan.level_ptr.tolist() == [0, 4, 6]  # 3 hears nothing: level 0, behind the inputs


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
        plan = make_plan(g, every_node=every_node)
        live = live_edges(g, plan)
        assert plan.num_live_edges == len(live)
        assert (plan.out_ptr[0], plan.out_ptr[-1]) == (0, len(live))
        for s in range(plan.num_slots):
            row = slice(plan.out_ptr[s], plan.out_ptr[s + 1])
            linear = [(e, to) for e, u, to in live if u == s and kind(plan, to) in LINEAR]
            rest = [(e, to) for e, u, to in live if u == s and kind(plan, to) not in LINEAR]
            found = list(zip(plan.out_edge[row].tolist(), plan.out_dst[row].tolist(), strict=True))
            assert found == linear + rest
            assert plan.out_split[s] == plan.out_ptr[s] + len(linear)

    @given(graphs())
    def test_dead_edges_are_read_by_nobody(self, g):
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
        assert len(arrays) == 15
        wide = {"slot_node", "level_ptr", "in_begin", "in_end", "out_ptr", "out_split", "out_edge"}
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
            (fw.generators.mlp([5, 7, 6, 3]), 1.0),
            (CASES["chain"], 0.0),
            (CASES["no_edges"], 0.0),
            # 3 and 4 read the same two, in another order; 5 reads one of them twice.
            (fw.Graph.from_edges([0, 1, 1, 0, 0, 0], [3, 3, 4, 4, 5, 5], num_nodes=6, inputs=[0, 1, 2]), 4 / 6),
            # 2 and 3 read the same one at different levels: 3 reads 2 too.
            (fw.Graph.from_edges([0, 0, 2], [2, 3, 3], num_nodes=4, inputs=[0, 1], outputs=[3]), 0.0),
        ],
    )
    def test_dense_share(self, graph, share):
        assert make_plan(graph).dense_share == pytest.approx(share)

    def test_rows_are_wide_unless_asked_otherwise(self):
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
        assert re.search(r"left out\D+3 nodes\D+1 edges.* no output", text)
        assert re.search(r"levels +1, up to 2 nodes wide", text)
        assert re.search(r"edges +2, fan-in 0 to 1", text)
        assert re.search(r"nodes +linear 3, sum 3", text)
        assert "cost       7 FLOPs a sample; training keeps 24 bytes each (fp32), inference nothing" in text
        assert "inference nothing, and works in 6 rows of one tile" in text
        assert re.search(r"kernel +whole network in one call, tiles of up to 64 samples", text)
        assert "no input   reaches 2 nodes" in str(make_plan(CASES["unreachable"]))
        text = str(make_plan(CASES["random"]))
        assert re.search(r"left out\D+27 nodes", text)
        assert re.search(r"nodes +linear 5, gelu \d+, sum \d+", text)
        assert re.search(r"levels +21,", text)  # of live nodes; those left out reach level 22
        assert CASES["random"].depth == 22

    @given(graphs(), either)
    def test_every_plan_prints(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        lines = str(plan).splitlines()
        assert len(lines) == 8
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
        packed = make_plan(g).pack()
        assert time.perf_counter() - start < 2
        assert packed.dtype == np.int64


def header() -> str:
    """csrc/plan_view.h without its comments."""
    return re.sub(r"//.*", "", (CSRC / "plan_view.h").read_text())


class TestPack:
    """The packed plan, and that C++ reads it the same way."""

    @given(graphs(), either)
    def test_unpack_gives_the_sections_back(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        sections = unpack(plan.pack())
        made = {"out_position", "share_begin", "preset_slot", "output_of_slot", "group_node", "group_edge"}
        made |= {"slot_row", "row_src"}
        assert set(vars(plan)) & set(sections) == set(sections) - made
        for name in sections.keys() - made:
            np.testing.assert_array_equal(sections[name], getattr(plan, name), err_msg=name)
            assert sections[name].dtype == getattr(plan, name).dtype, name

    @given(graphs(), either)
    def test_sizes(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        packed = plan.pack()
        assert packed.dtype == np.int64
        assert packed.ndim == 1
        names = re.findall(r"plan->(\w+) = header\[(\d+)\]", header())
        fan_in = (plan.in_end - plan.in_begin).tolist()
        kinds = [AGGREGATIONS[code] for code in plan.aggregation]
        presets = unpack(packed)["preset_slot"]
        own = {
            "num_biases": plan.num_computed,
            "gather_edges": sum(n for n, name in zip(fan_in, kinds, strict=True) if name not in LINEAR),
            "level_width": max(plan.level_widths.tolist()),
            "product_fan_in": max((n for n, name in zip(fan_in, kinds, strict=True) if name == "product"), default=0),
            "num_presets": len(presets),
            "num_groups": sum(max(1, -(-n // 32)) for n in fan_in),
            "num_rows": plan.scratch_rows,
        }
        for name, word in names:
            assert packed[int(word)] == own.get(name, getattr(plan, name, None)), name
        assert packed[1] == len(packed)

    @given(graphs(), either)
    def test_rows_are_named_where_a_quarter_is_saved(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        sections = unpack(plan.pack())
        if plan.inference_rows > 0.75 * plan.num_slots:
            assert plan.scratch_rows == plan.num_slots
            assert [len(sections[name]) for name in ("slot_row", "row_src")] == [0, 0]
            return
        assert plan.scratch_rows == plan.inference_rows
        assert sections["slot_row"].tolist() == plan.inference_row.tolist()
        for begin, end in zip(plan.in_begin, plan.in_end, strict=True):
            assert sections["row_src"][begin:end].tolist() == plan.inference_row[plan.in_src[begin:end]].tolist()

    @given(graphs(), either)
    def test_out_position_is_the_inverse_of_out_edge(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        position = unpack(plan.pack())["out_position"]
        if all(
            AGGREGATIONS[code] in LINEAR or begin == end
            for code, begin, end in zip(plan.aggregation, plan.in_begin, plan.in_end, strict=True)
        ):
            assert position.shape == (0,)
        else:
            assert position.shape == (g.num_edges,)
            assert position[plan.out_edge].tolist() == list(range(plan.num_live_edges))

    @given(graphs(), either)
    def test_shares_stand_side_by_side(self, g, every_node):
        """Each live edge into a node that is not linear has a row of its own, and no row is without an edge."""
        plan = make_plan(g, every_node=every_node)
        begins = unpack(plan.pack())["share_begin"]
        rows = [
            begins[c] + e - plan.in_begin[c]
            for c in range(len(plan.in_begin) if len(begins) else 0)
            if AGGREGATIONS[plan.aggregation[c]] not in LINEAR
            for e in range(plan.in_begin[c], plan.in_end[c])
        ]
        assert rows == list(range(len(rows)))

    @given(graphs(), either)
    def test_groups_cover_the_live_edges(self, g, every_node):
        """Every live edge is in one group of its own node, and every node has a group."""
        plan = make_plan(g, every_node=every_node)
        sections = unpack(plan.pack())
        covered = []
        for c, first in zip(sections["group_node"], sections["group_edge"], strict=True):
            covered += [(c, e) for e in range(first, min(first + constant("kGroupEdges"), plan.in_end[c]))]
        expected = [(c, e) for c in range(len(plan.in_begin)) for e in range(plan.in_begin[c], plan.in_end[c])]
        assert covered == expected
        assert sorted(set(sections["group_node"].tolist())) == list(range(len(plan.in_begin)))

    @given(graphs(), either)
    def test_output_of_slot_is_the_inverse_of_output_slot(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        outputs = unpack(plan.pack())["output_of_slot"].tolist()
        assert [outputs[slot] for slot in plan.output_slot] == list(range(plan.num_outputs))
        assert sum(o >= 0 for o in outputs) == plan.num_outputs

    @given(graphs(), either)
    def test_level_widths(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        levels = g.level[plan.slot_node[plan.num_inputs :]].tolist()
        assert plan.level_widths.tolist() == [levels.count(k) for k in range(plan.num_levels)]

    @given(graphs(), either)
    def test_preset_slots_are_outputs_and_sources_of_gathers(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        expected = set(plan.output_slot.tolist())
        expected |= {u for _, u, to in live_edges(g, plan) if kind(plan, to) not in LINEAR}
        assert unpack(plan.pack())["preset_slot"].tolist() == sorted(expected)

    @given(graphs(), either)
    def test_read_as_the_header_reads_it(self, g, every_node):
        """read_plan of csrc/plan_view.h, word for word, over what pack() made."""
        packed = make_plan(g, every_node=every_node).pack()
        text = header()
        sizes = {name: int(packed[int(i)]) for name, i in re.findall(r"plan->(\w+) = header\[(\d+)\]", text)}
        computed = sizes["num_slots"] - sizes["num_inputs"]
        lengths = {"computed": computed, "slots": sizes["num_slots"], "slots + 1": sizes["num_slots"] + 1}
        lengths |= {f"plan->{name}": size for name, size in sizes.items()}
        lengths["plan->num_levels + 1"] = sizes["num_levels"] + 1
        reused = sizes["num_rows"] < sizes["num_slots"]
        lengths["plan->reuses_rows() ? slots : 0"] = sizes["num_slots"] if reused else 0
        lengths["plan->reuses_rows() ? plan->num_edges : 0"] = sizes["num_edges"] if reused else 0
        lengths["plan->gather_edges ? computed : 0"] = computed if sizes["gather_edges"] else 0
        lengths["plan->gather_edges ? plan->num_edges : 0"] = sizes["num_edges"] if sizes["gather_edges"] else 0
        reads = re.findall(r"plan->(\w+) = (wide|narrow)\((.+?)\);", text)
        unpacked = unpack(packed)
        assert [name for name, _, _ in reads] == list(unpacked)
        at = constant("kPlanSizes")
        end = constant("kPlanHeader")
        for name, width, length in reads:
            start, count = packed[at], packed[at + 1]
            assert count == lengths[length], name
            assert start == end, name  # sections follow one another
            section = packed[start:].view(np.int64 if width == "wide" else np.int32)[:count]
            np.testing.assert_array_equal(section, unpacked[name], err_msg=name)
            assert section.dtype == unpacked[name].dtype, name
            at, end = at + 2, start + -(-section.nbytes // 8)
        assert at == constant("kPlanHeader")
        assert end == len(packed)

    def test_header_constants(self):
        assert constant("kPlanSizes") == plan_module._NUM_SIZES
        assert constant("kPlanSections") == len(plan_module._SECTIONS)
        assert constant("kPlanHeader") == plan_module._NUM_SIZES + 2 * len(plan_module._SECTIONS)
        assert constant("kPlanMagic") == plan_module._MAGIC
        assert constant("kGroupEdges") == plan_module._GROUP_EDGES
        assert make_plan(CASES["diamond"]).pack()[0] == constant("kPlanMagic")

    def test_every_size_is_read_once(self):
        words = [int(word) for word in re.findall(r"= header\[(\d+)\]", header())]
        assert words == list(range(2, constant("kPlanSizes")))

    def test_sections_are_in_the_structs_order(self):
        text = header()
        struct = text[text.index("struct PlanView") : text.index("num_computed()")]
        pointers = re.findall(r"const (int64_t|int32_t)\*\s*(\w+);", struct)
        types = {np.int64: "int64_t", np.int32: "int32_t"}
        assert pointers == [(types[dtype], name) for name, dtype in plan_module._SECTIONS]

    @pytest.mark.parametrize(
        ("enum", "names"), [("Activation", ACTIVATIONS), ("Aggregation", AGGREGATIONS)], ids=["act", "agg"]
    )
    def test_codes_are_those_of_the_kernels(self, enum, names):
        text = re.sub(r"//.*", "", (CSRC / "node_math.h").read_text())
        body = re.search(rf"enum class {enum} : uint8_t \{{(.*?)\}}", text, re.DOTALL)[1]
        assert re.findall(r"\bk(\w+)", body) == [
            "".join(part.capitalize() for part in name.split("_")) for name in names
        ]


def constant(name: str) -> int:
    """The value of a constexpr of csrc/plan_view.h."""
    expression = re.search(rf"constexpr int64_t {name} = (.+?);", header())[1]
    while more := re.search(r"k[A-Z]\w+", expression):
        expression = expression.replace(more[0], str(constant(more[0])))
    return int(eval(expression, {"__builtins__": {}}))
