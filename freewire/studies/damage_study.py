# SPDX-License-Identifier: MIT
"""Studies of trained networks, one call each.

Enters: a trained network of `GraphStage` stages, and labelled images. Leaves: what was measured, as named rows, as a
text and as a picture. They show what single nodes and wires of a random wiring are worth.

References:
    Xie, Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, ICCV 2019 (its study
    of damaged graphs).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from operator import length_hint
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from freewire.errors import InputError
from freewire.models.blocks import fold_batch_norms
from freewire.models.stage import GraphStage
from freewire.studies.replay import Replay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Damage", "EdgeDamage", "NodeDamage", "damage", "top1"]

Metric = Callable[[Any, Tensor], tuple[Any, Any]]
Progress = Callable[[int, int | None], object]

_POINTS = 100  # percentage points in a fraction


class NodeDamage(NamedTuple):
    """The network without one node."""

    stage: str  #: Name of the stage, as ``named_modules`` has it.
    node: Hashable  #: Name of the node in the stage's graph.
    in_degree: int
    out_degree: int
    accuracy: float  #: Fraction.
    loss: float  #: Of accuracy, a fraction: the whole network's less this.


class EdgeDamage(NamedTuple):
    """The network without one edge."""

    stage: str  #: Name of the stage, as ``named_modules`` has it.
    edge: int  #: Place in the stage's ``weight``.
    source: Hashable  #: Name of the node it comes from.
    target: Hashable  #: Name of the node it goes to.
    target_in_degree: int
    accuracy: float  #: Fraction.
    loss: float  #: Of accuracy, a fraction: the whole network's less this.


@dataclass(frozen=True)
class Damage:
    """What `damage` measured.

    ``print`` shows the mean losses. Rows are named tuples: ``pandas.DataFrame(study.nodes)`` is a table.

    Attributes:
        baseline: Accuracy of the whole network, a fraction.
        count: Images.
        nodes: A row a node, stage by stage in the order of ``graph.nodes``.
        edges: A row an edge, stage by stage in the order of ``weight``.
    """

    baseline: float
    count: float
    nodes: tuple[NodeDamage, ...]
    edges: tuple[EdgeDamage, ...]

    def losses_by_out_degree(self) -> dict[int, list[float]]:
        """Out-degree, ascending -> losses of accuracy, fractions, of the nodes that have it."""
        return _grouped((row.out_degree, row.loss) for row in self.nodes)

    def losses_by_target_in_degree(self) -> dict[int, list[float]]:
        """In-degree, ascending -> losses of accuracy, fractions, of the edges whose target has it."""
        return _grouped((row.target_in_degree, row.loss) for row in self.edges)

    def to_dict(self) -> dict[str, Any]:
        """Everything in lists and dicts, a dict a row; JSON takes it where it takes the names of the nodes."""
        rows = {"nodes": [row._asdict() for row in self.nodes], "edges": [row._asdict() for row in self.edges]}
        return {"baseline": self.baseline, "count": self.count, **rows}

    def plot(self) -> Figure:
        """Draw the paper's two plots: loss by a node's out-degree, and by the in-degree of an edge's target.

        A dot is one damaged network, a box half of those of one degree, the bar in it their median, the diamond their
        mean. Losses are drawn in proportion up to one percentage point, above it by their logarithm, since a few are
        many times all others. What was not measured is not drawn.

        Returns:
            A matplotlib ``Figure`` of its own, known to no window: ``figure.savefig("damage.png")``.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        from matplotlib.figure import Figure

        plots = []
        if self.nodes:
            plots.append((self.losses_by_out_degree(), "without one node", "out-degree of the node", "#2e86ab"))
        if self.edges:
            target = "in-degree of the edge's target"
            plots.append((self.losses_by_target_in_degree(), "without one edge", target, "#e4572e"))
        figure = Figure(figsize=(5.5 * max(1, len(plots)), 4.2), layout="constrained")
        for axes, (losses, title, degree, colour) in zip(
            figure.subplots(1, len(plots), sharey=True, squeeze=False)[0], plots, strict=True
        ):
            _draw(axes, losses, colour)
            axes.set(title=title, xlabel=degree, ylabel="loss of accuracy (percentage points)")
            axes.tick_params(labelleft=True)
        return figure

    def __str__(self) -> str:
        lines = [f"accuracy {self.baseline:.2%} of {self.count:g} images; lost, in percentage points, mean (worst)"]
        for losses, without in (
            (self.losses_by_out_degree(), "without a node of out-degree"),
            (self.losses_by_target_in_degree(), "without an edge to a node of in-degree"),
        ):
            for degree, each in losses.items():
                mean, worst = _POINTS * sum(each) / len(each), _POINTS * max(each)
                lines.append(f"{without:38} {degree:3}: {mean:6.2f} ({worst:.2f}), {len(each)} of them")
        return "\n".join(lines)


