# SPDX-License-Identifier: MIT
"""Small networks on the GPU, for a run under compute-sanitizer: ``python -m tests.gpu_cases [--plant BUG]``.

Enters: the built libraries and a GPU. Leaves: a line that counts the cases, or an error where a result is not the
CPU's. tests/gpu.py runs it under each tool. Only copies from the host and kernels of freewire's touch the GPU, so that
the tools have nothing else to instrument and initcheck sees every write. A planted bug hands the operators something
that no network does, to show that a tool reports it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch

import freewire as fw
from freewire.plan import plan_header
from tests.graphs import CASES
from tests.tensors import assert_within, batch_of, exact, gradients, network

#: Bug to the tool that must report it, and words of its report.
PLANTS = {"wild_plan": ("memcheck", "Invalid __global__ read"), "unwritten_tape": ("initcheck", "Uninitialized")}


class Case(NamedTuple):
    """One network and how it is run, forward and backward."""

    graph: str
    dtype: torch.dtype
    batch: int
    #: $FREEWIRE_CUDA_TILE; 0 is the streamed regime.
    tile: int


def cases() -> Iterator[Case]:
    """Each graph of the shared list in both regimes and types, then the batches at which something changes."""
    for graph in CASES:
        for dtype, tiles in ((torch.float32, (0, 2, 32)), (torch.float64, (0, 8))):
            for tile in tiles:
                yield Case(graph, dtype, 33, tile)
    for graph in ("random", "mixed_aggregations"):
        for batch in (0, 1, 200, 2100):  # rows of a multiple of 128 columns; a second slice of weight gradients
            for tile in (0, 16):
                yield Case(graph, torch.float32, batch, tile)


def run(case: Case, device: str) -> None:
    """Run one case; all results must be the reference's within rounding."""
    net = network(CASES[case.graph], case.dtype)
    x, grad_y = batch_of(net, case.batch)
    want, rough = exact(net, x, grad_y), gradients(net, net, x, grad_y)
    net.to(device)
    os.environ["FREEWIRE_CUDA_TILE"] = str(case.tile)
    try:
        found = gradients(net, net, x.to(device), grad_y.to(device))
        with torch.no_grad():
            y = net(x.to(device))
    finally:
        del os.environ["FREEWIRE_CUDA_TILE"]
    for name, got, wanted, plain in zip(("y", "grad_x", "grad_weight", "grad_bias"), found, want, rough, strict=True):
        assert_within(got.cpu(), wanted, plain, f"{case}: {name}")
    assert_within(y.cpu(), want[0], rough[0], f"{case}: y without gradients")


def plant(bug: str, device: str) -> None:
    """Call the operators wrongly, behind their checks."""
    net = network(CASES["random"], torch.float32)
    plan, packed = net.plan, torch.from_numpy(net.plan.pack())
    header = plan_header(packed.numpy())
    x, grad_y = (tensor.to(device) for tensor in batch_of(net, 33))
    weight, bias = net.weight.detach().to(device), net.bias.detach().to(device)
    os.environ["FREEWIRE_CUDA_TILE"] = "0"
    if bug == "wild_plan":  # rows and edges far from any there is
        packed[len(header) :] += 1 << 24
        y, _ = torch.ops.freewire.forward(x, weight, bias, packed.to(device), header, plan.num_outputs, 0)
        y.cpu()
    else:
        _, tape = torch.ops.freewire.forward(
            x, weight, bias, packed.to(device), header, plan.num_outputs, plan.tape_rows
        )
        arguments = (grad_y, torch.empty_like(tape), weight, packed.to(device), header, plan.num_inputs, len(bias))
        torch.ops.freewire.backward(*arguments, True, True)[0].cpu()


def main() -> None:
    """Run what the command line says."""
    if sys.argv[1:2] == ["--plant"]:
        plant(sys.argv[2], "cuda")
        return
    everything = list(cases())
    for case in everything:
        run(case, "cuda")
    print(f"{len(everything)} cases on {torch.cuda.get_device_name()}, freewire {fw.__version__}", flush=True)


if __name__ == "__main__":
    main()
