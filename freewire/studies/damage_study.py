# SPDX-License-Identifier: MIT
"""The damage study: how much accuracy a trained network of `GraphStage` stages loses without single nodes and edges.

References:
    Xie, Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, ICCV 2019 (its study
    of damaged graphs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import length_hint
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from freewire.errors import InputError
from freewire.models.blocks import fold_batch_norms
from freewire.models.stage import GraphStage
from freewire.studies.damage_results import Damage, EdgeDamage, NodeDamage
from freewire.studies.metrics import Metric, check_counts, check_labels, read_batches, top1
from freewire.studies.replay import Replay

__all__ = ["Progress", "damage"]

#: (runs so far, runs in total or None)
Progress = Callable[[int, int | None], object]


def damage(
    model: nn.Module,
    loader: Iterable[Any],
    nodes: bool = True,
    edges: bool = True,
    metric: Metric | None = None,
    progress: Progress | None = None,
) -> Damage:
    """Measure how much accuracy a trained network loses without each node and without each edge, without retraining.

    This is the study of Xie et al. (2019); `GraphStage.without` says what a damaged stage computes. The model is not
    modified: a copy of it runs in eval mode, with batch norms folded into convolutions. Batches are read once, and all
    damaged networks see the same batch, so a loader may shuffle and augment: accuracies differ by the damage alone.

    A batch costs one run of the network per node and per edge, except for the part before the damaged stage, whose
    results are kept while the batch lasts. Autocast around the call applies.

    Args:
        model: A trained module that contains `GraphStage` stages, such as a `RandWire`.
        loader: An iterable of batches (images, labels): a tensor that the model accepts, and the classes. They are
            moved to the device of the model's parameters. Wrap it (``tqdm(loader)``) to see progress.
        nodes: Whether to remove nodes.
        edges: Whether to remove edges.
        metric: ``metric(outputs, labels)`` returns the number of correct images and the number of images of a batch,
            as numbers or one-element tensors. None: `top1`.
        progress: Called after each run of the network with the number of runs so far and in total; the total is None
            if the loader has no length.

    Returns:
        The baseline, and a row per node and per edge of every stage.

    Raises:
        InputError: The model has no `GraphStage`; the loader yields no images, or batches that are not images and
            labels; `top1` rejects them; or there is nothing to remove.

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
        raise InputError(f"model: expected an nn.Module, got {type(model).__name__}. Pass the trained network.")
    if not nodes and not edges:
        raise InputError("nodes: expected True where edges is False, got False. There would be nothing to remove.")
    while isinstance(model, DataParallel | DistributedDataParallel):
        model = model.module
    original = getattr(model, "_orig_mod", model)  # a compiled module would be compiled again
    copy = fold_batch_norms(original)
    stages = {name: module for name, module in copy.named_modules() if isinstance(module, GraphStage)}
    if not stages:
        raise InputError(
            f"model: expected a network with at least one GraphStage, got {type(model).__name__} without "
            "one. Pass a fw.models.RandWire, for instance."
        )
    damages: list[tuple[GraphStage, dict[str, Any]]] = []
    for stage in stages.values():
        damages += [(stage, {"nodes": [name]}) for name in stage.graph.nodes if nodes]
        damages += [(stage, {"edges": [edge]}) for edge in range(stage.graph.num_edges) if edges]
    # Not inference mode, which does not count versions: a module that writes to its input would go unnoticed.
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


def _measure(
    copy: nn.Module,
    loader: Iterable[Any],
    damages: list[tuple[GraphStage, dict[str, Any]]],
    metric: Metric,
    progress: Progress | None,
) -> tuple[float, list[float], float]:
    """Measure the accuracy of the whole network and of each damaged one; also return the number of images."""
    device = next((p.device for p in copy.parameters()), torch.device("cpu"))
    replay = Replay(copy)
    right: list[Any] = [0] * (1 + len(damages))
    count: Any = 0
    total = len(right) * length_hint(loader) or None
    for number, batch in enumerate(read_batches(loader)):
        images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
        given = images.clone()
        outputs = replay.record(given)
        overwritten = given._version > 0  # by the model
        if metric is top1:
            check_labels(outputs, labels)
        for run in range(len(right)):
            if run:
                stage, missing = damages[run - 1]
                with stage.without(**missing):
                    outputs = replay.rerun(images.clone() if overwritten else given, stage)
            correct, seen = check_counts(metric(outputs, labels))
            right[run] += correct
            count += 0 if run else seen
            if progress is not None:
                progress(number * len(right) + run + 1, total)
    if not count > 0:
        raise InputError(
            "loader: expected at least one image, got none. A generator yields its batches only once: make a new one."
        )
    baseline, *others = (float(each) / float(count) for each in right)
    return baseline, others, float(count)
