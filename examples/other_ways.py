# SPDX-License-Identifier: MIT
"""The same network computed without freewire, level by level, as one would write it in plain PyTorch.

A level holds the nodes whose sources all lie in earlier levels, so its values are one matrix product with the values so
far. `SparseLevels` keeps each level's weights in a `torch.sparse` CSR matrix, `MaskedLevels` in a dense matrix that is
multiplied by a mask; autograd does the rest. `compare` checks both against a network and then times all three.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import freewire as fw

ROUNDS, CALLS = 30, 4  # turns of each way; calls per turn


class Level(NamedTuple):
    """Rows ``[begin, end)`` of the values, the edges ``[first, last)`` into them, and their activation."""

    begin: int
    end: int
    first: int
    last: int
    activation: str


class Levels(nn.Module):
    """Common part of both ways: rows in order of level, inputs first, with their values ``[rows, B]``.

    Args:
        net: The network to compute. All nodes of a level must have one activation, and all nodes sum.

    Raises:
        ValueError: The network has other nodes.
    """

    def __init__(self, net: fw.Network) -> None:
        super().__init__()
        graph = net.graph
        order = np.argsort(graph.level, kind="stable")
        row = np.argsort(order)
        self.num_inputs = len(graph.inputs)
        if not np.array_equal(order[: self.num_inputs], graph.input_index):
            raise ValueError("net: expected inputs in node order and in-edges at all other nodes, got other nodes.")
        if any(fw.graph.AGGREGATIONS[code] != "sum" for code in graph.aggregation[graph.computed_index]):
            raise ValueError("net: expected sum aggregation at all nodes, got another one.")
        self.src, self.dst = row[graph.edge_index]  # edges are ordered by destination
        self.outputs = torch.from_numpy(row[graph.output_index])
        computed = np.searchsorted(graph.computed_index, order[self.num_inputs :])
        assert net.bias is not None
        self.bias = nn.Parameter(net.bias.detach()[torch.from_numpy(computed)][:, None])

        self.levels: list[Level] = []
        for depth in range(1, graph.depth + 1):
            begin, end = np.searchsorted(graph.level[order], (depth, depth + 1))
            first, last = np.searchsorted(self.dst, (begin, end))
            codes = set(graph.activation[order[begin:end]].tolist())
            if len(codes) > 1:
                raise ValueError(f"net: expected one activation per level, got {len(codes)} in level {depth}.")
            self.levels.append(Level(begin, end, first, last, fw.graph.ACTIVATIONS[codes.pop()]))

    def product(self, index: int, values: Tensor) -> Tensor:
        """The weighted sums of a level, ``[nodes, B]``, from the values of all earlier rows, ``[rows so far, B]``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x [B, inputs]`` to ``[B, outputs]``."""
        values = x.T
        for index, level in enumerate(self.levels):
            own = slice(level.begin - self.num_inputs, level.end - self.num_inputs)
            result = self.product(index, values) + self.bias[own]
            if level.activation != "linear":
                result = getattr(nn.functional, level.activation)(result)
            values = torch.cat((values, result))
        return values[self.outputs].T


class SparseLevels(Levels):
    """One `torch.sparse` CSR product per level."""

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        self.weight = nn.Parameter(net.weight.detach().clone())
        with warnings.catch_warnings():  # torch warns once per process that CSR tensors are in beta
            warnings.simplefilter("ignore")
            torch.eye(1).to_sparse_csr()
        self.patterns = []
        for level in self.levels:
            begins = np.searchsorted(self.dst[level.first : level.last], np.arange(level.begin, level.end + 1))
            columns = self.src[level.first : level.last]
            self.patterns.append((torch.from_numpy(begins).int(), torch.from_numpy(columns).int()))

    def product(self, index: int, values: Tensor) -> Tensor:
        """See `Levels`."""
        level = self.levels[index]
        size = level.end - level.begin, len(values)
        weight = self.weight[level.first : level.last]
        return torch.sparse_csr_tensor(*self.patterns[index], weight, size, check_invariants=False) @ values


class MaskedLevels(Levels):
    """One dense product per level, with the weights of missing edges masked out."""

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        self.weights, self.masks = nn.ParameterList(), []
        for level in self.levels:
            edges = slice(level.first, level.last)
            place = torch.from_numpy(self.dst[edges] - level.begin), torch.from_numpy(self.src[edges])
            weight = net.weight.new_zeros(level.end - level.begin, level.begin)
            weight.index_put_(place, net.weight.detach()[edges], accumulate=True)
            mask = torch.zeros_like(weight)
            mask[place] = 1
            self.weights.append(nn.Parameter(weight))
            self.masks.append(mask)

    def product(self, index: int, values: Tensor) -> Tensor:
        """See `Levels`."""
        return (self.weights[index] * self.masks[index]) @ values


class Time(NamedTuple):
    """Median milliseconds of a forward without gradients, and of a forward and backward."""

    forward: float
    step: float


def compare(net: fw.Network, x: Tensor) -> dict[str, Time]:
    """Check that all ways give the same outputs and gradients, then time them in turns.

    Args:
        net: The network.
        x: A batch, ``[B, inputs]``.

    Returns:
        The times by name, freewire's first.

    Raises:
        RuntimeError: A way gives other outputs or gradients.
    """
    ways: dict[str, nn.Module] = {
        "freewire, one call": net,
        "torch.sparse CSR, level by level": SparseLevels(net),
        "masked dense layers, level by level": MaskedLevels(net),
    }
    expected = results(net, x)
    for name, way in ways.items():
        for got, right in zip(results(way, x), expected, strict=True):
            if not torch.allclose(got, right, rtol=1e-3, atol=1e-4):
                raise RuntimeError(f"{name}: expected freewire's outputs and gradients, got others.")
    with torch.no_grad():
        forward = medians({name: lambda way=way: way(x) for name, way in ways.items()})
    step = medians({name: lambda way=way: results(way, x) for name, way in ways.items()})
    return {name: Time(forward[name], step[name]) for name in ways}


def results(way: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and backward of the sum of the outputs; returns the outputs and the gradient of x."""
    for parameter in way.parameters():
        parameter.grad = None
    x = x.clone().requires_grad_()
    y = way(x)
    y.sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


def medians(tasks: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median milliseconds per call of some tasks, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, task in tasks.items():
            begin = time.perf_counter()
            for _ in range(CALLS):
                task()
            times[name].append((time.perf_counter() - begin) / CALLS)
    return {name: 1e3 * statistics.median(each) for name, each in times.items()}


def table(times: dict[str, Time]) -> str:
    """One line per way: its times, and how many times as long as freewire it takes."""
    own = next(iter(times.values()))
    lines = [f"{'':38} {'ms forward':>16}  {'ms forward and backward':>24}"]
    for name, each in times.items():
        cells = [f"{ms:.2f} ({ms / base:.1f}x)" for ms, base in zip(each, own, strict=True)]
        lines.append(f"{name:38} {cells[0]:>16}  {cells[1]:>24}")
    return "\n".join(lines)
