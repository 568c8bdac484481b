# SPDX-License-Identifier: MIT
"""Inference rows, checked by simulation: a value must still be in its row when it is read."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import freewire as fw
from freewire.plan import Plan, make_plan
from tests.support.graphs import CASES, SOME_NODES, graphs, some_edges


def simulate(plan: Plan) -> None:
    """Run a plan on its inference rows, each level's nodes in any order: every value must be there when it is read.

    The levels run over all nodes, as on a GPU, and then in `run_node`'s order, which may go by component.
    """
    ends = plan.level_ptr[1:].tolist()
    slots = (plan.run_node + plan.num_inputs).tolist()
    run_levels(plan, [range(max(begin, plan.num_inputs), end) for begin, end in itertools.pairwise([0, *ends])])
    run_levels(plan, [list(group) for _, group in itertools.groupby(slots, lambda slot: bisect.bisect(ends, slot))])


def run_levels(plan: Plan, levels: Iterable[Sequence[int]]) -> None:
    row = plan.inference_row.tolist()
    holds = dict(zip(row[: plan.num_inputs], range(plan.num_inputs), strict=True))  # row -> slot
    for computed in levels:
        read = set()
        for slot in computed:
            c = slot - plan.num_inputs
            for source in plan.in_src[plan.in_begin[c] : plan.in_end[c]].tolist():
                assert holds[row[source]] == source, f"slot {slot} reads slot {source}, whose row holds another"
                read.add(row[source])
        written = {row[slot] for slot in computed}
        assert len(written) == len(computed), "two slots of a level write one row"
        assert not written & read, "a level writes what it reads"
        holds.update((row[slot], slot) for slot in computed)
    for slot in plan.output_slot.tolist():
        assert holds[row[slot]] == slot, f"the output at slot {slot} was overwritten"


class TestInferenceRows:
    """Rows are reused, and never too early."""

    @given(graphs(), st.booleans())
    def test_any_graph(self, g: fw.Graph, every_node: bool) -> None:
        plan = make_plan(g, every_node=every_node)
        simulate(plan)
        assert plan.inference_row[: plan.num_inputs].tolist() == list(range(plan.num_inputs))
        assert set(plan.inference_row.tolist()) == set(range(plan.inference_rows))
        if every_node:
            assert plan.inference_rows == plan.num_slots

    @pytest.mark.parametrize("seed", range(4))
    def test_many(self, seed: int) -> None:
        src, dst = some_edges(seed)
        level = fw.Graph.from_edges(src, dst, num_nodes=SOME_NODES).level
        g = fw.Graph.from_edges(src, dst, num_nodes=SOME_NODES, outputs=np.argsort(level, stable=True)[-20:])
        plan = make_plan(g)
        simulate(plan)
        assert plan.inference_rows < plan.num_slots

    @pytest.mark.parametrize("name", CASES)
    def test_cases(self, name: str) -> None:
        simulate(make_plan(CASES[name]))

    @pytest.mark.parametrize(
        ("edges", "outputs", "slot", "takes", "said"),
        [
            ([(0, 1), (1, 2)], [2], 1, 0, "writes what it reads"),
            ([(0, 1), (1, 2), (2, 3), (0, 3)], [3], 2, 0, "slot 3 reads slot 0, whose row holds another"),
            ([(0, 1), (0, 2), (1, 3), (2, 3)], [3], 2, 1, "two slots of a level write one row"),
            ([(0, 1), (1, 2), (2, 3)], [1, 3], 3, 1, "the output at slot 1 was overwritten"),
        ],
    )
    def test_a_wrong_row_is_noticed(self, edges: Any, outputs: list[int], slot: int, takes: int, said: str) -> None:
        """`simulate` can fail in each of its ways. Slots are nodes here, and all but one have a row of their own."""
        plan = make_plan(fw.Graph.from_edges(*zip(*edges, strict=True), outputs=outputs))
        row = np.arange(plan.num_slots, dtype=np.int32)
        simulate(dataclasses.replace(plan, inference_row=row.copy()))
        row[slot] = row[takes]
        with pytest.raises(AssertionError, match=said):
            simulate(dataclasses.replace(plan, inference_row=row))

    def test_a_chain_needs_two(self) -> None:
        """One would not do: a row that is read on a level is not written on it."""
        plan = make_plan(CASES["chain"])
        assert plan.inference_row.tolist() == [slot % 2 for slot in range(101)]
        assert plan.inference_rows == 2

    def test_layers(self) -> None:
        """The second hidden layer takes the rows of the inputs, the outputs those of the first."""
        plan = make_plan(fw.generators.mlp([5, 7, 6, 3]))
        assert plan.inference_rows == 13
        assert set(plan.inference_row[12:18].tolist()) == {0, 1, 2, 3, 4, 12}
        assert set(plan.inference_row[18:].tolist()) < set(range(5, 12))

    def test_the_row_read_last_is_reused_first(self) -> None:
        plan = make_plan(fw.Graph.from_edges([0, 1, 2, 3], [2, 3, 4, 4]))
        assert plan.inference_row.tolist() == [0, 1, 2, 3, 1]

    def test_an_output_keeps_its_row(self) -> None:
        """An input that is an output, and an output that others read."""
        plan = make_plan(fw.Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 4], outputs=[0, 2, 4]))
        assert plan.inference_row.tolist() == [0, 1, 2, 1, 3]

    def test_a_row_that_is_never_read_is_free_after_level_0(self) -> None:
        """1 is an input without readers; 2 has no in-edges, so it is on level 0 with the inputs."""
        g = fw.Graph.from_edges([0, 2], [3, 3], num_nodes=4, inputs=[0, 1], outputs=[3])
        assert make_plan(g).inference_row.tolist() == [0, 1, 2, 1]

    def test_components(self) -> None:
        """One after the other: the first's second layer would otherwise overwrite the inputs of the second."""
        g = fw.Graph.union([fw.generators.mlp([4, 4, 4, 4]), fw.generators.mlp([6, 2, 2])])
        plan = make_plan(g)
        assert len(plan.component_ptr) == 3
        simulate(plan)
        assert plan.inference_rows < plan.num_slots

    def test_no_slots(self) -> None:
        g = fw.Graph.from_edges([], [], num_nodes=1, inputs=[], outputs=[0])
        assert make_plan(g).inference_rows == 1
