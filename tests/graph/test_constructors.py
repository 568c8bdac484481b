# SPDX-License-Identifier: MIT
"""from_networkx, from_edges, from_adjacency and union agree with one another."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import freewire as fw
from tests.support.graphs import CASES, FULL, assert_same_graph, graphs, multigraph, wirings
from tests.support.messages import assert_refused


class TestConstructors:
    """from_networkx, from_edges, from_adjacency and union agree with one another."""

    @given(wirings())
    def test_networkx_agrees_with_edges(self, wiring):
        if wiring.bias is not None and all(v in wiring.inputs for v in range(wiring.num_nodes)):
            wiring.bias = None  # no node could carry it
        assert_same_graph(fw.Graph.from_networkx(multigraph(wiring)), wiring.build())

    @given(wirings(stored=False))
    def test_adjacency_agrees_with_edges(self, wiring):
        pairs = sorted(set(zip(wiring.src, wiring.dst, strict=True)))
        wiring.src, wiring.dst = [u for u, _ in pairs], [v for _, v in pairs]
        wiring.weight = [(-1) ** e * (e + 0.5) for e in range(len(pairs))]
        dense = np.zeros((wiring.num_nodes, wiring.num_nodes))
        dense[wiring.src, wiring.dst] = wiring.weight
        options = wiring.arguments()
        for used in ("src", "dst", "num_nodes", "weight"):
            del options[used]
        expected = wiring.build()
        for matrix in (dense, dense.tolist(), sparse.csr_array(dense), sparse.coo_matrix(dense)):
            assert_same_graph(fw.Graph.from_adjacency(matrix, **options), expected)

    @pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
    def test_every_sparse_format(self, form):
        dense = np.triu(np.arange(1.0, 17).reshape(4, 4), 1)
        matrix = sparse.csr_array(dense).asformat(form)
        assert_same_graph(fw.Graph.from_adjacency(matrix), fw.Graph.from_adjacency(dense))

    def test_positional_arguments_are_as_documented(self):
        dense = [[0, 0, 2.0], [0, 0, 1.0], [0, 0, 0]]
        g = fw.Graph.from_adjacency(dense, [1, 0], [2, 1], "tanh", "sigmoid")
        G = nx.DiGraph()
        G.add_nodes_from(range(3))
        G.add_weighted_edges_from([(0, 2, 2.0), (1, 2, 1.0)])
        assert_same_graph(g, fw.Graph.from_networkx(G, [1, 0], [2, 1], "tanh", "sigmoid"))
        assert (g.inputs, g.outputs) == ((1, 0), (2, 1))

    @pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.bsr_array])
    def test_repeated_sparse_entries_add_up(self, kind):
        twice = np.array([1.0, 2.0, 4.0])
        if kind is sparse.coo_array:
            matrix = kind((twice, ([0, 0, 1], [1, 1, 2])), shape=(3, 3))
        elif kind is sparse.csc_array:
            matrix = kind((twice, np.array([0, 0, 1]), np.array([0, 0, 2, 3])), shape=(3, 3))
        else:
            blocks = twice.reshape(3, 1, 1) if kind is sparse.bsr_array else twice
            matrix = kind((blocks, np.array([1, 1, 2]), np.array([0, 2, 3, 3])), shape=(3, 3))
        before = matrix.data.copy()
        g = fw.Graph.from_adjacency(matrix)
        assert g.edge_index.tolist() == [[0, 1], [1, 2]]
        assert g.weight.tolist() == [3.0, 4.0]
        np.testing.assert_array_equal(matrix.data, before)  # the caller's matrix is unchanged

    def test_sparse_entries_of_zero_are_not_edges(self):
        explicit = sparse.csr_array((np.array([0.0, 5.0]), np.array([1, 2]), np.array([0, 2, 2, 2])), (3, 3))
        assert fw.Graph.from_adjacency(explicit).edge_index.tolist() == [[0], [2]]
        cancelling = sparse.coo_array(([1.0, -1.0, 2.0], ([0, 0, 0], [1, 1, 2])), shape=(3, 3))
        assert fw.Graph.from_adjacency(cancelling).edge_index.tolist() == [[0], [2]]

    def test_a_mask_gives_weights_of_one(self):
        mask = np.array([[False, True], [False, False]])
        assert fw.Graph.from_adjacency(mask).weight.tolist() == [1.0]
        assert fw.Graph.from_adjacency(sparse.csr_array(mask)).weight.tolist() == [1.0]

    @pytest.mark.parametrize("kind", [np.int8, np.int32, np.uint16, np.uint64, np.int64])
    def test_node_numbers_of_any_integer_type(self, kind):
        g = fw.Graph.from_edges(np.array([0, 1], kind), np.array([1, 2], kind), inputs=np.array([0], kind))
        assert_same_graph(g, fw.Graph.from_edges([0, 1], [1, 2]))

    @given(st.lists(graphs(max_nodes=6, max_edges=8), min_size=1, max_size=4))
    def test_union_puts_graphs_side_by_side(self, members):
        g = fw.Graph.union(members)
        offset = np.cumsum([0, *(m.num_nodes for m in members)]).tolist()
        shifted = list(zip(members, offset, strict=False))
        assert g.nodes == range(offset[-1])
        assert g.inputs == tuple(v + o for m, o in shifted for v in m.inputs)
        assert g.outputs == tuple(v + o for m, o in shifted for v in m.outputs)
        assert g.level.tolist() == [x for m in members for x in m.level.tolist()]
        assert g.activation.tolist() == [x for m in members for x in m.activation.tolist()]
        assert g.aggregation.tolist() == [x for m in members for x in m.aggregation.tolist()]
        edges, at = g.edge_index[:, g.edge_position].T.tolist(), 0
        for m, o in shifted:  # the i-th edge of the caller is the i-th of all members' canonical edges
            assert edges[at : at + m.num_edges] == (m.edge_index.T + o).tolist()
            for mine, all_of_them, here in (
                (m.weight, g.weight, g.edge_position[at : at + m.num_edges]),
                (m.bias, g.bias, np.arange(o, o + m.num_nodes)),
            ):
                size = len(here)
                values = np.full(size, np.nan) if all_of_them is None else all_of_them[here]
                np.testing.assert_array_equal(values, np.full(size, np.nan) if mine is None else mine)
            at += m.num_edges
        assert at == g.num_edges

    def test_union_of_one_is_equal(self):
        for g in (*CASES.values(), FULL):
            assert_same_graph(fw.Graph.union([g]), g)

    def test_union_names_members_where_one_has_names(self):
        named = fw.Graph.from_networkx(nx.DiGraph([("x", "y")]))
        g = fw.Graph.union(iter([named, CASES["single_edge"], named]))
        assert g.nodes == ((0, "x"), (0, "y"), (1, 0), (1, 1), (2, "x"), (2, "y"))
        assert g.inputs == ((0, "x"), (1, 0), (2, "x"))
        assert g.outputs == ((0, "y"), (1, 1), (2, "y"))

    def test_union_keeps_what_single_edges_store(self):
        g = fw.Graph.union([CASES["single_edge"], FULL])
        where = g.edge_position[1:]
        assert g.sign[where].tolist() == FULL.sign.tolist()
        assert g.frozen[where].tolist() == FULL.frozen.tolist()
        assert (g.sign[g.edge_position[0]], g.frozen[g.edge_position[0]]) == (0, False)
        assert g.group[where].tolist() == FULL.group.tolist()

    def test_union_keeps_groups_apart(self):
        def two(*group: int) -> fw.Graph:
            return fw.Graph.from_edges([0, 1], [2, 2], group=group)

        g = fw.Graph.union([two(3, 0), CASES["single_edge"], two(0, -1), two(-1, 1)])
        assert g.group[g.edge_position].tolist() == [3, 0, -1, 4, -1, -1, 6]
        assert_refused(lambda: fw.Graph.union([two(2**53 - 1, 0), two(0, 0)]), r"group: expected numbers whose sum ")

    def test_a_direct_call_needs_three_lists_of_nodes(self):
        for lists in ((), ([fw.Node()],)):
            with pytest.raises(TypeError, match=r"^Graph: expected three lists of Nodes, or one of"):
                fw.Graph(*lists)
