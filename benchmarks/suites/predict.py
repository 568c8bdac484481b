# SPDX-License-Identifier: MIT
"""Predict the time of a resident forward on a GPU by the model of docs/gpu-performance.md.

``python -m benchmarks.suites.predict`` prints that page's table: microseconds computed from plans and from counts of
machine instructions, which no GPU has confirmed. The number of lanes per node is chosen here as
csrc/cuda/network/resident.h does, because that function is compiled into the CUDA library only.
"""

from __future__ import annotations

from typing import NamedTuple

import freewire as fw
from benchmarks.harness.workloads import WORKLOADS

MULTIPROCESSORS, CLOCK, SHARED_BYTES, L2 = 132, 1.83e9, 227 * 1024, 5.5e12  # an H200: Hz, bytes, bytes per second
ROUND = 350  # clocks of a round whose loads have arrived; an estimate from its chain of instructions
LAUNCH, PACK = (2.0, 3.0), 3.0  # us; estimates
#: Instructions of a warp's round at a fan-in of 32, by tile; counted at 2 and 16, interpolated in between.
INSTRUCTIONS = {2: 160, 4: 170, 8: 195, 16: 280, 32: 480}
#: The predicted cases: workload and batch.
CASES = (("W1", 256), ("W1", 1024), ("W1", 16384), ("W2", 1024), ("W4", 256))


class Prediction(NamedTuple):
    """Times in microseconds: latency, issue and shared per tile; l2 and the bounds per forward."""

    tile: int
    blocks: int
    latency: float
    issue: float
    shared: float
    l2: float
    least: float  # if all but the longest part is hidden behind it
    most: float  # if nothing is hidden


def predict(plan: fw.plan.Plan, batch: int) -> Prediction:
    """Predict one float32 forward without gradients of a network that fits a block's shared memory."""
    tile = fw.plan.gpu_forward_tile(plan, batch, 4, shared_bytes=SHARED_BYTES, multiprocessors=MULTIPROCESSORS)
    edges, nodes = plan.num_live_edges, len(plan.in_begin)
    per_warp = 1 if edges > 64 * nodes else 4  # nodes
    widths = [int(width) for width in plan.level_widths if width]
    rounds = sum(-(-width // (16 * per_warp)) for width in widths)
    warp_rounds = sum(-(-width // per_warp) for width in widths)
    clocks = CLOCK / 1e6  # per microsecond
    latency = rounds * ROUND / clocks
    issue = warp_rounds * INSTRUCTIONS[tile] * max(edges / nodes / 32, 0.75) / 4 / clocks
    shared = edges * tile * 4 / 128 * (1.5 if tile == 16 else 1.0) / clocks
    blocks = -(-batch // tile)
    waves = -(-blocks // MULTIPROCESSORS)
    l2 = edges * 8 * blocks / L2 * 1e6
    least = max(waves * max(latency, issue, shared), l2) + 2 * LAUNCH[0] + PACK
    most = max(waves * (latency + issue + shared), l2) + 2 * LAUNCH[1] + PACK
    return Prediction(tile, blocks, latency, issue, shared, l2, least, most)


def table() -> str:
    """The predictions in Markdown."""
    lines = [
        "| workload, batch | tile, blocks | latency / issue / shared, us per tile | L2, us | forward, us |",
        "|---|---|---|---|---|",
    ]
    for name, batch in CASES:
        of = predict(fw.plan.make_plan(WORKLOADS[name].graph()), batch)
        lines.append(
            f"| {name}, {batch:,} | {of.tile}, {of.blocks:,} | {of.latency:.1f} / {of.issue:.1f} / {of.shared:.1f} | "
            f"{of.l2:.1f} | {of.least:.0f} to {of.most:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
