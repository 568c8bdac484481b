# SPDX-License-Identifier: MIT
"""Populations for the program of the raw CUDA kernels (csrc/testing/cases/population_case.h), and their graphs."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

import freewire as fw
from freewire.graph import AGGREGATIONS
from freewire.ops.network_reference import reference_of_packed_plan
from freewire.plan import make_plan
from tests.support.populations import INPUTS, OUTPUTS, different_graphs
from tests.support.tensors import DTYPES, NARROW
from tests.support.tolerances import with_tolerances

#: The member of `different_graphs` with most edges, 400 nodes of fan-in 9.
LARGE = 6


def hubs(fan_in: int, seed: int = 0) -> fw.Graph:
    """Outputs that read the inputs over so many edges each that other lanes share them."""
    rng = np.random.default_rng(seed)
    src = rng.integers(0, INPUTS, fan_in * OUTPUTS)
    dst = np.repeat(np.arange(INPUTS, INPUTS + OUTPUTS), fan_in)
    return fw.Graph.from_edges(src, dst, inputs=range(INPUTS), outputs=range(INPUTS, INPUTS + OUTPUTS))


@cache
def members(large: bool = True) -> tuple[fw.Graph, ...]:
    """Members of every kind that the kernels treat in a way of its own; without the large one for sanitizers."""
    graphs = different_graphs()
    return (*(graph for i, graph in enumerate(graphs) if large or i != LARGE), hubs(30), hubs(70))


@dataclass(frozen=True, eq=False)
class PopulationCase:
    """A population with the arguments of one forward and backward."""

    graphs: tuple[fw.Graph, ...]
    dtype: torch.dtype
    batch: int
    bias: bool = True
    shared_x: bool = False

    suffix: ClassVar[str] = "population"

    @property
    def name(self) -> str:
        marks = f"{'' if self.bias else '-unbiased'}{'-shared' if self.shared_x else ''}"
        return f"members{len(self.graphs)}-{str(self.dtype)[6:]}-{self.batch}{marks}"

    def arguments(self) -> list[Tensor]:
        """x, weight, bias, which may be empty, and grad_y; values are of order one."""
        rng, count = np.random.default_rng(self.batch), len(self.graphs)
        weights = []
        for graph in self.graphs:
            dst = graph.edge_index[1]
            fan_in = np.bincount(dst, minlength=graph.num_nodes)[dst]
            summed = graph.aggregation[dst] == AGGREGATIONS.index("sum")
            weights.append(rng.standard_normal(graph.num_edges) / np.where(summed, np.sqrt(fan_in), 1))
        num_biases = sum(len(graph.computed_index) for graph in self.graphs)
        arrays = (
            rng.standard_normal((1 if self.shared_x else count, self.batch, INPUTS)),
            np.concatenate([*weights, np.empty(0)]),
            rng.standard_normal(num_biases if self.bias else 0) / 2,
            rng.standard_normal((count, self.batch, OUTPUTS)),
        )
        return [torch.from_numpy(array).to(self.dtype) for array in arrays]

    def write(self, path: Path) -> None:
        """Write the file."""
        plans = [torch.from_numpy(make_plan(graph).pack().words) for graph in self.graphs]
        *parameters, grad_y = self.arguments()

        def results(given: Sequence[Tensor]) -> list[Tensor]:
            return _results(self.graphs, plans, given, grad_y.double(), self.bias)

        expected = with_tolerances(results, [p.double() for p in parameters], self.dtype)
        with path.open("wb") as file:
            file.write(b"fwpopu01")
            numbers = DTYPES.index(self.dtype), len(self.graphs), self.batch, self.bias, self.shared_x
            file.write(struct.pack("<5q", *numbers))
            for values in (*plans, *parameters, grad_y):
                data = values.contiguous().clone()
                file.write(struct.pack("<q", data.numel()) + bytes(data.untyped_storage())[: data.nbytes])
            for tolerance, values in expected:
                data = values.contiguous()
                file.write(struct.pack("<dq", tolerance, data.numel()) + data.numpy().tobytes())


def _results(
    graphs: Sequence[fw.Graph], plans: Sequence[Tensor], parameters: Sequence[Tensor], grad_y: Tensor, has_bias: bool
) -> list[Tensor]:
    """y [P, B, O], and the gradients of x for each member, of weights and of biases."""
    x, weight, bias = parameters
    found: list[list[Tensor]] = [[], [], [], []]
    edge = node = 0
    for i, (graph, plan) in enumerate(zip(graphs, plans, strict=True)):
        edges, nodes = slice(edge, edge + graph.num_edges), slice(node, node + len(graph.computed_index))
        edge, node = edges.stop, nodes.stop
        own = [x[i % len(x)], weight[edges], *([bias[nodes]] if has_bias else [])]
        leaves = [tensor.detach().clone().requires_grad_() for tensor in own]
        y = reference_of_packed_plan(plan, OUTPUTS)(*leaves)
        grads = torch.autograd.grad(y, leaves, grad_y[i], allow_unused=True) if y.requires_grad else [None] * 3
        zeros = [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, grads, strict=False)]
        for kept, value in zip(found, (y.detach(), *zeros), strict=False):
            kept.append(value)
    y, grad_x, grad_weight, grad_bias = found
    shape = (0, grad_y.shape[1], INPUTS)
    nothing = grad_y.new_empty(0)
    return [
        torch.stack(y) if y else grad_y,
        torch.stack(grad_x) if grad_x else grad_y.new_empty(shape),
        torch.cat([*grad_weight, nothing]),
        torch.cat([*grad_bias, nothing]),
    ]


def population_cases(kind: str) -> Iterator[PopulationCase]:
    """The cases of a kind of program; under a sanitizer small ones only, since each takes a while."""
    small = members(large=False)
    if kind != "plain":
        yield PopulationCase(small, torch.float32, 5, shared_x=True)
        yield PopulationCase(small[:6], torch.bfloat16, 40 if kind == "address" else 3, bias=False)
        yield PopulationCase(small[:2], torch.float64, 1)
        return
    for i, dtype in enumerate(DTYPES):
        for batch in (1, 33) if dtype not in NARROW else (1, 40):
            yield PopulationCase(members(), dtype, batch, bias=i != 1, shared_x=batch == 1)
        yield PopulationCase(small, dtype, 7)
    yield PopulationCase(small, torch.float32, 0)
    yield PopulationCase((), torch.float32, 3)
    yield PopulationCase(small[:3], torch.float32, 600)
