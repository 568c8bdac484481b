# SPDX-License-Identifier: MIT
"""How much of its past input does a random recurrent wiring remember? The memory capacity of echo state networks.

    python examples/reservoir.py                      # seconds; a table, and demo/reservoir/capacity.png
    python examples/reservoir.py --nodes 300 --fan-in 5 --radius 0.9 0.99 --max-delay 3

A reservoir is a random recurrent network that is not trained: only a linear readout of its nodes is, here by ridge
regression in closed form. For each number of steps k a readout learns to reproduce the input of k steps ago. Inputs are
drawn independently from a uniform distribution, so that none can be predicted from another. The squared correlation
r^2(k) of the readout and that input, on steps that the readout was not fitted to, is between 0 (forgotten) and 1
(remembered exactly). Their sum over all k is the memory capacity (Jaeger 2001). It is at most the number of nodes,
whatever the wiring; a chain along which each input travels, one node per step, reaches that bound.

The spectral radius, the largest absolute value of an eigenvalue of the recurrent weights, is the factor per step by
which a linear reservoir forgets; at 1 or more it would not forget, but grow without end. The table compares several,
with linear nodes and with tanh. In exact arithmetic almost every linear reservoir has the capacity N (Jaeger); measured
is the part that stands out from rounding errors, and from the ridge, which acts as noise would: of 100 nodes, 20 steps
at a radius of 0.5 and 55 at 0.99; with tanh 16 and 33, and 22 at 1.1.

With `--max-delay D` edges delay values by 1 to D steps. Then the spectral radius is that of one step of all values on
their way. The bound stays the number of nodes, since these are what readouts read; 63 is reached with delays of 1 to 3.

Reference: H. Jaeger, Short term memory in echo state networks, GMD Report 152, 2001.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from progress import Progress
from torch import Tensor

import freewire as fw

NODES, FAN_IN = 100, 10
RADII = (0.5, 0.8, 0.9, 0.95, 0.99, 1.1)
ACTIVATIONS = ("linear", "tanh")
INPUT_SCALE = 0.1  # of the input's weights: small, so that tanh nodes are not driven into saturation
STEPS = 6000  # to fit the readouts, and as many to measure them on
RIDGE = 1e-10  # relative to the mean variance of the nodes


class Memory(NamedTuple):
    """How well the input of each number of steps ago is remembered."""

    r2: Tensor  #: ``[delays]``, from delay 0.

    @property
    def capacity(self) -> float:
        """The sum over all delays: at most the number of nodes."""
        return self.r2.sum().item()


def draw_wiring(nodes: int, fan_in: int, max_delay: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the wiring of a reservoir: each node reads ``fan_in`` others or itself, with normally distributed weights.

    Returns:
        Edges between nodes 0 to ``nodes - 1``, int64 ``[2, E]``, their weights, and their delays of 1 to ``max_delay``.
    """
    draw = np.random.default_rng(seed)
    src = np.concatenate([draw.choice(nodes, fan_in, replace=False) for _ in range(nodes)])
    edges = np.stack((src, np.repeat(np.arange(nodes), fan_in)))
    return edges, draw.standard_normal(len(src)), draw.integers(1, max_delay + 1, len(src))


def spectral_radius(edges: np.ndarray, weight: np.ndarray, delay: np.ndarray, nodes: int) -> float:
    """The largest absolute value of an eigenvalue of a step of the linear reservoir, all delayed values included.

    Dense: the largest eigenvalues are mostly pairs of complex numbers, to which power iteration does not converge. A
    thousand nodes times delays take seconds; for more there is ``scipy.sparse.linalg.eigs``.
    """
    latest = int(delay.max())
    step = np.eye(latest * nodes, k=-nodes)  # values that are one step older
    np.add.at(step, (edges[1], edges[0] + nodes * (delay - 1)), weight)
    return float(np.abs(np.linalg.eigvals(step)).max())


def scaled(weight: np.ndarray, delay: np.ndarray, factor: float) -> np.ndarray:
    """The weights that multiply all eigenvalues of a step by a factor.

    If z(t) is a solution, then ``factor**t z(t)`` is one where each weight is multiplied by ``factor**delay``.
    """
    return weight * factor**delay


def build(
    edges: np.ndarray, weight: np.ndarray, delay: np.ndarray, into: np.ndarray, activation: str = "linear"
) -> fw.Recurrent:
    """A recurrent network of a wiring; every node is an output.

    Args:
        edges: Edges between nodes 0 to n - 1, ``[2, E]``.
        weight: Their weights ``[E]``.
        delay: Their delays ``[E]``.
        into: The weight with which each node reads the input, without delay, ``[n]``; 0: it does not.
        activation: Of all nodes.
    """
    nodes = len(into)
    readers = np.flatnonzero(into)
    graph = fw.Graph.from_edges(
        np.concatenate((np.full(len(readers), nodes), edges[0])),  # the input is node number n
        np.concatenate((readers, edges[1])),
        inputs=[nodes],
        outputs=range(nodes),
        weight=np.concatenate((into[readers], weight)),
        delay=np.concatenate((np.zeros(len(readers), int), delay)),
        output_activation=activation,
    )
    return fw.Recurrent(graph, bias=False, dtype=torch.float64)


def delay_line(nodes: int) -> fw.Recurrent:
    """A chain of nodes, of which each repeats the one before a step later."""
    ones = np.ones(nodes - 1, int)
    return build(np.stack((np.arange(nodes - 1), np.arange(1, nodes))), ones, ones, np.eye(nodes)[0])


