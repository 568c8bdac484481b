# SPDX-License-Identifier: MIT
"""The compiled planner against plain Python, and on large graphs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import freewire as fw
from benchmarks.suites import planner as bench
from freewire._native import _planner
from tests.support.graphs import SOME_NODES, graphs, some_edges


def whole(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


# ---------------------------------------------------------------------------------- order


def slow_order(src: list[int], dst: list[int], num_nodes: int) -> dict[str, list[Any]]:
    """`_planner.order` in plain Python: nodes get their level once all their sources have one."""
    sources: list[list[int]] = [[] for _ in range(num_nodes)]
    for u, v in zip(src, dst, strict=True):
        sources[v].append(u)
    level = [-1] * num_nodes
    changed = True
    while changed:
        changed = False
        for v in range(num_nodes):
            if level[v] < 0 and all(level[u] >= 0 for u in sources[v]):
                level[v] = 1 + max((level[u] for u in sources[v]), default=-1)
                changed = True
    found = {
        "level": level,
        "in_degree": [dst.count(v) for v in range(num_nodes)],
        "out_degree": [src.count(v) for v in range(num_nodes)],
    }
    if -1 in level:
        return found
    order = sorted(range(len(src)), key=lambda e: (level[dst[e]], dst[e], level[src[e]], src[e], e))
    found["edge_index"] = [[src[e] for e in order], [dst[e] for e in order]]
    found["edge_position"] = [order.index(e) for e in range(len(src))]
    return found


def assert_ordered(src: Any, dst: Any, num_nodes: int) -> None:
    found = _planner.order(np.array(src, np.int64), np.array(dst, np.int64), num_nodes)
    assert {name: array.tolist() for name, array in found.items()} == slow_order(list(src), list(dst), num_nodes)
    assert {array.dtype for array in found.values()} == {np.dtype(np.int64)}


class TestOrder:
    """Levels, degrees and canonical order, or the nodes on cycles or behind them."""

    @given(st.data(), st.integers(1, 9))
    def test_any_edges(self, data: st.DataObject, num_nodes: int) -> None:
        """With so few nodes most draws have a cycle; some are loops of one edge."""
        node = st.integers(0, num_nodes - 1)
        pairs = data.draw(st.lists(st.tuples(node, node), max_size=14))
        assert_ordered([u for u, _ in pairs], [v for _, v in pairs], num_nodes)

    @given(st.data(), st.integers(2, 12))
    def test_edges_without_cycles(self, data: st.DataObject, num_nodes: int) -> None:
        number = data.draw(st.permutations(range(num_nodes)))
        node = st.integers(0, num_nodes - 1)
        pairs = [sorted(pair) for pair in data.draw(st.lists(st.tuples(node, node), max_size=40)) if pair[0] != pair[1]]
        assert_ordered([number[u] for u, _ in pairs], [number[v] for _, v in pairs], num_nodes)

    @pytest.mark.parametrize("acyclic", [True, False])
    @pytest.mark.parametrize("seed", range(3))
    def test_many(self, seed: int, acyclic: bool) -> None:
        assert_ordered(*some_edges(seed, acyclic), SOME_NODES)

    def test_nothing(self) -> None:
        assert_ordered([], [], 0)
        assert_ordered([], [], 3)

    def test_the_callers_arrays_are_unchanged_and_unshared(self) -> None:
        """They are not part of the graph, though they are not copied first."""
        src, dst, inputs = whole(0, 1), whole(2, 2), whole(0, 1)
        g = fw.Graph.from_edges(src, dst, inputs=inputs)
        for array in (src, dst, inputs):
            assert array.flags.writeable
            array[:] = 7
        assert g.edge_index.tolist() == [[0, 1], [2, 2]]
        assert g.input_index.tolist() == [0, 1]

    @pytest.mark.slow
    def test_a_thread_that_changes_the_edges_at_the_same_time(self) -> None:
        """The caller gets an error or a wrong answer, but nothing is read or written outside the arrays."""
        src = np.arange(300_000) % 100_000
        dst, going = src | 1, True

        def change() -> None:
            while going:
                src[::7] ^= 1

        thread = threading.Thread(target=change)
        thread.start()

        def order_often() -> None:
            for _ in range(1000):
                _planner.order(src, dst, 100_001)

        try:
            with pytest.raises(ValueError, match="expected no change while the planner reads it"):
                order_often()
        finally:
            going = False
            thread.join()


# ---------------------------------------------------------------------------------- reach


def slow_reach(g: fw.Graph, start: list[int], backward: bool) -> list[bool]:
    """`_planner.reach` in plain Python: follow edges until no new node is found."""
    pairs = g.edge_index[::-1].T.tolist() if backward else g.edge_index.T.tolist()
    found = set(start)
    while more := {v for u, v in pairs if u in found} - found:
        found |= more
    return [node in found for node in range(g.num_nodes)]


class TestReach:
    """Which nodes can be reached."""

    @given(graphs(), st.data(), st.booleans())
    def test_any_start(self, g: fw.Graph, data: st.DataObject, backward: bool) -> None:
        start = data.draw(st.lists(st.integers(0, g.num_nodes - 1)))
        found = _planner.reach(g.edge_index, np.array(start, np.int64), g.num_nodes, backward)
        assert found.dtype == np.bool_
        assert found.tolist() == slow_reach(g, start, backward)

    @given(graphs())
    def test_of_a_graph(self, g: fw.Graph) -> None:
        assert g.reaches_output.tolist() == slow_reach(g, g.output_index.tolist(), True)
        assert g.reachable_from_input.tolist() == slow_reach(g, g.input_index.tolist(), False)


# ---------------------------------------------------------------------------------- edge lists


def slow_edge_lists(g: fw.Graph, keep: list[bool], linear: list[bool]) -> dict[str, list[Any]]:
    """The lists of `_planner.edge_lists` in plain Python, without dense blocks; `test_blocks` is about those."""
    inputs = g.input_index.tolist()
    kept = sorted((v for v in range(g.num_nodes) if keep[v]), key=lambda v: (g.level[v], v))
    slots = inputs + kept
    slot_of = [slots.index(v) if v in slots else -1 for v in range(g.num_nodes)]
    pairs = g.edge_index.T.tolist()
    place = sorted(range(g.num_nodes), key=lambda v: (g.level[v], v))
    ends = [place.index(v) for _, v in pairs]
    live = [e for e, (_, v) in enumerate(pairs) if keep[v]]
    by_source = sorted(live, key=lambda e: (slot_of[pairs[e][0]], not linear[pairs[e][1]], e))
    sources = [slot_of[pairs[e][0]] for e in by_source]
    straight = [slot_of[pairs[e][0]] for e in by_source if linear[pairs[e][1]]]
    out_ptr = [sum(s < slot for s in sources) for slot in range(len(slots) + 1)]
    depth = max((int(g.level[v]) for v in slots), default=0)
    return {
        "slot_of": slot_of,
        "slot_node": slots,
        "level_ptr": [sum(g.level[v] < level for v in slots) for level in range(depth + 2)],
        "in_begin": [sum(end < place.index(v) for end in ends) for v in kept],
        "in_end": [sum(end <= place.index(v) for end in ends) for v in kept],
        "in_src": [slot_of[u] if keep[v] else 0 for u, v in pairs],
        "out_ptr": out_ptr,
        "out_split": [out_ptr[slot] + straight.count(slot) for slot in range(len(slots))],
        "out_dst": [slot_of[pairs[e][1]] for e in by_source],
        "out_edge": by_source,
    }


class TestEdgeLists:
    """Slots, and the edges by destination and by source."""

    @staticmethod
    def check(g: fw.Graph, linear: Any) -> None:
        keep = g.reaches_output.copy()
        keep[g.input_index] = False
        found = _planner.edge_lists(g.edge_index, g.level, g.input_index, keep, linear)
        wanted = slow_edge_lists(g, keep.tolist(), linear.tolist())
        assert {name: found[name].tolist() for name in wanted} == wanted

    @given(graphs(), st.data())
    def test_any_graph(self, g: fw.Graph, data: st.DataObject) -> None:
        self.check(g, np.array(data.draw(st.lists(st.booleans(), min_size=g.num_nodes, max_size=g.num_nodes)), bool))

    @pytest.mark.parametrize("seed", range(3))
    def test_many(self, seed: int) -> None:
        src, dst = some_edges(seed)
        outputs = np.random.default_rng(seed).permutation(SOME_NODES)[:60]
        g = fw.Graph.from_edges(src, dst, num_nodes=SOME_NODES, outputs=outputs)
        assert not g.reaches_output.all(), "no dead nodes"
        self.check(g, np.random.default_rng(seed).random(SOME_NODES) < 0.5)


# ---------------------------------------------------------------------------------- size


@pytest.mark.nightly
class TestSize:
    """10 million edges on a million nodes, each graph in a process of its own: `benchmarks.suites.planner`."""

    @pytest.mark.parametrize("name", ["ordered", "shuffled", "power_law", "wide", "chain"])
    def test_time_and_memory(self, name: str) -> None:
        """3 s and 1.5 GB, torch and the caller's arrays included. The time may be doubled, since machines that run
        tests are shared; it is processor time, which other programs also slow down, but less."""
        found = bench.measure(name)
        assert found["user"] + found["system"] < 2 * 3
        assert found["edges"] == (999_999 if name == "chain" else 10_000_000)
        assert found["nodes"] == 1_000_000
        assert found["peak"] < 1.5e9
        assert found["print"] < 1
        if name == "chain":
            assert (found["levels"], found["rows"]) == (1_000_000, 2)

    def test_random_graph(self) -> None:
        """5 s, including plan and pack; with the same allowance."""
        found = bench.measure("random_graph(1000, 998_990, 10, 10)")
        assert found["user"] + found["system"] < 2 * 5
        assert found["edges"] == 9_990_000
        assert found["peak"] < 1.5e9

    def test_from_networkx_is_linear(self) -> None:
        """Ten times the edges take about ten times the work; up to twenty, because the caches are too small."""
        small, large = (bench.measure(f"from_networkx, {size} edges") for size in ("1e5", "1e6"))
        assert large["edges"] > 9.9 * small["edges"]
        assert large["user"] < 20 * small["user"]
