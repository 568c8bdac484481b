# SPDX-License-Identifier: MIT
"""Graphs for tests: `CASES`, a named list that every op and module is run over, and `graphs`, which draws any.

Activations of the cases are smooth except where a case is about activations, so that numeric gradients apply.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np
from hypothesis import strategies as st

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.graph.fields import FIELDS

#: Activations and aggregations with a derivative everywhere (product's needs no division either).
SMOOTH_ACTIVATIONS = tuple(
    name
    for name in ACTIVATIONS
    if name not in {"relu", "leaky_relu", "elu", "selu", "abs", "step", "hard_tanh", "hard_sigmoid"}
)
SMOOTH_AGGREGATIONS = ("sum", "mean", "product")


@dataclass
class Wiring:
    """The arguments of `fw.Graph.from_edges` in plain Python, from which tests compute expected values."""

    num_nodes: int
    src: list[int]
    dst: list[int]
    inputs: list[int]
    outputs: list[int]
    activation: list[str]
    aggregation: list[str]
    weight: list[float] | None = None
    bias: list[float] | None = None
    #: Node numbers, the source of each edge before its destination.
    topological: list[int] = field(default_factory=list)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `fw.Graph.from_edges`."""
        arguments = dict(vars(self))
        del arguments["topological"]
        return arguments

    def build(self) -> fw.Graph:
        return fw.Graph.from_edges(**self.arguments())


def multigraph(wiring: Wiring, names: list[Hashable] | None = None) -> nx.MultiDiGraph:
    """The wiring as a networkx user would have built it, with nodes of these names."""
    name = list(range(wiring.num_nodes)) if names is None else names
    G = nx.MultiDiGraph()
    for i in range(wiring.num_nodes):
        G.add_node(name[i], activation=wiring.activation[i], aggregation=wiring.aggregation[i])
        if wiring.bias is not None:
            G.nodes[name[i]]["bias"] = wiring.bias[i]
        G.nodes[name[i]]["freewire_input"] = False
    for mark, ends in (("freewire_input", wiring.inputs), ("freewire_output", wiring.outputs)):
        for place, i in enumerate(ends):
            G.nodes[name[i]][mark] = place
    for e, (u, v) in enumerate(zip(wiring.src, wiring.dst, strict=True)):
        G.add_edge(name[u], name[v], **({} if wiring.weight is None else {"weight": wiring.weight[e]}))
    return G


def from_edges(*edges: tuple[int, int], **options: Any) -> fw.Graph:
    """A graph of (source, destination) pairs of numbers."""
    return fw.Graph.from_edges([u for u, _ in edges], [v for _, v in edges], **options)


def from_networkx(*edges: tuple[Any, ...], **options: Any) -> fw.Graph:
    """A graph of (source, destination[, attributes]) tuples of names."""
    return fw.Graph.from_networkx(nx.DiGraph(edges), **options)


def renamed(g: fw.Graph, names: Sequence[Hashable]) -> fw.Graph:
    """``g`` with other node names, in the same order."""
    return fw.Graph.from_networkx(nx.relabel_nodes(g.to_networkx(), dict(zip(g.nodes, names, strict=True))))


# ---------------------------------------------------------------------------------- drawn


