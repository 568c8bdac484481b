# SPDX-License-Identifier: MIT
"""Compare widths of the tape's rows, to choose the plan's default: ``python -m benchmarks.suites.row_width``.

Prints a Markdown table with milliseconds of one thread's processor time (the least of several runs, to exclude other
processes) for rows of 64, 128 and 256 bytes in float32. It calls the operators directly, since a network always uses
the default.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

import freewire as fw

ROW_BYTES = (64, 128, 256)
GRAPHS: dict[str, tuple[Callable[[], fw.Graph], int]] = {
    "random_graph(784, 1990, 10, 32)": (lambda: fw.generators.random_graph(784, 1990, 10, 32, seed=0), 256),
    "random_graph(64, 490, 10, 8)": (lambda: fw.generators.random_graph(64, 490, 10, 8, seed=0), 1024),
    "mlp([784, 512, 512, 10])": (lambda: fw.generators.mlp([784, 512, 512, 10]), 256),
    "random_graph(784, 100000, 10, 32)": (lambda: fw.generators.random_graph(784, 100_000, 10, 32, seed=0), 256),
}


def milliseconds(body: Callable[[], object], seconds: float = 1.0) -> float:
    """The least processor time of one call, over about ``seconds`` of calls."""
    body()
    best, spent = float("inf"), 0.0
    while spent < seconds:
        begin = time.thread_time()
        body()
        took = time.thread_time() - begin
        best, spent = min(best, took), spent + took
    return 1e3 * best


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| network, batch | pass | " + " | ".join(f"{width} B" for width in ROW_BYTES) + " |")
    print("|---" * (2 + len(ROW_BYTES)) + "|")
    for name, (make, batch) in GRAPHS.items():
        graph = make()
        net = fw.Network(graph)
        x, weight, bias = torch.randn(batch, len(graph.inputs)), net.weight.detach(), net.bias.detach()
        grad_y = torch.ones(batch, len(graph.outputs))
        forward, backward = [], []
        for width in ROW_BYTES:
            plan = fw.plan.make_plan(graph, row_bytes=width)
            words = torch.from_numpy(plan.pack().words)
            push = partial(torch.ops.freewire.forward.default, x, weight, bias, words, (), plan.num_outputs)
            pull = torch.ops.freewire.backward.default
            _, tape = push(plan.tape_rows)
            forward.append(milliseconds(partial(push, 0)))
            backward.append(
                milliseconds(partial(pull, grad_y, tape, weight, words, (), plan.num_inputs, len(bias), True, True))
            )
        for label, row in (("forward", forward), ("backward", backward)):
            print(f"| {name}, {batch} | {label} | " + " | ".join(f"{ms:.3g}" for ms in row) + " |")


if __name__ == "__main__":
    main()
