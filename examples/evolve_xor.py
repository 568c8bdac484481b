# SPDX-License-Identifier: MIT
"""XOR by evolution: NEAT finds a wiring and its weights, starting from networks without a hidden neuron.

Each generation is one `fw.Population`, whose 150 networks of different wirings run in one call. No gradient is used.
The command evolves until a network gets all four cases right, prints what it computes, draws it, and writes it as
neat-python would.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

import freewire as fw

X = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
SOLVED = -0.01
"""The fitness from which on XOR counts as solved: a mean squared error of 0.01, an output off by 0.1."""


def fitness(population: fw.Population) -> torch.Tensor:
    """The negative error of each network, ``[members]``: [4, 2] -> [members, 4, 1] -> [members]."""
    return -(population(X) - Y).square().mean(dim=(1, 2))


def evolve(generations: int, seed: int, log: Path) -> fw.search.Result:
    """Search until XOR is solved: first 25 generations, then twice as many; each call continues the log."""
    strategy = fw.search.NEAT(2, 1, population=150, output_activation="sigmoid")
    count = min(25, generations)
    while True:
        trials = strategy.batch * count
        best = fw.search.run(fitness, strategy, trials, log=log, seed=seed, workers=0, progress=False)
        print(f"{count:3} generations: best error {-best.value:.4f}", flush=True)
        if best.value > SOLVED or count == generations:
            return best
        count = min(2 * count, generations)


def main(argv: Sequence[str] | None = None) -> None:
    """Evolve, print the table and the formulas, write the picture and the network."""
    parser = argparse.ArgumentParser(description="Evolve a network for XOR with NEAT.")
    parser.add_argument("--generations", type=int, default=200, help="generations of 150 networks, at most (200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (0)")
    parser.add_argument("--out", type=Path, default=Path("demo/evolve_xor"), help="folder (demo/evolve_xor)")
    options = parser.parse_args(argv)
    if options.generations < 1 or options.seed < 0:
        parser.error("expected --generations of at least 1 and a --seed of at least 0.")
    torch.set_num_threads(1)  # four samples are too few to divide among threads
    options.out.mkdir(parents=True, exist_ok=True)

    best = evolve(options.generations, options.seed, options.out / f"search-{options.seed}.jsonl")
    print(f"\nnetwork {best.trial:,} of the search: {best.graph}\n\na b   xor")
    with torch.no_grad():
        for (a, b), (y,) in zip(X.int().tolist(), best.network(X).tolist(), strict=True):
            print(f"{a} {b}  {y:.2f}")
    axes = fw.plot(best.network)
    axes.set_title("An evolved network for XOR")
    axes.figure.savefig(options.out / "xor.png", dpi=130)
    fw.files.write_neat_python(best.graph, options.out / "xor.json", {"fitness": best.value})
    print(f"\nWritten to {options.out}/: search-{options.seed}.jsonl, xor.png, xor.json")


if __name__ == "__main__":
    main()
