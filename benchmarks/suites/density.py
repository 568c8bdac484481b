# SPDX-License-Identifier: MIT
"""Find the density above which a dense network is faster.

``python -m benchmarks.suites.density [--json PATH] [--images FOLDER]`` prints a table and writes JSON to
benchmarks/results/ and a plot to docs/img/. The neurons of a dense MLP keep each edge between successive layers with
some probability (`sparse_layers`). freewire runs the remaining edges; dense layers run the same neurons with all
edges, as somebody would who keeps the zeros. Both are timed in turns by `benchmarks.harness.measure`. The crossover is
the density at which they take equally long, interpolated between two measured densities.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import freewire as fw
from benchmarks.harness.command import add_destinations, destinations, header, spelled, write_json
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe
from benchmarks.harness.measure import measure, own
from benchmarks.harness.plots import density_plot
from benchmarks.harness.timing import BLOCK
from benchmarks.harness.workloads import Workload
from benchmarks.peers.dense_layers import DENSE

__all__ = ["DENSITIES", "NETWORKS", "crossover", "main", "sparse_layers"]

NETWORKS = {
    "wide, 784-512-512-10": (784, 512, 512, 10),
    "deep, 64-20x128-10": (64, *[128] * 20, 10),
}
DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_BATCH = 256
_ROUNDS = 41
_QUICK_NETWORKS = {"wide, 20-16-5": (20, 16, 5)}
_QUICK_DENSITIES = (0.1, 1.0)


def sparse_layers(sizes: Sequence[int], density: float, seed: int = 0) -> fw.Graph:
    """Build a dense MLP's neurons with a random part of its edges.

    Every edge is kept with the same probability. A neuron that ends up without an in-edge or an out-edge gets a random
    one, because freewire skips nodes that reach no output, and all neurons must take part in the comparison.

    Args:
        sizes: Number of neurons per layer, inputs first, for at least 2 layers.
        density: The probability, above 0 and at most 1.
        seed: Seed of the random draws.

    Returns:
        A graph of ``sum(sizes)`` nodes, layer by layer, with relu hidden nodes and linear outputs.

    Raises:
        ValueError: The density is out of range.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density: expected a number above 0 and at most 1, got {density}. Give a fraction.")
    generator = np.random.Generator(np.random.PCG64(seed))
    ends = []
    begin = 0
    for before, after in itertools.pairwise(sizes):
        kept = generator.random((after, before)) < density
        no_source = np.flatnonzero(~kept.any(1))
        kept[no_source, generator.integers(before, size=len(no_source))] = True
        no_reader = np.flatnonzero(~kept.any(0))
        kept[generator.integers(after, size=len(no_reader)), no_reader] = True
        dst, src = np.nonzero(kept)
        ends.append((src + begin, dst + begin + before))
        begin += before
    src, dst = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    total = sum(sizes)
    return fw.Graph.from_edges(
        src, dst, num_nodes=total, inputs=np.arange(sizes[0]), outputs=np.arange(total - sizes[-1], total)
    )


def crossover(densities: Sequence[float], ratios: Sequence[float]) -> float | None:
    """Find the density at which the ratio falls to 1.

    Args:
        densities: Densities in ascending order.
        ratios: The dense network's time over freewire's, at each density.

    Returns:
        A density between the last one at which freewire is faster and the next one, interpolated linearly in the
        logarithms; None if the ratio stays on one side of 1.
    """
    pairs = list(itertools.pairwise(zip(densities, ratios, strict=True)))
    for (low, above), (high, below) in reversed(pairs):
        if above >= 1 > below:
            share = math.log(above) / (math.log(above) - math.log(below))
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return None


def compare(
    networks: dict[str, tuple[int, ...]], densities: Sequence[float], *, rounds: int, threads: int, block: float = BLOCK
) -> list[dict[str, Any]]:
    """Time every network at every density.

    Returns:
        One row per network, density, measure and candidate, ready for JSON.
    """
    rows = []
    for name, sizes in networks.items():
        for density in densities:
            graph = sparse_layers(sizes, density)
            about = f"{name}, {density * 100:g} % of the edges"
            workload = Workload(name, about, lambda graph=graph: graph, lambda graph=graph: graph, _BATCH, _BATCH)
            share = graph.num_edges / sum(map(int.__mul__, sizes[:-1], sizes[1:]))
            found = measure(workload, [own(), DENSE], rounds=rounds, threads=threads, block=block)
            rows += [
                {"network": name, "density": density, "kept": share, "edges": graph.num_edges, **row} for row in found
            ]
            _print(name, density, share, found)
    return rows


def crossovers(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The crossover of every network and measure; see `crossover`."""
    found = []
    for name, what in dict.fromkeys((row["network"], row["measure"]) for row in rows):
        dense = [r for r in rows if (r["network"], r["measure"], r["candidate"]) == (name, what, DENSE.label)]
        density = crossover([row["density"] for row in dense], [row["ratio"] for row in dense])
        found.append({"network": name, "measure": what, "density": density})
    return found


def _print(name: str, density: float, share: float, rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        f"{row['candidate']} {row['measure']} {row['median'] * 1e3:.3g} ms" + "!" * bool(row["sick"]) for row in rows
    ]
    print(f"  {name}, {density * 100:g} % (kept {share * 100:.3g} %):  " + ",  ".join(cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.density", description="Find the density above which dense layers are faster."
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="blocks per measurement")
    add_destinations(parser)
    options = parser.parse_args(arguments)
    path, images = destinations(options, "density")
    networks, densities, rounds, block = NETWORKS, DENSITIES, options.rounds, BLOCK
    if options.quick:
        networks, densities, rounds, block = _QUICK_NETWORKS, _QUICK_DENSITIES, 2, 0.001

    torch.set_num_threads(options.threads)
    machine = describe(options.threads)
    print(header(machine) + "\n! on a disturbed machine")
    rows = compare(networks, densities, rounds=rounds, threads=options.threads, block=block)
    conclude(machine)
    found = crossovers(rows)
    for cross in found:
        at = "one is faster at all these densities" if cross["density"] is None else f"{cross['density'] * 100:.2g} %"
        print(f"crossover, {cross['network']}, {cross['measure']}: {at}")
    command = spelled("benchmarks.suites.density", arguments)
    content = {"quick": options.quick, "machine": machine, "command": command, "rows": rows, "crossovers": found}
    write_json(path, content)
    density_plot(content, images)


if __name__ == "__main__":
    main()
