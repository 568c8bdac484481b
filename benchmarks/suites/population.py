# SPDX-License-Identifier: MIT
"""Populations, as neuroevolution runs them: ``python -m benchmarks.suites.population [--checkout NAME=PATH]``.

Prints Markdown tables:

- 10,000 members of 200 edges with one observation each: time of a call and of replacing 5 % of the members, and memory;
- workload W5, 256 members and 128 samples: `freewire.Population` beside one `freewire.Network` of their union;
- 1,000 members with one observation each, beside the union, TensorNEAT, PyTorch-NEAT and neat-python. These run each
  connected component of the union as a member of their own; benchmarks/peers says how. Results are compared first.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

import freewire as fw
from benchmarks.harness.command import add_checkouts, header
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe
from benchmarks.harness.memory import peak_bytes
from benchmarks.harness.timing import Timing, interleave
from benchmarks.harness.workloads import WORKLOADS
from benchmarks.peers import CHECKOUTS
from benchmarks.peers.base import Peer
from benchmarks.peers.neat_python import NeatPythonPeer
from benchmarks.peers.pytorch_neat import PytorchNeatPeer
from benchmarks.peers.tensorneat import TensorneatPeer

__all__ = ["compared", "main", "many_members", "workload_w5"]

_INPUTS, _OUTPUTS = 8, 4
_HIDDEN, _FAN_IN = 36, 5  # 200 edges
_LONGEST = 0.5  # seconds of a forward, for a peer whose step is timed too
Tasks = dict[str, Callable[[], object]]


def member(seed: int) -> fw.Graph:
    """A member of the first and the third table: 48 nodes, 200 edges."""
    return fw.generators.random_graph(_INPUTS, _HIDDEN, _OUTPUTS, _FAN_IN, "tanh", "tanh", seed=seed)


def no_grad(run: Callable[[], Tensor]) -> Callable[[], object]:
    """The call without gradients."""

    def task() -> Tensor:
        with torch.no_grad():
            return run()

    return task


def step(module: torch.nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    """A forward and a backward, with gradients of x and of the parameters."""
    x = x.clone().requires_grad_()

    def task() -> None:
        x.grad = None
        module.zero_grad()
        run(x).sum().backward()

    return task


def many_members(count: int, rounds: int, threads: int, block: float) -> dict[str, float]:
    """Print the first table; seconds by row, and the MiB by which the process grew."""
    graphs = [member(seed) for seed in range(count + count // 20)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pop = fw.Population(graphs[:count])
    x = torch.randn(count, _INPUTS)
    run = no_grad(lambda: pop(x, per_member=True))
    run()
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    optimizer = torch.optim.Adam(pop.parameters())
    pop(x, per_member=True).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    turn = 0

    def replace() -> None:
        nonlocal turn
        turn += 1
        spare = graphs[count:]
        pop.replace({(20 * i + turn) % count: graph for i, graph in enumerate(spare)}, optimizer)

    tasks: Tasks = {
        "forward": run,
        "step": step(pop, lambda x: pop(x, per_member=True), x),
        f"replace {count // 20:,} members, with Adam's state": replace,
    }
    timings = interleave(tasks, rounds=rounds, threads=threads, block=block)
    print(f"\n{count:,} members of {graphs[0].num_edges:,} edges, one observation each:\n")
    print("| what | ms |\n|---|---|")
    for label, timing in timings.items():
        print(f"| {label} | {_cell(timing)} |")
    print(
        f"\nThe process grew by {added / 1024:.0f} MiB while the population was made and called once; a call allocates "
        f"{peak_bytes(run) / 1e6:.1f} MB."
    )
    return {**{label: timing.median for label, timing in timings.items()}, "MiB": added / 1024}


def workload_w5(count: int, batch: int, rounds: int, threads: int, block: float) -> dict[str, float]:
    """Print the second table; how many times as fast the population is, by row."""
    graphs = [fw.generators.random_graph(8, 50, 4, 6, "tanh", "tanh", seed=seed) for seed in range(count)]
    pop, union = fw.Population(graphs), fw.Network(fw.Graph.union(graphs))
    x = torch.randn(count, batch, 8)
    flat = x.transpose(0, 1).reshape(batch, -1).contiguous()
    both: dict[str, Tasks] = {
        "forward": {
            "Population": no_grad(lambda: pop(x, per_member=True)),
            "Network of the union": no_grad(lambda: union(flat)),
        },
        "step": {
            "Population": step(pop, lambda x: pop(x, per_member=True), x),
            "Network of the union": step(union, union, flat),
        },
    }
    print(f"\nW5, {count:,} members, batch {batch:,}, each with samples of its own:\n")
    print("| | Population, ms | Network of the union, ms | ratio |\n|---|---|---|---|")
    ratios = {}
    for what, tasks in both.items():
        timings = interleave(tasks, rounds=rounds, threads=threads, block=block)
        own, other = timings.values()
        ratios[what] = other.median / own.median
        print(f"| {what} | {_cell(own)} | {_cell(other)} | {ratios[what]:.2f}x |")
    return ratios


def compared(count: int, rounds: int, threads: int, block: float) -> None:
    """Print the third table."""
    graphs = [member(seed) for seed in range(count)]
    union = fw.Network(fw.Graph.union(graphs))
    pop = fw.Population([fw.Network(graph) for graph in graphs])
    with torch.no_grad():  # the same weights in all
        union.weight[torch.from_numpy(union.graph.edge_position.copy())] = pop.weight
    x = torch.randn(count, 1, _INPUTS)
    flat = x.reshape(1, -1)
    want = pop(x, per_member=True).detach().reshape(1, -1)
    forwards: Tasks = {"Population": no_grad(lambda: pop(x, per_member=True))}
    steps: Tasks = {"Population": step(pop, lambda x: pop(x, per_member=True), x)}
    others: dict[str, torch.nn.Module] = {"Network of the union": union}
    refused = {}
    peers: tuple[type[Peer], ...] = (TensorneatPeer, PytorchNeatPeer, NeatPythonPeer)
    for peer in peers:
        if (reason := peer.refusal(union)) is not None:
            refused[peer.label] = reason
            continue
        others[peer.label] = peer(union)
    for label, module in others.items():
        forwards[label] = no_grad(partial(module, flat))
        torch.testing.assert_close(forwards[label](), want, rtol=1e-4, atol=1e-4)
    found = [interleave(forwards, rounds=rounds, threads=threads, block=block)]
    for label, module in others.items():
        if getattr(module, "no_step", None) is not None:
            continue
        if (seconds := found[0][label].median) > _LONGEST:
            refused[f"{label}, step"] = f"a forward takes {seconds:.1f} s already"
        else:
            steps[label] = step(module, module, flat)
    found.append(interleave(steps, rounds=rounds, threads=threads, block=block))
    print(f"\n{count:,} members of {graphs[0].num_edges:,} edges, one observation each:\n")
    print("| | forward, ms | | step, ms | |\n|---|---|---|---|---|")
    for label in forwards:
        cells = []
        for timings in found:
            own = timings["Population"].median
            cells += [_cell(timings[label]), f"{timings[label].median / own:.1f}x"] if label in timings else ["-", ""]
        print(f"| {label} | {' | '.join(cells)} |")
    for label, reason in refused.items():
        print(f"\n{label}: not run: {reason}")


def _cell(timing: Timing) -> str:
    return f"{timing.median * 1e3:.3g} ± {timing.iqr * 500:.2g}{'!' * bool(timing.sick)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.population", description="Time populations of networks."
    )
    add_checkouts(parser, CHECKOUTS)
    parser.add_argument("--rounds", type=int, default=15, help="blocks per measurement (15)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="small populations, few rounds: a test of the benchmark")
    options = parser.parse_args(arguments)
    CHECKOUTS.update(options.checkout)
    torch.set_num_threads(options.threads)
    machine = describe(options.threads)
    print(header(machine))
    rounds, block = (2, 0.001) if options.quick else (options.rounds, 0.05)
    many_members(40 if options.quick else 10_000, rounds, options.threads, block)
    workload_w5(*((8, 16) if options.quick else (256, WORKLOADS["W5"].batch)), rounds, options.threads, block)
    compared(10 if options.quick else 1_000, rounds, options.threads, block)
    conclude(machine)


if __name__ == "__main__":
    main()
