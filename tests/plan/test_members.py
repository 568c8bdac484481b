# SPDX-License-Identifier: MIT
"""Plans of a population's members: the words that each graph's own plan has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from freewire._native.planner import planner
from freewire.graph import Graph
from freewire.plan import make_plan
from freewire.plan.members import MemberPlans
from tests.support.dense_graphs import PARTS, planted_graph
from tests.support.graphs import CASES, graphs

NOT_RECURRENT = {name: graph for name, graph in CASES.items() if not graph.recurrent}


def words_of(plans: MemberPlans, i: int) -> list[int]:
    first = int(plans.first[i])
    return plans.words[first : first + int(plans.words[first + 1])].tolist()


def test_every_case() -> None:
    plans = MemberPlans(list(NOT_RECURRENT.values()))
    for i, (name, graph) in enumerate(NOT_RECURRENT.items()):
        assert words_of(plans, i) == make_plan(graph).pack().words.tolist(), name


def test_dense_blocks() -> None:
    graph = planted_graph(PARTS, seed=0)
    assert words_of(MemberPlans([graph]), 0) == make_plan(graph).pack().words.tolist()


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_any_graph(graph: Graph) -> None:
    plans = MemberPlans([graph])
    plan = make_plan(graph)
    assert words_of(plans, 0) == plan.pack().words.tolist()
    assert plans.limits()[:2] == (1, plan.tape_rows)


def test_table() -> None:
    graphs = list(NOT_RECURRENT.values())
    plans = MemberPlans(graphs)
    table = plans.table()
    assert (table[:, 0] == plans.first).all()
    for column, counts in (
        (1, [graph.num_edges for graph in graphs]),
        (2, [len(graph.computed_index) for graph in graphs]),
        (3, [make_plan(graph).tape_rows for graph in graphs]),
    ):
        assert table[:, column].tolist() == [0, *np.cumsum(counts)[:-1].tolist()]
    assert plans.limits()[1] == sum(make_plan(graph).tape_rows for graph in graphs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({3: np.array([99])}, "inputs, outputs: expected node numbers, got one out of range."),
        ({4: np.array([99, 0], np.uint8)}, "activation, aggregation: expected codes of node_math.h, got others."),
        ({5: np.zeros(7, np.uint8)}, "graph: expected arrays that fit each other, got others."),
    ],
)
def test_wrong_arrays(change: dict[int, np.ndarray], message: str) -> None:
    g = Graph.from_edges([0], [1])
    arrays = [g.edge_index, g.level, g.input_index, g.output_index, g.activation, g.aggregation]
    for i, array in change.items():
        arrays[i] = array
    with pytest.raises(ValueError, match=message):
        planner.pack_members([tuple(arrays)], np.zeros(30, np.bool_), 256)
