# SPDX-License-Identifier: MIT
"""Packed plans: every section against plain Python lists, and what the reader refuses."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freewire._native.planner import planner
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.plan import make_plan
from freewire.plan.packed import GIVEN, PackedPlan
from tests.support import ROOT
from tests.support.graphs import CASES, graphs
from tests.support.plans import LINEAR, kind, live_edges

CSRC = ROOT / "csrc"
LAYOUT = planner.plan_layout()

either = st.booleans()


class TestLayout:
    """The one list of sizes and sections, as Python and the kernels' reader know it."""

    @given(graphs(), either)
    def test_round_trip(self, g, every_node):
        """The header's table, walked here, leads to the sections that the kernels' reader finds."""
        packed = make_plan(g, every_node=every_node).pack()
        words, header, sections = packed.words, packed.header, packed.sections
        assert words.dtype == np.int64
        assert words.ndim == 1
        assert header == tuple(words[: len(header)].tolist())
        assert len(header) == LAYOUT["header_words"] == 2 + len(LAYOUT["sizes"]) + 2 * len(LAYOUT["sections"])
        assert header[1] == len(words)
        assert list(sections) == list(LAYOUT["sections"])
        table = np.reshape(header[2 + len(LAYOUT["sizes"]) :], (-1, 2)).tolist()
        end = len(header)
        for (name, dtype), (start, length) in zip(LAYOUT["sections"].items(), table, strict=True):
            assert start == end, name  # sections follow one another
            section = words[start:].view(dtype)[:length]
            assert sections[name].dtype == dtype, name
            np.testing.assert_array_equal(sections[name], section, err_msg=name)
            end = start + -(-section.nbytes // 8)
            assert not words[start:end].view(dtype)[length:].any(), f"{name} has garbage after its end"
        assert end == len(words)

    @given(graphs(), either)
    def test_given_sections_are_the_plans_arrays(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        sections = plan.pack().sections
        derived = {"out_position", "share_begin", "preset_slot", "output_of_slot", "group_node", "group_edge"}
        derived |= {"inference_row", "row_src", "run_edges"}
        assert sections.keys() - derived == set(GIVEN) - {"inference_row"}
        for name in sections.keys() - derived:
            np.testing.assert_array_equal(sections[name], getattr(plan, name), err_msg=name)
            assert sections[name].dtype == getattr(plan, name).dtype, name

    @given(graphs(), either)
    def test_sizes(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        packed = plan.pack()
        fan_in = (plan.in_end - plan.in_begin).tolist()
        kinds = [AGGREGATIONS[code] for code in plan.aggregation]
        slots = len(plan.slot_node)
        rows = max(plan.inference_row.tolist(), default=-1) + 1
        expected = {
            "num_inputs": len(g.inputs),
            "num_slots": slots,
            "num_outputs": g.num_nodes if every_node else len(g.outputs),
            "num_edges": g.num_edges,
            "num_live_edges": len(live_edges(g, plan)),
            "num_biases": g.num_nodes - len(g.inputs),
            "num_states": 0,
            "num_results": g.num_nodes if every_node else len(g.outputs),
            "tape_rows": slots + sum(row >= 0 for row in plan.kept_row.tolist()),
            "gather_edges": sum(n for n, name in zip(fan_in, kinds, strict=True) if name not in LINEAR),
            "product_fan_in": max((n for n, name in zip(fan_in, kinds, strict=True) if name == "product"), default=0),
            "row_bytes": 256,
            "num_levels": len(plan.level_ptr) - 1,
            "level_width": max(plan.level_widths.tolist()),
            "num_presets": len(packed.sections["preset_slot"]),
            "num_groups": sum(max(1, -(-n // 32)) for n in fan_in),
            "scratch_rows": rows if 4 * rows <= 3 * slots else slots,
            "num_stages": len(plan.stage_ptr) - 1,
            "num_blocks": len(plan.block_begin),
            "num_block_src": len(plan.block_src),
            "num_block_edges": int((plan.in_split - plan.in_begin).sum()),
            "num_panel": sum(
                (end - begin) * (last - first)
                for begin, end, first, last, panel in zip(
                    plan.block_begin.tolist(),
                    plan.block_end.tolist(),
                    plan.block_src_ptr[:-1].tolist(),
                    plan.block_src_ptr[1:].tolist(),
                    plan.block_panel.tolist(),
                    strict=True,
                )
                if panel >= 0
            ),
        }
        assert dict(zip(LAYOUT["sizes"], packed.header[2:], strict=False)) == expected
        assert {name: getattr(plan.sizes, name) for name in LAYOUT["sizes"]} == expected
        for name in ("tape_rows", "scratch_rows", "gather_edges", "product_fan_in"):
            assert getattr(plan, name) == expected[name]

    def test_sections_are_views(self):
        packed = make_plan(CASES["diamond"]).pack()
        packed.sections["in_src"][0] = 77
        assert packed.sections["in_src"][0] == 77
        assert np.shares_memory(packed.sections["out_edge"], packed.words)


def read(packed, word, value):
    """Read a plan one of whose words is changed."""
    words = packed.words.copy()
    words[word] = value
    return PackedPlan(words).sections


class TestTampered:
    """The kernels' reader refuses a header that does not fit; the words after the header are trusted."""

    REFUSED = "words: expected a plan that Plan.pack.. of this version of freewire made, got other numbers"
    PACKED = make_plan(CASES["mixed_aggregations"]).pack()

    @pytest.mark.parametrize("word", [0, 1, *range(2 + len(LAYOUT["sizes"]), LAYOUT["header_words"])])
    def test_every_word_but_the_sizes(self, word):
        start = 2 + len(LAYOUT["sizes"])
        wrong = [-1, 2**62] if word >= start and (word - start) % 2 == 0 else [-1, self.PACKED.header[word] + 1, 2**62]
        for value in wrong:
            with pytest.raises(ValueError, match=self.REFUSED):
                read(self.PACKED, word, value)

    @pytest.mark.parametrize("name", LAYOUT["sizes"])
    def test_a_negative_size(self, name):
        with pytest.raises(ValueError, match=self.REFUSED):
            read(self.PACKED, 2 + LAYOUT["sizes"].index(name), -1)

    @pytest.mark.parametrize(
        "name",
        [
            *("num_inputs", "num_slots", "num_outputs", "num_edges", "num_live_edges", "row_bytes", "num_levels"),
            *("num_presets", "num_groups", "scratch_rows", "num_stages", "num_blocks", "num_block_src"),
        ],
    )
    def test_a_size_that_is_one_more(self, name):
        """The sizes that a section's length depends on, and those of few values."""
        word = 2 + LAYOUT["sizes"].index(name)
        plan = make_plan(CASES["mixed_aggregations"])
        packed = dataclasses.replace(plan, inference_row=np.arange(plan.num_slots, dtype=np.int32)).pack()
        with pytest.raises(ValueError, match=self.REFUSED):
            read(packed, word, packed.header[word] + 1)

    def test_cut_short(self):
        for length in (0, 1, LAYOUT["header_words"], len(self.PACKED.words) - 1):
            with pytest.raises(ValueError, match=self.REFUSED):
                PackedPlan(self.PACKED.words[:length]).sections  # noqa: B018

    def test_contents_are_trusted(self):
        word = len(self.PACKED.words) - 1
        assert read(self.PACKED, word, 12345)


class TestSections:
    """The sections that the planner computes."""

    @given(graphs(), either)
    def test_rows_are_reused_where_a_quarter_is_saved(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        sections = plan.pack().sections
        if plan.inference_rows > 0.75 * plan.num_slots:
            assert plan.scratch_rows == plan.num_slots
            assert [len(sections[name]) for name in ("inference_row", "row_src")] == [0, 0]
            return
        assert plan.scratch_rows == plan.inference_rows
        assert sections["inference_row"].tolist() == plan.inference_row.tolist()
        for begin, end in zip(plan.in_begin, plan.in_end, strict=True):
            assert sections["row_src"][begin:end].tolist() == plan.inference_row[plan.in_src[begin:end]].tolist()

    @given(graphs(), either)
    def test_out_position_is_the_inverse_of_out_edge(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        position = plan.pack().sections["out_position"]
        if all(
            AGGREGATIONS[code] in LINEAR or begin == end
            for code, begin, end in zip(plan.aggregation, plan.in_begin, plan.in_end, strict=True)
        ):
            assert position.shape == (0,)
        else:
            assert position.shape == (g.num_edges,)
            assert position[plan.out_edge].tolist() == list(range(plan.num_live_edges))

    @given(graphs(), either)
    def test_shares_are_consecutive(self, g, every_node):
        """Each live edge into a node that is not linear has a row of its own, and no row is without an edge."""
        plan = make_plan(g, every_node=every_node)
        begins = plan.pack().sections["share_begin"]
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
        sections = plan.pack().sections
        covered = []
        for c, first in zip(sections["group_node"], sections["group_edge"], strict=True):
            covered += [(c, e) for e in range(first, min(first + LAYOUT["group_edges"], plan.in_end[c]))]
        expected = [(c, e) for c in range(len(plan.in_begin)) for e in range(plan.in_begin[c], plan.in_end[c])]
        assert covered == expected
        assert sorted(set(sections["group_node"].tolist())) == list(range(len(plan.in_begin)))

    @given(graphs(), either)
    def test_output_of_slot_is_the_inverse_of_output_slot(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        outputs = plan.pack().sections["output_of_slot"].tolist()
        assert [outputs[slot] for slot in plan.output_slot] == list(range(plan.num_outputs))
        assert sum(o >= 0 for o in outputs) == plan.num_outputs

    @given(graphs(), either)
    def test_level_widths(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        levels = g.level[plan.slot_node[plan.num_inputs :]].tolist()
        assert plan.level_widths.tolist() == [levels.count(k) for k in range(plan.num_levels)]

    @given(graphs(), either)
    def test_preset_slots_are_outputs_and_sources_of_gathers_and_blocks(self, g, every_node):
        plan = make_plan(g, every_node=every_node)
        expected = {*plan.output_slot.tolist(), *plan.block_src.tolist()}
        expected |= {u for _, u, to in live_edges(g, plan) if kind(plan, to) not in LINEAR}
        assert plan.pack().sections["preset_slot"].tolist() == sorted(expected)

    @pytest.mark.parametrize(
        ("enum", "names"), [("Activation", ACTIVATIONS), ("Aggregation", AGGREGATIONS)], ids=["act", "agg"]
    )
    def test_codes_are_those_of_the_kernels(self, enum, names):
        text = re.sub(r"//.*", "", (CSRC / "node_math.h").read_text())
        body = re.search(rf"enum class {enum} : uint8_t \{{(.*?)\}}", text, re.DOTALL)[1]
        assert re.findall(r"\bk(\w+)", body) == [
            "".join(part.capitalize() for part in name.split("_")) for name in names
        ]
