# SPDX-License-Identifier: MIT
"""Sequences of recurrent networks for the program of the raw CUDA kernels (csrc/testing/cases/sequence_case.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

import freewire as fw
from freewire.ops.sequence import sequence_reference
from tests.support.graphs import RECURRENT, recurrent_graph
from tests.support.tensors import DTYPES, NARROW

GRAPHS = {
    "stored": RECURRENT,
    "drawn": recurrent_graph(0, num_nodes=16, num_edges=40),
    "no_states": fw.Graph.from_edges([0, 0, 1], [1, 2, 2], outputs=[2], delay=0, activation="tanh"),
}
# Rounding errors that a result may have, in units in the last place, besides some times those of the reference.
_ROUNDING, _NARROW_ROUNDING = 64, 16


@dataclass(frozen=True, eq=False)
class SequenceCase:
    """One network with the arguments of one forward and backward over a sequence."""

    graph: str
    dtype: torch.dtype
    steps: int
    batch: int
    bias: bool = True

    suffix: ClassVar[str] = "sequence"

    @property
    def name(self) -> str:
        return f"{self.graph}-{str(self.dtype)[6:]}-{self.steps}-{self.batch}{'' if self.bias else '-unbiased'}"

    def write(self, path: Path) -> None:
        """Write the file."""
        torch.manual_seed(0)
        net = fw.Recurrent(GRAPHS[self.graph], dtype=torch.float64)
        plan = net.plan
        packed = torch.from_numpy(plan.pack().words)
        generator = torch.Generator().manual_seed(1)
        states = (self.batch, plan.num_states)
        shapes = (
            (self.steps, self.batch, plan.num_features),
            states,
            (self.steps, self.batch, plan.num_results),
            states,
        )
        x, before, grad_y, grad_last = (
            torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype) for shape in shapes
        )
        with torch.no_grad():
            parameters = net.step_parameters(net.weight, net.bias if self.bias else None)
        leaves = [x, before, *(p.to(self.dtype) for p in parameters if p is not None)]
        nothing = [x.new_empty(0)] * (not self.bias)

        def results(wide: torch.dtype) -> list[Tensor]:
            own = [leaf.to(wide).requires_grad_() for leaf in leaves]
            found = sequence_reference(packed, plan.num_results)(*own)
            pairs = zip(found, (grad_y.to(wide), grad_last.to(wide)), strict=True)
            ends, ends_grads = zip(*((end, grad) for end, grad in pairs if end.requires_grad), strict=True)
            grads = torch.autograd.grad(ends, own, ends_grads, allow_unused=True)
            zeros = (torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(own, grads, strict=True))
            return [*(tensor.detach().double() for tensor in (*found, *zeros)), *nothing]

        rough = results(self.dtype)
        exact = rough if self.dtype in NARROW else results(torch.float64)  # 16 bits round the value of each node
        units = _NARROW_ROUNDING if self.dtype in NARROW else _ROUNDING
        with path.open("wb") as file:
            file.write(b"fwseqn01")
            file.write(struct.pack("<4q", DTYPES.index(self.dtype), self.steps, self.batch, self.bias))
            for values in (packed, *leaves, *nothing, grad_y, grad_last):
                data = values.detach().contiguous().clone()
                file.write(struct.pack("<q", data.numel()) + bytes(data.untyped_storage())[: data.nbytes])
            for exactly, roughly in zip(exact, rough, strict=True):
                tolerance = 0.0
                if exactly.numel():
                    eps = torch.finfo(self.dtype).eps
                    spread = float((roughly - exactly).abs().max())
                    tolerance = 16 * spread + units * eps * (1 + float(exactly.abs().max()))
                data = exactly.double().contiguous()
                file.write(struct.pack("<dq", tolerance, data.numel()) + data.numpy().tobytes())


def sequence_cases(kind: str) -> Iterator[SequenceCase]:
    """The cases of a kind of program; under a sanitizer small ones only."""
    small = kind != "plain"
    for dtype in DTYPES:
        for graph in ("stored", "drawn"):
            # Under a sanitizer a case takes a minute: one of each graph, and one that rounds to 16 bits.
            if small and (graph, dtype) not in (("stored", torch.bfloat16), ("drawn", torch.float32)):
                continue
            yield SequenceCase(graph, dtype, 3, 5, bias=graph == "drawn" or dtype != torch.float64)
    for steps, batch in ((0, 3), (2, 0), (1, 1)):
        yield SequenceCase("stored", torch.float32, steps, batch)
    yield SequenceCase("no_states", torch.float32, 2, 3)
    if not small:
        yield SequenceCase("drawn", torch.float32, 4, 33)
        yield SequenceCase("stored", torch.float32, 2, 2049)  # a second slice of weight gradients
