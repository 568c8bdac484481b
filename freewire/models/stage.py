# SPDX-License-Identifier: MIT
"""A graph of modules: one stage of a randomly wired network.

`GraphStage` is an ``nn.Module`` from feature maps to feature maps, made from a DAG and a node factory. Its nodes are
modules of any kind; it computes the weighted sums between them, by the steps of `freewire.models.steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import networkx as nx
import torch
import torch.fx
from torch import Tensor, nn

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import whole
from freewire.graph.networkx_conversion import check_dag
from freewire.models.blocks import SeparableConv, check_sizes
from freewire.models.hooks import has_global_hooks
from freewire.models.steps import OUTPUT, Fusion, StageCall, compile_steps, fuse_separable_convolutions
from freewire.models.whole_stage import fuse_stage
from freewire.nn.checks import check_number
from freewire.nn.initialisers import undivided
from freewire.nn.wired import Wired
from freewire.ops import library

__all__ = ["FUSIONS", "GraphStage", "NodeFactory"]

#: (in_channels, out_channels, stride) -> module
NodeFactory = Callable[[int, int, int], nn.Module]

#: What a stage's steps are compiled with, in this order.
FUSIONS: tuple[Fusion, ...] = (fuse_separable_convolutions, fuse_stage)


class GraphStage(Wired):
    """Modules wired as a directed acyclic graph.

    As in Xie et al. (2019): a node's input is the sum of the results of the nodes before it, each times the sigmoid of
    its edge's weight, followed by a relu. Nodes of in-degree 0 receive the stage's input; only they have ``stride``
    and ``in_channels``. The stage returns the mean of the nodes of out-degree 0.

    Args:
        dag: A ``DiGraph`` or ``MultiDiGraph`` with any node names; attributes are ignored.
        in_channels: Number of channels of x.
        out_channels: Number of channels of every node's result.
        node: Node factory: ``node(in_channels, out_channels, stride)`` returns a module from
            ``[B, in_channels, H, W]`` to ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``. The module should
            not begin with a relu, since `relu` puts one there, and must not modify its input, which other nodes may
            share.
        stride: Stride of the nodes of in-degree 0.
        relu: Whether to apply a relu before every node.
        weight: Initial weight of every edge. The paper does not specify one.
        recompute_sums: Whether to recompute the sums in the backward instead of keeping them: three tensors per node
            instead of four. On the CPU a stage of `SeparableConv` nodes then runs as one operator, which keeps one
            tensor per node. For other nodes this uses saved-tensor hooks, so set it to False if nodes use
            ``torch.func``.

    Attributes:
        graph: The `Graph`, whose edge order is that of ``weight``.
        weight: Parameter ``[E]``.
        nodes: The modules, in the order of ``graph.nodes``.

    Raises:
        GraphError: The graph is not directed, is empty, or has a cycle, which is named.
        InputError: A number of channels or a stride is below 1, or ``node`` does not return a module.

    Example:
        >>> import torch, freewire as fw
        >>> dag = fw.generators.watts_strogatz_dag(8, 4, 0.75, seed=0)
        >>> stage = fw.models.GraphStage(dag, in_channels=3, out_channels=16)
        >>> stage(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 16, 16, 16])
    """

    weight: Tensor
    _initial_weight = 0.0  # of stages from older pickles
    _WHAT = "stage"
    _REMEDY = "Build the model from the graphs or the seed that it was trained with."

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
        weight = check_number("weight", weight, "one number for all edges", "Set others afterwards.")
        in_channels, out_channels, stride = check_sizes(in_channels, out_channels, stride)
        self.stride, self.relu, self.recompute_sums = stride, relu, recompute_sums
        self.in_channels, self.out_channels = in_channels, out_channels
        self._steps = compile_steps(self.graph, FUSIONS)
        edges, targets = self.graph.num_edges, self.graph.edge_index[1]
        # Edges are ordered by target, and the targets as the steps are.
        self._fan_ins = [len(list(group)) for _, group in groupby(targets.tolist())]
        # A stage without edges would have a weight that never gets a gradient, which distributed training waits for.
        self.weight = nn.Parameter(torch.empty(edges), requires_grad=edges > 0)
        self._initial_weight = weight
        has_inputs = set(targets.tolist())
        self.nodes = nn.ModuleList(
            _call_factory(node, out_channels, out_channels, 1)
            if i in has_inputs
            else _call_factory(node, in_channels, out_channels, stride)
            for i in range(self.graph.num_nodes)
        )
        self._removed_nodes: frozenset[int] = frozenset()
        self._removed_edges: frozenset[int] = frozenset()
        self._load_kernels()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set ``weight`` to its initial value. The nodes are modules of their own, each with what it resets."""
        with undivided(self.weight) as weight:
            weight.fill_(self._initial_weight)

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
            x: Feature maps ``[B, in_channels, H, W]``.
            kept: Bool ``[E]``, in the order of ``weight``: False removes an edge. None keeps all.

        Returns:
            ``[B, out_channels, ceil(H / stride), ceil(W / stride)]``, in x's memory format.

        Raises:
            InputError: x has another number of channels, or nodes that are summed return results of different shapes.
        """
        x = _checked(x, self.in_channels)
        weight = self.weight
        if self._removed_edges:
            removed = torch.tensor(sorted(self._removed_edges), device=weight.device)
            weight = weight.index_fill(0, removed, -torch.inf)
        weight = _masked(weight, kept)
        call = StageCall(
            nodes=self.nodes,
            x=x,
            weight=weight,
            fan_ins=self._fan_ins,
            relu=self.relu,
            recompute_sums=self.recompute_sums,
            hooked=has_global_hooks(),
            removed=self._removed_nodes,
            results={},
        )
        for step in self._steps:
            step.run(call)
        return call.results[OUTPUT]

    @contextmanager
    def without(self, nodes: Collection[Hashable] = (), edges: Collection[int] = ()) -> Iterator[None]:
        """Remove some nodes and edges for the duration of a ``with`` block: the damage of Xie et al. (2019).

        A node that has lost all its inputs receives zeros. A removed node of out-degree 0 does not count in the mean,
        and a stage that has lost all of those returns zeros. Blocks may be nested; their removals add up. The backward
        of a checkpointed stage belongs inside the block, since it runs the stage a second time. Not thread-safe.

        Args:
            nodes: Names of nodes.
            edges: Indices of edges in ``weight``.

        Raises:
            InputError: There is no such node or edge.
        """
        names = {name: i for i, name in enumerate(self.graph.nodes)}
        nodes, edges = list(nodes), list(edges)  # a generator would be used up by the checks
        for name in nodes:
            if not isinstance(name, Hashable) or name not in names:
                raise InputError(
                    f"nodes: expected names of the stage's nodes, got {shown(name)}. They are in graph.nodes."
                )
        for edge in edges:
            if (number := whole(edge)) is None or not 0 <= number < self.graph.num_edges:
                raise InputError(
                    f"edges: expected whole numbers from 0 to {self.graph.num_edges - 1}, got {shown(edge)}. They are "
                    "columns of graph.edge_index."
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
        """The line of options that ``print`` shows."""
        return f"{self.graph.num_nodes} nodes, {self.graph.num_edges} edges, stride={self.stride}, relu={self.relu}"


# torch.fx cannot trace checks of sizes, or whether there is a mask: it keeps calls of these functions.


@torch.fx.wrap
def _checked(x: Tensor, in_channels: int) -> Tensor:
    """A stage's input, or an `InputError`."""
    if x.dim() != 4 or x.shape[1] != in_channels:
        raise InputError(
            f"x: expected shape [batch, {in_channels}, height, width], got {list(x.shape)}. Build the stage with "
            "the in_channels that x has."
        )
    return x


@torch.fx.wrap
def _masked(weight: Tensor, kept: Tensor | None) -> Tensor:
    """The edges' weights, minus infinity for those that are not kept."""
    return weight if kept is None else torch.where(kept, weight, -torch.inf)


def _wiring(dag: Any) -> Graph:
    """The graph without attributes, all nodes computed."""
    check_dag(dag)
    bare = nx.MultiDiGraph()
    bare.add_nodes_from(dag)
    bare.add_edges_from((u, v) for u, v in dag.edges())
    return Graph.from_networkx(bare, inputs=[], outputs=list(bare))


def _call_factory(node: NodeFactory, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    module = node(in_channels, out_channels, stride)
    if not isinstance(module, nn.Module):
        raise InputError(
            "node: expected a callable (in_channels, out_channels, stride) that returns an nn.Module, got one that "
            f"returns {type(module).__name__}. Return the module itself."
        )
    return module
