# SPDX-License-Identifier: MIT
"""A graph of modules: one stage of a randomly wired network.

Enters: a DAG, and what makes a node. Leaves: `GraphStage`, an ``nn.Module`` from feature maps to feature maps. What the
nodes hear is summed by one operator a node (`_gated_sum`); nodes are modules, called one by one in the graph's order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, cast

import networkx as nx
import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from freewire.errors import InputError
from freewire.graph import Graph
from freewire.graph.networkx_conversion import check_dag
from freewire.models.blocks import SeparableConv
from freewire.nn.wired import Wired
from freewire.ops import library
from freewire.ops.gated_depthwise import gated_depthwise, is_changed, takes
from freewire.ops.gated_sum import gated_sum, heard_again

__all__ = ["GraphStage"]

NodeFactory = Callable[[int, int, int], nn.Module]


class _Step(NamedTuple):
    """One node's turn. Numbers are places in ``graph.nodes``."""

    node: int
    sources: tuple[int, ...]  # whom it hears, an entry an edge; empty: the stage's input
    done: tuple[int, ...]  # sources that nobody hears later
    place: str  # what errors call it


class GraphStage(Wired):
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
            relu at its beginning, where `relu` is, and must leave its input as it is: others may hear the same.
        stride: Of the nodes of in-degree 0.
        relu: Put a relu before every node.
        weight: That every edge starts with; the paper does not say.
        recompute_sums: What a node hears is not kept for the backward but summed once more there: three tensors a node
            instead of four. `SeparableConv` on the CPU, in channels_last, even runs its 3x3 convolution together with
            the sum. Other nodes do it by saved-tensor hooks, which those that use ``torch.func`` inside cannot have:
            then False.

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
    _WHAT = "stage"
    _REMEDY = "Make the model from the graphs, or by the seed, that it was trained with."

    def __init__(
        self,
        dag: nx.DiGraph,
        in_channels: int,
        out_channels: int,
        node: NodeFactory = SeparableConv,
        stride: int = 2,
        relu: bool = True,
        weight: float = 0.0,
        recompute_sums: bool = True,
    ) -> None:
        super().__init__()
        self._graph = _wiring(dag)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("stride", stride)):
            if value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}. Raise it.")
        self.stride, self.relu, self.recompute_sums = stride, relu, recompute_sums
        self.in_channels, self.out_channels = in_channels, out_channels
        self._steps, self._sinks = _steps(self.graph)
        self._fan_ins = [len(step.sources) for step in self._steps if step.sources]
        edges = self.graph.num_edges
        # Without edges no gradient ever comes, which distributed training would wait for.
        self.weight = nn.Parameter(torch.full((edges,), float(weight)), requires_grad=edges > 0)
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

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._load_kernels()

    def _load_kernels(self) -> None:
        if self.weight.is_cuda:  # here and not where they run, so that torch.compile finds them
            library.load_cuda()

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
        x = _checked(x, self.in_channels)
        weight = self.weight
        if self._removed_edges:
            removed = torch.tensor(sorted(self._removed_edges), device=weight.device)
            weight = weight.index_fill(0, removed, -torch.inf)
        weight = _masked(weight, kept)
        weights = weight.split(self._fan_ins) if self._fan_ins else ()
        heard_input = torch.relu(x) if self.relu else x
        results: dict[int, Tensor] = {}
        sums = 0
        for node, sources, done, place in self._steps:
            if not sources:
                results[node] = self.nodes[node](heard_input)
                continue
            xs, gates = [results[source] for source in sources], weights[sums]
            sums += 1
            module = self.nodes[node]
            parts = self._in_one_pass(module, xs)
            if parts is None:
                heard = _sum(xs, gates, self.relu, place)
            else:
                heard = gated_depthwise(xs, gates, self.relu, cast(Tensor, parts[0].weight))
            for source in done:
                del results[source]
            if parts is not None:
                del xs
                for following in parts[1:]:
                    heard = following(heard)
                results[node] = heard
                continue
            with heard_again(heard, xs, gates, self.relu) if self.recompute_sums else nullcontext():
                del xs  # or the last results would live until the node has run
                results[node] = module(heard)
        sinks = [sink for sink in self._sinks if sink not in self._removed_nodes]
        if not sinks:
            return torch.zeros_like(results[self._sinks[0]])
        ends = [results[sink] for sink in sinks]
        return ends[0] if len(ends) == 1 else _sum(ends, None, False, "the stage's output")

    def _in_one_pass(self, module: nn.Module, xs: list[Tensor]) -> list[nn.Module] | None:
        """A node's parts, where the first, a 3x3 convolution, can be run together with the sum that it hears."""
        if not self.recompute_sums or type(module) is not SeparableConv or is_changed(module):
            return None
        parts = list(module)
        return parts if parts and takes(xs, parts[0]) else None

    @contextmanager
    def without(self, nodes: Collection[Hashable] = (), edges: Collection[int] = ()) -> Iterator[None]:
        """While it lasts some nodes and edges are missing, and all others as they are: the damage of Xie et al. (2019).

        A node that has lost all it heard hears zeros. A sink that is missing leaves the mean, and a stage that has lost
        all sinks gives zeros. Inside another ``without`` both losses count. A backward through checkpointed stages
        belongs inside, since it runs them again. Not for several threads at once.

        Args:
            nodes: Names.
            edges: Places in ``weight``.

        Raises:
            InputError: No such node or edge.
        """
        names = {name: i for i, name in enumerate(self.graph.nodes)}
        nodes, edges = list(nodes), list(edges)  # a generator would be used up by the checks
        for name in nodes:
            if name not in names:
                raise InputError(f"nodes: expected names of the stage's nodes, got {name!r}. They are in graph.nodes.")
        for edge in edges:
            if not isinstance(edge, int | np.integer) or not 0 <= edge < self.graph.num_edges:
                raise InputError(
                    f"edges: expected whole numbers from 0 to {self.graph.num_edges - 1}, got {edge!r}. They are "
                    "places in graph.edge_index."
                )
        before = self._removed_nodes, self._removed_edges
        removed = {names[name] for name in nodes}
        lost = {e for e, (u, v) in enumerate(self.graph.edge_index.T.tolist()) if u in removed or v in removed}
        self._removed_nodes = before[0].union(removed)
        self._removed_edges = before[1].union(lost, map(int, edges))
        try:
            yield
        finally:
            self._removed_nodes, self._removed_edges = before

    def extra_repr(self) -> str:
        """What ``print`` shows of it."""
        return f"{self.graph.num_nodes} nodes, {self.graph.num_edges} edges, stride={self.stride}, relu={self.relu}"


