# SPDX-License-Identifier: MIT
"""The run order and the dense blocks, found from the edges alone, whatever the numbering."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import freewire as fw
from freewire.plan import Plan, make_plan
from tests.support.dense_graphs import PARTS, layers, planted_graph, shuffled
from tests.support.graphs import CASES, graphs
from tests.support.plan_checks import Checked

Ends = tuple[list[int], list[int]]


def shapes(plan: Plan) -> list[tuple[int, int]]:
    """(nodes, sources) of each dense block."""
    nodes, sources = plan.block_end - plan.block_begin, np.diff(plan.block_src_ptr)
    return list(zip(nodes.tolist(), sources.tolist(), strict=True))


def ends_of(g: fw.Graph) -> Ends:
    return g.edge_index[0].tolist(), g.edge_index[1].tolist()


def densenet_by_layers(num_inputs: int, width: int, count: int) -> Ends:
    """Layers of some nodes, each of which reads the inputs and all layers before its own."""
    pairs = [
        (u, v)
        for first in range(num_inputs, num_inputs + width * count, width)
        for v in range(first, first + width)
        for u in range(first)
    ]
    return [u for u, _ in pairs], [v for _, v in pairs]


def layer_and_random(num_inputs: int, width: int, others: int) -> Ends:
    """A layer that reads all inputs, and then nodes that read six random nodes each."""
    rng = np.random.default_rng(0)
    src, dst = layers([num_inputs, width])
    for v in range(num_inputs + width, num_inputs + width + others):
        src += rng.choice(v, 6, replace=False).tolist()
        dst += [v] * 6
    return src, dst


def chain_of_others(num_inputs: int, count: int) -> Ends:
    """Nodes that read the one before them and ever more inputs, but not those that it reads."""
    src: list[int] = []
    dst: list[int] = []
    for i in range(count):
        read = [*range(i % 2, i % 2 + 16), *range(num_inputs, num_inputs + i)]
        src += read
        dst += [num_inputs + i] * len(read)
    return src, dst


def side_by_side(parts: Iterable[Ends]) -> Ends:
    src: list[int] = []
    dst: list[int] = []
    for one, other in parts:
        first = max(dst, default=-1) + 1
        src += [u + first for u in one]
        dst += [v + first for v in other]
    return src, dst


#: Edges, and the (nodes, sources) of the blocks in them.
DENSE: dict[str, tuple[Callable[[], Ends], list[tuple[int, int]]]] = {
    "mlp": (lambda: layers([9, 20, 30, 4]), [(20, 9), (30, 20), (4, 30)]),
    "densenet": (
        lambda: ends_of(fw.generators.densenet(20, 40, 5)),
        [(16, 20), (16, 36), (8, 52), (5, 60)],
    ),
    "densenet of few inputs": (lambda: ends_of(fw.generators.densenet(3, 30, 2)), [(16, 16)]),
    "densenet by layers": (lambda: densenet_by_layers(5, 6, 4), [(6, 5), (6, 11), (6, 17), (6, 23)]),
    "a layer, then random nodes": (lambda: layer_and_random(784, 200, 60), [(200, 784)]),
    "nine sources in ten": (lambda: layers([64, 40, 30, 12], 0.9), [(40, 64), (30, 40), (12, 30)]),
    "seven sources in ten": (lambda: layers([64, 40, 30, 12], 0.7), []),  # would pad more than 30 %
    "a chain of other sources": (lambda: chain_of_others(20, 8), []),
    "a union of mlps": (lambda: side_by_side([layers([5, 8, 4])] * 3), [(8, 5), (4, 8)] * 3),
    "a union of densenets": (
        lambda: side_by_side([ends_of(fw.generators.densenet(16, 9, 1))] * 2),
        [(10, 16)] * 2,
    ),
}


class TestBlocks:
    """What is found, and that it is what it should be, edge by edge."""

    @pytest.mark.parametrize("name", DENSE)
    def test_dense_graphs(self, name: str) -> None:
        make, expected = DENSE[name]
        for seed in range(2):
            plan = make_plan(shuffled(*make(), seed))
            Checked(plan).check()
            assert shapes(plan) == expected

    @given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.booleans())
    def test_planted(self, parts: list[str], seed: int, every_node: bool) -> None:
        Checked(make_plan(planted_graph(parts, seed), every_node=every_node)).check()

    @given(graphs(max_nodes=20, max_edges=80), st.booleans())
    def test_any_graph(self, g: fw.Graph, every_node: bool) -> None:
        Checked(make_plan(g, every_node=every_node)).check()

    @pytest.mark.parametrize("name", CASES)
    def test_cases(self, name: str) -> None:
        Checked(make_plan(CASES[name])).check()

    def test_none_in_random_graphs(self) -> None:
        plan = make_plan(fw.generators.random_graph(784, 5000, 10, 32, seed=0))
        assert shapes(plan) == []
        assert plan.run_node.tolist() == list(range(plan.num_computed))
        assert plan.in_split.tolist() == plan.in_begin.tolist()

    def test_functions(self) -> None:
        """Any activations, sums and means share a block; a maximum is in none."""
        src, dst = layers([6, 9])
        kinds = ["sum"] * 6 + ["sum", "mean"] * 4 + ["max"]
        names = ["linear"] * 6 + ["relu", "gelu", "tanh"] * 3
        plan = make_plan(shuffled(src, dst, aggregation=kinds, activation=names))
        Checked(plan).check()
        assert shapes(plan) == [(8, 6)]

    def test_parallel_edges_are_in_no_block(self) -> None:
        """Neither where all nodes have the same two, nor where one node of a padded block would have one."""
        src, dst = layers([5, 6])
        assert shapes(make_plan(shuffled([*src, *[0] * 6], [*dst, *range(5, 11)]))) == []
        src, dst = layers([40, 10], 0.9)
        assert shapes(make_plan(shuffled([*src, src[0]], [*dst, dst[0]]))) == [(9, 40)]

    def test_a_twin_that_a_padded_block_has_no_room_for(self) -> None:
        """It is alone then: nodes 9 and 10 read the same, and 10 would pad the block of 0 to 9 by more than 30 %."""
        lists = [sorted({*range(20)} - {1 + (4 * i + k) % 18 for k in range(4)}) for i in range(9)]
        lists += [[*range(11), 19]] * 2 + [[*range(5)]] * 4
        src = [u for read in lists for u in read]
        plan = make_plan(
            fw.Graph.from_edges(src, np.repeat(range(20, 35), [len(read) for read in lists]), inputs=range(20))
        )
        Checked(plan).check()
        assert shapes(plan) == [(10, 20), (4, 5)]
        assert plan.block_begin.tolist() == [0, 11]

    def test_two_lists_of_one_hash(self) -> None:
        """Two sets of 20 sources whose hashes have the same sum, and whose four that are read first are the same.

        They are compared, and so the nodes that read one of them are not taken for twins of those that read the other.
        """
        common = {0, 641, 1410, 2051}
        first = {1, 154, 365, 425, 537, 688, 781, 956, 1027, 1268, 1310, 1412, 1579, 1676, 1910, 2037}
        second = {7, 130, 274, 436, 574, 699, 877, 932, 1089, 1266, 1318, 1418, 1605, 1764, 1869, 1937}
        assert sum(map(mixed, first)) % 2**64 == sum(map(mixed, second)) % 2**64
        lists = [sorted(common | first), sorted(common | second)]
        assert [lists[0][i] for i in (0, 6, 13, 19)] == [lists[1][i] for i in (0, 6, 13, 19)]
        readers = range(2052, 2060)
        src = [u for v in readers for u in lists[v % 2]]
        plan = make_plan(fw.Graph.from_edges(src, np.repeat(readers, 20), inputs=range(2052), num_nodes=2060))
        assert shapes(plan) == [(4, 20)]
        assert plan.block_src.tolist() == lists[0]
        assert plan.run_node.tolist() == [0, 2, 4, 6, 1, 3, 5, 7]

    def test_the_same_graph_has_the_same_plan(self) -> None:
        g = planted_graph(PARTS, 0)
        for name, words in make_plan(g).pack().sections.items():
            np.testing.assert_array_equal(words, make_plan(g).pack().sections[name], err_msg=name)


def mixed(slot: int) -> int:
    """The hash of csrc/planner/source_hash.h."""
    x = (slot + 1) * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


class TestOrder:
    """By level or by component."""

    @pytest.mark.parametrize(("extra", "components"), [(0, 2), (1, 0)])
    def test_a_component_of_more_than_2048_slots(self, extra: int, components: int) -> None:
        """Its rows would fill more than 512 KiB."""
        plan = make_plan(shuffled(*side_by_side([layers([2047 + extra, 1]), layers([4, 3])])))
        assert len(plan.component_ptr) - 1 == components
        assert len(plan.stage_ptr) - 1 == (0 if components else 1)

    def test_one_component_beside_inputs_that_nothing_reads(self) -> None:
        plan = make_plan(fw.Graph.from_edges([0, 1], [3, 3], num_nodes=4, inputs=[0, 1, 2]))
        assert plan.component_ptr.tolist() == [0]
        assert plan.stage_ptr.tolist() == [0, 1]

    def test_print(self) -> None:
        edges = r"edges +{}, fan-in \d+ to \d+, {}\n"
        text = str(make_plan(shuffled(*layers([5, 8, 4]))))
        assert re.search(edges.format("72", r"72 of them in 2 dense blocks \(0 % padding\)"), text)
        assert "order" not in text
        text = str(make_plan(shuffled(*layers([20, 10], 0.9))))
        count = len(layers([20, 10], 0.9)[0])
        assert re.search(
            edges.format(count, rf"{count} of them in 1 dense block \({100 - count / 2:.0f} % padding\)"), text
        )
        text = str(make_plan(shuffled(*side_by_side([layers([3, 2])] * 2))))
        assert re.search(edges.format("12", "none of them in dense blocks"), text)
        assert re.search(r"order +component by component, 2 components", text)
