# SPDX-License-Identifier: MIT
"""CartPole by evolution: networks that keep a pole upright, found by NEAT without any gradient.

All episodes of a generation run side by side: in each time step one call of a `fw.Population` chooses the actions of
all networks in all their episodes, and one call of gymnasium's vectorised CartPole takes them. CartPole counts as
solved where a network keeps the pole up for 475 of 500 steps on average, over 100 episodes that it has never seen.

It is an easy task for evolution: the right four weights are enough, and a few generations find them.

It needs gymnasium: ``pip install 'freewire[evolve]'``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

import freewire as fw

STEPS = 500
SOLVED = 475
EPISODES = 5
"""Of each network in a generation."""


def returns(population: fw.Population, episodes: int, seed: int) -> np.ndarray:
    """How many steps each network keeps the pole up, in each of its episodes, ``[members, episodes]``."""
    members = len(population)
    environments = CartPoleVectorEnv(num_envs=members * episodes, max_episode_steps=STEPS)
    observed, _ = environments.reset(seed=seed % 2**32)
    total = np.zeros(members * episodes)
    running = np.ones(members * episodes, bool)
    for _ in range(STEPS):
        x = torch.from_numpy(observed).reshape(members, episodes, 4)
        right = population(x, per_member=True) > 0  # [members, episodes, 1]
        observed, _, fallen, cut, _ = environments.step(right.flatten().numpy().astype(np.int64))
        total += running
        running &= ~(fallen | cut)
        if not running.any():
            break
    environments.close()
    return total.reshape(members, episodes)


def fitness(population: fw.Population, seed: int) -> torch.Tensor:
    """The mean return of each network, ``[members]``; each generation has other episodes."""
    return torch.from_numpy(returns(population, EPISODES, seed).mean(axis=1))


def best_of_latest(log: Path, strategy: fw.search.NEAT) -> tuple[float, fw.Network]:
    """The best network of the last generation, and its fitness. Older ones may have had easier episodes."""
    latest = fw.search.read_log(log).lines[-strategy.batch :]
    line = max((line for line in latest if line["status"] == "finished"), key=lambda line: line["value"])
    return line["value"], strategy.best(line)["network"]


def main(argv: Sequence[str] | None = None) -> None:
    """Evolve until a network solves it, test it, draw it."""
    parser = argparse.ArgumentParser(description="Evolve a network that balances a pole, with NEAT.")
    parser.add_argument("--generations", type=int, default=30, help="generations at most (30)")
    parser.add_argument("--population", type=int, default=100, help="networks in a generation (100)")
    parser.add_argument("--test", type=int, default=100, help="episodes of the test (100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (0)")
    parser.add_argument("--out", type=Path, default=Path("demo/evolve_cartpole"), help="folder (demo/evolve_cartpole)")
    options = parser.parse_args(argv)
    if min(options.generations, options.test) < 1 or options.population < 2 or options.seed < 0:
        parser.error("expected at least 1 of --generations and --test, a --population of 2, and a --seed from 0 on.")
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / f"search-{options.seed}.jsonl"

    start = time.perf_counter()
    strategy = fw.search.NEAT(4, 1, population=options.population)
    for generation in range(1, options.generations + 1):
        trials = options.population * generation
        fw.search.run(fitness, strategy, trials, log=log, seed=options.seed, workers=0, progress=False)
        value, network = best_of_latest(log, strategy)
        print(f"generation {generation:2}: best mean return {value:5.1f} of {STEPS}", flush=True)
        if value < SOLVED:
            continue
        with torch.no_grad():
            found = returns(fw.Population([network]), options.test, seed=2**31 + options.seed).mean()
        print(f"               mean return in {options.test} new episodes {found:.1f}")
        if found >= SOLVED:
            break
    print(f"\n{time.perf_counter() - start:.1f} s: {network.graph}")
    axes = fw.plot(network)
    axes.set_title("An evolved network that balances a pole")
    axes.figure.savefig(options.out / "cartpole.png", dpi=130)
    print(f"Written to {options.out}/: {log.name}, cartpole.png")


if __name__ == "__main__":
    main()
