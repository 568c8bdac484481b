# SPDX-License-Identifier: MIT
"""Every message about an argument that does not describe a graph."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from tests.support.graphs import CASES, from_edges, from_networkx
from tests.support.messages import assert_refused


def marked_with(value: Any) -> nx.DiGraph:
    G = nx.DiGraph([("a", "b")])
    G.nodes["a"]["freewire_input"] = value
    return G


def with_node(**attributes: Any) -> fw.Graph:
    G = nx.DiGraph([("x", "y")])
    G.nodes["y"].update(attributes)
    return fw.Graph.from_networkx(G)


def with_edge(**attributes: Any) -> fw.Graph:
    G = nx.DiGraph()
    G.add_edge("x", "y", **attributes)
    return fw.Graph.from_networkx(G)


KNOWN = r"linear, relu, .*, hard_sigmoid"


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    # kinds of graph
    "undirected": (
        lambda: fw.Graph.from_networkx(nx.Graph([(0, 1)])),
        r"G: expected a networkx DiGraph or MultiDiGraph, got Graph\. ",
    ),
    "no networkx graph": (
        lambda: fw.Graph.from_networkx([(0, 1)]),
        r"G: expected a networkx DiGraph or MultiDiGraph, got list\. ",
    ),
    "empty networkx graph": (
        lambda: fw.Graph.from_networkx(nx.DiGraph()),
        r"outputs: expected at least one node, got none\. ",
    ),
    "empty arrays": (lambda: from_edges(), r"outputs: expected at least one node, got none\. "),
    "empty matrix": (
        lambda: fw.Graph.from_adjacency(np.zeros((0, 0))),
        r"outputs: expected at least one node, got none\. ",
    ),
    # inputs and outputs
    "no output": (lambda: from_edges((0, 1), outputs=[]), r"outputs: expected at least one node, got none\. "),
    "input with in-edges": (
        lambda: from_edges((0, 1), (0, 2), (1, 2), inputs=[0, 2]),
        r"inputs: expected nodes without in-edges, got 2 \(in-degree 2\)\. ",
    ),
    "named input with in-edges": (
        lambda: from_networkx(("a", "b"), ("b", "c"), inputs=["a", "b", "c"]),
        r"inputs: expected nodes without in-edges, got 'b', 'c' \(in-degree of the first: 1\)\. ",
    ),
    "many inputs with in-edges": (
        lambda: from_edges(*((0, i) for i in range(1, 21)), inputs=range(21)),
        r"inputs: expected nodes without in-edges, got 1, 2, .*, 12, \.\.\. \(8 more\) \(in-degree of the first: 1\)",
    ),
    "repeated input": (
        lambda: from_edges((0, 1), inputs=[0, 0]),
        r"inputs: expected each node once, got 0 more than once\. ",
    ),
    "repeated output": (
        lambda: from_networkx(("a", "b"), outputs=["b", "a", "b"]),
        r"outputs: expected each node once, got 'b' more than once\. ",
    ),
    "unknown input": (
        lambda: from_networkx(("a", "b"), inputs=["z"]),
        r"inputs: expected nodes of the graph, got 'z'\. ",
    ),
    "unknown output": (
        lambda: from_networkx(("a", "b"), outputs=[0]),
        r"outputs: expected nodes of the graph, got 0\. ",
    ),
    "unhashable input": (
        lambda: from_networkx(("a", "b"), inputs=[["a"]]),
        r"inputs: expected nodes of the graph, got \['a'\]\. ",
    ),
    "one input, no list": (lambda: from_networkx((0, 1), inputs=0), r"inputs: expected a list of node names, got "),
    "string for inputs": (
        lambda: from_networkx(("a", "b"), inputs="a"),
        r"inputs: expected a list of node names, got (the string )?'a'\. ",
    ),
    "string for outputs of arrays": (
        lambda: from_edges((0, 1), outputs="1"),
        r"outputs: expected a list of node names, got (the string )?'1'\. ",
    ),
    "marks that are no numbers": (
        lambda: fw.Graph.from_networkx(marked_with("first")),
        r"freewire_input of node 'a': expected its position, a number, got 'first'\. ",
    ),
    "input number too large": (
        lambda: from_edges((0, 1), inputs=[2]),
        r"inputs: expected node numbers from 0 to 1, got 2\. Correct it or raise num_nodes\.",
    ),
    "output number negative": (
        lambda: from_edges((0, 1), outputs=[-1]),
        r"outputs: expected node numbers from 0 to 1, got -1\. Correct it\.$",
    ),
    "input names for numbers": (
        lambda: from_edges((0, 1), inputs=["0"]),
        r"inputs: expected a one-dimensional array of integers, got <U1 of shape \[1\]\. ",
    ),
    "mask for outputs": (
        lambda: from_edges((0, 1), outputs=[False, True]),
        r"outputs: expected a one-dimensional array of integers, got bool of shape \[2\]\. ",
    ),
    # edges
    "src longer than dst": (
        lambda: fw.Graph.from_edges([0, 1], [2]),
        r"dst: expected 2 entries, as many as src, got 1\. ",
    ),
    "negative source": (
        lambda: from_edges((0, 1), (-1, 1)),
        r"src: expected node numbers from 0 to 1, got -1 at edge 1\. ",
    ),
    "destination too large": (
        lambda: from_edges((0, 1), (0, 5), num_nodes=5),
        r"dst: expected node numbers from 0 to 4, got 5 at edge 1\. ",
    ),
    "source beyond 64 bits": (
        lambda: fw.Graph.from_edges(np.array([2**63 + 1], np.uint64), [1]),
        r"src: expected numbers below 2\*\*63, got 9223372036854775809\. ",
    ),
    "sources from a generator": (
        lambda: fw.Graph.from_edges((i for i in range(1)), [1]),
        r"src: expected a one-dimensional array of integers, got <generator .*\. Make it a list\.",
    ),
    "weights as objects": (
        lambda: from_edges((0, 1), weight=np.array([0.5], object)),
        r"weight: expected numbers, got array.*\. Convert it: values\.astype",
    ),
    "source beyond any type": (
        lambda: from_edges((2**70, 1)),
        r"src: expected a one-dimensional array of integers, got object of shape \[1\]\. ",
    ),
    "node number that asks for terabytes": (lambda: from_edges((2**50, 1)), r"(src|num_nodes): expected .*, got "),
    "floats for sources": (
        lambda: fw.Graph.from_edges([0.0], [1]),
        r"src: expected a one-dimensional array of integers, got float64 of shape \[1\]\. ",
    ),
    "table of sources": (
        lambda: fw.Graph.from_edges([[0, 1]], [1, 2]),
        r"src: expected a one-dimensional array of integers, got int64 of shape \[1, 2\]\. ",
    ),
    "ragged sources": (
        lambda: fw.Graph.from_edges([[0], [1, 2]], [1, 2]),
        r"src: expected an array of numbers, got \[\[0\], \[1, 2\]\] ",
    ),
    "number for destinations": (
        lambda: fw.Graph.from_edges([0], 1),
        r"dst: expected a one-dimensional array of integers, got int64 of shape \[\]\. ",
    ),
    "names for destinations": (
        lambda: fw.Graph.from_edges([0], ["y"]),
        r"dst: expected a one-dimensional array of integers, got <U1 of shape \[1\]\. ",
    ),
    "negative num_nodes": (lambda: from_edges(num_nodes=-1), r"num_nodes: expected .*, got -1\. "),
    "negative num_nodes with edges": (
        lambda: from_edges((0, 1), num_nodes=-1),
        r"num_nodes: expected .*, got -1\. ",
    ),
    "half a node": (lambda: from_edges((0, 1), num_nodes=2.5), r"num_nodes: expected .*, got 2\.5\. "),
    "num_nodes as text": (lambda: from_edges((0, 1), num_nodes="2"), r"num_nodes: expected .*, got '2'\. "),
    "num_nodes that asks for terabytes": (
        lambda: from_edges((0, 1), num_nodes=2**40),
        r"num_nodes: expected .*, got 1099511627776\. ",
    ),
    "too few nodes": (
        lambda: from_edges((0, 1), num_nodes=1),
        r"dst: expected node numbers from 0 to 0, got 1 at edge 0\. ",
    ),
    # matrices
    "oblong matrix": (
        lambda: fw.Graph.from_adjacency(np.zeros((2, 3))),
        r"A: expected a square matrix \[N, N\], got shape \[2, 3\]\. ",
    ),
    "oblong sparse matrix": (
        lambda: fw.Graph.from_adjacency(sparse.csr_array((3, 2))),
        r"A: expected a square matrix \[N, N\], got shape \[3, 2\]\. ",
    ),
    "vector for a matrix": (
        lambda: fw.Graph.from_adjacency([0, 1]),
        r"A: expected a square matrix \[N, N\], got shape \[2\]\. ",
    ),
    "sparse vector": (
        lambda: fw.Graph.from_adjacency(sparse.coo_array([0, 1])),
        r"A: expected a square matrix \[N, N\], got shape \[2\]\. ",
    ),
    "cube for a matrix": (
        lambda: fw.Graph.from_adjacency(np.zeros((2, 2, 2))),
        r"A: expected a square matrix \[N, N\], got shape \[2, 2, 2\]\. ",
    ),
    "no matrix": (
        lambda: fw.Graph.from_adjacency(None),
        r"A: expected a square matrix \[N, N\], got None\. Pass an array",
    ),
    "ragged matrix": (
        lambda: fw.Graph.from_adjacency([[0], [0, 1]]),
        r"A: expected an array of numbers, got \[\[0\], \[0, 1\]\] ",
    ),
    "NaN in a matrix": (
        lambda: fw.Graph.from_adjacency([[0, 1, 0], [0, 0, np.nan], [0, 0, 0]]),
        r"weight: expected a number, got nan at edge 1 \(1 -> 2\)\. ",
    ),
    "NaN in a sparse matrix": (
        lambda: fw.Graph.from_adjacency(sparse.csr_array([[0, np.nan], [0, 0]])),
        r"weight: expected a number, got nan at edge 0 \(0 -> 1\)\. ",
    ),
    "text in a matrix": (
        lambda: fw.Graph.from_adjacency([["", "x"], ["", ""]]),
        r"weight: expected numbers, got ",
    ),
    # weights, biases, sign and frozen
    "NaN weight": (
        lambda: from_edges((0, 2), (1, 2), weight=[1, np.nan]),
        r"weight: expected a number, got nan at edge 1 \(1 -> 2\)\. ",
    ),
    "NaN weight of a named edge": (
        lambda: with_edge(weight=float("nan")),
        r"weight of edge 'x' -> 'y': expected a number, got nan\. ",
    ),
    "text for a weight": (
        lambda: with_edge(weight="heavy"),
        r"weight of edge 'x' -> 'y': expected a number, got 'heavy'\. ",
    ),
    "None for a weight": (
        lambda: with_edge(weight=None),
        r"weight of edge 'x' -> 'y': expected a number, got None\. ",
    ),
    "too few weights": (
        lambda: from_edges((0, 2), (1, 2), weight=[1]),
        r"weight: expected shape \[2\], one per edge, got \[1\]\. ",
    ),
    "one weight for all": (
        lambda: from_edges((0, 1), weight=0.5),
        r"weight: expected shape \[1\], one per edge, got \[\]\. ",
    ),
    "text for weights": (
        lambda: from_edges((0, 1), weight=["heavy"]),
        r"weight: expected numbers, got \['heavy'\]\. ",
    ),
    "complex weight": (lambda: from_edges((0, 1), weight=[1 + 2j]), r"weight: expected .*numbers, got "),
    "NaN bias": (
        lambda: from_edges((0, 1), bias=[0, np.nan]),
        r"bias: expected a number, got nan at node 1\. ",
    ),
    "NaN bias of a named node": (
        lambda: with_node(bias=np.float32("nan")),
        r"bias of node 'y': expected a number, got .*nan.*\. ",
    ),
    "a bias per edge": (
        lambda: from_edges((0, 1), bias=[1]),
        r"bias: expected shape \[2\], one per node, got \[1\]\. ",
    ),
    "bias on an input": (
        lambda: from_edges((0, 2), (1, 2), bias=[0, 0.5, 1]),
        r"bias: expected 0 at an input, got 0\.5 at 1\. ",
    ),
    "bias on a named input": (
        lambda: fw.Graph.from_networkx(with_bias_at_input()),
        r"bias: expected 0 at an input, got 3\.0 at 'x'\. ",
    ),
    "with_values, weight": (
        lambda: CASES["diamond"].with_values([1, 2]),
        r"weight: expected 4 values, got shape \[2\]\. ",
    ),
    "with_values, bias": (
        lambda: CASES["diamond"].with_values(None, [[1, 2, 3, 4]]),
        r"bias: expected 4 values, got shape \[1, 4\]\. ",
    ),
    "sign of 2": (lambda: with_edge(sign=2), r"sign of edge 'x' -> 'y': expected -1, 0 or 1, got 2\. "),
    **{
        f"sign of {value}": (
            lambda value=value: from_edges((0, 1), sign=[value]),  # type: ignore[misc]
            rf"sign: expected -1, 0 or 1, got {re.escape(str(value))} at edge 0 \(0 -> 1\)\. ",
        )
        for value in (3, 256, 257, -128, 0.5, np.nan)
    },
    "too many signs": (
        lambda: from_edges((0, 1), sign=[1, 1]),
        r"sign: expected shape \[1\], one per edge, got \[2\]\. ",
    ),
    "too few frozen": (
        lambda: from_edges((0, 2), (1, 2), frozen=[True]),
        r"frozen: expected shape \[2\], one per edge, got \[1\]\. ",
    ),
    **{
        f"group of {value}": (
            lambda value=value: from_edges((0, 1), group=[value]),  # type: ignore[misc]
            rf"group: expected a whole number of at least 0, or -1 for no group, got {re.escape(str(value))} at edge 0",
        )
        for value in (-2, 0.5, float("nan"), float("inf"), 2**53)
    },
    "boolean group": (
        lambda: with_edge(group=True),
        r"group of edge 'x' -> 'y': expected a whole number of at least 0, or -1 for no group, got True\. ",
    ),
    "group in words": (lambda: with_edge(group="left"), r"group of edge 'x' -> 'y': expected .*, got 'left'\. "),
    "frozen in words": (lambda: from_edges((0, 1), frozen=["no"]), r"frozen: expected .*, got "),
    "frozen of 2": (
        lambda: from_edges((0, 1), frozen=[2]),
        r"frozen: expected true or false, got 2 at edge 0 \(0 -> 1\)\. ",
    ),
    "num_nodes of True": (lambda: from_edges(num_nodes=True), r"num_nodes: expected .*, got True\. "),
    # activations and aggregations
    "unknown activation": (
        lambda: from_edges((0, 1), activation="rulu"),
        rf"activation: expected one of {KNOWN}, got 'rulu'\. ",
    ),
    "unknown output activation": (
        lambda: from_edges((0, 1), output_activation="softmax"),
        rf"output_activation: expected one of {KNOWN}, got 'softmax'\. ",
    ),
    "unknown activation of networkx": (
        lambda: from_networkx((0, 1), activation="rulu"),
        rf"activation: expected one of {KNOWN}, got 'rulu'\. ",
    ),
    "unknown activation among many": (
        lambda: from_edges((0, 1), activation=["relu", "rulu"]),
        rf"activation: expected one of {KNOWN}, got 'rulu'\. ",
    ),
    "unknown activation of a node": (
        lambda: with_node(activation="rulu"),
        rf"activation of node 'y': expected one of {KNOWN}, got 'rulu'\. ",
    ),
    "function for an activation": (
        lambda: with_node(activation=np.tanh),
        rf"activation of node 'y': expected one of {KNOWN}, got <ufunc 'tanh'>\. ",
    ),
    "unknown aggregation": (
        lambda: from_edges((0, 1), aggregation="median"),
        r"aggregation: expected one of sum, mean, product, max, min, maxabs, got 'median'\. ",
    ),
    "unknown aggregation of a node": (
        lambda: with_node(aggregation="median"),
        r"aggregation of node 'y': expected one of sum, .*, maxabs, got 'median'\. ",
    ),
    "no activation": (
        lambda: from_edges((0, 1), activation=None),
        r"activation: expected .*, got None\. ",
    ),
    "no aggregation": (
        lambda: fw.Graph.from_adjacency([[0, 1], [0, 0]], aggregation=None),
        r"aggregation: expected .*, got None\. ",
    ),
    "too few activations": (
        lambda: from_edges((0, 1), activation=["relu"]),
        r"activation: expected one name or 2, one per node, got 1\. ",
    ),
    "too many aggregations": (
        lambda: from_edges((0, 1), aggregation=["sum"] * 3),
        r"aggregation: expected one name or 2, one per node, got 3\. ",
    ),
    # union
    "union of nothing": (lambda: fw.Graph.union([]), r"graphs: expected at least one Graph, got none\. "),
    "union of numbers": (lambda: fw.Graph.union([1]), r"graphs: expected Graph objects, got int\. "),
    "union of a graph": (lambda: fw.Graph.union(CASES["diamond"]), r"graphs: expected .*, got "),
}


def with_bias_at_input() -> nx.DiGraph:
    G = nx.DiGraph([("x", "y")])
    G.nodes["x"]["bias"] = 3
    return G


class TestRefused:
    """Bad input: a message of what was expected, what was given, and what to do."""

    @pytest.mark.parametrize("case", REFUSED)
    def test_says_what_is_wrong(self, case):
        attempt, match = REFUSED[case]
        assert_refused(attempt, match)

    def test_an_unknown_activation_lists_all_known(self):
        with pytest.raises(fw.GraphError, match="rulu") as caught:
            from_edges((0, 1), activation="rulu")
        assert f"one of {', '.join(ACTIVATIONS)}, got" in str(caught.value)
        with pytest.raises(fw.GraphError, match="median") as caught:
            from_edges((0, 1), aggregation="median")
        assert f"one of {', '.join(AGGREGATIONS)}, got" in str(caught.value)
