# SPDX-License-Identifier: MIT
"""Measure how long large graphs take to build and plan, and how much memory: ``python -m benchmarks.suites.planner``.

Arguments are names of graphs in `GRAPHS`; without any, all are measured. Prints a Markdown table: seconds of each step,
processor seconds of the first three (user and system), and the peak resident memory of the whole process, torch and the
caller's arrays included. Each graph gets a process of its own. The seed is fixed.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

import freewire as fw

__all__ = ["GRAPHS", "measure"]

NODES, EDGES = 1_000_000, 10_000_000
SIZES = ("nodes", "edges", "levels", "rows")
STEPS = ("make", "plan", "pack", "print")

Edges = tuple[NDArray[np.int64], NDArray[np.int64]]


def ordered(rng: np.random.Generator) -> Edges:
    """Random pairs of nodes, each edge from the smaller to the larger number."""
    src = rng.integers(0, NODES, EDGES)
    dst = rng.integers(0, NODES - 1, EDGES)
    dst += dst >= src  # never the source itself
    return np.minimum(src, dst), np.maximum(src, dst)


def shuffled(rng: np.random.Generator) -> Edges:
    """The edges of `ordered` with the nodes renumbered at random, so that neither nodes nor edges are in order."""
    number = rng.permutation(NODES)
    src, dst = ordered(rng)
    return number[src], number[dst]


def power_law(rng: np.random.Generator) -> Edges:
    """A few early nodes with hundreds of thousands of out-edges, and a few late ones with as many in-edges."""
    low = (NODES * rng.random(EDGES) ** 4).astype(np.int64)
    high = NODES - 1 - (NODES * rng.random(EDGES) ** 4).astype(np.int64)
    middle = rng.integers(0, NODES, EDGES)
    half = EDGES // 2
    src = np.concatenate((np.minimum(low, middle)[:half], np.minimum(high, middle)[half:]))
    dst = np.concatenate((np.maximum(low, middle)[:half], np.maximum(high, middle)[half:]))
    dst[src == dst] = NODES - 1
    src[src == dst] = 0
    return src, dst


def chain(rng: np.random.Generator) -> Edges:
    """A path of a million nodes, numbered at random."""
    number = rng.permutation(NODES)
    return number[:-1], number[1:]


def wide(rng: np.random.Generator) -> Edges:
    """Two layers of half a million nodes."""
    return rng.integers(0, NODES // 2, EDGES), rng.integers(NODES // 2, NODES, EDGES)


def _from_edges(draw: Callable[[np.random.Generator], Edges]) -> Callable[[], fw.Graph]:
    src, dst = draw(np.random.default_rng(0))
    return lambda: fw.Graph.from_edges(src, dst, num_nodes=NODES)


def _from_networkx(num_edges: int) -> Callable[[], fw.Graph]:
    ends = np.sort(np.random.default_rng(0).integers(0, num_edges // 10, (2, num_edges)), axis=0)
    G = nx.MultiDiGraph()  # noqa: N806 (networkx's usual name)
    G.add_nodes_from(range(num_edges // 10))
    G.add_edges_from(ends.T[ends[0] < ends[1]].tolist())
    return lambda: fw.Graph.from_networkx(G)


#: By name, a function that prepares the input (not timed) and returns a function that builds the graph (timed).
GRAPHS: dict[str, Callable[[], Callable[[], fw.Graph]]] = {
    "ordered": lambda: _from_edges(ordered),
    "shuffled": lambda: _from_edges(shuffled),
    "power_law": lambda: _from_edges(power_law),
    "chain": lambda: _from_edges(chain),
    "wide": lambda: _from_edges(wide),
    "random_graph(1000, 998_990, 10, 10)": lambda: (
        lambda: fw.generators.random_graph(1000, NODES - 1010, 10, 10, seed=0)
    ),
    "from_networkx, 1e5 edges": lambda: _from_networkx(100_000),
    "from_networkx, 1e6 edges": lambda: _from_networkx(1_000_000),
}


def measure(name: str) -> dict[str, Any]:
    """Build and plan one of `GRAPHS` in a fresh process.

    Returns:
        ``nodes``, ``edges``, ``levels``, ``rows`` (of the tape in inference); seconds of each of `STEPS`; ``user`` and
        ``system``, processor seconds of make, plan and pack together (the system's are for clearing fresh memory);
        ``peak``, the most bytes of the whole process, and ``start``, its bytes before the caller's arrays were made.
    """
    command = [sys.executable, "-m", "benchmarks.suites.planner", "--one", name]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure_here(name: str) -> dict[str, Any]:
    start = _peak_bytes()
    make = GRAPHS[name]()
    clock, before = [time.perf_counter()], os.times()
    graph = make()
    clock.append(time.perf_counter())
    plan = fw.plan.make_plan(graph)
    clock.append(time.perf_counter())
    packed = plan.pack()
    clock.append(time.perf_counter())
    after = os.times()
    text = str(plan)
    clock.append(time.perf_counter())
    assert text
    assert len(packed.words)
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "levels": plan.num_levels,
        "rows": plan.inference_rows,
        **{step: end - begin for step, begin, end in zip(STEPS, clock, clock[1:], strict=False)},
        "user": after.user - before.user,
        "system": after.system - before.system,
        "peak": _peak_bytes(),
        "start": start,
    }


def _peak_bytes() -> int:
    """The most bytes this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(_measure_here(sys.argv[2])))
        return
    print(
        "| graph | nodes | edges | levels | rows | " + " | ".join(STEPS) + " | user | system | peak GB (at the start) |"
    )
    print("|---" * (8 + len(STEPS)) + "|")
    for name in sys.argv[1:] or GRAPHS:
        row = measure(name)
        sizes = [f"{row[size]:,}" for size in SIZES]
        seconds = [f"{row[step]:.2f}" for step in (*STEPS, "user", "system")]
        memory = f"{row['peak'] / 1e9:.2f} ({row['start'] / 1e9:.2f})"
        print("| " + " | ".join([name, *sizes, *seconds, memory]) + " |", flush=True)


if __name__ == "__main__":
    main()
