# SPDX-License-Identifier: MIT
"""The plan of one time step of a recurrent graph."""

from __future__ import annotations

import numpy as np
import pytest

import freewire as fw
from freewire.plan import Plan, make_plan
from tests.support.graphs import RECURRENT, recurrent_graph


def assert_later(plan: Plan) -> None:
    """Every node is on a later level than what it reads, so that levels can run one after the other both ways."""
    level = np.repeat(np.arange(plan.num_levels), np.diff(plan.level_ptr))
    for node, (begin, end) in enumerate(zip(plan.in_begin, plan.in_end, strict=True)):
        assert (level[plan.in_src[begin:end]] < level[plan.num_inputs + node]).all()


@pytest.mark.parametrize("every_node", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_levels(seed: int, every_node: bool) -> None:
    for longest, num_edges in ((1, 200), (3, 80), (3, 20)):
        assert_later(make_plan(recurrent_graph(seed, num_edges=num_edges, longest=longest), every_node=every_node))


def test_levels_of_what_no_input_reaches() -> None:
    """Nodes that read values of the step before alone, where there are inputs and where there are none."""
    assert_later(make_plan(RECURRENT))
    assert_later(make_plan(fw.Graph.from_edges([0, 1], [1, 0], inputs=[], outputs=[0], delay=1)))
    # 2 reaches no output; 1 has no in-edges.
    assert_later(make_plan(fw.Graph.from_edges([0, 2], [3, 2], num_nodes=4, inputs=[0], outputs=[3, 1], delay=[0, 1])))


@pytest.mark.parametrize("seed", range(5))
def test_a_source_is_of_one_state_and_only_the_last_bias_is_shared(seed: int) -> None:
    plan = make_plan(recurrent_graph(seed))
    assert len(set(plan.state_source.tolist())) == plan.num_states
    assert (np.bincount(plan.bias_index, minlength=plan.num_biases)[:-1] <= 1).all()