@torch.no_grad()
def measure(net: fw.Recurrent, delays: int, seed: int, steps: int = STEPS) -> Memory:
    """Run a network on random inputs, fit readouts of its outputs in closed form, and measure them on further steps.

    Args:
        net: A network of one input.
        delays: The readouts reproduce the inputs of 0 to ``delays - 1`` steps ago.
        seed: Of the inputs.
        steps: Steps to fit the readouts to, and number of steps to measure them on.
    """
    generator = torch.Generator().manual_seed(seed)
    washout = delays + 200  # first steps that are not used: until the zeros before the first are forgotten
    inputs = 2 * torch.rand(washout + 2 * steps, generator=generator, dtype=torch.float64) - 1
    states, _ = net(inputs.unsqueeze(-1))  # [T, nodes]: the whole sequence in one call
    past = torch.stack([inputs.roll(k) for k in range(delays)], dim=-1)  # [T, delays]: the input of k steps ago
    fit, test = slice(washout, washout + steps), slice(washout + steps, None)
    readout = ridge(states[fit], past[fit])
    return Memory(squared_correlation(states[test] @ readout, past[test]))


def ridge(states: Tensor, targets: Tensor) -> Tensor:
    """Weights ``[nodes, targets]`` of the linear readouts with the least squared error, by ridge regression."""
    gram = states.T @ states
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, states.T @ targets)


def squared_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Squared correlation of each column of two matrices ``[T, n]``; 0 where a column of the first is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0).square() / ((a * a).sum(0) * (b * b).sum(0)).clamp_min(1e-300)


def draw(found: dict[tuple[float, str], Memory], nodes: int, path: Path) -> None:
    """Draw r^2 against the delay, a panel per activation, a curve per spectral radius."""
    radii = sorted({radius for radius, _ in found})
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, len(ACTIVATIONS), sharey=True)
    for panel, activation in zip(panels, ACTIVATIONS, strict=True):
        for radius, colour in zip(radii, colormaps["viridis_r"](np.linspace(0.1, 1, len(radii))), strict=True):
            memory = found.get((radius, activation))
            if memory is not None:
                panel.plot(memory.r2, color=colour, label=f"{radius:g}: {memory.capacity:.1f}")
        panel.axvline(nodes, color="#8d9bb0", linewidth=0.8, linestyle="--")
        panel.set_xlim(-1, 1.2 * nodes)
        panel.set_title(f"{activation} nodes")
        panel.set_xlabel(f"delay in steps (dashed: {nodes} nodes)")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(title="radius: capacity", framealpha=1, edgecolor="white")
    panels[0].set_ylabel("r² of the readout and the past input")
    figure.savefig(path, dpi=130)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the memory of a wiring at several spectral radii, print the table and draw the curves."""
    parser = argparse.ArgumentParser(description="Measure the memory capacity of a random recurrent wiring.")
    parser.add_argument("--nodes", type=int, default=NODES, help=f"nodes of the reservoir ({NODES})")
    parser.add_argument("--fan-in", type=int, default=FAN_IN, help=f"nodes that each one reads ({FAN_IN})")
    parser.add_argument("--radius", type=float, nargs="+", default=RADII, help=f"spectral radii {RADII}")
    parser.add_argument("--max-delay", type=int, default=1, help="edges delay by 1 to this many steps (1)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps to fit, and as many to measure ({STEPS})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the wiring and of the inputs (0)")
    parser.add_argument("--out", type=Path, default=Path("demo/reservoir"), help="folder (demo/reservoir)")
    options = parser.parse_args(argv)
    if not 1 <= options.fan_in <= options.nodes:
        parser.error(f"--fan-in: expected 1 to {options.nodes}, the number of nodes, got {options.fan_in}.")
    if options.max_delay < 1 or options.steps < 1 or min(options.radius) <= 0:
        parser.error("--max-delay, --steps, --radius: expected numbers above 0.")
    options.out.mkdir(parents=True, exist_ok=True)

    nodes, delays = options.nodes, 2 * options.nodes
    edges, weight, delay = draw_wiring(nodes, options.fan_in, options.max_delay, options.seed)
    into = np.random.default_rng(options.seed).uniform(-INPUT_SCALE, INPUT_SCALE, nodes)
    unscaled = spectral_radius(edges, weight, delay, nodes)
    found = {}
    with Progress("measuring", len(options.radius) * len(ACTIVATIONS) + 1, "reservoir") as progress:
        for radius in options.radius:
            for activation in ACTIVATIONS:
                if activation == "tanh" or radius < 1:
                    net = build(edges, scaled(weight, delay, radius / unscaled), delay, into, activation)
                    found[radius, activation] = measure(net, delays, options.seed, options.steps)
                progress.update()
        line = measure(delay_line(nodes), delays, options.seed, options.steps)
        progress.update()

    print(f"{net.graph}")
    print(f"Memory capacity over delays 0 to {delays - 1}; the bound is {nodes}, the number of nodes.\n")
    print("spectral radius" + "".join(f"{activation:>10}" for activation in ACTIVATIONS))
    for radius in options.radius:
        cells = [found.get((radius, activation)) for activation in ACTIVATIONS]
        print(f"{radius:15g}" + "".join(f"{'-':>10}" if cell is None else f"{cell.capacity:10.1f}" for cell in cells))
    print(f"{'delay line':>15}{line.capacity:10.1f}")
    draw(found, nodes, options.out / "capacity.png")
    print(f"\nWritten to {options.out}/: capacity.png, how well the input of each number of steps ago is remembered")


if __name__ == "__main__":
    main()
