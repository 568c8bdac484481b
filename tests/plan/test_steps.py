# SPDX-License-Identifier: MIT
"""Plans of recurrent graphs: states, where their values come from, and the order of weights with leaks."""

from __future__ import annotations

import re

import numpy as np
import pytest

import freewire as fw
from freewire.plan import make_plan, steps
from freewire.plan.steps import step_graph
from tests.support.graphs import CASES, RECURRENT
from tests.support.messages import assert_refused
from tests.support.recurrent import every_kind, wired

LAGS = 65536
GRAPHS = {
    "recurrent": RECURRENT,
    "kinds": every_kind(),
    **{f"wired{seed}": wired(seed, leak=seed % 2 == 0) for seed in range(4)},
}
either = pytest.mark.parametrize("every_node", [False, True])
graphs = pytest.mark.parametrize("name", GRAPHS)


def live(g: fw.Graph, every_node: bool) -> list[int]:
    return [v for v in g.computed_index.tolist() if every_node or g.reaches_output[v]]


def leaky(g: fw.Graph, every_node: bool, learn_leak: bool = False) -> list[int]:
    if g.leak is None:
        return []
    return [v for v in live(g, every_node) if (g.leak[v] <= 1 if learn_leak else g.leak[v] < 1)]


def wanted_states(g: fw.Graph, every_node: bool) -> list[tuple[int, int]]:
    """(node, lag), for every lag up to the longest delay with which a live node reads it; then leaky nodes."""
    readers = set(live(g, every_node))
    longest: dict[int, int] = {}
    for u, v, k in zip(*g.edge_index.tolist(), g.delay.tolist(), strict=True):
        if v in readers:
            longest[u] = max(longest.get(u, 0), k)
    return [(u, lag) for u in sorted(longest) for lag in range(1, longest[u] + 1)]


class TestStates:
    """The last inputs of a step."""

    @graphs
    @either
    def test_keys(self, name: str, every_node: bool) -> None:
        g = GRAPHS[name]
        plan = make_plan(g, every_node=every_node)
        keys = [u * LAGS + lag for u, lag in wanted_states(g, every_node)]
        keys += [g.num_nodes * LAGS + v for v in leaky(g, every_node)]
        assert plan.state_key.tolist() == keys == sorted(keys)
        assert plan.num_states == len(keys)
        assert plan.num_inputs == len(g.inputs) + len(keys)
        assert plan.num_features == len(g.inputs)

    @graphs
    @either
    def test_sources(self, name: str, every_node: bool) -> None:
        """A state of lag k > 1 is that of lag k - 1 in the step before; others are nodes, or a leaky node's z."""
        g = GRAPHS[name]
        plan = make_plan(g, every_node=every_node)
        first = plan.num_features
        filtered = set(leaky(g, every_node))
        for i, (key, source) in enumerate(zip(plan.state_key.tolist(), plan.state_source.tolist(), strict=True)):
            node, lag = divmod(key, LAGS)
            if node < g.num_nodes and lag > 1:
                assert plan.state_key[source - first] == key - 1
                assert source < first + i, "a source is no later state"
                continue
            v = node if node < g.num_nodes else key - g.num_nodes * LAGS
            assert plan.slot_node[source] == v
            if v in g.input_index:
                assert source < first
                continue
            computed = source - plan.num_inputs
            assert computed >= 0
            if node == g.num_nodes:  # z: leak * m + (1 - leak) * z, whose second source is this very state
                assert (
                    plan.in_src[plan.in_begin[computed] + 1] == first + i
                    or plan.in_src[plan.in_begin[computed]] == first + i
                )
                assert plan.activation[computed] == 0
            else:
                assert plan.activation[computed] == g.activation[v]
                assert (plan.in_end[computed] - plan.in_begin[computed] == 1) or v not in filtered

    def test_by_hand(self) -> None:
        """1 and 3 are leaky; 0 is read after 2 steps, 2 after 1, and 3 after 3."""
        plan = make_plan(RECURRENT)
        n = RECURRENT.num_nodes
        assert plan.state_key.tolist() == [
            *(1, 2),
            2 * LAGS + 1,
            *(3 * LAGS + 1, 3 * LAGS + 2, 3 * LAGS + 3),
            n * LAGS + 1,
            n * LAGS + 3,
        ]
        slots = plan.slot_node[plan.num_inputs :].tolist()
        assert slots == [1, 1, 1, 2, 3, 3, 3]  # m, z and the value of 1, then 2, then those of 3
        base = plan.num_inputs
        assert plan.state_source.tolist() == [0, 1, base + 3, base + 6, 4, 5, base + 1, base + 5]
        assert plan.num_outputs == len(set(plan.output_slot.tolist()))
        assert plan.num_results == 1
        assert plan.slot_node[plan.output_slot[0]] == 3

    @graphs
    def test_every_state_of_the_outputs_plan_is_one_of_all_nodes(self, name: str) -> None:
        own, whole = make_plan(GRAPHS[name]), make_plan(GRAPHS[name], every_node=True)
        assert set(own.state_key) <= set(whole.state_key)
        assert whole.num_results == GRAPHS[name].num_nodes

    @graphs
    @either
    def test_what_the_next_step_reads_is_an_output(self, name: str, every_node: bool) -> None:
        plan = make_plan(GRAPHS[name], every_node=every_node)
        outputs = plan.output_slot.tolist()
        assert set(plan.state_source.tolist()) <= set(outputs)
        assert plan.slot_node[outputs[: plan.num_results]].tolist() == (
            list(range(GRAPHS[name].num_nodes)) if every_node else GRAPHS[name].output_index.tolist()
        )
        # Its row is not used again within the step.
        rows = plan.inference_row[plan.state_source]
        states = plan.inference_row[plan.num_features : plan.num_inputs]
        kept = [r for r, s in zip(rows.tolist(), plan.state_source.tolist(), strict=True) if s >= plan.num_inputs]
        assert not set(kept) & set(states.tolist())


