# SPDX-License-Identifier: MIT
"""A network wired as a connectome: what is measured stays as it is, what is unknown is trained, on a small decision.

    python examples/connectome.py                     # 1.5 minutes of CPU time; a picture and the tables in demo/
    python examples/connectome.py --table demo/connectome/synapses.csv --cells demo/connectome/cells.csv

Known are the wiring, the number of synapses of each pair of cells, and for each cell its type, its time constant, and
whether it excites or inhibits. Unknown is how strong a synapse is. So each weight is the number of synapses times a
scale, which all pairs of cells of the same two types share and which is trained (`group`), as in Lappalainen et al.
2024; no weight ever changes its sign (`sign`: Dale's law); a spike takes one step (`delay`), and each cell is a leaky
integrator, with a leak of dt / tau. There are as many parameters as pairs of types, plus a bias per cell.

The task is as in Brunton et al. 2013: during 500 ms both eyes receive random pulses; 200 ms later the motor cells are
to say which eye had more. The command trains the network, checks that no sign has changed, silences each type of cells
in turn, and asks whether the wiring matters: graphs with the same cells and degrees (`fw.studies.null_models`) get
their weights and constraints by the same recipe, and are trained at the same seeds.

The default wiring is made up: two chains from eye to motor cells, which inhibit each other. Trained, it decides right
in 92.0 % of the trials over six seeds, where four null models reach 89.2 %, which six seeds do not settle (p = 0.09).
Silencing any type but the bystanders leaves it at 50 to 56 %.

A table has one row per connection, in any format that `fw.read_graph` reads; `--source`, `--target` and `--weight` name
its columns. The cells are a CSV file with the columns name, type, sign (1 or -1), and tau (in ms).

References: B. Brunton, M. Botvinick, C. Brody, Rats and humans can optimally accumulate evidence for decision-making,
Science 340, 2013. J. Lappalainen et al., Connectome-constrained networks predict neural activity across the fly visual
system, Nature 634, 2024.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

import freewire as fw

DT = 20  # ms per step
PULSES, PAUSE = 25, 10  # steps with pulses, and steps until the decision
NOISE = 0.3  # of each input cell at each step, where a pulse is 1
STEPS, BATCH = 300, 100
LEARNING_RATE, CLIP = 0.02, 1.0
COLUMNS = ("name", "type", "sign", "tau")  # of the table of cells
INPUTS, OUTPUTS = ("left eye", "right eye"), ("left motor", "right motor")


class Cells(NamedTuple):
    """All cells, in the order of the graph's nodes; arrays ``[N]``."""

    names: tuple[str | int, ...]
    type: np.ndarray
    sign: np.ndarray  #: 1: excites, -1: inhibits.
    tau: np.ndarray  #: Time constant in ms.

    def of_type(self, name: str) -> np.ndarray:
        """Indices of the cells of a type."""
        return np.flatnonzero(self.type == name)


class Synapses(NamedTuple):
    """Connections between cells, by their index; arrays ``[E]``."""

    src: np.ndarray
    dst: np.ndarray
    number: np.ndarray  #: Of synapses.


# ---------------------------------------------------------------------------------------- the wiring


def draw_connectome(seed: int) -> tuple[Cells, Synapses]:
    """Draw a wiring by the types of its cells."""
    draw = np.random.default_rng(seed)
    types = {"bystander": (20, 1, 60)}  # number of cells, sign, tau
    chance = {("bystander", "bystander"): 0.1}  # of a connection, by the types of source and target
    for side, other in (("left", "right"), ("right", "left")):
        eye, integrator, inhibitor, motor = (f"{side} {kind}" for kind in ("eye", "integrator", "inhibitor", "motor"))
        types |= {eye: (6, 1, 20), integrator: (12, 1, 100), inhibitor: (6, -1, 40), motor: (3, 1, 40)}
        chance |= {
            (eye, integrator): 0.6,
            (eye, "bystander"): 0.2,
            (integrator, integrator): 0.4,
            (integrator, inhibitor): 0.5,
            (integrator, motor): 0.8,
            (integrator, "bystander"): 0.1,
            (inhibitor, f"{other} integrator"): 0.6,
            ("bystander", integrator): 0.1,
            ("bystander", motor): 0.1,
        }
    names = [(f"{name} {i}", name, *more) for name, (number, *more) in types.items() for i in range(number)]
    name, kind, sign, tau = (np.array(column) for column in zip(*names, strict=True))
    cells = Cells(tuple(name.tolist()), kind, sign, tau)
    probability = np.array([[chance.get((a, b), 0.0) for b in kind] for a in kind])
    src, dst = np.nonzero(draw.random(probability.shape) < probability)
    return cells, Synapses(src, dst, 1 + draw.poisson(4, len(src)))


