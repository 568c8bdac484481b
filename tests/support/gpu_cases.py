# SPDX-License-Identifier: MIT
"""Small networks on the GPU against the CPU: ``python -m tests.support.gpu_cases [--smoke | --inject BUG]``.

It needs a GPU and both built libraries, and prints a line that counts the cases, or fails at a result that is not the
CPU's. ``--smoke`` runs every instance of every kernel once; the default is what tests/support/gpu.py runs under each
tool of compute-sanitizer. Only copies from the host and freewire's own kernels touch the GPU, so that the tools have
nothing else to instrument and initcheck sees every write. An injected bug hands the operators something that no network
does, to show that a tool reports it.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

import freewire as fw
from freewire.ops.gated_sum import gated_sum, plain_gated_sum
from tests.support.cuda_populations import hubs
from tests.support.graphs import CASES, recurrent_graph
from tests.support.populations import INPUTS, OUTPUTS, alone, different_graphs, population
from tests.support.populations import gradients as population_gradients
from tests.support.tensors import DTYPES, NARROW, assert_within, batch_of, exact, gradients, network

#: From a bug to the tool that must report it, and words of the report.
BUGS = {"wild_plan": ("memcheck", "Invalid __global__ read"), "unwritten_tape": ("initcheck", "Uninitialized")}

#: The shared list, and two on which the resident kernels share out the edges otherwise (csrc/cuda/network/resident.h).
GRAPHS = CASES | {
    "many_edges": fw.generators.random_graph(40, 30, 4, fan_in=30, activation="tanh", seed=0),
    "most_edges": fw.generators.random_graph(100, 30, 4, fan_in=80, activation="tanh", seed=0),
}

#: Number of arrays, their length, their type: ragged ends, several blocks, and more arrays than a launch takes.
GATED_SUMS = [(c, n, d) for d in DTYPES for c, n in ((1, 1), (3, 5000), (70, 1027))]


class Case(NamedTuple):
    """A network of `GRAPHS` and how it is run, forward and backward."""

    graph: str
    dtype: torch.dtype
    batch: int
    #: $FREEWIRE_CUDA_TILE; 0 is the streamed regime.
    tile: int


def cases() -> Iterator[Case]:
    """Each graph of the shared list, resident and streamed, then the batches that are handled differently."""
    for graph in CASES:
        for dtype, tiles in ((torch.float32, (0, 2, 32)), (torch.float64, (0, 8))):
            for tile in tiles:
                yield Case(graph, dtype, 33, tile)
    for graph in ("random", "mixed_aggregations"):
        for batch in (0, 1, 200, 2100):  # rows of a multiple of 128 columns; a second slice of weight gradients
            for tile in (0, 16):
                yield Case(graph, torch.float32, batch, tile)


def smoke_cases() -> Iterator[Case]:
    """Every instance of the network's kernels: each type, width of tile and way to share out edges."""
    for dtype in DTYPES:
        for graph in ("mixed_aggregations", "many_edges", "most_edges"):
            for tile in (0, 2, 4, 8, 16, 32):
                yield Case(graph, dtype, 33, tile)
        yield Case("mixed_aggregations", dtype, 100, 0)  # wide loads
        yield Case("diamond", dtype, 2100, 0)  # a second slice of weight gradients
        yield Case("diamond", dtype, 0, 0)  # weight gradients of no sample: zeros


def run(case: Case, device: str) -> None:
    """Run one case; all results must be the reference's within rounding."""
    net = network(GRAPHS[case.graph], case.dtype)
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


def run_gated_sum(count: int, length: int, dtype: torch.dtype, device: str) -> None:
    """Run a gated sum of some arrays; results must be plain torch's in float64, within rounding."""
    generator = torch.Generator().manual_seed(0)
    *xs, weight, grad_y = (torch.randn(n, generator=generator) for n in (*[length] * count, count, length))
    xs, grad_y = [x.to(dtype) for x in xs], grad_y.to(dtype)
    grad_y[plain_gated_sum([x.double() for x in xs], weight.double()).abs() < 1e-4] = 0  # there rounding decides

    def results(function: Any, *leaves: Tensor) -> list[Tensor]:
        leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        y = function(leaves[:-1], leaves[-1], True)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad_y.to(y))]

    want = results(plain_gated_sum, *(leaf.double() for leaf in (*xs, weight)))
    found = results(gated_sum, *(leaf.to(device) for leaf in (*xs, weight)))
    for got, wanted in zip(found, want, strict=True):
        spread = 4 * torch.finfo(got.dtype).eps * (1 + wanted.abs().max().item()) * 16
        torch.testing.assert_close(got.cpu().double(), wanted, rtol=0, atol=spread)


