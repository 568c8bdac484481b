# SPDX-License-Identifier: MIT
"""Recurrent networks of a connectome's size against torch: ``python -m benchmarks.suites.recurrent [--brain]``.

Prints a Markdown table: milliseconds of a forward without gradients and of a training step (forward, backward; no
optimizer) over a whole sequence, in turns, and how many times freewire's that is. All candidates compute the same,
which is checked first. ``--brain`` is freewire alone on 166,700 nodes and 25.6 million edges, with its peak memory.

- gather and scatter: per step ``index_select`` of sources, times weights, ``index_add`` to destinations.
- torch CSR: per step one product of a sparse matrix and the states, ``torch.sparse.mm``. It is not trained: torch makes
  the gradient of the matrix from a dense one of all pairs of nodes, 8 GB for the largest wiring here.
- nn.RNN: on the dense wiring only, with tanh and the same weights.
"""

from __future__ import annotations

import argparse
import resource
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.harness.command import header
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe
from benchmarks.harness.timing import interleave

__all__ = ["WIRINGS", "Wiring", "candidates", "main"]


class Wiring(NamedTuple):
    """A recurrent wiring with uneven degrees, as connectomes have them, and a sequence's size."""

    nodes: int
    edges: int
    inputs: int
    batch: int
    steps: int

    def graph(self) -> fw.Graph:
        """The graph: degrees follow a Pareto distribution; edges have a delay of 1 step, those from inputs none."""
        rng = np.random.default_rng(0)
        out_share, in_share = (rng.pareto(1.5, self.nodes) + 1 for _ in range(2))
        in_share[: self.inputs] = 0
        src, dst = (rng.choice(self.nodes, self.edges, p=share / share.sum()) for share in (out_share, in_share))
        outputs = np.arange(self.nodes - self.inputs, self.nodes)
        return fw.Graph.from_edges(
            src,
            dst,
            num_nodes=self.nodes,
            inputs=np.arange(self.inputs),
            outputs=outputs,
            activation="tanh",
            output_activation="tanh",
            recurrent=True,
        )


#: An insect's visual system, and a fraction of it in which a dense layer fits.
WIRINGS = {
    "45,669 nodes, 1.5 M edges": Wiring(45_669, 1_500_000, 1_000, 4, 20),
    "4,567 nodes, 0.15 M edges": Wiring(4_567, 150_000, 100, 4, 20),
}
_BRAIN = Wiring(166_700, 25_600_000, 1_000, 8, 10)
_DENSE, _QUICK_DENSE = (512, 64, 32, 20), (24, 8, 3, 4)  # hidden nodes, features, samples, steps

#: ``x [T, B, I]`` to the outputs of the last step ``[B, O]``, and the parameters; none if it is not trained.
Candidate = tuple[Callable[[Tensor], Tensor], list[Tensor]]


def _gather_and_scatter(net: fw.Recurrent) -> Candidate:
    graph = net.graph
    src, dst = (torch.from_numpy(end.copy()) for end in graph.edge_index)
    outputs, num_inputs, num_nodes = torch.from_numpy(graph.output_index.copy()), len(graph.inputs), graph.num_nodes
    weight = net.weight.detach().clone().requires_grad_()
    bias = torch.zeros(num_nodes, 1, requires_grad=True)

    def run(x: Tensor) -> Tensor:
        values = x.new_zeros(num_nodes, x.shape[1])
        for frame in x:
            values = torch.cat((frame.t(), values[num_inputs:]))
            terms = values.index_select(0, src) * weight[:, None]
            values = torch.tanh(torch.zeros_like(values).index_add(0, dst, terms) + bias)
        return values.index_select(0, outputs).t()

    return run, [weight, bias]