@st.composite
def wirings(
    draw: st.DrawFn,
    *,
    max_nodes: int = 12,
    max_edges: int = 30,
    min_inputs: int = 0,
    activations: Sequence[str] = ACTIVATIONS,
    aggregations: Sequence[str] = AGGREGATIONS,
    stored: bool = True,
) -> Wiring:
    """Draw any legal wiring: parallel edges, dead and unreachable nodes, outputs with out-edges, inputs as outputs.

    Node order and edge order are shuffled, so neither is topological.

    Args:
        draw: Passed by hypothesis.
        max_nodes: The most nodes, at least 1.
        max_edges: The most edges, parallel ones counted.
        min_inputs: The fewest inputs; with 0, some graphs have none.
        activations: Names that activations are drawn from.
        aggregations: Names that aggregations are drawn from.
        stored: Whether some graphs store weights and biases.
    """
    num_nodes = draw(st.integers(max(1, min_inputs), max_nodes), "nodes")
    topological = draw(st.permutations(range(num_nodes)))
    # The first nodes in topological order have no in-edges, and later ones may have none: inputs and unreachable nodes.
    num_sources = draw(st.integers(max(1, min_inputs), max(1, min_inputs, num_nodes // 2)))
    num_edges = draw(st.integers(0, max_edges if num_sources < num_nodes else 0), "edges")
    place = st.integers(0, num_nodes - 1)
    pairs = []
    for i, j in draw(st.lists(st.tuples(place, place), min_size=num_edges, max_size=num_edges)):
        later = num_sources + i % (num_nodes - num_sources)
        pairs.append((j % later, later))
    targets = {b for _, b in pairs}
    free = draw(st.permutations([topological[a] for a in range(num_nodes) if a not in targets]))
    inputs = free[: draw(st.integers(min_inputs, len(free)), "inputs")]
    outputs = draw(st.lists(place, unique=True, min_size=1), "outputs")
    wiring = Wiring(
        num_nodes=num_nodes,
        src=[topological[a] for a, _ in pairs],
        dst=[topological[b] for _, b in pairs],
        inputs=inputs,
        outputs=outputs,
        activation=draw(st.lists(st.sampled_from(activations), min_size=num_nodes, max_size=num_nodes)),
        aggregation=draw(st.lists(st.sampled_from(aggregations), min_size=num_nodes, max_size=num_nodes)),
        topological=list(topological),
    )
    if stored and draw(st.booleans()):
        numbers = st.floats(-2, 2, width=32)
        wiring.weight = draw(st.lists(numbers, min_size=len(pairs), max_size=len(pairs)))
        wiring.bias = draw(st.lists(numbers, min_size=num_nodes, max_size=num_nodes))
        for node in inputs:
            wiring.bias[node] = 0.0
    return wiring


def graphs(**options: Any) -> st.SearchStrategy[fw.Graph]:
    """Draw graphs; options as in `wirings`."""
    return wirings(**options).map(Wiring.build)


#: Number of nodes of `some_edges`: more than the compiled planner prefetches.
SOME_NODES = 300


def some_edges(seed: int, acyclic: bool = True) -> tuple[list[int], list[int]]:
    """A few hundred edges in random order, some parallel, between randomly numbered nodes; a sixth have no edges."""
    rng = np.random.default_rng(seed)
    number = rng.permutation(SOME_NODES)
    ends = rng.integers(0, SOME_NODES * 5 // 6, (2, 700))
    if acyclic:
        ends = np.sort(ends[:, ends[0] != ends[1]], axis=0)
    src, dst = number[ends]
    return src.tolist(), dst.tolist()


def assert_same_graph(a: fw.Graph, b: fw.Graph) -> None:
    """Assert equality in everything but the caller's edge order, which is not part of a graph."""
    assert list(a.nodes) == list(b.nodes)
    assert (a.inputs, a.outputs) == (b.inputs, b.outputs)
    for name in ("edge_index", "level", *(entry.name for entry in FIELDS)):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)
    assert a.wiring_hash == b.wiring_hash


def recurrent_graph(seed: int, num_nodes: int = 24, num_edges: int = 80, longest: int = 3) -> fw.Graph:
    """A graph with cycles: delays of 0 to ``longest`` steps, self-loops, leaks, dead nodes, several aggregations.

    Weights are of order one over the root of the fan-in, and stored, so that values stay of order one over time.
    """
    rng = np.random.default_rng(seed)
    num_inputs = 4
    src, dst = rng.integers(0, num_nodes, num_edges), rng.integers(num_inputs, num_nodes, num_edges)
    src[:3] = dst[:3]  # self-loops
    fan_in = np.bincount(dst, minlength=num_nodes)[dst]
    aggregation = rng.choice(("sum", "sum", "mean", "product", "max"), num_nodes)
    leak = np.where(rng.random(num_nodes) < 0.5, rng.uniform(0.2, 0.9, num_nodes), 1)
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=num_nodes,
        inputs=range(num_inputs),
        outputs=[num_nodes - 1, num_inputs, num_nodes // 2],
        activation=["linear"] * num_inputs + rng.choice(("tanh", "sin", "gelu"), num_nodes - num_inputs).tolist(),
        aggregation=["sum"] * num_inputs + aggregation[num_inputs:].tolist(),
        weight=rng.standard_normal(num_edges) / np.sqrt(fan_in),
        bias=np.where(np.arange(num_nodes) < num_inputs, 0, rng.standard_normal(num_nodes) / 2),
        delay=np.where(src < dst, rng.integers(0, longest + 1, num_edges), rng.integers(1, longest + 1, num_edges)),
        leak=leak,
    )


# ---------------------------------------------------------------------------------- named


def _fan_in(count: int) -> fw.Graph:
    """``count`` inputs, and for each aggregation an output that reads them all."""
    readers = range(count, count + len(AGGREGATIONS))
    return fw.Graph.from_edges(
        np.tile(np.arange(count), len(readers)),
        np.repeat(np.array(readers), count),
        num_nodes=count + len(readers),
        inputs=range(count),
        outputs=readers,
        aggregation=["sum"] * count + list(AGGREGATIONS),
        output_activation="tanh",
    )


def _mixed_aggregations() -> fw.Graph:
    """Three inputs; two layers of all six aggregations, the second over the first; then one sum."""
    width = len(AGGREGATIONS)
    first, second = range(3, 3 + width), range(3 + width, 3 + 2 * width)
    last = second.stop
    edges = [
        *((u, v) for v in first for u in range(3)),
        *((u, v) for v in second for u in first if u - first.start != v - second.start),
        *((u, last) for u in second),
    ]
    return fw.Graph.from_edges(
        *zip(*edges, strict=True),
        inputs=range(3),
        activation="tanh",
        aggregation=["sum"] * 3 + list(AGGREGATIONS) * 2 + ["sum"],
    )


def _all_activations() -> fw.Graph:
    """Two inputs, a node of each activation, and an output that reads them all."""
    hidden = range(2, 2 + len(ACTIVATIONS))
    edges = [*((u, v) for v in hidden for u in (0, 1)), *((u, hidden.stop) for u in hidden)]
    return fw.Graph.from_edges(
        *zip(*edges, strict=True), inputs=[0, 1], activation=["linear"] * 2 + list(ACTIVATIONS) + ["linear"]
    )


def _edges(*edges: tuple[int, int], **options: Any) -> fw.Graph:
    options.setdefault("activation", "tanh")
    src, dst = zip(*edges, strict=True) if edges else ((), ())
    return fw.Graph.from_edges(np.array(src, np.int64), np.array(dst, np.int64), **options)


#: Graphs of shapes that break things, by name; small except for ``fan_in_1000`` (6,000 edges), ``chain`` (depth 100).
CASES: dict[str, fw.Graph] = {
    "single_edge": _edges((0, 1)),
    "diamond": _edges((0, 1), (0, 2), (1, 3), (2, 3)),
    "fan_in_0": _fan_in(0),
    "fan_in_1": _fan_in(1),
    "fan_in_31": _fan_in(31),
    "fan_in_33": _fan_in(33),
    "fan_in_1000": _fan_in(1000),
    "parallel_edges": _edges((0, 1), (1, 2), (0, 1), (1, 2), (0, 2), aggregation=["sum", "max", "sum"]),
    # An input, a hidden pair and an isolated node that nothing reads; an isolated output; two unconnected parts.
    "disconnected": _edges((0, 1), (4, 5), (6, 7), num_nodes=9, inputs=[0, 2, 4], outputs=[1, 3, 5]),
    "chain": _edges(*((i, i + 1) for i in range(100))),
    "output_feeds": _edges((0, 1), (1, 2), (2, 3), (1, 3), outputs=[3, 1], output_activation="tanh"),
    "input_is_output": _edges((0, 2), (1, 2), inputs=[1, 0], outputs=[2, 0]),
    "mixed_aggregations": _mixed_aggregations(),
    "all_activations": _all_activations(),
    "no_edges": _edges(num_nodes=2, inputs=[0, 1], outputs=[1]),
    # No path leads from the input to 1 and 2.
    "unreachable": _edges((1, 2), (2, 3), (0, 3), inputs=[0], outputs=[3, 2]),
    # 2 -> 3 leads nowhere, beside live readers of the same nodes.
    "dead": _edges((0, 1), (0, 2), (2, 3), (1, 4), (1, 3), outputs=[4]),
    # The highest number comes first.
    "reversed_order": _edges((4, 3), (3, 2), (4, 2), (2, 1), (4, 0), (1, 0), inputs=[4], outputs=[0]),
    "mlp": fw.generators.mlp([5, 7, 6, 3], activation="tanh"),
    "random": fw.generators.random_graph(9, 120, 5, fan_in=6, activation="gelu", seed=1),
}

#: A graph that stores something in every field.
FULL = fw.Graph.from_edges(
    [0, 1, 0],
    [2, 2, 1],
    inputs=[0],
    weight=[1, 2, 3],
    bias=[0, 1, 2],
    sign=[0, 1, -1],
    frozen=[1, 0, 0],
    group=[-1, 7, 4],
)

#: Delays and leaks: a cycle, a self-loop, and edges that skip steps.
RECURRENT = fw.Graph.from_edges(
    [0, 0, 1, 2, 2, 3],
    [1, 2, 2, 1, 3, 3],
    num_nodes=4,
    inputs=[0],
    outputs=[3],
    delay=[0, 2, 0, 1, 0, 3],
    leak=[1, 0.5, 1, 0.25],
)
