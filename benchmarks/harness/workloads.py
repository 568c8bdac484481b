# SPDX-License-Identifier: MIT
"""The workloads: which networks are timed, and at which batch size.

`WORKLOADS` holds them by name. The names are those in the tables of results, so a workload never changes its meaning:
add another one instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import freewire as fw

__all__ = ["WORKLOADS", "Workload"]


@dataclass(frozen=True)
class Workload:
    """A network and what is measured on it.

    Attributes:
        name: Its name in the tables, such as "W1".
        about: The network in a few words.
        graph: Builds the graph.
        small: Builds a small graph of the same kind, for a quick run, whose figures mean nothing.
        batch: Number of samples per call.
        small_batch: Number of samples per call in a quick run.
        measures: "forward" (no gradients) and "step" (forward and backward, gradients of x and of all parameters).
        unit: Unit of the printed table, "ms" or "us".
    """

    name: str
    about: str
    graph: Callable[[], fw.Graph]
    small: Callable[[], fw.Graph]
    batch: int
    small_batch: int = 35
    measures: tuple[str, ...] = ("forward", "step")
    unit: str = "ms"

    def quick(self) -> Workload:
        """The workload of a quick run: the small graph at the small batch size."""
        return replace(self, about=f"quick: small {self.about}", graph=self.small, batch=self.small_batch)


def _random(num_inputs: int, num_hidden: int, num_outputs: int, fan_in: int) -> Callable[[], fw.Graph]:
    return partial(fw.generators.random_graph, num_inputs, num_hidden, num_outputs, fan_in, seed=0)


def _mlp(*sizes: int) -> Callable[[], fw.Graph]:
    return partial(fw.generators.mlp, list(sizes))


def _population(
    members: int, num_inputs: int, num_hidden: int, num_outputs: int, fan_in: int
) -> Callable[[], fw.Graph]:
    """Random tanh graphs side by side, one per seed."""
    make = partial(fw.generators.random_graph, num_inputs, num_hidden, num_outputs, fan_in, "tanh", "tanh")
    return lambda: fw.Graph.union([make(seed=member) for member in range(members)])


_W2 = Workload("W2", "random_graph(64, 490, 10, 8)", _random(64, 490, 10, 8), _random(16, 40, 10, 4), 1024)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", "random_graph(784, 1990, 10, 32)", _random(784, 1990, 10, 32), _random(24, 60, 10, 6), 256),
        _W2,
        Workload(
            "W3", "random_graph(784, 100000, 10, 32)", _random(784, 100_000, 10, 32), _random(24, 100, 10, 6), 256
        ),
        Workload("W4", "mlp([784, 512, 512, 10])", _mlp(784, 512, 512, 10), _mlp(24, 16, 16, 10), 256),
        Workload(
            name="W5",
            about='union of 256 random_graph(8, 50, 4, 6, "tanh", "tanh")',
            graph=_population(256, 8, 50, 4, 6),
            small=_population(5, 4, 12, 2, 3),
            batch=128,
        ),
        replace(
            _W2, name="W6", about=f"{_W2.about}, one sample", batch=1, small_batch=1, measures=("forward",), unit="us"
        ),
    )
}
