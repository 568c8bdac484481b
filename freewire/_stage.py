# SPDX-License-Identifier: MIT
"""A graph of modules: one stage of a randomly wired network.

Enters: a DAG, and what makes a node. Leaves: `GraphStage`, an ``nn.Module`` from feature maps to feature maps. What the
nodes hear is summed by one operator a node (`_gated_sum`); nodes are modules, called one by one in the graph's order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import networkx as nx
import torch
from torch import Tensor, nn

from freewire import _library
from freewire._blocks import SeparableConv
from freewire._gated_sum import gated_sum
from freewire._networkx import check_dag
from freewire.errors import InputError
from freewire.graph import Graph

__all__ = ["GraphStage"]

NodeMaker = Callable[[int, int, int], nn.Module]


class _Step(NamedTuple):
    """One node's turn. Numbers are places in ``graph.nodes``."""

    node: int
    sources: tuple[int, ...]  # whom it hears, an entry an edge; empty: the stage's input
    done: tuple[int, ...]  # sources that nobody hears later


class GraphStage(nn.Module):
    """Modules wired as a directed acyclic graph.

    As in Xie et al. (2019): a node hears the sum of sigmoid(weight) times the results of the nodes before it, a weight
    an edge, through a relu. Nodes of in-degree 0 hear the stage's input, and they alone have the stride and
    ``in_channels``. The stage gives the mean of the nodes of out-degree 0.

    Args:
        dag: A ``DiGraph`` or ``MultiDiGraph``, any node names; attributes are not looked at.
        in_channels: Of x.
        out_channels: Of every node's result.
        node: ``node(in_channels, out_channels, stride)`` makes a node, any module from
            ``[B, in_channels, H, W]`` to ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``. It should have no
            relu at its beginning, where `relu` is.
        stride: Of the nodes of in-degree 0.
        relu: Put a relu before every node.
        weight: That every edge starts with; the paper does not say.

    Attributes:
        graph: The `Graph`, whose edge order is that of ``weight``.
        weight: Parameter ``[E]``.
        nodes: The modules, in the order of ``graph.nodes``.

    Raises:
        GraphError: No directed graph, an empty one, or a cycle, which is named.
        InputError: A number of channels or a stride below 1, or a ``node`` that makes no module.

    Example:
        >>> import torch, freewire as fw
        >>> dag = fw.generators.watts_strogatz_dag(8, 4, 0.75, seed=0)
        >>> stage = fw.models.GraphStage(dag, in_channels=3, out_channels=16)
        >>> stage(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 16, 16, 16])
    """

    weight: Tensor

    def __init__(
        self,
        dag: nx.DiGraph,
        in_channels: int,
        out_channels: int,
        node: NodeMaker = SeparableConv,
        stride: int = 2,
        relu: bool = True,
        weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.graph = _wiring(dag)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("stride", stride)):
            if value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}.")
        self.stride, self.relu = stride, relu
        self.in_channels, self.out_channels = in_channels, out_channels
        self._steps, self._sinks = _steps(self.graph)
        self._fan_ins = [len(step.sources) for step in self._steps if step.sources]
        self.weight = nn.Parameter(torch.full((self.graph.num_edges,), float(weight)))
        hears_input = {step.node for step in self._steps if not step.sources}
        self.nodes = nn.ModuleList(
            _made(node, in_channels, out_channels, stride)
            if i in hears_input
            else _made(node, out_channels, out_channels, 1)
            for i in range(self.graph.num_nodes)
        )
        self._removed_nodes: frozenset[int] = frozenset()
        self._removed_edges: frozenset[int] = frozenset()
        self._load_kernels()

    def _load_kernels(self) -> None:
        if self.weight.is_cuda:  # here and not where they run, so that torch.compile finds them
            _library.load_cuda()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GraphStage:
        super()._apply(fn, recurse)
        self._load_kernels()
        return self

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Run the nodes.

        Args:
            x: ``[B, in_channels, H, W]``.
            kept: Bool ``[E]``, in the order of ``weight``: which edges count. None: all.

        Returns:
            ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``, in x's memory format.

        Raises:
            InputError: x has another number of channels, or nodes that are summed give results of several shapes.
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise InputError(f"x: expected shape [batch, {self.in_channels}, height, width], got {list(x.shape)}.")
        weight = self.weight
        if self._removed_edges:
            removed = torch.tensor(sorted(self._removed_edges), device=weight.device)
            weight = weight.index_fill(0, removed, -torch.inf)
        if kept is not None:
            weight = torch.where(kept, weight, -torch.inf)
        weights = iter(weight.split(self._fan_ins) if self._fan_ins else ())
        heard_input = torch.relu(x) if self.relu else x
        results: dict[int, Tensor] = {}
        for node, sources, done in self._steps:
            heard = heard_input
            if sources:
                heard = self._sum([results[source] for source in sources], next(weights), node)
                for source in done:
                    del results[source]
            results[node] = self.nodes[node](heard)
        sinks = [sink for sink in self._sinks if sink not in self._removed_nodes]
        if not sinks:
            return torch.zeros_like(results[self._sinks[0]])
        return results[sinks[0]] if len(sinks) == 1 else self._sum([results[sink] for sink in sinks], None, None)

    def _sum(self, xs: list[Tensor], weight: Tensor | None, node: int | None) -> Tensor:
        shapes = {x.shape for x in xs}
        if len(shapes) > 1:
            place = "the stage's output" if node is None else f"node {self.graph.nodes[node]!r}"
            raise InputError(
                f"node: expected results of one shape where they are summed, at {place}, got "
                f"{' and '.join(str(list(shape)) for shape in shapes)}. Make nodes that keep height and width at "
                "stride 1, and halve them alike at stride 2."
            )
        return gated_sum(xs, weight, self.relu and node is not None)

    @contextmanager
    def without(self, nodes: Collection[Hashable] = (), edges: Collection[int] = ()) -> Iterator[None]:
        """While it lasts some nodes and edges are missing, and all others as they are: the damage of Xie et al. (2019).

        A node that has lost all it heard hears zeros; a stage that has lost all sinks gives zeros. Not for several
        threads at once.

        Args:
            nodes: Names.
            edges: Places in ``weight``.

        Raises:
            InputError: No such node or edge.
        """
        names = {name: i for i, name in enumerate(self.graph.nodes)}
        for name in nodes:
            if name not in names:
                raise InputError(f"nodes: expected names of the stage's nodes, got {name!r}.")
        for edge in edges:
            if not 0 <= edge < self.graph.num_edges:
                raise InputError(f"edges: expected numbers below {self.graph.num_edges}, got {edge!r}.")
        before = self._removed_nodes, self._removed_edges
        removed = {names[name] for name in nodes}
        lost = {e for e, (u, v) in enumerate(self.graph.edge_index.T.tolist()) if u in removed or v in removed}
        self._removed_nodes, self._removed_edges = frozenset(removed), frozenset(lost.union(edges))
        try:
            yield
        finally:
            self._removed_nodes, self._removed_edges = before

    def extra_repr(self) -> str:
        """What ``print`` shows of it."""
        return f"{self.graph.num_nodes} nodes, {self.graph.num_edges} edges, stride={self.stride}, relu={self.relu}"


