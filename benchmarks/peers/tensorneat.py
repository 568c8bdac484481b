# SPDX-License-Identifier: MIT
"""TensorNEAT: jitted jax, a loop over the nodes, vectorised over a population and the batch.

`TensorneatPeer` needs a checkout (see `benchmarks.peers.checkouts`). It runs the forward of the library's
``DefaultGenome`` (in `benchmarks.peers.tensorneat_kernels`, the only module that imports it), differentiated by
`jax.vjp`. Each connected component of the graph is a member of the population, as in the library (workload W5: 256
members), and all of them are padded to the largest one. A genome is an array of nodes, an array of connections and a
matrix ``[nodes, nodes]`` of places; every node reads a column of that and all values, so time grows with the square of
the nodes. What the library computes once per genome (order and places) is not timed. Tensors are passed to jax as in
`benchmarks.peers.jax_levels`.

Tried and found slower: ``vmap`` over samples outside of the one over members (1.2 times W5's forward).
"""

from __future__ import annotations

import numpy as np
import torch

import freewire as fw
from benchmarks.peers.base import KernelPeer
from benchmarks.peers.checkouts import absent
from benchmarks.peers.jax_levels import why_no_jax
from benchmarks.peers.layout import Layout
from benchmarks.peers.parts import parts_of

__all__ = ["TensorneatPeer"]

_MOST_NODES = 1000  # per component; with the 460 of W2 a forward takes a second


class TensorneatPeer(KernelPeer):
    """Its feed-forward genomes."""

    label = "TensorNEAT"
    dtypes = (torch.float32,)  # it is written for jax's default dtypes

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        from benchmarks.peers.tensorneat_kernels import Kernels

        self.kernels = Kernels(self.layout)

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        reasons = absent("tensorneat", "src/tensorneat"), why_no_jax(net), super().refusal(net)
        if (reason := next(filter(None, reasons), None)) is not None:
            return reason
        layout = Layout.of(net.graph)
        parts = parts_of(layout)
        if (most := max(len(part.inputs) + len(part.computed) for part in parts)) > _MOST_NODES:
            return f"{most:,} nodes in one network: its time and memory grow with their square"
        if len(np.unique(layout.src * layout.num_rows + layout.dst)) < len(layout.src):
            return "two edges between one pair of nodes"
        if (layout.outputs < layout.num_inputs).any():
            return "an output that is an input"
        codes = np.unique(layout.activation[layout.outputs - layout.num_inputs])
        if len(codes) > 1 or np.isin(layout.outputs, layout.src).any():
            return "outputs of several activations, or ones that feed others: it activates them all at the end"
        return None
