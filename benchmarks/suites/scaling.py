# SPDX-License-Identifier: MIT
"""Measure how the cost grows with edges, batch and depth.

``python -m benchmarks.suites.scaling [--json PATH] [--images FOLDER] [--quick]`` writes JSON to benchmarks/results/ and
a plot to docs/img/. Edges, batch and depth are varied one at a time around one centre, each with one thread and with
two. "forward" and "step" are those of `benchmarks.harness.measure`; the cost is reported as time per edge and sample,
which is constant where time is linear in both.

The graphs (`layered`) have exactly the requested edges and depth: every node has `FAN_IN` in-edges, one from the level
before and the others from anywhere earlier, so that neither the arithmetic nor the randomness of the reads changes with
depth. All nodes of the last level are outputs, so a network of depth 1 writes everything that it computes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import freewire as fw
from benchmarks.harness.command import add_destinations, destinations, header, spelled, write_json
from benchmarks.harness.correctness import ROWS
from benchmarks.harness.health import conclude
from benchmarks.harness.machine import describe
from benchmarks.harness.measure import admit, own, timed
from benchmarks.harness.plots import scaling_plot
from benchmarks.harness.timing import BLOCK

__all__ = ["FAN_IN", "LINES", "Point", "layered", "main", "points"]

FAN_IN = 10
_INPUTS = 64
_ROUNDS = 15
_CHECKED_BATCH = 40
_CHECKED_EDGES = 2_000_000  # bound on edges times rows in the reference, which needs much memory


@dataclass(frozen=True)
class Point:
    """One network at one batch size."""

    edges: int
    batch: int
    depth: int


CENTRE = Point(edges=100_000, batch=256, depth=10)
#: The values of each varied quantity; the others stay at the centre's.
LINES = {
    "edges": (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
    "batch": (1, 4, 16, 64, 256, 1_024, 4_096, 16_384),
    "depth": (1, 10, 100, 1_000, 10_000),
}
_QUICK_CENTRE = Point(edges=2_000, batch=8, depth=10)
_QUICK_LINES = {"edges": (1_000, 2_000), "batch": (1, 8), "depth": (10, 200)}


def layered(edges: int, depth: int, seed: int = 0) -> fw.Graph:
    """Build a random graph with a given number of edges and depth.

    Args:
        edges: Number of edges, a multiple of ``FAN_IN * depth``.
        depth: Number of edges on the longest path, at least 1.
        seed: Seed of the random draws.

    Returns:
        A graph of 64 inputs and ``edges / FAN_IN`` relu nodes, the same number in every level; those of the last level
        are the outputs and linear. Every node reaches an output.

    Raises:
        ValueError: ``edges`` is not such a multiple.
    """
    if edges < 1 or depth < 1 or edges % (FAN_IN * depth):
        raise ValueError(f"edges: expected a multiple of {FAN_IN} x depth {depth}, got {edges}. Round it.")
    width = edges // FAN_IN // depth
    node = np.arange(width * depth)
    level, place = np.divmod(node, width)
    before = np.where(level == 0, place % _INPUTS, _INPUTS + node - width)
    earlier = (_INPUTS + level * width)[:, None]
    draws = np.random.Generator(np.random.PCG64(seed)).random((len(node), FAN_IN - 1))
    src = np.concatenate((before[:, None], (draws * earlier).astype(np.int64)), 1)
    outputs = _INPUTS + node[-width:]
    return fw.Graph.from_edges(
        src.ravel(),
        np.repeat(_INPUTS + node, FAN_IN),
        num_nodes=_INPUTS + len(node),
        inputs=np.arange(_INPUTS),
        outputs=outputs,
        activation="relu",
        output_activation="linear",
    )


def points(centre: Point, lines: dict[str, Sequence[int]]) -> dict[Point, list[str]]:
    """The points to measure, smallest graphs first, with the lines that each belongs to."""
    found: dict[Point, list[str]] = {}
    for line, values in lines.items():
        for value in values:
            found.setdefault(Point(**{**vars(centre), line: value}), []).append(line)
    return dict(sorted(found.items(), key=lambda item: (item[0].edges, item[0].depth, item[0].batch)))


def measure(
    wanted: dict[Point, list[str]], *, threads: Sequence[int], rounds: int, block: float = BLOCK
) -> list[dict[str, Any]]:
    """Check every network once, then time it.

    Args:
        wanted: The result of `points`.
        threads: The numbers of threads to time with, in turn.
        rounds: Number of blocks per measurement.
        block: Seconds per block.

    Returns:
        One row per point, thread count and measure, ready for JSON.
    """
    rows = []
    shape: tuple[int, int] | None = None
    for point, lines in wanted.items():
        if shape != (point.edges, point.depth):
            shape = point.edges, point.depth
            torch.manual_seed(0)
            net = fw.Network(layered(*shape))
            admit(net, [own()], _CHECKED_BATCH, rows=max(1, min(ROWS, _CHECKED_EDGES // point.edges)))
        x = torch.randn(point.batch, _INPUTS)
        for count in threads:
            torch.set_num_threads(count)
            for what in ("forward", "step"):
                timing = timed(what, {"freewire": net}, x, rounds=rounds, threads=count, block=block)["freewire"]
                del timing["ratio"]
                cost = timing["median"] / point.edges / point.batch * 1e9
                about = {"lines": lines, **vars(point), "nodes": point.edges // FAN_IN, "threads": count}
                rows.append({**about, "measure": what, **timing, "ns_per_edge_sample": cost})
        _print(rows[-2 * len(threads) :])
    return rows


def _print(rows: Sequence[dict[str, Any]]) -> None:
    first = rows[0]
    cells = [
        f"{row['measure']}/{row['threads']}: {row['median'] * 1e3:.3g} ms = {row['ns_per_edge_sample']:.3g} ns"
        + "!" * bool(row["sick"])
        for row in rows
    ]
    print(f"  {first['edges']:>10,} edges, batch {first['batch']:>6,}, depth {first['depth']:>6,}:  ", end="")
    print(",  ".join(cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suites.scaling",
        description="Measure how the cost grows with edges, batch and depth.",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="blocks per measurement")
    add_destinations(parser)
    options = parser.parse_args(arguments)
    path, images = destinations(options, "scaling")
    wanted, rounds, block = points(CENTRE, LINES), options.rounds, BLOCK
    if options.quick:
        wanted, rounds, block = points(_QUICK_CENTRE, _QUICK_LINES), 2, 0.001

    before = torch.get_num_threads()
    machine = describe(max(options.threads))
    print(header(machine) + "\nmeasure/threads: ms per call = ns per edge and sample; ! on a disturbed machine")
    try:
        rows = measure(wanted, threads=options.threads, rounds=rounds, block=block)
    finally:
        torch.set_num_threads(before)
    conclude(machine)
    command = spelled("benchmarks.suites.scaling", arguments)
    content = {"quick": options.quick, "machine": machine, "command": command, "rows": rows}
    write_json(path, content)
    scaling_plot(content, images)


if __name__ == "__main__":
    main()
