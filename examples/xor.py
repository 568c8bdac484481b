# SPDX-License-Identifier: MIT
"""XOR with two neurons: what wiring freely is good for, in forty lines of ordinary PyTorch.

A layered network needs two hidden neurons for XOR, and nine numbers. Here the output also reads the inputs themselves,
past the one hidden neuron, and seven numbers are enough: the hidden neuron learns to recognise the one case that the
output would get wrong, and the output corrects itself by it. The command trains the network, prints what each neuron
has learnt to compute, and draws it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import networkx as nx
import torch
from torch.nn.functional import binary_cross_entropy

import freewire as fw

X = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
Y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])


def build() -> fw.Network:
    """Wire it: any networkx graph without cycles will do."""
    wiring = nx.DiGraph([("a", "helper"), ("b", "helper"), ("a", "xor"), ("b", "xor"), ("helper", "xor")])
    return fw.Network(fw.Graph.from_networkx(wiring, activation="sigmoid", output_activation="sigmoid"))


def train(net: fw.Network, epochs: int) -> float:
    """Train on the four samples at once; return the last loss."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    loss = torch.tensor(float("nan"))
    for _ in range(epochs):
        loss = binary_cross_entropy(net(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def formula(net: fw.Network, name: str) -> str:
    """What a neuron computes, with the numbers that it has learnt."""
    learnt = net.to_networkx()
    terms = [f"{data['weight']:+.1f} {source}" for source, _, data in learnt.in_edges(name, data=True)]
    return f"{name} = sigmoid({' '.join(terms)} {learnt.nodes[name]['bias']:+.1f})"


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the formulas and the table, write the picture."""
    parser = argparse.ArgumentParser(description="Learn XOR with two neurons, one of which reads past the other.")
    parser.add_argument("--epochs", type=int, default=1000, help="training steps (1,000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (0)")
    parser.add_argument("--out", type=Path, default=Path("demo/xor"), help="folder of the picture (demo/xor)")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error(f"--epochs: expected at least 1, got {options.epochs}.")
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # four samples are too few to divide among threads
    options.out.mkdir(parents=True, exist_ok=True)

    net = build()
    print(f"{net.graph}\nloss after {options.epochs:,} steps: {train(net, options.epochs):.4f}\n")
    for name in ("helper", "xor"):
        print(formula(net, name))
    print("\na b  helper   xor")
    with torch.no_grad():
        values = net.activations(X)
    for i, (a, b) in enumerate(X.int().tolist()):
        print(f"{a} {b}    {values['helper'][i]:.2f}  {values['xor'][i]:.2f}")
    axes = fw.plot(net)
    axes.set_title("XOR: red edges add, blue ones subtract")
    axes.figure.savefig(options.out / "xor.png", dpi=130)
    print(f"\nWritten to {options.out}/: xor.png")


if __name__ == "__main__":
    main()