def read_connectome(
    table: Path, cells: Path, inputs: Sequence[str], columns: dict[str, str | None]
) -> tuple[Cells, Synapses]:
    """Read a table of connections and one of cells. Connections to input cells are not part of the model.

    Args:
        table: The connections, in any format of `fw.read_graph`.
        cells: A CSV file with the columns name, type, sign and tau.
        inputs: The types of the input cells.
        columns: Names of columns, ``source``, ``target`` and ``weight``; None where `fw.read_graph` knows them.
    """
    with cells.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(COLUMNS) <= rows[0].keys():
        raise ValueError(f"{cells}: expected the columns {', '.join(COLUMNS)} and a row per cell.")
    kind, sign, tau = (np.array([row[column].strip() for row in rows]) for column in COLUMNS[1:])
    last = rows[-1]["name"].strip()
    graph = fw.read_graph(
        table,
        inputs=[],
        outputs=[int(last) if last.isdecimal() else last],  # any cell: only the edges are read
        nodes=cells,
        recurrent=True,
        **{name: column for name, column in columns.items() if column is not None},
    )
    if graph.weight is None:
        raise ValueError(f"{table}: expected numbers of synapses, got no weights. Name their column: --weight.")
    src, dst = graph.edge_index
    kept = ~np.isin(kind[dst], inputs)
    synapses = Synapses(src[kept], dst[kept], np.abs(graph.weight[kept]))
    return Cells(graph.nodes, kind, sign.astype(int), tau.astype(float)), synapses


def write_connectome(cells: Cells, synapses: Synapses, folder: Path) -> None:
    """Write the two tables that `read_connectome` reads."""
    names = cells.names
    rows = zip(synapses.src.tolist(), synapses.dst.tolist(), synapses.number.tolist(), strict=True)
    tables: dict[str, list[tuple[object, ...]]] = {
        "cells.csv": [COLUMNS, *zip(names, cells.type, cells.sign, cells.tau, strict=True)],
        "synapses.csv": [("source", "target", "syn_count"), *((names[u], names[v], number) for u, v, number in rows)],
    }
    for name, table in tables.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)


def wire(cells: Cells, synapses: Synapses, inputs: Sequence[str], outputs: Sequence[str]) -> fw.Graph:
    """Make the recurrent graph of a wiring, with all that is known of its cells and all that may change.

    The null models get theirs by this function as well, so that all of them obey Dale's law.
    """
    src, dst, number = synapses
    types, kind = np.unique(cells.type, return_inverse=True)
    scale = len(cells.names) / number.sum()  # a cell's in-weights then have a sum of about 1
    graph = fw.Graph.from_edges(
        src,
        dst,
        num_nodes=len(cells.names),
        inputs=np.concatenate([cells.of_type(name) for name in inputs]),
        outputs=np.concatenate([cells.of_type(name) for name in outputs]),
        weight=cells.sign[src] * number * scale,
        sign=cells.sign[src],
        group=kind[src] * len(types) + kind[dst],
        delay=1,
        leak=np.minimum(1.0, DT / cells.tau),
        activation="relu",
    )
    return graph.with_names(cells.names)


def null_wirings(
    cells: Cells, graph: fw.Graph, kind: str, number: int, seed: int, inputs: Sequence[str], outputs: Sequence[str]
) -> list[fw.Graph]:
    """Wirings with the degrees of a graph, or what else a kind keeps, whose weights follow from the types as usual.

    A null model keeps an edge's weight and constraints at the target. Of those only the number of synapses is used:
    what an edge does follows from the cell at which it begins now.
    """
    return [
        wire(cells, Synapses(*null.edge_index, np.abs(null.weight)), inputs, outputs)
        for null in fw.studies.null_models(graph, kind, number, seed)
    ]


# ---------------------------------------------------------------------------------------- the task


