# SPDX-License-Identifier: MIT
"""The arguments that the compiled planner refuses, or that `make_plan` and `Graph` refuse before it runs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import freewire as fw
from freewire._native import _planner
from freewire.graph import arguments
from freewire.plan import make_plan
from freewire.plan import plan as plan_module
from freewire.plan.packed import GIVEN
from tests.support import ROOT
from tests.support.dense_graphs import layers
from tests.support.messages import assert_refused


def whole(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


EDGES = np.array([[0, 0, 1], [1, 2, 2]])
LEVEL, INPUT, KEEP, LINEAR = whole(0, 1, 2), whole(0), np.array([False, True, True]), np.ones(3, bool)
LISTS = _planner.edge_lists(EDGES, LEVEL, INPUT, KEEP, LINEAR)
NO = np.zeros(3, bool)
SECOND = np.add(layers([10, 10]), 20)
DENSE = make_plan(
    fw.Graph.from_edges(
        *np.concatenate((layers([20, 10], 0.9), SECOND, [range(30, 35), range(40, 45)]), axis=1), inputs=range(20)
    )
)
SIZES = make_plan(fw.generators.mlp([1, 1])).sizes


class TestRefusals:
    """The compiled code stays inside any arrays that it is given; `Graph` never passes such ones."""

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda: _planner.order(whole(0), whole(3), 3), "dst: expected node numbers, got one out of range"),
            (lambda: _planner.order(whole(-1), whole(0), 3), "src: expected node numbers, got one out of range"),
            (lambda: _planner.order(whole(0, 1), whole(2), 3), "dst: expected as many entries as src"),
            (lambda: _planner.order(whole(), whole(), -1), r"num_nodes: expected 0 to 2\^31"),
            (lambda: _planner.order(whole(), whole(), 2**31 + 1), r"num_nodes: expected 0 to 2\^31"),
            (lambda: _planner.order(EDGES, whole(0), 3), "array: expected one dimension"),
            (lambda: _planner.reach(EDGES, whole(3), 3, False), "start: expected node numbers"),
            (lambda: _planner.reach(EDGES, whole(0), 2, False), "edges: expected node numbers"),
            (lambda: _planner.reach(EDGES, whole(0), -1, False), r"num_nodes: expected 0 to 2\^31"),
            (lambda: _planner.reach(EDGES.reshape(3, 2), whole(0), 3, False), "edge_index: expected two rows"),
            (lambda: lists(keep=KEEP[:2]), "keep: expected one entry per node"),
            (lambda: lists(linear=LINEAR[:2]), "linear: expected one entry per node"),
            (lambda: lists(inputs=whole(3)), "inputs: expected node numbers"),
            (lambda: lists(inputs=whole(0, 0)), "inputs: expected each node once"),
            (lambda: lists(inputs=whole(1)), "inputs: expected nodes of level 0 that are not computed"),
            (lambda: lists(level=whole(0, 1, 3)), "level: expected numbers from 0 to below the number of nodes"),
            (lambda: lists(level=whole(0, -1, 2)), "level: expected numbers from 0 to below the number of nodes"),
            (lambda: lists(level=whole(0, 0, 2)), "level: expected a slot on every level, got a gap"),
            (lambda: lists(edge_index=EDGES[:, ::-1].copy()), "dst: expected canonical order"),
            (lambda: lists(edge_index=np.array([[0], [3]])), "dst: expected canonical order"),
            (lambda: lists(edge_index=np.array([[3], [1]])), "src: expected node numbers"),
            (lambda: lists(edge_index=np.array([[2], [1]])), "edges: expected each into a later slot"),
            (lambda: lists(edge_index=np.array([[1], [0]])), "edges: expected each into a later slot"),
            (lambda: rows(num_inputs=4), "num_inputs: expected at most one per slot"),
            (lambda: rows(num_inputs=-1), "num_inputs: expected at most one per slot"),
            (lambda: rows(level_ptr=whole(0, 1, 2)), "level_ptr: expected the inputs on level 0 and all slots"),
            (lambda: rows(level_ptr=whole(3)), "level_ptr: expected the inputs on level 0 and all slots"),
            (lambda: rows(level_ptr=whole(0, 4, 3)), "level_ptr: expected ascending numbers"),
            (lambda: rows(out_ptr=whole(0, 2, 3)), "out_ptr: expected one entry per slot and one more"),
            (lambda: rows(out_ptr=whole(0, 2, 3, 4)), "out_ptr: expected ascending numbers"),
            (lambda: rows(out_split=whole(0, 3)), "out_split: expected one entry per slot"),
            (lambda: rows(out_sparse=whole(0, 3)), "out_split: expected one entry per slot"),
            (lambda: rows(out_sparse=whole(2, 4, 3)), "out_ptr: expected ascending numbers"),
            (lambda: rows(component=narrow(0, 1)), "component: expected one entry per slot or none"),
            (lambda: rows(component=narrow(0, 1, 3)), "component: expected numbers below that of slots"),
            (lambda: rows(component=narrow(0, 1, -1)), "component: expected numbers below that of slots"),
            (lambda: rows(out_split=whole(3, 3, 3)), "out_ptr: expected ascending numbers"),
            (lambda: rows(out_dst=np.array([1, 9, 2], np.int32)), "out_dst: expected later slots"),
            (lambda: rows(out_dst=np.array([1, 0, 2], np.int32)), "out_dst: expected later slots"),
            (lambda: packed(num_inputs=4), "num_inputs: expected at most one per slot"),
            (lambda: packed(num_inputs=-1), "num_inputs: expected at most one per slot"),
            (lambda: packed(num_biases=1), "bias_index: expected entries of the bias"),
            (lambda: packed(bias_index=narrow(0, -1)), "bias_index: expected entries of the bias"),
            (lambda: packed(num_results=2), "num_results: expected at most one per output"),
            (lambda: packed(num_results=-1), "num_results: expected at most one per output"),
            (lambda: packed(state_source=narrow(2, 2)), "state_source: expected at most one per input"),
            (lambda: packed(state_source=narrow(1)), "state_source: expected outputs"),
            (lambda: packed(state_source=narrow(3)), "state_source: expected outputs"),
            (
                lambda: packed(state_source=narrow(0), output_slot=narrow(0, 2)),
                "state_source: expected no state before its source",
            ),
            (
                lambda: packed(num_inputs=2, state_source=narrow(2, 2)),
                "state_source: expected different slots, got one twice",
            ),
            (lambda: packed(row_bytes=100), "row_bytes: expected 64, 128 or 256"),
            (lambda: packed(inference_row=narrow(0, 1)), "inference_row: expected num_slots entries"),
            (lambda: packed(inference_row=narrow(0, 3, 1)), "inference_row: expected at most one row per slot"),
            (lambda: packed(inference_row=narrow(0, -1, 1)), "inference_row: expected at most one row per slot"),
            (lambda: packed(in_begin=whole(0)), r"in_begin: expected num_computed\(\) entries"),
            (lambda: packed(in_begin=whole(-1, 1)), "in_begin: expected edges of in_src"),
            (lambda: packed(in_end=whole(1, 4)), "in_begin: expected edges of in_src"),
            (lambda: packed(in_end=whole(1, 0)), "in_begin: expected edges of in_src"),
            (lambda: packed(in_src=narrow(0, 3, 1), inference_row=narrow(0, 0, 0)), "in_src: expected slot numbers"),
            (lambda: packed(out_ptr=whole(0, 2)), r"out_ptr: expected num_slots \+ 1 entries"),
            (lambda: packed(out_edge=whole(0, 1)), "out_edge: expected num_live_edges entries"),
            (lambda: packed(out_edge=whole(0, 1, 3), aggregation=narrow(0, 2)), "out_edge: expected edge numbers"),
            (lambda: packed(out_edge=whole(0, 1, -1), aggregation=narrow(0, 2)), "out_edge: expected edge numbers"),
            (lambda: packed(activation=narrow(0)), r"activation: expected num_computed\(\) entries"),
            (lambda: packed(aggregation=narrow(0, 6)), "aggregation: expected codes of node_math.h"),
            (lambda: packed(aggregation=narrow(-1, 0)), "aggregation: expected codes of node_math.h"),
            (lambda: packed(output_slot=narrow(3)), "output_slot: expected slot numbers"),
            (lambda: packed(output_slot=narrow(-1)), "output_slot: expected slot numbers"),
            (lambda: packed(level_ptr=whole(0, 9)), "level_ptr: expected slot numbers"),
            (lambda: _planner.cpu_call_bytes(SIZES, 1, 3, True, 1, True, True), "itemsize: expected 2, 4 or 8"),
        ],
    )
    def test_values(self, call: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            call()

    @pytest.mark.parametrize(
        ("name", "place", "value", "said"),
        [
            ("run_node", 0, -1, "run_node: expected each computed node once"),
            ("run_node", 0, 25, "run_node: expected each computed node once"),
            ("run_node", 0, 1, "run_node: expected each computed node once"),
            ("stage_ptr", 0, 1, "stage_ptr: expected ascending positions from 0 to the end"),
            ("stage_ptr", 1, 24, "stage_ptr: expected ascending positions from 0 to the end"),
            ("stage_ptr", 3, 24, "stage_ptr: expected ascending positions from 0 to the end"),
            ("block_begin", 0, -1, "block_begin: expected ascending positions"),
            ("block_begin", 1, 9, "block_begin: expected ascending positions"),
            ("block_end", 1, 10, "block_begin: expected ascending positions"),
            ("block_end", 1, 26, "block_begin: expected ascending positions"),
            ("block_src_ptr", 0, -1, "block_src_ptr: expected ascending numbers"),
            ("block_src_ptr", 1, 0, "block_src_ptr: expected ascending numbers"),
            ("block_src_ptr", 2, 31, "block_src_ptr: expected ascending numbers"),
            ("block_src_ptr", 2, 29, "in_split: expected in-edges from the block's sources"),
            ("block_src", 0, -1, "block_src: expected slots"),
            ("block_src", 0, 45, "block_src: expected slots"),
            ("block_panel", 0, 1, "block_panel: expected one block after the other"),
            ("block_panel", 0, -1, "in_split: expected in-edges from the block's sources"),
            ("panel_column", 0, -1, "panel_column: expected sources of the edge's block"),
            ("panel_column", 0, 20, "panel_column: expected sources of the edge's block"),
            ("in_split", 0, 2**40, "in_split: expected an in-edge of each node"),
            ("in_split", 0, -1, "in_split: expected an in-edge of each node"),
            ("in_split", 24, 10**9, "in_split: expected an in-edge of each node"),
            ("aggregation", 0, 2, "run_node: expected nodes of linear aggregation in dense blocks"),
            ("out_ptr", 0, -1, "out_ptr, out_sparse, out_split: expected ascending numbers"),
            ("out_sparse", 0, -1, "out_ptr, out_sparse, out_split: expected ascending numbers"),
            ("out_sparse", 0, 1000, "out_ptr, out_sparse, out_split: expected ascending numbers"),
            ("out_split", 0, 1000, "out_ptr, out_sparse, out_split: expected ascending numbers"),
            ("out_ptr", 45, 1000, "out_ptr, out_sparse, out_split: expected ascending numbers"),
        ],
    )
    def test_dense_blocks(self, name: str, place: int, value: int, said: str) -> None:
        """Ten nodes read 20 inputs, or most of them; ten read the ten; five read one of these each."""
        wrong = getattr(DENSE, name).copy()
        wrong[place] = value
        with pytest.raises(ValueError, match=said):
            dataclasses.replace(DENSE, **{name: wrong}).pack()

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("run_node", r"run_node: expected num_computed\(\) entries"),
            ("in_split", r"in_split: expected num_computed\(\) entries"),
            ("in_end", r"in_end: expected num_computed\(\) entries"),
            ("aggregation", r"aggregation: expected num_computed\(\) entries"),
            ("block_end", "block_end, block_panel, block_src_ptr: expected one entry per block"),
            ("block_panel", "block_end, block_panel, block_src_ptr: expected one entry per block"),
            ("block_src_ptr", "block_end, block_panel, block_src_ptr: expected one entry per block"),
            ("panel_column", "panel_column: expected num_edges entries"),
            ("out_sparse", "out_sparse: expected num_slots entries"),
        ],
    )
    def test_lengths_of_dense_blocks(self, name: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            dataclasses.replace(DENSE, **{name: getattr(DENSE, name)[:-1]}).pack()

    def test_no_stages_at_all(self) -> None:
        with pytest.raises(ValueError, match="stage_ptr: expected ascending positions"):
            dataclasses.replace(DENSE, stage_ptr=whole()).pack()

    def test_a_split_outside_of_blocks(self) -> None:
        """A kernel that trusts in_split would not sum the first edges of a node that is in no block."""
        wrong = DENSE.in_split.copy()
        wrong[24] += 1
        with pytest.raises(ValueError, match="in_split: expected in_begin for nodes outside of blocks"):
            dataclasses.replace(DENSE, in_split=wrong).pack()

    @pytest.mark.parametrize(
        "src",
        [np.zeros(2, np.int32), np.zeros(2), np.zeros(4, np.int64)[::2], np.zeros(2, ">i8"), [0, 0], None],
        ids=["int32", "float", "strided", "big-endian", "list", "none"],
    )
    def test_types_are_not_converted(self, src: Any) -> None:
        """A silent copy would cost memory."""
        with pytest.raises(TypeError, match="incompatible function arguments"):
            _planner.order(src, whole(1, 1), 2)

    @pytest.mark.parametrize("in_src", [whole(0, 0, 1), [0, 0, 1], None], ids=["int64", "list", "none"])
    def test_packed_types_are_not_converted(self, in_src: Any) -> None:
        assert len(packed())
        with pytest.raises(TypeError, match="in_src: expected a contiguous array of int32"):
            packed(in_src=in_src)

    def test_unaligned_numbers(self) -> None:
        odd = np.zeros(17, np.uint8)[1:].view(np.int64)
        with pytest.raises(ValueError, match="array: expected aligned numbers"):
            _planner.order(odd, whole(1, 1), 2)

    def test_too_many_edges(self, monkeypatch: pytest.MonkeyPatch) -> None:
        header = (ROOT / "csrc" / "planner" / "order.h").read_text()
        assert arguments.MAX_EDGES == 2**33
        assert "kMaxEdges = int64_t{1} << 33" in header
        monkeypatch.setattr("freewire.graph.edge_arrays.MAX_EDGES", 2)
        assert_refused(lambda: fw.Graph.from_edges([0, 0, 0], [1, 1, 1]), r"src: expected at most 2 edges, got 3\. ")

    def test_too_many_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """2**31 rows are allowed, slots and kept rows together."""
        g = fw.Graph.from_edges([0, 0], [1, 2], activation="gelu", output_activation="gelu")
        assert plan_module._MAX_ROWS == 2**31
        monkeypatch.setattr(plan_module, "_MAX_ROWS", 5)
        assert make_plan(g).tape_rows == 5
        monkeypatch.setattr(plan_module, "_MAX_ROWS", 4)
        assert_refused(lambda: make_plan(g), r"graph: expected at most 4 tape rows, .* got 5\. Choose")

    def test_no_module(self) -> None:
        code = "import sys; sys.modules['freewire._native._planner'] = None; import freewire"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 1
        said = done.stderr.splitlines()[-1]
        assert said.startswith(
            "freewire.errors.BuildError: compiled planner: expected freewire._native._planner for Python 3."
        )
        assert "`make setup`" in said


def lists(**changed: Any) -> Any:
    arguments = {"edge_index": EDGES, "level": LEVEL, "inputs": INPUT, "keep": KEEP, "linear": LINEAR, **changed}
    return _planner.edge_lists(**arguments)


def rows(**changed: Any) -> Any:
    own = {name: LISTS[name] for name in ("level_ptr", "component", "out_ptr", "out_sparse", "out_split", "out_dst")}
    return _planner.inference_rows(**{**own, "num_inputs": 1, "is_output": NO, **changed})


def narrow(*numbers: int) -> Any:
    return np.array(numbers, np.int32)


def packed(**changed: Any) -> Any:
    own = {name: LISTS[name] for name in GIVEN if name in LISTS}
    own |= {name: narrow(0, 0) for name in ("activation", "aggregation", "kept_row")}
    own |= {
        "bias_index": narrow(0, 1),
        "output_slot": narrow(2),
        "state_source": narrow(),
        "inference_row": narrow(0, 1, 2),
    }
    numbers = {"num_inputs": 1, "num_biases": 2, "num_results": 1, "row_bytes": 64}
    numbers |= {name: changed.pop(name) for name in list(changed) if name in numbers}
    return _planner.pack({**own, **changed}, **numbers)
