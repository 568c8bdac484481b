# SPDX-License-Identifier: MIT
"""`GraphStage.without`: stages that lack nodes and edges."""

from __future__ import annotations

import copy

import networkx as nx
import pytest
import torch
from torch import nn

import freewire as fw
from freewire.models import GraphStage
from tests.support.messages import assert_refused

#: a and b receive the input; d and e are the sinks; two parallel edges go from b to c; e receives from c alone.
DAG = nx.MultiDiGraph([("a", "c"), ("b", "c"), ("b", "c"), ("a", "d"), ("c", "d"), ("c", "e")])

pytestmark = pytest.mark.usefixtures("one_thread")


class TestWithout:
    """A stage without a node computes the same as one that was built without it, where that can be built."""

    x = torch.randn(2, 3, 8, 8)

    def stage(self, dag: nx.MultiDiGraph) -> GraphStage:
        torch.manual_seed(0)
        stage = GraphStage(dag, 3, 4)
        nn.init.normal_(stage.weight)
        return stage.eval()

    def assert_alike(self, node: str, kept_sinks: set[str]) -> None:
        whole = self.stage(DAG)
        dag = DAG.copy()
        dag.remove_node(node)
        assert {v for v in dag if not dag.out_degree(v)} == kept_sinks  # no other node became one
        assert {v for v in dag if not dag.in_degree(v)} == {v for v in DAG if not DAG.in_degree(v)} - {node}
        built = self.stage(dag)
        for name in dag:
            place = built.graph.nodes.index(name)
            built.nodes[place] = whole.nodes[whole.graph.nodes.index(name)]
        ends = [(whole.graph.nodes[u], whole.graph.nodes[v]) for u, v in whole.graph.edge_index.T.tolist()]
        built.weight.data = whole.weight.data[[i for i, pair in enumerate(ends) if node not in pair]]
        with whole.without(nodes=[node]):
            torch.testing.assert_close(whole(self.x), built(self.x))

    def test_a_node_between(self):
        self.assert_alike("a", {"d", "e"})
        self.assert_alike("b", {"d", "e"})

    def test_a_sink_does_not_count_in_the_mean(self):
        self.assert_alike("d", {"e"})
        self.assert_alike("e", {"d"})

    def test_an_edge_is_a_gate_of_zero(self):
        stage = self.stage(DAG)
        for edge in range(6):
            closed = copy.deepcopy(stage)
            closed.weight.data[edge] = -1e4
            with stage.without(edges=[edge]):
                torch.testing.assert_close(stage(self.x), closed(self.x), rtol=0, atol=0)

    def test_a_node_that_lost_all_inputs_receives_zeros(self):
        stage = self.stage(nx.DiGraph([("a", "b")]))
        for lost in ({"nodes": ["a"]}, {"edges": [0]}):
            with stage.without(**lost):
                torch.testing.assert_close(stage(self.x), stage.nodes[1](torch.zeros(2, 4, 4, 4)))
        with stage.without(nodes=["b"]):
            assert not stage(self.x).any()

    def test_nested_losses_add_up_and_end(self):
        stage = self.stage(DAG)
        whole = stage(self.x)
        with stage.without(nodes=["e"], edges=[3]):
            both = stage(self.x)
        with stage.without(nodes=["e"]):
            outer = stage(self.x)
            with stage.without(edges=[3]):
                assert torch.equal(stage(self.x), both)
            with pytest.raises(fw.InputError), stage.without(edges=[3]):
                stage(self.x[0])
            assert torch.equal(stage(self.x), outer)
        assert torch.equal(stage(self.x), whole)
        assert not torch.equal(both, outer)

    def test_a_generator_of_names(self):
        stage = self.stage(DAG)
        with stage.without(nodes=["e", "a"], edges=[1]):
            listed = stage(self.x)
        with stage.without(nodes=(name for name in "ea"), edges=(e for e in [1])):
            assert torch.equal(stage(self.x), listed)

    def test_no_such_node_or_edge(self):
        stage = self.stage(DAG)
        for lost, said in (
            ({"nodes": ["z"]}, "nodes: expected names of the stage's nodes, got 'z'."),
            ({"edges": [6]}, "edges: expected whole numbers from 0 to 5, got 6."),
            ({"edges": [-1]}, "edges: expected whole numbers from 0 to 5, got -1."),
            ({"edges": [1.5]}, "edges: expected whole numbers from 0 to 5, got 1.5."),
            ({"edges": [True]}, "edges: expected whole numbers from 0 to 5, got True."),
            ({"nodes": [["a"]]}, r"nodes: expected names of the stage's nodes, got \['a'\]."),
            ({"nodes": ["z" * 10**6]}, r"nodes: expected names of the stage's nodes, got 'z{10,50}\.\.\."),
        ):
            assert_refused(stage.without(**lost).__enter__, said, fw.InputError)