def _csr(net: fw.Recurrent) -> Candidate:
    graph = net.graph
    src, dst = graph.edge_index
    order = np.lexsort((src, dst))
    rows = torch.from_numpy(np.concatenate(([0], np.cumsum(np.bincount(dst, minlength=graph.num_nodes)))))
    weight = net.weight.detach()[torch.from_numpy(order)].clone()
    size = (graph.num_nodes, graph.num_nodes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's that its CSR is new
        matrix = torch.sparse_csr_tensor(rows, torch.from_numpy(src[order]), weight, size)
    outputs, num_inputs = torch.from_numpy(graph.output_index.copy()), len(graph.inputs)
    bias = torch.zeros(graph.num_nodes, 1)

    def run(x: Tensor) -> Tensor:
        values = x.new_zeros(graph.num_nodes, x.shape[1])
        for frame in x:
            values = torch.tanh(matrix @ torch.cat((frame.t(), values[num_inputs:])) + bias)
        return values.index_select(0, outputs).t()

    return run, []


def candidates(graph: fw.Graph) -> dict[str, Candidate]:
    """Freewire and its peers on one wiring, with the same weights."""
    torch.manual_seed(0)
    net = fw.Recurrent(graph, init="self_normalized")
    return {
        "freewire": (lambda x: net(x)[0][-1], list(net.parameters())),
        "gather and scatter": _gather_and_scatter(net),
        "torch CSR": _csr(net),
    }


def dense_candidates(hidden: int, features: int) -> dict[str, Candidate]:
    """A wiring of nn.RNN's shape: every hidden node reads all features, and all hidden nodes of the step before."""
    torch.manual_seed(0)
    rnn = nn.RNN(features, hidden)
    with torch.no_grad():
        rnn.bias_hh_l0.zero_()
    nodes = np.arange(features + hidden)
    src, dst = np.repeat(nodes, hidden), np.tile(nodes[features:], features + hidden)
    graph = fw.Graph.from_edges(
        src, dst, inputs=nodes[:features], outputs=nodes[features:], output_activation="tanh", recurrent=True
    )
    both = torch.cat((rnn.weight_ih_l0, rnn.weight_hh_l0), 1).detach().numpy()
    weights = both[dst - features, src]
    given = np.empty(graph.num_edges)
    given[graph.edge_position] = weights
    net = fw.Recurrent(graph.with_values(given))
    with torch.no_grad():
        assert net.bias is not None
        net.bias.copy_(rnn.bias_ih_l0)
    return {
        "freewire": (lambda x: net(x)[0][-1], list(net.parameters())),
        "nn.RNN": (lambda x: rnn(x)[0][-1], list(rnn.parameters())),
    }


def _step(run: Callable[[Tensor], Tensor], parameters: list[Tensor], x: Tensor) -> None:
    for parameter in parameters:
        parameter.grad = None
    run(x).sum().backward()


def _table(name: str, found: dict[str, Candidate], x: Tensor, rounds: int, threads: int) -> None:
    with torch.no_grad():
        expected = found["freewire"][0](x)
        for label, (run, _) in found.items():
            off = (run(x) - expected).abs().max().item()
            if off > 1e-3:
                raise RuntimeError(f"{label}: expected freewire's outputs, got others, off by {off:.2g}.")
    print(f"\n| {name}, batch {x.shape[1]}, {x.shape[0]} steps | forward, ms | times | step, ms | times |")
    print("|---|---|---|---|---|")
    with torch.no_grad():
        tasks = {label: partial(run, x) for label, (run, _) in found.items()}
        forward = interleave(tasks, rounds=rounds, threads=threads)
    steps = {label: partial(_step, run, own, x) for label, (run, own) in found.items() if own}
    step = interleave(steps, rounds=rounds, threads=threads)
    for label in found:
        cells = []
        for timings in (forward, step):
            if label not in timings:
                cells += ["-", "-"]
                continue
            timing = timings[label]
            sick = "!" * bool(timing.sick)
            cells += [f"{1e3 * timing.median:.3g}{sick}", f"{timing.median / timings['freewire'].median:.1f}"]
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


def _brain(wiring: Wiring, rounds: int, threads: int) -> None:
    net = fw.Recurrent(wiring.graph(), init="self_normalized")
    x = torch.randn(wiring.steps, wiring.batch, wiring.inputs)
    parameters = list(net.parameters())

    def run(x: Tensor) -> Tensor:
        return net(x)[0][-1]

    with torch.no_grad():
        forward = interleave({"freewire": partial(run, x)}, rounds=rounds, threads=threads)["freewire"]
    step = interleave({"freewire": partial(_step, run, parameters, x)}, rounds=rounds, threads=threads)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n{wiring.nodes:,} nodes, {wiring.edges:,} edges, batch {wiring.batch}, {wiring.steps} steps: forward "
        f"{forward.median:.2f} s, step {step['freewire'].median:.2f} s{'!' * bool(step['freewire'].sick)}, peak of the "
        f"process {peak:.2f} GiB"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.recurrent", description="Time recurrent networks against torch."
    )
    parser.add_argument("--rounds", type=int, default=9, help="blocks per measurement (9)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--brain", action="store_true", help="the wiring of 25.6 million edges, and nothing else")
    parser.add_argument("--quick", action="store_true", help="small wirings: a test of the benchmark")
    options = parser.parse_args(arguments)
    machine = describe(options.threads)
    print(header(machine))
    if options.brain:
        brain = _BRAIN._replace(nodes=2_000, edges=20_000, inputs=50) if options.quick else _BRAIN
        _brain(brain, options.rounds, options.threads)
    else:
        wirings = {"quick": Wiring(300, 2_000, 20, 3, 4)} if options.quick else WIRINGS
        for name, wiring in wirings.items():
            x = torch.randn(wiring.steps, wiring.batch, wiring.inputs)
            _table(name, candidates(wiring.graph()), x, options.rounds, options.threads)
        hidden, features, batch, steps = _QUICK_DENSE if options.quick else _DENSE
        x = torch.randn(steps, batch, features)
        _table(f"dense, {hidden} hidden nodes", dense_candidates(hidden, features), x, options.rounds, options.threads)
    conclude(machine)
    print(f"\nload at the end: {machine['load_at_end']}")


if __name__ == "__main__":
    main()
