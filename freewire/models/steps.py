# SPDX-License-Identifier: MIT
"""The steps that a stage's graph is compiled into.

`compile_steps` turns a graph into a list of steps once, when a `GraphStage` is built, and the stage's forward runs them
in order. A step computes the result of a node, or the stage's output, from earlier results, and owns the strategy for
it: a plain call of the node's module, a gated sum and then the module, or both in one pass over memory.

A fused step runs several modules in one operator. It holds the plain steps that it replaces, and runs those instead
where the operator does not apply or where hooks would notice the difference. One that replaces all steps is in
`freewire.models.whole_stage`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
import torch.fx
from torch import Tensor, nn

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.models.blocks import SeparableConv
from freewire.ops.gated_depthwise import can_fuse, gated_depthwise, is_changed
from freewire.ops.gated_sum import gated_sum
from freewire.ops.recompute import recompute_in_backward

__all__ = [
    "OUTPUT",
    "FusedStep",
    "Fusion",
    "InputStep",
    "MeanStep",
    "OnePassStep",
    "StageCall",
    "Step",
    "SumStep",
    "compile_steps",
    "fuse_separable_convolutions",
]

#: The key of a stage's output among the results.
OUTPUT = -1


@dataclass
class StageCall:
    """One call of a stage, which its steps read from and write their results to.

    Attributes:
        nodes: The stage's modules, by node.
        x: The stage's input, ``[B, in_channels, H, W]``.
        weight: ``[E]`` of the edges, minus infinity for an edge that is removed.
        fan_ins: The number of in-edges of each node that has any, in the order of the steps.
        relu: Whether a relu follows every sum.
        recompute_sums: Whether sums are recomputed in the backward instead of kept for it.
        hooked: Whether hooks on all modules are registered.
        removed: Nodes that `GraphStage.without` has removed.
        results: Results by node, as long as a later step reads them; finally the output, at `OUTPUT`.
        rectified: x after its relu, once a step has asked for it.
        weights: ``weight`` by node, once a step has asked for it.
    """

    nodes: nn.ModuleList
    x: Tensor
    weight: Tensor
    fan_ins: Sequence[int]
    relu: bool
    recompute_sums: bool
    hooked: bool
    removed: frozenset[int]
    results: dict[int, Tensor]
    rectified: Tensor | None = None
    weights: Sequence[Tensor] | None = None

    def node_input(self) -> Tensor:
        """What nodes of in-degree 0 receive: x, after its relu."""
        if self.rectified is None:
            self.rectified = torch.relu(self.x) if self.relu else self.x
        return self.rectified

    def weights_of(self, group: int) -> Tensor:
        """The weights of the in-edges of one node of those with any."""
        if self.weights is None:
            self.weights = self.weight.split(list(self.fan_ins))
        return self.weights[group]


class Step(ABC):
    """A part of a stage's forward. Nodes are indices into ``graph.nodes``."""

    @abstractmethod
    def run(self, call: StageCall) -> None:
        """Put results into ``call.results``."""


@dataclass(frozen=True)
class InputStep(Step):
    """A node of in-degree 0: its module is called with the stage's input."""

    node: int

    def run(self, call: StageCall) -> None:
        """Call the module."""
        call.results[self.node] = call.nodes[self.node](call.node_input())


@dataclass(frozen=True)
class SumStep(Step):
    """A node with in-edges: the gated sum of its inputs, then its module.

    Attributes:
        node: The node.
        sources: The nodes that it receives from, one entry per edge.
        last_read: The sources that no later step reads.
        group: Its index in ``StageCall.fan_ins``.
        name: What errors call it.
    """

    node: int
    sources: tuple[int, ...]
    last_read: tuple[int, ...]
    group: int
    name: str

    def inputs(self, call: StageCall) -> list[Tensor]:
        """The results to be summed."""
        return [call.results[source] for source in self.sources]

    def free(self, call: StageCall) -> None:
        """Let go of results that no later step reads."""
        for source in self.last_read:
            del call.results[source]

    def run(self, call: StageCall) -> None:
        """Sum, then call the module."""
        xs, weight = self.inputs(call), call.weights_of(self.group)
        total = _sum(xs, weight, call.relu, self.name)
        self.free(call)
        with recompute_in_backward(total, xs, weight, call.relu) if call.recompute_sums else nullcontext():
            del xs  # or freed results would live until the module has run
            call.results[self.node] = call.nodes[self.node](total)