def _wiring(dag: Any) -> Graph:
    """The graph without attributes, all nodes computed."""
    check_dag(dag)
    bare = nx.MultiDiGraph()
    bare.add_nodes_from(dag)
    bare.add_edges_from((u, v) for u, v in dag.edges())
    return Graph.from_networkx(bare, inputs=[], outputs=list(bare))


def _steps(graph: Graph) -> tuple[list[_Step], list[int]]:
    """The nodes in an order in which all edges point forward, that of their edges; and those of out-degree 0."""
    sources: list[list[int]] = [[] for _ in range(graph.num_nodes)]
    for u, v in graph.edge_index.T.tolist():
        sources[v].append(u)
    level = graph.level.tolist()
    order = sorted(range(graph.num_nodes), key=lambda node: (level[node], node))
    last_heard = {u: node for node in order for u in sources[node]}
    steps = [
        _Step(node, tuple(sources[node]), tuple(u for u in dict.fromkeys(sources[node]) if last_heard[u] == node))
        for node in order
    ]
    return steps, [node for node in order if node not in last_heard]


def _made(node: NodeMaker, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    made = node(in_channels, out_channels, stride)
    if not isinstance(made, nn.Module):
        raise InputError(
            f"node: expected a callable (in_channels, out_channels, stride) that makes an nn.Module, got one that "
            f"makes {type(made).__name__}."
        )
    return made