def damage(
    model: nn.Module,
    loader: Iterable[Any],
    nodes: bool = True,
    edges: bool = True,
    metric: Metric | None = None,
    progress: Progress | None = None,
) -> Damage:
    """Take one node, or one edge, out of a trained network, each in turn, without retraining: what accuracy is lost?

    The study of Xie et al. (2019); `GraphStage.without` says what is left of a damaged stage. The model stays as it is:
    a copy in eval mode runs, batch norms folded into convolutions. Batches are read once, and all damaged networks see
    the same batch, so a loader may shuffle and augment: they differ by the damage alone.

    A batch costs a run of the network for every node and every edge, less what comes before the damaged stage, whose
    results are kept for as long as the batch lasts. Autocast around the call counts.

    Args:
        model: Any module that holds `GraphStage` stages, a `RandWire` for one; trained.
        loader: Gives batches of images, whatever tensor the model takes, and labels. They are brought to the device of
            the model's parameters. Wrap it (``tqdm(loader)``) to see how far it is.
        nodes: Take out nodes.
        edges: Take out edges.
        metric: ``metric(outputs, labels)`` gives how many of a batch are right, and of how many, numbers or tensors of
            one number. Left out: `top1`.
        progress: Called after each run of the network with how many are done and how many there will be, None where
            the loader has no length.

    Returns:
        Baseline, and a row a node and a row an edge of every stage.

    Raises:
        InputError: A model without `GraphStage`; a loader without images, or whose batches are no images and labels;
            what `top1` raises; nothing to take out.

    Example:
        >>> import torch, freewire as fw
        >>> dag = fw.generators.watts_strogatz_dag(8, 4, 0.75, seed=0)
        >>> stage = fw.models.GraphStage(dag, 1, 4)
        >>> net = torch.nn.Sequential(stage, torch.nn.Flatten(), torch.nn.Linear(4 * 4 * 4, 10))
        >>> loader = [(torch.rand(16, 1, 8, 8), torch.arange(16) % 10)]
        >>> study = fw.studies.damage(net, loader)
        >>> len(study.nodes), len(study.edges)
        (8, 16)
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected an nn.Module, got {type(model).__name__}. Give the trained network.")
    if not nodes and not edges:
        raise InputError("nodes: expected True where edges is False, got False. There would be nothing to take out.")
    while isinstance(model, DataParallel | DistributedDataParallel):
        model = model.module
    copy = fold_batch_norms(getattr(model, "_orig_mod", model))  # not what torch.compile made: it would compile anew
    stages = {name: module for name, module in copy.named_modules() if isinstance(module, GraphStage)}
    if not stages:
        raise InputError(
            f"model: expected a network with at least one GraphStage, got {type(model).__name__} without. "
            "fw.models.RandWire has some."
        )
    damages: list[tuple[GraphStage, dict[str, Any]]] = []
    for stage in stages.values():
        damages += [(stage, {"nodes": [name]}) for name in stage.graph.nodes if nodes]
        damages += [(stage, {"edges": [edge]}) for edge in range(stage.graph.num_edges) if edges]
    # Not inference mode: there nobody would notice a module that writes to its input.
    with torch.inference_mode(False), torch.no_grad():
        baseline, accuracies, count = _measure(copy, loader, damages, metric or top1, progress)

    measured = iter(accuracies)
    node_rows: list[NodeDamage] = []
    edge_rows: list[EdgeDamage] = []
    for name, stage in stages.items():
        graph = stage.graph
        sources, targets = graph.edge_index.tolist()
        for i, node in enumerate(graph.nodes if nodes else ()):
            accuracy = next(measured)
            degrees = targets.count(i), sources.count(i)
            node_rows.append(NodeDamage(name, node, *degrees, accuracy, baseline - accuracy))
        for i, (u, v) in enumerate(zip(sources, targets, strict=True) if edges else ()):
            accuracy = next(measured)
            row = name, i, graph.nodes[u], graph.nodes[v], targets.count(v), accuracy, baseline - accuracy
            edge_rows.append(EdgeDamage(*row))
    return Damage(baseline, count, tuple(node_rows), tuple(edge_rows))


def top1(outputs: Any, labels: Tensor) -> tuple[Tensor, int]:
    """Count the images whose largest output is that of their label.

    Args:
        outputs: ``[B, classes]``.
        labels: Whole numbers ``[B]``, from 0.

    Returns:
        How many are right, and B.

    Raises:
        InputError: Other shapes or types.

    Example:
        >>> import torch
        >>> top1(torch.eye(3), torch.tensor([0, 1, 1]))
        (tensor(2), 3)
    """
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        got = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(f"model: expected outputs of shape [batch, classes], got {got}. Give a metric for others.")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != outputs.shape[:1] or not whole:
        raise InputError(
            f"loader: expected labels that are whole numbers, shape [{len(outputs)}] as there are outputs, got "
            f"{labels.dtype} {list(labels.shape)}. Give a metric for others."
        )
    return (outputs.argmax(dim=1) == labels).sum(), len(labels)


def _measure(
    copy: nn.Module,
    loader: Iterable[Any],
    damages: list[tuple[GraphStage, dict[str, Any]]],
    metric: Metric,
    progress: Progress | None,
) -> tuple[float, list[float], float]:
    """Accuracy of the whole network and of each damaged one, and of how many images."""
    device = next((p.device for p in copy.parameters()), torch.device("cpu"))
    replay = Replay(copy)
    right: list[Any] = [0] * (1 + len(damages))
    count: Any = 0
    total = len(right) * length_hint(loader) or None
    for number, batch in enumerate(_read(loader)):
        images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
        given = images.clone()
        outputs = replay.first(given)
        overwritten = given._version > 0  # by the model
        if metric is top1:
            _check_labels(outputs, labels)
        for run in range(len(right)):
            if run:
                stage, missing = damages[run - 1]
                with stage.without(**missing):
                    outputs = replay.again(images.clone() if overwritten else given, stage)
            correct, seen = _counted(metric(outputs, labels))
            right[run] += correct
            count += 0 if run else seen
            if progress is not None:
                progress(number * len(right) + run + 1, total)
    if not count > 0:
        raise InputError(
            "loader: expected at least one image, got none. A generator gives its batches only once: make it anew."
        )
    baseline, *others = (float(each) / float(count) for each in right)
    return baseline, others, float(count)


def _read(loader: Iterable[Any]) -> Iterable[tuple[Tensor, Tensor]]:
    if not isinstance(loader, Iterable):
        raise InputError(
            f"loader: expected an iterable of (images, labels), got {type(loader).__name__}. Put one batch in a list."
        )
    for batch in loader:
        pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(each, Tensor) for each in batch)
        if not pair:
            got = f"{type(batch).__name__}"
            if isinstance(batch, tuple | list):
                got += f" of {', '.join(type(each).__name__ for each in batch) or 'nothing'}"
            raise InputError(
                f"loader: expected batches (images, labels), two tensors, got {got}. Reorder what it gives."
            )
        yield batch[0], batch[1]


def _check_labels(outputs: Any, labels: Tensor) -> None:
    """Those that are no class: with them every accuracy would be too low, and nobody would know."""
    top1(outputs, labels)
    if not labels.numel():
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= outputs.shape[1]:
        raise InputError(
            f"loader: expected labels from 0 to {outputs.shape[1] - 1}, as the network has {outputs.shape[1]} outputs, "
            f"got {low if low < 0 else high}. Number the classes from 0, or give a metric."
        )


def _counted(result: Any) -> tuple[Any, Any]:
    if isinstance(result, tuple | list) and len(result) == 2:
        return result[0], result[1]
    raise InputError(
        f"metric: expected (how many are right, of how many), got {type(result).__name__}. "
        "Return two numbers, sums over the batch."
    )


def _grouped(pairs: Iterable[tuple[int, float]]) -> dict[int, list[float]]:
    groups = defaultdict(list)
    for degree, loss in pairs:
        groups[degree].append(loss)
    return dict(sorted(groups.items()))


def _draw(axes: Axes, losses: dict[int, list[float]], colour: str) -> None:
    """One plot: a box a degree, behind it a dot a damaged network."""
    from matplotlib.ticker import FixedLocator

    points = [[_POINTS * loss for loss in each] for each in losses.values()]
    degrees = list(losses)
    axes.boxplot(
        points,
        positions=degrees,
        widths=0.6,
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": "none", "edgecolor": "#3b4656"},
        whiskerprops={"color": "#8d9bb0"},
        capprops={"color": "#8d9bb0"},
        medianprops={"color": "#3b4656", "linewidth": 2},
        meanprops={"marker": "D", "markersize": 6, "markerfacecolor": "white", "markeredgecolor": "#10151e"},
        zorder=3,
    )
    for degree, each in zip(degrees, points, strict=True):
        aside = [degree + 0.25 * (2 * ((i * 0.618034) % 1) - 1) for i in range(len(each))]  # or dots would hide dots
        axes.scatter(aside, each, s=18, color=colour, alpha=0.6, linewidths=0, zorder=2)
    axes.set_yscale("symlog", linthresh=1, linscale=0.8)
    ticks = (0.5, 1, 2, 5, 10, 20, 50, 100)
    axes.yaxis.set_major_locator(FixedLocator([0, *ticks, *(-tick for tick in ticks)]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.axhline(0, color="#8d9bb0", linewidth=0.8, zorder=1)
    axes.set_xticks(range(min(degrees), max(degrees) + 1))
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
