# SPDX-License-Identifier: MIT
"""The ablation study: how much each node and each edge of a trained network contributes to a metric.

A copy of the network runs once for each silenced element, and between two runs only the element's weights are written:
one kernel call per element, on up to 1,024 samples, to which small batches are joined. (docs/design.md says why copies
are not put side by side in one graph.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrize

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.models.stage import GraphStage
from freewire.nn import Network
from freewire.nn.checks import check_values
from freewire.studies.ablation_elements import Element, read_elements
from freewire.studies.ablation_results import Ablation, Silenced
from freewire.studies.damage_study import Progress
from freewire.studies.metrics import read_batches

__all__ = ["AnyMetric", "ablate"]

_ROWS, _VALUES = 1024, 1 << 22  # of batches that are run together: at most so many samples, and values of nodes

#: (predictions, targets) -> one number, or a pair (sum, count)
AnyMetric = Callable[[Any, Tensor], Any]


def ablate(
    net: nn.Module,
    loader: Iterable[Any],
    metric: AnyMetric,
    nodes: Any = None,
    edges: Any = None,
    progress: Progress | None = None,
) -> Ablation:
    """Measure how a metric of a trained network changes when nodes or edges are silenced, without retraining.

    A silenced node has the value 0 wherever it is read, and as an output; a silenced edge has the weight 0. Nothing is
    removed: a node that reads a silenced one still aggregates a term of 0, so a product becomes 0, a mean still divides
    by all its edges, and a maximum is at least 0. (A value of infinity times 0 is NaN.) In a recurrent network that
    holds at every step, and each batch starts from a state of 0.

    The network is not modified: a copy of it runs in eval mode, with the effective weights if they are parametrized.
    Batches are read once, small ones are run together, and the copy runs on them once per element, so a loader may
    shuffle and augment: metrics differ by the silencing alone. Autocast around the call applies.

    Args:
        net: A `freewire.Network`, a `freewire.Recurrent`, or another module of one graph with a ``weight`` ``[E]`` in
            the graph's canonical order. Of outputs that are a tuple, the first counts.
        loader: An iterable of batches (inputs, targets), two tensors. They are moved to the device of the weights.
        metric: ``metric(predictions, targets)`` of one batch, such as ``torch.nn.functional.mse_loss``. It returns one
            number, a mean over the batch, which counts in proportion to the batch's rows (``x[..., 0].numel()``); or a
            pair (sum, count), such as `top1` returns, and the result is the sum of sums over the sum of counts. For a
            metric that is neither, such as a rank correlation, pass all data as one batch.
        nodes: Which nodes to silence. True: each in turn, inputs and outputs too. A list: those, by name, in turn; a
            set in the list is silenced together. A dictionary from labels to lists of names: each list together.
            Default: True where ``edges`` is omitted.
        edges: Which edges to silence, in the same forms; an edge is its column of ``net.graph.edge_index``.
        progress: Called after each run of the network with the number of pairs of a network and a batch so far and in
            total; the total is None if the loader has no length.

    Returns:
        The metric of the whole network, and a row for each silenced element, the largest effect first.

    Raises:
        InputError: ``net`` has no graph or no weights; nothing to silence, or a node or edge that does not exist; the
            loader yields no samples, or something else than pairs of tensors; the metric returns something else.

    Example:
        >>> import torch, freewire as fw
        >>> graph = fw.Graph.from_edges([0, 1], [2, 2], weight=[1.0, 3.0])
        >>> loader = [(torch.eye(2), torch.tensor([[1.0], [3.0]]))]
        >>> study = fw.studies.ablate(fw.Network(graph), loader, torch.nn.functional.mse_loss)
        >>> [(row.name, row.effect) for row in study.rows]
        [(2, 5.0), (1, 4.5), (0, 0.5)]
    """
    if not callable(metric):
        raise InputError(
            f"metric: expected a function (predictions, targets) -> number, got {shown(metric)}. Pass "
            "torch.nn.functional.mse_loss, for instance."
        )
    while isinstance(net, DataParallel | DistributedDataParallel):
        net = net.module
    net = getattr(net, "_orig_mod", net)  # a compiled module would be compiled again
    graph = _check_network(net)
    elements = read_elements(graph, True if nodes is None and edges is None else nodes, edges)
    with torch.inference_mode(False), torch.no_grad():
        ablated = _Silencer(net, graph)
        baseline, values, count = _measure(ablated, loader, metric, elements, progress)
    rows = []
    for element, value in zip(elements, values, strict=True):
        members = tuple(graph.nodes[i] for i in element.nodes) or element.edges
        rows.append(Silenced(element.kind, element.name, members, value, value - baseline))
    return Ablation(baseline, count, tuple(sorted(rows, key=_importance)))


def _importance(row: Silenced) -> tuple[bool, float]:
    """Ascending from the largest effect; NaN, which says that a network failed without the element, comes first."""
    return (True, -abs(row.effect)) if row.effect == row.effect else (False, 0.0)


def _check_network(net: Any) -> Graph:
    """The network's graph, or an `InputError` if it has none."""
    if isinstance(net, GraphStage):
        raise InputError("net: expected a network of neurons, got a GraphStage. Use fw.studies.damage for stages.")
    graph = getattr(net, "graph", None)
    if not isinstance(net, nn.Module) or not isinstance(graph, Graph):
        raise InputError(
            f"net: expected a Network, got {type(net).__name__}. Pass a module with a graph and weights of its edges."
        )
    return graph


