# SPDX-License-Identifier: MIT
"""Nodes and lists of them that no graph can be made of, and what the errors say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from freewire import Edge, Graph, Node
from tests.support.messages import assert_refused


class TestNode:
    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            (dict(inputs=3), r"inputs: expected a Node or a list of Nodes, got 3"),
            (dict(inputs=None), r"inputs: expected a Node or a list of Nodes, got None"),
            (dict(inputs="abc"), r"inputs\[0\]: expected a Node, got 'a'"),
            (dict(inputs=[Node(), [Node()]]), r"inputs\[1\]: expected a Node, got \[.*\]\. Join lists with \+"),
            (dict(inputs={Node(), Node()}), r"inputs: expected a list or another collection with an order, got a set"),
            (dict(inputs=Node(), output_index="relu"), r"output_index: .*got 'relu'.*Node\(inputs, activation="),
            (dict(inputs=Node(), output_index=-2), r"output_index: .*got -2"),
            (dict(inputs=Node(), output_index=0.0), r"output_index: .*got 0\.0"),
            (
                dict(inputs=Node(), activation="rleu"),
                r"activation: expected one of linear, .*leaky, softmax, got 'rleu'",
            ),
            (dict(inputs=Node(), activation=None), r"activation: expected one of linear, .*got None"),
            (dict(activation="relu"), r"activation: expected 'linear' for a Node that reads nothing, .*got 'relu'"),
            (dict(inputs=Node(), op_id=[1]), r"op_id: expected a name, got \[1\]"),
        ],
    )
    def test_refused(self, arguments, match):
        assert_refused(lambda: Node(**arguments), match)

    def test_a_refused_node_leaves_no_edge(self):
        x = Node()
        for arguments in (dict(inputs=[x, 3]), dict(inputs=x, activation="rleu")):
            assert_refused(lambda given=arguments: Node(**given), "inputs|activation")
        assert x.out_edges == []

    @pytest.mark.parametrize("value", ["0.5", None, float("nan"), True])
    def test_start_values_are_numbers(self, value):
        y = Node(Node())
        assert_refused(lambda: setattr(y, "bias", value), r"bias: expected a number")
        assert_refused(lambda: setattr(y.in_edges[0], "weight", value), r"weight: expected a number")

    def test_start_values_are_set_before_the_graph_is_made(self):
        x = Node()
        y = Node(x)
        g = Graph([x], [], [y])
        remedy = r"a Graph was made .*got 0\.5\. .*before.*model\.network\.{}"
        assert_refused(lambda: setattr(y, "bias", 0.5), "bias: .*" + remedy.format("bias"))
        assert_refused(lambda: setattr(g.edges[0], "weight", 0.5), "weight: .*" + remedy.format("weight"))


def lists(**changes: Callable[[list[Node]], object]) -> tuple[list[Node], list[Node], list[Node]]:
    """Two inputs, two hidden Nodes, an output, with changes to one of the lists."""
    x = [Node(), Node()]
    h = [Node(x, activation="relu"), Node(x)]
    found = {"inputs": x, "hidden": h, "outputs": [Node(h)]}
    for name, change in changes.items():
        change(found[name])
    return tuple(found.values())


class TestLists:
    @pytest.mark.parametrize(
        ("name", "change", "match"),
        [
            ("inputs", lambda x: x.append(Node(x)), r"inputs\[2\]: expected a Node that reads nothing, got .*reads 2"),
            ("inputs", lambda x: setattr(x[1], "activation", "relu"), r"inputs\[1\]: expected activation 'linear'"),
            ("inputs", lambda x: x.append(Node((), 0)), r"inputs\[2\]: expected a Node without output_index, got 0"),
            ("inputs", lambda x: x.append("x"), r"inputs\[2\]: expected a Node, got 'x'. Make it with fw\.Node"),
            ("inputs", lambda x: x.append(x[0]), r"inputs\[2\]: expected each Node in one list, .*inputs\[0\] already"),
            ("inputs", lambda x: x.pop(), r"hidden\[0\]: expected a Node that reads Nodes of the three lists, .*none"),
            ("hidden", lambda h: h.append(Node()), r"hidden\[2\]: expected a Node that reads others, got .*nothing"),
            ("hidden", lambda h: h.append(h[1]), r"hidden\[2\]: expected each Node in one list, once"),
            ("hidden", lambda h: h.pop(), r"outputs\[0\]: expected a Node that reads Nodes of the three lists"),
            (
                "hidden",
                lambda h: h.append(Node(h, activation="softmax")),
                r"hidden\[2\]: expected another activation, got softmax",
            ),
            (
                "hidden",
                lambda h: h.append(Node(h, output_index=0)),
                r"hidden\[2\]: expected a Node without output_index, got 0",
            ),
            ("hidden", lambda h: setattr(h[0], "activation", "rleu"), r"activation: expected one of linear, .*'rleu'"),
            ("outputs", lambda y: y.append(Node()), r"outputs\[1\]: expected a Node that reads others"),
            (
                "outputs",
                lambda y: y.append(Node(y[0])),
                r"outputs\[0\]: expected an output that no Node reads, got one that outputs\[1\] reads",
            ),
            ("outputs", lambda y: y.append(Node(y[0].inputs, 2)), r"outputs\[1\]: .*below 2, .*got 2\. Count from 0"),
            (
                "outputs",
                lambda y: y.extend(Node(y[0].inputs, 1) for _ in range(2)),
                r"outputs\[2\]: expected an output_index of its own, got 1, as outputs\[1\] has",
            ),
            ("outputs", lambda y: y.clear(), r"outputs: expected at least one node, got none"),
        ],
    )
    def test_refused(self, name, change, match):
        given = lists(**{name: change})
        assert_refused(lambda: Graph(*given), match)
        assert all(node.is_hidden for node in given[1] if node.inputs and node.output_index < 0)

    @pytest.mark.parametrize("place", range(3))
    def test_a_set_has_no_order(self, place):
        given = [*lists()]
        given[place] = set(given[place])
        assert_refused(lambda: Graph(*given), r"(inputs|hidden|outputs): expected a list or another collection")

    def test_another_object(self):
        assert_refused(lambda: Graph(2, [], []), r"inputs: expected a Node or a list of Nodes, got 2")

    def test_a_node_in_two_graphs(self):
        x, h, y = lists()
        g = Graph(x, h, y)
        match = r"inputs\[1\]: expected a Node of no other Graph, got .*still exists\. .*del g, m"
        assert_refused(lambda: Graph([Node(), x[1]], [], [Node(x[1])]), match)
        assert g.nodes[1] is x[1]

    def test_op_id_across_levels(self):
        """In 2019 it looped for ever."""
        x = Node()
        a, b = Node(x, op_id="step"), Node(x)
        c = Node(b, op_id="step")
        match = r"op_id: expected Nodes of 'step' .*same step, got hidden\[0\] in step 1, hidden\[2\] in step 2\. "
        assert_refused(lambda: Graph([x], [a, b, c], [Node([a, c])]), match)


class TestChangedByHand:
    """A Node is wired when it is made; lists that were changed afterwards are refused, with the reason."""

    def test_cycle(self):
        """In 2019 an unrelated exception."""
        for change in (
            lambda a, b: a.inputs.append(b),
            lambda a, b: a.in_edges.append(Edge(b, a)),
            lambda a, b: (a.inputs.append(b), a.in_edges.append(Edge(b, a))),
        ):
            x = Node()
            a = Node(x)
            b = Node([x, a])
            change(a, b)
            assert_refused(
                lambda a=a, b=b, x=x: Graph([x], [a, b], [Node(b)]),
                r"graph: expected no cycle, got (hidden\[0\] -> hidden\[1\] -> hidden\[0\]|hidden\[1\] -> hidden\[0\])",
            )

    def test_cycle_of_one(self):
        x, h, y = lists()
        y[0].in_edges.append(Edge(y[0], y[0]))
        assert_refused(lambda: Graph(x, h, y), r"graph: expected no cycle, got outputs\[0\] -> outputs\[0\]\. ")

    def test_an_input_that_reads(self):
        x, h, y = lists()
        x[0].in_edges.append(Edge(x[1], x[0]))
        assert_refused(lambda: Graph(x, h, y), r"inputs: expected nodes without in-edges, got inputs\[0\]")

    @pytest.mark.parametrize(
        "change",
        [
            lambda h: h[1].in_edges.append(h[1].in_edges[0]),
            lambda h: h[1].in_edges.append(h[0].in_edges[0]),
            lambda h: h[1].in_edges.pop(),
            lambda h: h[1].in_edges and h[1].inputs.pop(),
            lambda h: setattr(h[1].in_edges[0], "start", h[1].in_edges[1].start),
        ],
    )
    def test_edges_that_do_not_fit_together(self, change):
        x, h, y = lists()
        change(h)
        assert_refused(
            lambda: Graph(x, h, y), r"hidden\[1\]: expected in_edges from its inputs to itself, .*got others"
        )


class TestNames:
    @pytest.mark.parametrize(
        ("names", "match"),
        [
            ("abcd", r"names: expected 3 different names, got 4, 4 of them different"),
            ("aba", r"names: expected 3 different names, got 3, 2 of them different"),
            ({"a", "b", "c"}, r"names: expected a list or another collection with an order"),
            ([[], 1, 2], r"names: expected names that can be hashed"),
        ],
    )
    def test_with_names(self, names, match):
        x = Node()
        h = Node(x)
        assert_refused(lambda: Graph([x], [h], [Node(h)]).with_names(names), match)
