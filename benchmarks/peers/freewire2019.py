# SPDX-License-Identifier: MIT
"""The 2019 Freewire, the library that this one succeeds: a few torch calls per level on a tape ``[B, nodes + 1]``.

`Freewire2019Peer` needs a checkout (see `benchmarks.peers.checkouts`). It builds the library's model from the live
nodes and gives it the network's weights; the library's forward and torch's autograd run unchanged. Its own layout is
the only one to try. Some things are patched so that it runs here, none of them in what is timed: ``.cuda()`` leaves
tensors on the CPU while the model is built, tanh is added to its table of activations, a tape of the batch's size and
dtype is made before the call (its own would be on a GPU), and its printing is discarded.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import freewire as fw
from benchmarks.peers.base import Peer, live_parameters, to_canonical
from benchmarks.peers.checkouts import absent, load
from benchmarks.peers.layout import Layout
from freewire.graph import ACTIVATIONS

__all__ = ["Freewire2019Peer"]

_NAME, _FOLDER, _PACKAGE = "freewire2019", "freewire", "_freewire_of_2019"
_MOST_NODES = 30_000  # its scheduling takes time quadratic in nodes: 10 s for half as many


@contextlib.contextmanager
def _on_cpu() -> Iterator[None]:
    with (
        mock.patch.object(Tensor, "cuda", lambda self: self),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        yield


class Freewire2019Peer(Peer):
    """Its ``Model``."""

    label = "Freewire of 2019"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        layout, dtype = self.layout, net.weight.dtype
        parts = {name: load(_NAME, _FOLDER, _PACKAGE, name) for name in ("graph", "model", "model_utils")}
        parts["model_utils"].activation_map["tanh"] = torch.tanh
        node = parts["graph"].Node
        nodes = [node() for _ in range(layout.num_inputs)]
        for v, code in enumerate(layout.activation):
            sources = layout.src[layout.in_ptr[v] : layout.in_ptr[v + 1]]
            nodes.append(node([nodes[row] for row in sources], activation=ACTIVATIONS[code]))
        row = {id(made): r for r, made in enumerate(nodes)}
        outputs = set(layout.outputs.tolist())
        hidden = [made for r, made in enumerate(nodes) if r >= layout.num_inputs and r not in outputs]
        with _on_cpu():
            graph = parts["graph"].Graph(nodes[: layout.num_inputs], hidden, [nodes[r] for r in layout.outputs])
            with mock.patch.object(parts["model"].Model, "update_graph"):  # copies parameters to nodes, one by one
                self.model = parts["model"].Model(graph)
        # Where each of its parameters is among the live edges and the computed rows.
        self.edges: list[Tensor] = []
        self.places: list[tuple[Tensor, Tensor]] = []
        self.rows: list[Tensor] = []
        edge_weight, row_bias = live_parameters(net, layout)
        for op in self.model.ops:
            rows = torch.tensor([row[id(made)] for made in op.nodes]) - layout.num_inputs
            begin, end = torch.from_numpy(layout.in_ptr)[rows], torch.from_numpy(layout.in_ptr)[rows + 1]
            node_of_edge = torch.repeat_interleave(torch.arange(len(rows)), end - begin)
            first = torch.cumsum(end - begin, 0) - (end - begin)
            place = torch.arange(len(node_of_edge)) - first[node_of_edge]
            self.edges.append(begin[node_of_edge] + place)
            self.places.append((node_of_edge, place))
            self.rows.append(rows)
            weight = edge_weight.new_zeros(op.weights.shape)
            weight[self.places[-1]] = edge_weight[self.edges[-1]]
            op.weights = torch.nn.Parameter(weight)
            op.bias = torch.nn.Parameter(row_bias[rows].clone().to(dtype))

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        if (missing := absent(_NAME, _FOLDER)) is not None:
            return missing
        if net.weight.device.type != "cpu":
            return "its adapter is written for the CPU"
        refusal = super().refusal(net)
        if refusal is None and (nodes := Layout.of(net.graph).num_rows) > _MOST_NODES:
            refusal = f"{nodes:,} nodes: its scheduling takes time quadratic in nodes"
        return refusal

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        tape = self.model.tape
        if tape is None or len(tape) != len(x) or tape.dtype != x.dtype:
            self.model.tape = x.new_zeros(len(x), self.model.tape_size)
        y: Tensor = self.model.forward(x)
        return y

    def gradients(self) -> tuple[Tensor, Tensor]:
        """See `Peer`."""
        ops: list[Any] = list(self.model.ops)
        grad_weight = ops[0].weights.new_zeros(len(self.layout.src))
        grad_bias = ops[0].bias.new_zeros(len(self.layout.activation))
        for op, edges, places, rows in zip(ops, self.edges, self.places, self.rows, strict=True):
            grad_weight[edges] = op.weights.grad[places]
            grad_bias[rows] = op.bias.grad
        return to_canonical(self, grad_weight, grad_bias)
