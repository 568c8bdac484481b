# SPDX-License-Identifier: MIT
"""The stage that most tests of `GraphStage` use: five nodes, parallel edges, two sources and two sinks.

And what tests of whole stages have in common: a twin that runs node by node, and how often the operators run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import networkx as nx
import torch
from torch import Tensor, nn

from freewire.models import WS, GraphStage, whole_stage
from freewire.models.steps import compile_steps
from freewire.ops.stage import stage as run_training
from freewire.ops.stage import stage_inference as run_inference

#: a and b receive the input; c receives from a; d from a, b (twice) and c; e from b. d and e are the sinks.
EDGES = [("a", "c"), ("a", "d"), ("b", "d"), ("b", "d"), ("c", "d"), ("b", "e")]


def dag() -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from("edcba")
    graph.add_edges_from(EDGES)
    return graph


def stage_of(dtype: torch.dtype = torch.float64, **options: Any) -> GraphStage:
    """A stage of the graph above whose edge weights all differ."""
    torch.manual_seed(0)
    stage = GraphStage(dag(), 3, 4, **options).to(dtype)
    nn.init.normal_(stage.weight)
    return stage


def plain(stage: GraphStage) -> GraphStage:
    """A copy that calls its nodes one by one."""
    twin = copy.deepcopy(stage)
    twin._steps = compile_steps(twin.graph, [])
    return twin


@contextmanager
def counted() -> Iterator[Callable[[], tuple[int, int]]]:
    """How often a stage has run as one operator since the context began: for inference, and with batch norms."""
    with (
        mock.patch.object(whole_stage, "stage_inference", mock.Mock(wraps=run_inference)) as inference,
        mock.patch.object(whole_stage, "stage", mock.Mock(wraps=run_training)) as training,
    ):
        yield lambda: (inference.call_count, training.call_count)


def small_world(nodes: int, **options: Any) -> GraphStage:
    """A stage of a small-world graph in float64, from 3 channels to 6, whose edge weights all differ."""
    torch.manual_seed(0)
    stage = GraphStage(WS(4, 0.75)(nodes, 0), 3, 6, **options).double()
    nn.init.normal_(stage.weight)
    return stage


def images(*size: int, seed: int = 0, nchw: bool = False) -> Tensor:
    """Standard normal, in float64, and in channels_last unless `nchw`; 2 images of 3 x 12 x 10 by default."""
    x = torch.randn(*(size or (2, 3, 12, 10)), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x if nchw else x.contiguous(memory_format=torch.channels_last)


def outcome(stage: GraphStage, x: Tensor, kept: Tensor | None = None) -> list[Tensor]:
    """Y, the gradients of x and of every parameter that requires one, and all buffers."""
    x = x.detach().requires_grad_()
    y = stage(x, kept)
    leaves = [x, *(p for p in stage.parameters() if p.requires_grad)]
    return [y.detach(), *torch.autograd.grad(y.square().sum() + y.sum(), leaves), *map(torch.clone, stage.buffers())]


def assert_close(found: list[Tensor], want: list[Tensor]) -> None:
    """To rounding of float64."""
    for got, wanted in zip(found, want, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10)


def norms_of(stage: GraphStage) -> Iterator[nn.BatchNorm2d]:
    return (module for module in stage.modules() if isinstance(module, nn.BatchNorm2d))


def with_norms(stage: GraphStage, **options: Any) -> GraphStage:
    """The stage with other batch norms, whose parameters and statistics all differ."""
    for node in stage.nodes:
        node.bn = nn.BatchNorm2d(stage.out_channels, **options).to(stage.weight.dtype)
    with torch.no_grad():
        for norm in norms_of(stage):
            for tensor, start in ((norm.weight, 1.0), (norm.bias, 0.0), (norm.running_mean, 0.0)):
                if tensor is not None:
                    tensor.normal_(start, 0.3)
            if norm.running_var is not None:
                norm.running_var.uniform_(0.5, 2)
    return stage