# What follows asks for sizes, and whether there is a mask, which torch.fx cannot trace: it keeps the calls.


@torch.fx.wrap
def _checked(x: Tensor, in_channels: int) -> Tensor:
    """A stage's input, or an `InputError`."""
    if x.dim() != 4 or x.shape[1] != in_channels:
        raise InputError(
            f"x: expected shape [batch, {in_channels}, height, width], got {list(x.shape)}. Make the stage with the "
            "in_channels that x has."
        )
    return x


@torch.fx.wrap
def _masked(weight: Tensor, kept: Tensor | None) -> Tensor:
    """Weights of edges, those that do not count at minus infinity."""
    return weight if kept is None else torch.where(kept, weight, -torch.inf)


@torch.fx.wrap
def _sum(xs: list[Tensor], weight: Tensor | None, relu: bool, place: str) -> Tensor:
    """`gated_sum` of nodes' results; an `InputError` names the place where their shapes differ."""
    if any(x.shape != xs[0].shape for x in xs):
        shapes = dict.fromkeys(x.shape for x in xs)
        raise InputError(
            f"node: expected results of one shape where they are summed, at {place}, got "
            f"{' and '.join(str(list(shape)) for shape in shapes)}. Make nodes that keep height and width at "
            "stride 1, and halve them alike at stride 2."
        )
    return gated_sum(xs, weight, relu)


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

    def step(node: int) -> _Step:
        done = tuple(u for u in dict.fromkeys(sources[node]) if last_heard[u] == node)
        return _Step(node, tuple(sources[node]), done, f"node {graph.nodes[node]!r}")

    return [step(node) for node in order], [node for node in order if node not in last_heard]


def _made(node: NodeFactory, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    made = node(in_channels, out_channels, stride)
    if not isinstance(made, nn.Module):
        raise InputError(
            f"node: expected a callable (in_channels, out_channels, stride) that makes an nn.Module, got one that "
            f"makes {type(made).__name__}. Return the module itself."
        )
    return made