def draw_trials(number: int, sizes: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw trials.

    Args:
        number: How many.
        sizes: Number of input cells of the left eye, and of the right one.
        generator: Where random numbers come from.

    Returns:
        What each input cell receives, ``[T, number, cells]``, and which eye had more pulses, ``[number]``.
    """
    pulses = torch.rand(PULSES, 2 * number + 20, 2, generator=generator) < 0.5
    more = pulses[..., 1].sum(0) - pulses[..., 0].sum(0)
    pulses = pulses[:, more != 0][:, :number].float()  # five in six are no ties
    label = (more[more != 0][:number] > 0).long()
    seen = torch.cat((pulses, torch.zeros(PAUSE, number, 2)))
    x = torch.cat([seen[..., i : i + 1].expand(-1, -1, size) for i, size in enumerate(sizes)], dim=-1)
    return x + NOISE * torch.randn(x.shape, generator=generator), label


def decision(y: Tensor, left: int) -> Tensor:
    """The mean value of the left motor cells, and of the right ones: outputs ``[..., cells]`` to ``[..., 2]``."""
    return torch.stack((y[..., :left].mean(-1), y[..., left:].mean(-1)), dim=-1)


class Task(NamedTuple):
    """The sizes of the input and the output types, left and right."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def train(self, graph: fw.Graph, seed: int, steps: int = STEPS, progress: Progress | None = None) -> fw.Recurrent:
        """Train a network of a wiring. The scales start at 1, and the seed decides the trials."""
        net = fw.Recurrent(graph)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
        for _ in range(steps):
            x, label = draw_trials(BATCH, self.inputs, generator)
            y, _ = net(x)
            loss = cross_entropy(decision(y[-1], self.outputs[0]), label)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(net.parameters(), CLIP)
            optimizer.step()
            if progress is not None:
                progress.update(loss=f"{loss.item():.3f}")
        return net

    def correct(self, y: Tensor, label: Tensor) -> tuple[Tensor, int]:
        """Number of right decisions at the last step, and number of trials: a metric of `fw.studies.ablate`."""
        return (decision(y[-1], self.outputs[0]).argmax(-1) == label).sum(), len(label)

    def test_trials(self, number: int = 4000) -> tuple[Tensor, Tensor]:
        """The trials on which all networks are measured."""
        return draw_trials(number, self.inputs, torch.Generator().manual_seed(2**32))

    @torch.no_grad()
    def accuracy(self, net: fw.Recurrent) -> float:
        """The share of right decisions in the test trials."""
        x, label = self.test_trials()
        found, count = self.correct(net(x)[0], label)
        return found.item() / count


# ---------------------------------------------------------------------------------------- what it shows


def signs_kept(net: fw.Recurrent, cells: Cells) -> int:
    """The number of weights that have the sign of the cell at which they start; 0 has any."""
    sign = torch.from_numpy(cells.sign[net.graph.edge_index[0]])
    return int((net.weight.detach() * sign >= 0).sum())


def ablation(net: fw.Recurrent, cells: Cells, task: Task) -> fw.studies.Ablation:
    """Silence each type of cells in turn, without retraining."""
    members = {str(name): [cells.names[i] for i in cells.of_type(name)] for name in dict.fromkeys(cells.type)}
    return fw.studies.ablate(net, [task.test_trials()], task.correct, nodes=members)


def draw_types(axes: Axes, net: fw.Recurrent, cells: Cells) -> None:
    """Draw what a cell of each type receives from each type: the sum of weights, the mean over its cells."""
    types, kind = np.unique(cells.type, return_inverse=True)
    total = np.zeros((len(types), len(types)))
    src, dst = net.graph.edge_index
    np.add.at(total, (kind[src], kind[dst]), net.weight.detach().numpy())
    total /= np.bincount(kind)
    most = np.abs(total).max()
    image = axes.imshow(total, cmap="RdBu_r", vmin=-most, vmax=most)
    axes.set_xticks(range(len(types)), types, rotation=90, fontsize="small")
    axes.set_yticks(range(len(types)), types, fontsize="small")
    axes.set_xlabel("to a cell of type")
    axes.set_ylabel("from type")
    axes.set_title("Sum of the trained weights", fontsize="medium")
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


@torch.no_grad()
def draw_decision(axes: Axes, net: fw.Recurrent, task: Task) -> None:
    """Draw the mean decision over time, by how many more pulses the right eye received."""
    x, _ = task.test_trials()
    y, _ = net(x)
    left, right = decision(y, task.outputs[0]).unbind(-1)
    seen = decision(x[:PULSES], task.inputs[0]).sum(0).round()
    more = seen[:, 1] - seen[:, 0]
    groups = {
        "4 or more on the left": (more <= -4, "#174f6d"),
        "1 to 3 on the left": ((more < 0) & (more > -4), "#7fb6d5"),
        "1 to 3 on the right": ((more > 0) & (more < 4), "#f2a58f"),
        "4 or more on the right": (more >= 4, "#c23b17"),
    }
    for label, (chosen, colour) in groups.items():
        axes.plot(DT * np.arange(1, 1 + len(x)), (right - left)[:, chosen].mean(1), color=colour, label=label)
    axes.axvspan(0, DT * PULSES, color="#8d9bb0", alpha=0.15, lw=0)
    axes.set_xlabel("ms (shaded: pulses)")
    axes.set_ylabel("right minus left motor cells")
    axes.set_title("Mean over trials, by the excess of pulses", fontsize="medium")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train, ablate and compare a network that is wired as a connectome.")
    parser.add_argument("--table", type=Path, help="connections: .csv, .parquet, ... (default: a made-up wiring)")
    parser.add_argument("--cells", type=Path, help="CSV file of the cells: name, type, sign, tau in ms")
    for name in ("source", "target", "weight"):
        parser.add_argument(f"--{name}", help=f"column of the table (default: known names of a {name})")
    parser.add_argument("--inputs", nargs=2, default=INPUTS, metavar="TYPE", help=f"types that see pulses {INPUTS}")
    parser.add_argument("--outputs", nargs=2, default=OUTPUTS, metavar="TYPE", help=f"types that decide {OUTPUTS}")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps of each network ({STEPS})")
    parser.add_argument("--null", default="degree", help="kind of null models: degree, level or erdos_renyi (degree)")
    parser.add_argument("--nulls", type=int, default=4, help="number of null models, 0: no comparison (4)")
    parser.add_argument("--seeds", type=int, default=6, help="trainings of each wiring in the comparison (6)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the wiring, the null models and the trials (0)")
    parser.add_argument("--out", type=Path, default=Path("demo/connectome"), help="folder (demo/connectome)")
    options = parser.parse_args(argv)
    if (options.table is None) != (options.cells is None):
        parser.error("--table, --cells: expected both or neither.")
    if options.steps < 1 or options.nulls < 0 or options.seeds < 2:
        parser.error("--steps, --nulls, --seeds: expected at least 1, 0 and 2.")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train a network, silence its types, compare it with null models, and draw all of that."""
    options = parse(argv)
    ends = tuple(options.inputs), tuple(options.outputs)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # too few cells to divide among threads
    if options.table is None:
        cells, synapses = draw_connectome(options.seed)
        write_connectome(cells, synapses, options.out)
    else:
        columns = {name: getattr(options, name) for name in ("source", "target", "weight")}
        try:
            cells, synapses = read_connectome(options.table, options.cells, ends[0], columns)
        except (OSError, ValueError) as error:  # fw.GraphError and fw.FileFormatError are ValueErrors
            raise SystemExit(str(error)) from None
    unknown = sorted(set(ends[0] + ends[1]) - set(cells.type))
    if unknown:
        raise SystemExit(f"--inputs, --outputs: expected types of cells, got {', '.join(unknown)}.")
    graph = wire(cells, synapses, *ends)
    task = Task(*(tuple(len(cells.of_type(name)) for name in names) for names in ends))
    print(graph)
    print(f"{len(np.unique(cells.type))} types, {len(np.unique(graph.group))} pairs of types, each with one scale")

    before = task.accuracy(fw.Recurrent(graph))
    with Progress("training", options.steps, "step") as progress:
        net = task.train(graph, options.seed, options.steps, progress)
    kept = signs_kept(net, cells)
    print(f"right decisions: {before:.1%} before training, {task.accuracy(net):.1%} after (chance: 50 %)")
    print(f"signs kept: {kept:,} of {graph.num_edges:,} weights")

    figure = Figure(figsize=(13, 10), layout="constrained")
    panels = figure.subplots(2, 2)
    draw_types(panels[0, 0], net, cells)
    draw_decision(panels[0, 1], net, task)
    study = ablation(net, cells, task)
    print("\nWith each type of cells silenced, the share of right decisions:")
    for row in study.rows[:10]:
        print(f"{row.name:18} {row.metric:6.1%}  ({100 * row.effect:+.1f} points)")
    study.plot(ax=panels[1, 0])

    if options.nulls:
        nulls = null_wirings(cells, graph, options.null, options.nulls, options.seed, *ends)
        with Progress("comparing", (1 + len(nulls)) * options.seeds, "training") as progress:

            def score(graph: fw.Graph, seed: int) -> float:
                found = task.accuracy(task.train(graph, seed, options.steps))
                progress.update()
                return found

            result = fw.studies.compare(graph, nulls, score, options.seeds)
        print(f"\nThe wiring against null models of the kind {options.null!r}, by the share of right decisions:")
        print(result)
        result.plot(ax=panels[1, 1])
    else:
        panels[1, 1].axis("off")
    figure.savefig(options.out / "connectome.png", dpi=110)
    fw.write_graph(fw.Graph.from_networkx(net.to_networkx()), options.out / "connectome.json")
    print(f"\nWritten to {options.out}/: connectome.png, and the trained wiring as connectome.json")


if __name__ == "__main__":
    main()
