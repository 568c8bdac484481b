# SPDX-License-Identifier: MIT
"""Recurrent networks over sequences, for the program of tests/support/sanitize.py."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import freewire as fw
from freewire.graph import AGGREGATIONS
from freewire.ops import network_reference
from freewire.plan.steps import step_graph
from tests.support.graphs import RECURRENT
from tests.support.recurrent import every_kind, gradients, wired
from tests.support.tensors import DTYPES, NARROW
from tests.support.tolerances import with_tolerances

STEPS, EVERY = (0, 1, 5), (0, 2)
BATCHES = (0, 1, 3, 8, 17, 33)


def dense() -> fw.Graph:
    """All to all, with a leak in every other node: dense blocks that read states."""
    src, dst = np.nonzero(np.ones((30, 24)))
    leak = np.where(np.arange(30) % 2, 1, 0.25)
    return fw.Graph.from_edges(
        src, dst + 6, inputs=range(6), outputs=range(20, 30), activation="tanh", recurrent=True, leak=leak
    )


@dataclass(frozen=True, eq=False)
class SequenceCase:
    """A sequence with its arguments; csrc/testing/cases/sequence_run.h reads the file that `write` makes."""

    name: str
    graph: fw.Graph
    dtype: torch.dtype
    steps: int
    batch: int
    every: int
    bias: bool = True
    plan: fw.plan.Plan = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", fw.plan.make_plan(self.graph))

    def write(self, path: Path) -> None:
        arguments = self._arguments()
        results = self.results()
        with path.open("wb") as file:
            file.write(b"fwsequ01")
            sizes = DTYPES.index(self.dtype), self.steps, self.batch, self.every, self.bias, True
            file.write(struct.pack("<6q", *sizes))
            for values in (torch.from_numpy(self.plan.pack().words), *arguments):
                file.write(struct.pack("<q", values.numel()) + bytes(values.untyped_storage())[: values.nbytes])
            for tolerance, values in results:
                file.write(struct.pack("<dq", tolerance, values.numel()) + values.contiguous().numpy().tobytes())

    def _arguments(self) -> list[Tensor]:
        """x, states, weight, bias (empty if there is none), grad_y and grad_last."""
        rng = np.random.default_rng(100 * self.batch + self.steps)
        step = step_graph(self.graph)
        dst = step.edge_index[1]
        fan_in = np.bincount(dst, minlength=len(step.level))[dst]
        summed = step.aggregation[dst] == AGGREGATIONS.index("sum")
        shapes = (
            (self.steps, self.batch, self.plan.num_features),
            (self.batch, self.plan.num_states),
            (self.plan.num_edges,),
            (self.plan.num_biases if self.bias else 0,),
            (self.steps, self.batch, self.plan.num_results),
            (self.batch, self.plan.num_states),
        )
        drawn = [rng.standard_normal(shape) for shape in shapes]
        drawn[2] *= 0.9 / np.where(summed, np.sqrt(fan_in), 1)
        drawn[3] /= 2
        return [torch.from_numpy(values).to(self.dtype) for values in drawn]

    def results(self) -> list[tuple[float, Tensor]]:
        """y, the last states, grad_x, grad_states, grad_weight and grad_bias in float64, each with its tolerance."""
        *parameters, grad_y, grad_last = (a.double() for a in self._arguments())
        wiring, row = network_reference.Wiring.of_step(step := step_graph(self.graph))
        outputs, sources = (torch.from_numpy(row[nodes]) for nodes in (step.outputs, step.state_source))

        def run(given: Sequence[Tensor]) -> list[Tensor]:
            x, states, weight, bias = leaves = [p.detach().requires_grad_() for p in given]
            ys = [x.new_empty(0, self.batch, len(outputs))]
            for frame in x.unbind(0):
                inputs = torch.cat((frame, states), 1)
                values = network_reference.node_values(wiring, inputs, weight, bias if self.bias else None)
                ys.append(values.index_select(1, outputs)[None])
                states = values.index_select(1, sources)
            return gradients(lambda: (torch.cat(ys), states), leaves, (grad_y, grad_last))

        return with_tolerances(run, parameters, self.dtype)


def sequence_cases() -> Iterator[SequenceCase]:
    """Every kind of node at every batch, in every type and with both ways to keep what the backward needs."""
    kinds, others = every_kind(), (dense(), wired(0), wired(1, leak=False), RECURRENT)
    for i, dtype in enumerate(DTYPES):
        name = str(dtype)[6:]
        for j, batch in enumerate(BATCHES):
            if dtype in NARROW and j % 2 != NARROW.index(dtype):  # the two differ only in how a number is stored
                continue
            every = EVERY[(i + j) % 2]
            yield SequenceCase(f"sequence-{name}-{batch}", kinds, dtype, 3, batch, every, bias=j % 3 > 0)
        for every in EVERY:
            yield SequenceCase(f"sequence-{name}-no-steps-{every}", others[1], dtype, 0, 3, every)
            for j, steps in enumerate(STEPS[1:]):
                for k, graph in enumerate(others):
                    batch = BATCHES[1:][(i + j + k) % 5]
                    yield SequenceCase(
                        f"sequence{k}-{name}-{steps}-{every}", graph, dtype, steps, batch, every, bias=(j + k) % 2 > 0
                    )
        # More tiles than groups of tiles, which share the sums of weight gradients.
        batch = 16 * 64 // max(dtype.itemsize, 4) + 1
        yield SequenceCase(f"sequence-{name}-tiles", RECURRENT, dtype, 2, batch, EVERY[i % 2])