@dataclass(frozen=True)
class MeanStep(Step):
    """The stage's output: the mean of the nodes of out-degree 0 that have not been removed."""

    sinks: tuple[int, ...]

    def run(self, call: StageCall) -> None:
        """Compute the mean."""
        xs = [call.results[sink] for sink in self.sinks if sink not in call.removed]
        if not xs:
            call.results[OUTPUT] = torch.zeros_like(call.results[self.sinks[0]])
        else:
            call.results[OUTPUT] = xs[0] if len(xs) == 1 else _sum(xs, None, False, "the stage's output")


class FusedStep(Step):
    """Steps that one operator can replace, for some inputs and modules."""

    @property
    @abstractmethod
    def plain(self) -> Sequence[Step]:
        """The steps that it replaces."""

    @abstractmethod
    def applies(self, call: StageCall) -> bool:
        """Whether the operator computes what the plain steps would, and bypasses no module that has hooks."""

    @abstractmethod
    def run_fused(self, call: StageCall) -> None:
        """Run the operator."""

    def run(self, call: StageCall) -> None:
        """Run the operator if it applies and no hook would notice, or else the plain steps."""
        if not call.hooked and self.applies(call):
            self.run_fused(call)
        else:
            for step in self.plain:
                step.run(call)


@dataclass(frozen=True)
class OnePassStep(FusedStep):
    """A node that is a `SeparableConv`: its sum and 3x3 convolution in one pass over memory, then its other parts."""

    sum_step: SumStep

    @property
    def plain(self) -> Sequence[Step]:
        """The sum, then the module."""
        return (self.sum_step,)

    def applies(self, call: StageCall) -> bool:
        """Whether the node is an unchanged `SeparableConv` and `gated_depthwise` accepts its inputs."""
        module = call.nodes[self.sum_step.node]
        if not call.recompute_sums or type(module) is not SeparableConv or is_changed(module) or not len(module):
            return False
        return can_fuse(self.sum_step.inputs(call), module[0])

    def run_fused(self, call: StageCall) -> None:
        """Sum and convolve, then call the parts after the convolution."""
        step = self.sum_step
        convolution, *rest = cast(SeparableConv, call.nodes[step.node])
        kernel = cast(Tensor, convolution.weight)
        y = gated_depthwise(step.inputs(call), call.weights_of(step.group), call.relu, kernel)
        step.free(call)
        for part in rest:
            y = part(y)
        call.results[step.node] = y


#: Turns a list of steps into one that computes the same.
Fusion = Callable[[list[Step]], list[Step]]


def fuse_separable_convolutions(steps: list[Step]) -> list[Step]:
    """Replace every `SumStep` with a `OnePassStep`."""
    return [OnePassStep(step) if isinstance(step, SumStep) else step for step in steps]


def compile_steps(graph: Graph, fusions: Sequence[Fusion]) -> list[Step]:
    """Compile a graph into steps.

    Nodes run in topological order, by level and then by index, which is the order of the edges they receive from.

    Args:
        graph: The wiring.
        fusions: Functions from a list of steps to one that computes the same, applied one after the other. Tests force
            a kind of step by them; an empty list leaves plain steps only.

    Returns:
        Steps of which the last puts the stage's output into the results.
    """
    sources: list[list[int]] = [[] for _ in range(graph.num_nodes)]
    for u, v in graph.edge_index.T.tolist():
        sources[v].append(u)
    level = graph.level.tolist()
    order = sorted(range(graph.num_nodes), key=lambda node: (level[node], node))
    last_reader = {u: node for node in order for u in sources[node]}
    steps: list[Step] = []
    groups = 0
    for node in order:
        if not sources[node]:
            steps.append(InputStep(node))
            continue
        last_read = tuple(u for u in dict.fromkeys(sources[node]) if last_reader[u] == node)
        steps.append(SumStep(node, tuple(sources[node]), last_read, groups, f"node {shown(graph.nodes[node])}"))
        groups += 1
    steps.append(MeanStep(tuple(node for node in order if node not in last_reader)))
    for fusion in fusions:
        steps = fusion(steps)
    return steps


@torch.fx.wrap  # a tracer keeps the call, since it cannot follow a comparison of shapes
def _sum(xs: list[Tensor], weight: Tensor | None, relu: bool, name: str) -> Tensor:
    """`gated_sum` of results; an `InputError` names the node, or the output, whose inputs differ in shape."""
    if any(x.shape != xs[0].shape for x in xs):
        shapes = dict.fromkeys(x.shape for x in xs)
        raise InputError(
            f"node: expected results of one shape to be summed at {name}, got "
            f"{' and '.join(str(list(shape)) for shape in shapes)}. Use nodes that keep height and width at "
            "stride 1 and all halve them in the same way at stride 2."
        )
    return gated_sum(xs, weight, relu)