#: Type, tile, and steps between two whose states are kept: each kernel that goes from step to step.
SEQUENCES = [(d, tile, every) for d in DTYPES for tile in (0, 8) for every in (0, 2)]


def run_sequence(dtype: torch.dtype, tile: int, every: int, device: str) -> None:
    """Run a sequence of a recurrent network, forward and backward; results must be the CPU's within rounding."""
    torch.manual_seed(0)
    net = fw.Recurrent(recurrent_graph(0), dtype=dtype)
    plan, made = net.plan, net.plan.pack()
    generator = torch.Generator().manual_seed(1)
    shapes = ((5, 33, 4), (33, plan.num_states), (5, 33, 3), (33, plan.num_states))
    x, states, grad_y, grad_last = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    with torch.no_grad():
        weight, bias = net.step_parameters(net.weight, net.bias)
    arguments = (x, states, weight, bias, torch.from_numpy(made.words))

    def results(device: str) -> list[Tensor]:
        header = made.header if device == "cuda" else None
        call = (*(tensor.to(device) for tensor in arguments), header)
        y, last, kept = torch.ops.freewire.sequence(*call, plan.num_results, plan.tape_rows, every, True)
        grads = torch.ops.freewire.sequence_backward(
            grad_y.to(device), grad_last.to(device), kept, *call, every, True, True, True
        )
        found = [tensor.cpu() for tensor in (y, last, *grads)]
        return [*found[:-1], found[-1][:-1]]  # the last entry of the bias is no parameter

    want = results("cpu")
    os.environ["FREEWIRE_CUDA_TILE"] = str(tile)
    try:
        found = results(device)
    finally:
        del os.environ["FREEWIRE_CUDA_TILE"]
    units = 16 if dtype.itemsize == 2 else 256
    for i, (got, wanted) in enumerate(zip(found, want, strict=True)):
        allowed = units * torch.finfo(dtype).eps * (1 + wanted.abs().max().item())
        worst = (got.double() - wanted.double()).abs().max().item()
        assert worst <= allowed, f"result {i} of a sequence, {dtype}, tile {tile}: off by {worst:.3g}"


#: Type and tile: each kernel of populations.
POPULATIONS = [(d, tile) for d in DTYPES for tile in (0, 2, 8, 32)]


def run_population(dtype: torch.dtype, tile: int, device: str) -> None:
    """Run a population, forward and backward; results must be those of its members alone, within rounding."""
    pop = population([*different_graphs()[:6], hubs(30), hubs(70)], dtype)
    generator = torch.Generator().manual_seed(1)
    shapes = (len(pop), 33, INPUTS), (len(pop), 33, OUTPUTS)
    x, grad_y = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    rough = alone(pop, x, grad_y, True)
    want = rough if dtype in NARROW else alone(copy.deepcopy(pop).double(), x.double(), grad_y.double(), True)
    pop.to(device)
    os.environ["FREEWIRE_CUDA_TILE"] = str(tile)
    try:
        found = population_gradients(pop, x.to(device), grad_y.to(device), True)
        with torch.no_grad():
            y = pop(x.to(device), per_member=True)
    finally:
        del os.environ["FREEWIRE_CUDA_TILE"]
    for name, got, wanted, plain in zip(
        ("y", "grad_x", "grad_weight", "grad_bias", "y without gradients"),
        (*found, y),
        (*want, want[0]),
        (*rough, rough[0]),
        strict=True,
    ):
        assert_within(got.cpu(), wanted.double(), plain, f"a population, {dtype}, tile {tile}: {name}")


def inject(bug: str, device: str) -> None:
    """Call the operators wrongly, behind their checks."""
    net = network(CASES["random"], torch.float32)
    plan, made = net.plan, net.plan.pack()
    packed, header = torch.from_numpy(made.words), made.header
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
    """Run what the command line names."""
    if sys.argv[1:2] == ["--inject"]:
        inject(sys.argv[2], "cuda")
        return
    everything = list(smoke_cases() if sys.argv[1:] == ["--smoke"] else cases())
    for case in everything:
        run(case, "cuda")
    for gated in GATED_SUMS:
        run_gated_sum(*gated, "cuda")
    for sequence in SEQUENCES:
        run_sequence(*sequence, "cuda")
    for one in POPULATIONS:
        run_population(*one, "cuda")
    others = f"{len(GATED_SUMS)} gated sums, {len(SEQUENCES)} sequences and {len(POPULATIONS)} populations"
    counted = f"{len(everything)} cases, {others}"
    print(f"{counted} on {torch.cuda.get_device_name()}, freewire {fw.__version__}", flush=True)


if __name__ == "__main__":
    main()
