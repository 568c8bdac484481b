# SPDX-License-Identifier: MIT
"""Compare the dtypes: ``python -m benchmarks.suites.number_types [--rounds N] [--quick]``.

Prints a Markdown table of freewire alone with one column per dtype: milliseconds of forward / step, and the memory in
MiB that a step needs (`Network.memory`). The dtypes take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

import freewire as fw
from benchmarks.harness.measure import forward_task, step_task
from benchmarks.harness.timing import interleave
from benchmarks.harness.workloads import WORKLOADS

TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suites.number_types", description="Compare the dtypes.")
    parser.add_argument("--rounds", type=int, default=21, help="blocks per measurement")
    parser.add_argument("--quick", action="store_true", help="small networks: a test of the benchmark")
    options = parser.parse_args(arguments)
    print("| ms, MiB | " + " | ".join(str(dtype)[6:] for dtype in TYPES) + " |")
    print("|---" * (1 + len(TYPES)) + "|")
    for name in ("W1", "W2", "W3", "W4"):
        workload = WORKLOADS[name].quick() if options.quick else WORKLOADS[name]
        graph = workload.graph()
        cells: dict[torch.dtype, list[str]] = {dtype: [] for dtype in TYPES}
        nets = {dtype: fw.Network(graph, dtype=dtype) for dtype in TYPES}
        x = torch.randn(workload.batch, len(graph.inputs))
        for make, grad in ((forward_task, False), (step_task, True)):
            with torch.set_grad_enabled(grad):
                tasks = {str(dtype): make(net, x.to(dtype)).run for dtype, net in nets.items()}
                timings = interleave(tasks, rounds=options.rounds, threads=torch.get_num_threads())
            for dtype in TYPES:
                cells[dtype].append(f"{timings[str(dtype)].median * 1e3:.3g}")
        memory = {dtype: f"{net.memory(workload.batch) / 2**20:.3g}" for dtype, net in nets.items()}
        print(f"| {name} | " + " | ".join(f"{' / '.join(cells[d])}, {memory[d]}" for d in TYPES) + " |")


if __name__ == "__main__":
    main()