class TestLeaks:
    """A leaky node is three, and two of its weights are its leak."""

    @graphs
    @either
    @pytest.mark.parametrize("learn_leak", [False, True])
    def test_weights_in_order(self, name: str, every_node: bool, learn_leak: bool) -> None:
        """Each edge of the step has the number that its ends say, once `weight_entry` has put all into place."""
        g = GRAPHS[name]
        step = step_graph(g, every_node=every_node, learn_leak=learn_leak)
        nodes = leaky(g, every_node, learn_leak)
        if not nodes:
            assert step.leaks is None
            return
        leaks = step.leaks
        assert g.computed_index[leaks.bias_entry].tolist() == nodes
        assert leaks.leak.tolist() == g.leak[nodes].tolist()
        numbers = np.arange(g.num_edges, dtype=float)
        alpha = 1000 + np.arange(len(nodes))
        given = np.concatenate((numbers, np.stack((alpha, -alpha), 1).ravel(), np.full(len(nodes), 5e6)))
        ordered = given if leaks.weight_entry is None else given[leaks.weight_entry]
        src, dst = step.edge_index
        assert len(ordered) == len(src) == g.num_edges + 3 * len(nodes)
        place = {v: i for i, v in enumerate(nodes)}
        seen = []
        for weight, u, v in zip(ordered.tolist(), src.tolist(), dst.tolist(), strict=True):
            part = v % 3
            if part == 0:
                seen.append(int(weight))
                edge = g.edge_index[:, int(weight)].tolist()
                assert edge[1] == v // 3
                assert step.node[u] == edge[0]
            elif part == 1:
                expected = alpha[place[v // 3]] * (1 if u == v - 1 else -1)
                assert weight == expected
                assert step.node[u] == v // 3
            else:
                assert weight == 5e6
                assert u == v - 1
        assert seen == list(range(g.num_edges)), "the graph's own edges keep their order"
        key = step.level[dst] * len(step.level) + dst
        assert (np.diff(key) >= 0).all()

    def test_the_order_changes_only_where_edges_follow(self) -> None:
        assert step_graph(wired(0)).leaks.weight_entry is not None
        last = fw.Graph.from_edges([0, 1], [1, 2], delay=0, leak=[1, 1, 0.5])
        assert step_graph(last).leaks.weight_entry is None

    def test_a_leak_of_one_is_none(self) -> None:
        plain = fw.Graph.from_edges([0, 1], [1, 1], outputs=[1], delay=[0, 1], leak=1)
        assert step_graph(plain).leaks is None
        assert step_graph(plain, learn_leak=True).leaks.leak.tolist() == [1]
        assert step_graph(fw.Graph.from_edges([0, 1], [1, 1], outputs=[1], delay=[0, 1]), learn_leak=True).leaks is None

    @graphs
    def test_levels_have_no_gap(self, name: str) -> None:
        step = step_graph(GRAPHS[name])
        assert np.unique(step.level).tolist() == list(range(step.level.max() + 1))
        src, dst = step.edge_index
        after = step.keep[dst] & step.keep[src]  # what reads states only is on level 0, after them
        assert (step.level[src[after]] < step.level[dst[after]]).all()
        assert not step.level[step.inputs].any()

    def test_biases(self) -> None:
        plan = make_plan(RECURRENT)
        assert plan.num_biases == 4  # of three computed nodes, and a zero
        assert plan.bias_index.tolist() == [0, 3, 3, 1, 2, 3, 3]


class TestPlan:
    def test_without_delays_the_plan_is_a_networks(self) -> None:
        for g in (CASES["random"], CASES["mixed_aggregations"]):
            wires = g.to_networkx()
            for *_, data in wires.edges(data=True):
                data["delay"] = 0
            one = make_plan(g)
            other = make_plan(fw.Graph.from_networkx(wires, inputs=g.inputs, outputs=g.outputs))
            assert other.num_states == 0
            np.testing.assert_array_equal(one.pack().words, other.pack().words)

    def test_a_dense_recurrent_layer_is_a_dense_block(self) -> None:
        src, dst = np.nonzero(np.ones((24, 20)))
        g = fw.Graph.from_edges(src, dst + 4, inputs=range(4), outputs=range(4, 24), recurrent=True)
        plan = make_plan(g)
        assert plan.dense_share == 1
        assert plan.num_states == 20

    def test_print(self) -> None:
        text = str(make_plan(RECURRENT))
        assert text.startswith("Plan: 16 slots (1 inputs, 8 states, 7 computed), 1 outputs\n")
        assert re.search(r"skipped +0 nodes and 0 edges", text)
        text = str(make_plan(wired(0)))
        assert re.search(r"skipped +1 nodes and \d edges", text)
        assert re.search(r"constant +2 nodes that no input reaches", text)
        assert "states" not in str(make_plan(CASES["random"]))

    def test_too_many_states_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steps, "_MAX_NODES", 16)
        assert_refused(
            lambda: make_plan(RECURRENT),
            r"delay: expected at most 16 values to be kept from one step to the next, got 20\. Shorten delays\.",
            fw.GraphError,
        )
