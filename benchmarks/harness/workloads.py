# SPDX-License-Identifier: MIT
"""The workloads: which networks are timed, at which batch.

Nothing enters; leaves `WORKLOADS`, by name. The names are those of the tables of results, so a workload never changes
its meaning: add another one instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import freewire as fw

__all__ = ["WORKLOADS", "Workload"]

_SEED = 0  # of the wirings


@dataclass(frozen=True)
class Workload:
    """One network and what is measured of it.

    Attributes:
        name: As in the tables, "W1".
        about: The network in a few words.
        graph: Makes the wiring.
        small: Makes a wiring of the same kind for a quick run, whose figures mean nothing.
        batch: Samples a call.
        small_batch: The same, in a quick run.
        measures: "forward" (no gradients) and "step" (forward and backward, gradients of x and of all parameters).
        unit: Of the printed table, "ms" or "us".
    """

    name: str
    about: str
    graph: Callable[[], fw.Graph]
    small: Callable[[], fw.Graph]
    batch: int
    small_batch: int
    measures: tuple[str, ...] = ("forward", "step")
    unit: str = "ms"

    def quick(self) -> Workload:
        """The same with its small wiring and batch."""
        return replace(self, about=f"quick: small {self.about}", graph=self.small, batch=self.small_batch)


def _population(members: int, num_inputs: int, num_hidden: int, num_outputs: int, fan_in: int) -> fw.Graph:
    """Random tanh graphs side by side, one a seed."""
    sizes = (num_inputs, num_hidden, num_outputs, fan_in)
    return fw.Graph.union(
        [fw.generators.random_graph(*sizes, "tanh", "tanh", seed=member) for member in range(members)]
    )


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="W1",
            about="random_graph(784, 1990, 10, 32)",
            graph=lambda: fw.generators.random_graph(784, 1990, 10, 32, seed=_SEED),
            small=lambda: fw.generators.random_graph(24, 60, 10, 6, seed=_SEED),
            batch=256,
            small_batch=35,
        ),
        Workload(
            name="W2",
            about="random_graph(64, 490, 10, 8)",
            graph=lambda: fw.generators.random_graph(64, 490, 10, 8, seed=_SEED),
            small=lambda: fw.generators.random_graph(16, 40, 10, 4, seed=_SEED),
            batch=1024,
            small_batch=35,
        ),
        Workload(
            name="W3",
            about="random_graph(784, 100000, 10, 32)",
            graph=lambda: fw.generators.random_graph(784, 100_000, 10, 32, seed=_SEED),
            small=lambda: fw.generators.random_graph(24, 100, 10, 6, seed=_SEED),
            batch=256,
            small_batch=35,
        ),
        Workload(
            name="W4",
            about="mlp([784, 512, 512, 10])",
            graph=lambda: fw.generators.mlp([784, 512, 512, 10]),
            small=lambda: fw.generators.mlp([24, 16, 16, 10]),
            batch=256,
            small_batch=35,
        ),
        Workload(
            name="W5",
            about='union of 256 random_graph(8, 50, 4, 6, "tanh", "tanh")',
            graph=lambda: _population(256, 8, 50, 4, 6),
            small=lambda: _population(5, 4, 12, 2, 3),
            batch=128,
            small_batch=35,
        ),
        Workload(
            name="W6",
            about="random_graph(64, 490, 10, 8), one sample",
            graph=lambda: fw.generators.random_graph(64, 490, 10, 8, seed=_SEED),
            small=lambda: fw.generators.random_graph(16, 40, 10, 4, seed=_SEED),
            batch=1,
            small_batch=1,
            measures=("forward",),
            unit="us",
        ),
    )
}