def _plain_copy(net: nn.Module) -> nn.Module:
    """A copy in eval mode, whose parameters are its own, and plain ones where they were parametrized.

    What is set in a parametrized weight would be overwritten by the next computation of it. Other attributes, such as
    the plan, are shared: they are not written to.
    """
    replica: nn.Module = object.__new__(parametrize.type_before_parametrizations(net))
    vars(replica).update(vars(net))
    kinds = "_parameters", "_buffers", "_modules"
    vars(replica).update(zip(kinds, copy.deepcopy([vars(net)[kind] for kind in kinds]), strict=True))
    if parametrize.is_parametrized(net):
        lists: Any = replica._modules.pop("parametrizations")
        lists.eval()  # before they are computed: some count trainings
        replica._parameters.update({name: nn.Parameter(values()) for name, values in lists.items()})
    return replica.eval()


class _Silencer:
    """A copy of a network that runs with weights set to 0."""

    def __init__(self, net: nn.Module, graph: Graph) -> None:
        self.net = _plain_copy(net)
        weight = getattr(self.net, "weight", None)
        if not isinstance(weight, Tensor) or weight.shape != (graph.num_edges,):
            got = f"shape {list(weight.shape)}" if isinstance(weight, Tensor) else type(weight).__name__
            raise InputError(f"net: expected {graph.num_edges} weights, one per edge, got {got}. Pass a Network.")
        check_values(weight)
        self.weight = weight.detach()
        device, sources = self.weight.device, graph.edge_index[0]
        self.columns = torch.arange(graph.num_edges, device=device)
        self.by_source = torch.from_numpy(np.argsort(sources, kind="stable")).to(device)
        self.starts = np.cumsum([0, *np.bincount(sources, minlength=graph.num_nodes)]).tolist()
        self.most_rows = max(1, min(_ROWS, _VALUES // max(1, graph.num_nodes)))
        self.position = {int(node): i for i, node in enumerate(graph.output_index)}

    def __call__(self, x: Tensor) -> Any:
        y = self.net(x)
        return y[0] if isinstance(y, tuple) else y

    def without(self, element: Element, x: Tensor) -> Any:
        """Run the network with an element silenced."""
        silenced = [self.by_source[self.starts[i] : self.starts[i + 1]] for i in element.nodes]
        silenced += [self.columns[i : i + 1] for i in element.edges]
        columns = silenced[0] if len(silenced) == 1 else torch.cat(silenced)
        kept = self.weight[columns]
        self.weight[columns] = 0
        try:
            predictions = self(x)
        finally:
            self.weight[columns] = kept
        outputs = [self.position[i] for i in element.nodes if i in self.position]
        if not outputs:
            return predictions
        return predictions.index_fill(-1, torch.tensor(outputs, device=predictions.device), 0)


_Batch = tuple[Tensor, Tensor]  # inputs, targets


def _joined(batches: Iterable[_Batch], net: _Silencer) -> Iterator[list[_Batch]]:
    """The batches on the network's device, in lists of those that are run together.

    A call costs as much as some tens of samples, so small batches would take several times as long one by one.
    """
    waiting: list[_Batch] = []
    rows = 0
    for batch in batches:
        x, targets = (tensor.to(net.weight.device, non_blocking=True) for tensor in batch)
        alone = x.dim() != 2 or not isinstance(net.net, Network)  # to which rows may be steps of a sequence
        if waiting:
            other = waiting[0][0]
            if alone or rows + len(x) > net.most_rows or (x.dtype, x[:0].shape) != (other.dtype, other[:0].shape):
                yield waiting
                waiting, rows = [], 0
        waiting.append((x, targets))
        rows += net.most_rows if alone else len(x)
    if waiting:
        yield waiting


def _rows(x: Tensor, targets: Tensor) -> int:
    """Number of vectors of input features."""
    if x.dim() and x.shape[-1]:
        return x.numel() // x.shape[-1]
    return len(targets) if targets.dim() else 1


def _measure(
    net: _Silencer,
    loader: Iterable[Any],
    metric: AnyMetric,
    elements: list[Element],
    progress: Progress | None,
) -> tuple[float, list[float], float]:
    """The metric of the whole network, the metric without each element, and the number of samples or counts."""
    sums = [0.0] * (1 + len(elements))
    counts = [0.0] * len(sums)
    done, total = 0, len(sums) * length_hint(loader) or None
    for batches in _joined(read_batches(loader, "inputs, targets"), net):
        x = batches[0][0] if len(batches) == 1 else torch.cat([x for x, _ in batches])
        lengths = [len(x) for x, _ in batches]
        for run in range(len(sums)):
            predictions = net(x) if run == 0 else net.without(elements[run - 1], x)
            parts = [predictions] if len(batches) == 1 else predictions.split(lengths)
            for part, (inputs, targets) in zip(parts, batches, strict=True):
                rows = _rows(inputs, targets)
                if rows:  # the mean over no samples is NaN
                    found, weight = _read_metric(metric(part, targets), rows)
                    sums[run] += found
                    counts[run] += weight
            done += len(batches)
            if progress is not None:
                progress(done, total)
    if not counts[0] > 0:
        raise InputError(
            "loader: expected at least one sample, got none. A generator yields its batches only once: make a new one."
        )
    baseline, *others = (found / weight for found, weight in zip(sums, counts, strict=True))
    return baseline, others, counts[0]


def _read_metric(result: Any, rows: int) -> tuple[float, float]:
    """A metric's result as a sum and a count."""
    try:
        if isinstance(result, tuple | list):
            found, count = result
            return float(found), float(count)
        return float(result) * rows, float(rows)
    except (TypeError, ValueError, RuntimeError):
        what = f"a tensor of shape {list(result.shape)}" if isinstance(result, Tensor) else shown(result)
        raise InputError(
            f"metric: expected one number, or a pair (sum, count), got {what}. Average over the batch."
        ) from None
