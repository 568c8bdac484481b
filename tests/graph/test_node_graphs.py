# SPDX-License-Identifier: MIT
"""Nodes and Edges, and graphs made of them: what they hold, the order of nodes, outputs and edges, copies, growth."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import time

import numpy as np
import pytest

import freewire as fw
from freewire import Edge, Graph, Node
from tests.support.graphs import assert_same_graph


def diamond() -> tuple[list[Node], list[Node], list[Node]]:
    """Two inputs, three hidden Nodes of which two read the first, one output."""
    x = [Node(), Node()]
    a = Node(x, activation="relu")
    b, c = Node([x[0], a], activation="tanh"), Node([x[1], a], activation="leaky")
    return x, [a, b, c], [Node([b, c], activation="sigmoid")]


def chain(length: int) -> Graph:
    x = Node()
    hidden = [Node(x)]
    for _ in range(length - 1):
        hidden.append(Node(hidden[-1]))
    return Graph([x], hidden, [Node(hidden[-1])])


class TestNode:
    def test_edges(self):
        x = Node()
        h = Node(x)
        y = Node([x, h, x])
        assert [len(n.in_edges) for n in (x, h, y)] == [0, 1, 3]
        assert [edge.start for edge in y.in_edges] == [x, h, x]
        assert all(edge.end is y for edge in y.in_edges)
        assert h.in_edges[0] is x.out_edges[0]
        assert y.inputs == [x, h, x]

    def test_out_edges_are_in_the_order_of_their_readers_whoever_asked_first(self):
        x = Node()
        readers = [Node([x, x]) for _ in range(4)]
        _ = readers[2].in_edges
        assert [edge.end for edge in x.out_edges] == [r for r in readers for _ in range(2)]
        assert x.out_edges[4] is readers[2].in_edges[0]
        last = Node(x)
        assert x.out_edges[-1] is last.in_edges[0]
        assert len(x.out_edges) == 9

    def test_kinds(self):
        x = Node()
        h = Node(x)
        y, z = Node(h), Node(h, output_index=0)
        kinds = [(n.is_input, n.is_hidden, n.is_output) for n in (x, h, y, z)]
        assert kinds == [(1, 0, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1)]
        g = Graph([x], [h], [y, z])
        kinds = [(n.is_input, n.is_hidden, n.is_output) for n in g.nodes]
        assert kinds == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1)]

    @pytest.mark.parametrize("inputs", [list, tuple, iter, dict.fromkeys, lambda nodes: (n for n in nodes)])
    def test_any_ordered_collection(self, inputs):
        x = [Node(), Node(), Node()]
        assert [edge.start for edge in Node(inputs(x)).in_edges] == x

    def test_a_callers_list_is_copied(self):
        x = [Node()]
        y = Node(x)
        x.append(Node())
        assert len(y.inputs) == len(y.in_edges) == 1

    def test_values_are_0_before_a_model(self):
        x, h, y = diamond()
        Graph(x, h, y)
        assert {n.bias for n in (*x, *h, *y)} == {n.grad for n in (*x, *h, *y)} == {0}
        assert (y[0].in_edges[0].weight, y[0].in_edges[0].grad) == (0, 0)

    def test_repr(self):
        x = Node()
        h = Node([x, x], activation="relu")
        assert (repr(x), repr(h)) == ("<Node that reads nothing>", "<Node: relu of 2>")
        g = Graph([x], [h], [Node(h)])
        assert list(map(repr, g.nodes)) == ["<Node inputs[0]>", "<Node hidden[0]>", "<Node outputs[0]>"]
        assert repr(g.edges[0]) == "<Edge: <Node inputs[0]> -> <Node hidden[0]>>"


class TestGraph:
    def test_both_ways_to_make_one(self):
        for make in (Graph, Graph.from_nodes):
            x, h, y = diamond()
            g = make(x, h, y)
            assert type(g) is Graph
            assert g.nodes == (*x, *h, *y)
            assert (g.inputs, g.outputs) == (tuple(x), tuple(y))
            assert (g.input_nodes, g.hidden_nodes, g.output_nodes) == (x, h, y)
            assert g.edges == [edge for n in (*h, *y) for edge in n.in_edges]
            assert (g.num_nodes, g.num_edges, g.depth) == (6, 8, 3)

    def test_is_the_graph_of_the_same_edges(self):
        x, h, y = diamond()
        g = Graph(x, h, y)
        names = ["linear", "linear", "relu", "tanh", "leaky_relu", "sigmoid"]
        same = Graph.from_edges([0, 1, 0, 2, 1, 2, 3, 4], [2, 2, 3, 3, 4, 4, 5, 5], activation=names)
        assert_same_graph(g.with_names(), same)
        assert g.wiring_hash == same.wiring_hash

    def test_a_single_node_is_a_list_of_one(self):
        x = Node()
        h = Node(x)
        assert Graph(x, h, Node(h)).num_nodes == 3
        assert Graph(iter([y := Node()]), [], (Node(y),)).num_nodes == 2

    def test_parallel_edges(self):
        x = Node()
        g = Graph([x], [], [Node([x, x])])
        assert g.edge_index.tolist() == [[0, 0], [1, 1]]

    def test_hidden_nodes_may_be_in_any_order(self):
        x, (a, b, c), y = diamond()
        g = Graph(x, [c, b, a], y)
        assert g.level.tolist() == [0, 0, 2, 2, 1, 3]

    @pytest.mark.parametrize(
        ("given", "order"),
        [([-1, -1, -1], [0, 1, 2]), ([2, 0, 1], [1, 2, 0]), ([-1, 0, -1], [1, 0, 2]), ([30, 10, 20], [1, 2, 0])],
    )
    def test_order_of_outputs(self, given, order):
        x = Node()
        y = [Node(x, output_index=k) for k in given]
        g = Graph(input_nodes=[x], hidden_nodes=[], output_nodes=y)  # the names of 2019
        assert g.outputs == tuple(y[i] for i in order)
        assert g.output_nodes == y
        assert g.nodes == (x, *y)

    def test_softmax_outputs_are_linear(self):
        x = Node()
        g = Graph([x], [], [Node(x, activation="tanh"), Node(x, activation="softmax", output_index=0)])
        assert [fw.graph.ACTIVATIONS[code] for code in g.activation] == ["linear", "tanh", "linear"]
        assert g.output_nodes[1].activation == "softmax"
        assert g.node_lists.softmax.tolist() == [True, False]

    def test_op_id_of_one_level(self):
        x = [Node(), Node()]
        h = [Node(x, op_id="first"), Node(x[0], op_id="first"), Node(x, op_id=("any", 2))]
        assert Graph(x, h, [Node(h, op_id="last")]).depth == 2

    def test_other_graphs_have_no_nodes(self):
        g = fw.generators.mlp([2, 1])
        for name in ("input_nodes", "hidden_nodes", "output_nodes", "edges"):
            assert not hasattr(g, name)
        with pytest.raises(AttributeError, match=r"^hidden_nodes: expected a graph .*Use graph\.nodes\.$"):
            _ = g.hidden_nodes
        assert g.node_lists is None

    def test_a_graph_of_nodes_runs_as_any_other(self):
        import torch

        x, h, y = diamond()
        net = fw.Network(Graph(x, h, y))
        at = torch.tensor([0.5, -1.0])
        assert net.activations(at)[y[0]] == net(at)
        G = net.to_networkx()
        assert G.nodes[h[1]]["activation"] == "tanh"
        assert torch.equal(fw.Network(Graph.from_networkx(G))(at), net(at))


class TestNames:
    def test_with_names(self):
        g = fw.Graph.from_edges([0, 1], [2, 2], weight=[1, 2], inputs=[1, 0])
        named = g.with_names("abc")
        assert (named.nodes, named.inputs, named.outputs) == (("a", "b", "c"), ("b", "a"), ("c",))
        assert named.weight.tolist() == g.weight.tolist()
        assert_same_graph(named.with_names(), g)

    def test_edges_keep_their_column(self):
        g = fw.Graph.from_edges([1, 0], [2, 2])
        assert g.edge_position.tolist() == g.with_names("abc").edge_position.tolist() == [1, 0]


class TestStartValues:
    def test_are_stored_in_the_graph(self):
        x, h, y = diamond()
        h[0].in_edges[1].weight = 0.5
        y[0].in_edges[0].weight = np.float32(-2)
        y[0].bias = 3
        g = Graph(x, h, y)
        columns = g.edge_position[[g.edges.index(h[0].in_edges[1]), g.edges.index(y[0].in_edges[0])]]
        assert g.weight[columns].tolist() == [0.5, -2]
        assert np.isnan(g.weight).sum() == 6
        assert g.bias[-1] == 3
        assert (h[0].in_edges[1].weight, y[0].bias, h[0].bias) == (0.5, 3, 0)

    def test_are_none_where_nobody_set_them(self):
        g = Graph(*diamond())
        assert [len(n.in_edges) for n in g.nodes][-1] == 2
        assert (g.weight, g.bias) == (None, None)


class TestLife:
    """A Node is in one graph at a time, as long as that exists."""

    def test_nodes_are_free_when_their_graph_is_gone(self):
        lists = diamond()
        g = Graph(*lists)
        with pytest.raises(fw.GraphError, match=r"^inputs\[0\]: expected a Node of no other Graph"):
            Graph(*lists)
        again = g.with_values(np.ones(8))
        del g
        with pytest.raises(fw.GraphError, match="expected a Node of no other Graph"):
            Graph(*lists)  # the copy has the same Nodes
        del again
        g = Graph(*lists)
        assert g.hidden_nodes == lists[1]

    def test_nodes_keep_what_was_learnt(self):
        edges = fw.Model(Graph(*diamond())).graph.edges
        gc.collect()
        assert all(edge.weight for edge in edges)
        edges[0].weight = 0.5  # they are free, and start again
        assert (edges[0].weight, edges[1].weight) == (0.5, 0)

    def test_a_refused_graph_marks_nothing(self):
        x, h, y = diamond()
        with pytest.raises(fw.GraphError):
            Graph(x, h[:2], y)
        with pytest.raises(fw.GraphError):
            Graph(x, h, [*y, Node(x, op_id="a"), Node(h, op_id="a")])
        assert h[0].is_hidden
        assert not y[0].is_output
        Graph(x, h, y)

    def test_inputs_changed_afterwards_change_nothing(self):
        x, h, y = diamond()
        g = Graph(x, h, y)
        h[0].inputs.append(x[0])
        y[0].inputs.reverse()
        assert len(g.edges) == g.num_edges == 8
        assert [edge.start for edge in y[0].in_edges] == h[1:]
        assert_same_graph(pickle.loads(pickle.dumps(g)).with_names(), g.with_names())

    def test_an_edge_made_by_hand_is_in_no_graph(self):
        x, h, y = diamond()
        g = Graph(x, h, y)
        fw.Model(g)
        edge = Edge(x[0], h[0])
        assert (edge.weight, edge.grad) == (0.0, 0.0) != (h[0].in_edges[0].weight, 0.0)
        with pytest.raises(fw.GraphError, match=r"^Edge: expected one of a Graph, got one of none"):
            pickle.dumps(edge)

    def test_a_node_is_no_reader_of_a_graph_that_it_is_not_in(self):
        x, h, y = diamond()
        Node([*h, *y])
        assert Graph(x, h, y).num_edges == 8


class TestCopies:
    def test_deepcopy_is_the_graph_itself(self):
        g = Graph(*diamond())
        copied = copy.deepcopy({"graph": g, "node": g.nodes[2], "edge": g.edges[0]})
        assert copied["graph"] is g
        assert copied["node"] is g.nodes[2] is copy.copy(g.nodes[2])
        assert copied["edge"] is g.edges[0]

    def test_pickle(self):
        x, h, y = diamond()
        h[0].in_edges[0].weight, y[0].bias = 0.25, 1.5
        g = Graph(x, h, y)
        again, node, edge = pickle.loads(pickle.dumps((g, h[1], h[0].in_edges[1])))
        assert_same_graph(again.with_names(), g.with_names())
        assert again.nodes[3] is node
        assert node.inputs == [again.input_nodes[0], again.hidden_nodes[0]]
        assert again.hidden_nodes[0].in_edges[1] is edge
        assert [edge.weight for edge in again.edges] == [0.25] + 7 * [0]
        assert [n.activation for n in again.nodes] == [n.activation for n in g.nodes]
        assert not set(again.nodes) & set(g.nodes)
        with pytest.raises(fw.GraphError, match="of no other Graph"):
            Graph(again.input_nodes, again.hidden_nodes, again.output_nodes)

    def test_pickle_keeps_what_was_learnt(self):
        g = Graph(*diamond())
        fw.Model(g)([1, 2], output_grad=True)
        again = pickle.loads(pickle.dumps(g))
        assert [edge.end for edge in again.input_nodes[0].out_edges] == [again.nodes[2], again.nodes[3]]
        for kind in ("edges", "nodes"):
            for mine, other in zip(getattr(g, kind), getattr(again, kind), strict=True):
                assert mine.grad == other.grad
        assert [edge.weight for edge in again.edges] == [edge.weight for edge in g.edges]
        assert np.isnan(g.written_values()[1]).tolist() == [True, True, False, False, False, False]

    def test_deep_graphs(self):
        deep = 10 * sys.getrecursionlimit()
        g = chain(deep)
        assert g.depth == deep + 1
        assert copy.deepcopy(g) is g
        again = pickle.loads(pickle.dumps(g))
        assert again.nodes[-1].in_edges[0].start is again.nodes[-2]
        assert again.wiring_hash == g.wiring_hash
        del g, again
        gc.collect()  # which must not recurse either

    def test_a_node_without_a_graph_is_not_pickled(self):
        for what in (Node(), Node(Node()).in_edges[0]):
            with pytest.raises(fw.GraphError, match=r"^(Node|Edge): expected one of a Graph, got one of none"):
                pickle.dumps(what)


class TestGrowth:
    def test_edges_are_made_when_somebody_asks(self):
        """A million objects would cost more than all the rest, most of it the garbage collector's work."""
        gc.collect()
        before = sum(type(thing) is Edge for thing in gc.get_objects())
        x = [Node() for _ in range(50)]
        g = Graph(x, [], [Node(x) for _ in range(50)])
        assert sum(type(thing) is Edge for thing in gc.get_objects()) == before
        assert len(g.edges) == g.num_edges == 2500

    @pytest.mark.nightly
    def test_a_million_edges_in_five_seconds(self):
        back = np.random.default_rng(0).integers(1, 101, (99_900, 10)).tolist()
        begin = time.perf_counter()
        nodes = [Node() for _ in range(100)]
        for i, steps in enumerate(back, 100):
            nodes.append(Node([nodes[i - k] for k in steps], activation="relu"))
        g = Graph(nodes[:100], nodes[100:], [Node(nodes[-1]) for _ in range(10)])
        m = fw.Model(g)
        took = time.perf_counter() - begin
        assert (g.num_nodes, g.num_edges) == (100_010, 999_010)
        assert m.count_params() == g.num_edges + 99_910
        assert took < 5, took
