# SPDX-License-Identifier: MIT
"""`log_to_tensorboard`: what TensorBoard shows of a network in training.

The writer is torch's ``SummaryWriter`` or anything with the same methods, so neither torch nor tensorboard is imported.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from freewire.errors import InputError
from freewire.graph import Graph
from freewire.graph.arguments import FloatArray, check_whole
from freewire.pictures.figure import plot
from freewire.pictures.subject import subject

__all__ = ["log_to_tensorboard"]

METHODS = ("add_figure", "add_graph", "add_histogram", "add_scalar")

#: Writers that have a graph, by id; they may be unhashable.
_HAVE_GRAPH: dict[int, weakref.ref[Any]] = {}


def log_to_tensorboard(writer: Any, net: Any, step: int, *, example: Any = None, picture: bool = True) -> None:
    """Log a network, or all networks in a model, to TensorBoard.

    Histograms ``weight``, ``bias``, ``weight.grad`` and ``bias.grad`` (gradients once there are some), of the finite
    numbers; where some are not finite, their count as scalar ``weight.grad.not_finite``, and so on. An image
    ``wiring``, as `freewire.plot` draws it. And, at the first call with a writer, the graph of operators that
    ``writer.add_graph`` traces, in which the network is ``freewire::network``. For the networks in a model these names
    follow that of the network, such as ``head/weight``.

    Args:
        writer: A ``torch.utils.tensorboard.SummaryWriter``, or an object with its methods ``add_histogram``,
            ``add_scalar``, ``add_figure`` and ``add_graph``.
        net: A `freewire.Network`, or a module that has some, or other modules with a graph.
        step: Number of the training step.
        example: What to call ``net`` with for the graph of operators. Default: zeros, for a Network; other modules get
            no graph.
        picture: Whether to draw the wiring, which needs matplotlib and takes about 0.3 seconds.

    Raises:
        InputError: ``writer`` has not those methods, ``net`` has no network, or ``step`` is no whole number.
        GraphError: A network has no values (on the meta device).
        BuildError: matplotlib is not installed.

    Example:
        >>> import freewire as fw
        >>> class Writer:
        ...     def add_histogram(self, tag, values, step): print(step, tag, len(values))
        ...     def add_figure(self, tag, figure, step): print(step, tag)
        ...     def add_graph(self, net, example): print("graph", tuple(example.shape))
        ...     add_scalar = add_figure
        >>> fw.log_to_tensorboard(Writer(), fw.Network(fw.generators.mlp([2, 1])), step=7)
        graph (1, 2)
        7 weight 2
        7 bias 1
        7 wiring
    """
    missing = [name for name in METHODS if not callable(getattr(writer, name, None))]
    if missing:
        raise InputError(
            f"writer: expected a SummaryWriter, got {type(writer).__name__} without {', '.join(missing)}. "
            "Pass torch.utils.tensorboard.SummaryWriter(folder)."
        )
    net = getattr(net, "_orig_mod", net)  # of a compiled module, which cannot be traced
    number = check_whole("step", step, 0, "Pass the number of the training step.", error=InputError)
    networks = list(_networks(net))
    if not networks:
        raise InputError(
            f"net: expected a Network, or a module that has one, got {type(net).__name__}. Pass the model, or use "
            "fw.plot for a Graph."
        )
    shown = [(prefix, part, subject(part)) for prefix, part in networks]
    if example is None and networks[0][1] is net and hasattr(net, "plan"):  # it is a Network, whose input is known
        example = net.weight.new_zeros(1, len(net.graph.inputs))
    if example is not None:
        _log_graph(writer, net, example)
    for prefix, part, drawn in shown:
        computed = drawn.graph.computed_index  # inputs have no bias
        _log_numbers(writer, f"{prefix}weight", drawn.weight, number)
        _log_numbers(writer, f"{prefix}bias", None if drawn.bias is None else drawn.bias[computed], number)
        _log_numbers(writer, f"{prefix}weight.grad", drawn.weight_grad, number)
        grad = None if drawn.bias_grad is None else drawn.bias_grad[computed]
        _log_numbers(writer, f"{prefix}bias.grad", grad, number)
        if picture:
            writer.add_figure(f"{prefix}wiring", plot(part).figure, number)


def _networks(net: Any) -> Iterator[tuple[str, Any]]:
    """What is put before the tags, the same for a compiled module, and the module, for each module with a graph."""
    found = set()
    for name, part in getattr(net, "named_modules", list)():
        if isinstance(getattr(part, "graph", None), Graph) and id(getattr(part, "weight", part)) not in found:
            found.add(id(getattr(part, "weight", part)))
            yield "".join(f"{each}/" for each in name.split(".") if each not in ("", "_orig_mod")), part


def _log_graph(writer: Any, net: Any, example: Any) -> None:
    known = _HAVE_GRAPH.get(id(writer))
    if known is not None and known() is writer:
        return
    with warnings.catch_warnings():
        # torch.jit.trace, which torch's writer uses, warns that it is deprecated, and of our checks of the shape.
        warnings.simplefilter("ignore")
        writer.add_graph(net, example)
    key = id(writer)
    _HAVE_GRAPH[key] = weakref.ref(writer, lambda _: _HAVE_GRAPH.pop(key, None))


def _log_numbers(writer: Any, tag: str, values: FloatArray | None, step: int) -> None:
    if values is None or not values.size:
        return
    finite = values[np.isfinite(values)]
    if finite.size:
        writer.add_histogram(tag, finite, step)
    if finite.size < values.size:
        writer.add_scalar(f"{tag}.not_finite", values.size - finite.size, step)
