# SPDX-License-Identifier: MIT
"""The jitted calls of `benchmarks.peers.tensorneat`.

`Kernels` compiles a `Layout` into calls that take and return torch tensors. A genome's nodes are numbered as in its
library: inputs, outputs, then the others; a component with fewer of them than the largest has empty places (NaN).
Importing this module needs jax; creating `Kernels` needs a checkout.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from torch import Tensor

from benchmarks.peers.checkouts import load
from benchmarks.peers.jax_kernels import to_jax, to_torch
from benchmarks.peers.layout import LINEAR, RELU, TANH, Layout
from benchmarks.peers.parts import Part, parts_of

__all__ = ["Kernels"]

Array = Any


class Kernels:
    """A network's calls, compiled at the first call of each batch size.

    Args:
        layout: The network's layout, whose connected components become genomes.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        parts = parts_of(layout)
        genome, common = (load("tensorneat", "src/tensorneat", "tensorneat", name) for name in ("genome", "common"))
        functions = {LINEAR: common.ACT.identity, RELU: common.ACT.relu, TANH: common.ACT.tanh}
        inputs, outputs = max(len(part.inputs) for part in parts), max(len(part.output) for part in parts)
        hidden = max(len(part.computed) - len(part.output) for part in parts)
        connections = max(*(len(part.edge) for part in parts), inputs * outputs)
        code = int(layout.activation[layout.outputs[0] - layout.num_inputs])
        self._genome = genome.DefaultGenome(
            inputs,
            outputs,
            max_nodes=inputs + outputs + hidden,
            max_conns=connections,
            node_gene=genome.BiasNode(
                activation_options=list(functions.values()), aggregation_options=[common.AGG.sum]
            ),
            output_transform=None if code == LINEAR else functions[code],  # outputs are not activated before
        )
        self._state = self._genome.setup()

        nodes = np.full((len(parts), inputs + outputs + hidden, 4), np.nan, np.float32)  # name, bias, sum, activation
        connected = np.full((len(parts), connections, 3), np.nan, np.float32)  # from, to, weight
        nodes[:, : inputs + outputs] = [0, 0, 0, -1]
        nodes[:, : inputs + outputs, 0] = np.arange(inputs + outputs)
        self._edge_at = np.zeros((2, len(layout.src)), np.int64)
        self._bias_at = np.zeros((2, len(layout.activation)), np.int64)
        self._output_at = np.zeros((2, len(layout.outputs)), np.int64)
        self._inputs = np.zeros((len(parts), inputs), np.int64)
        order = list(functions)
        for member, part in enumerate(parts):
            name = _names(part, inputs, outputs)
            own = part.computed - layout.num_inputs
            at = name[len(part.inputs) :]
            nodes[member, at] = np.stack([at, 0 * at, 0 * at, [order.index(c) for c in layout.activation[own]]], 1)
            connected[member, : len(part.edge)] = np.stack([name[part.src], name[part.dst], 0 * part.edge], 1)
            self._edge_at[:, part.edge] = np.full(len(part.edge), member), np.arange(len(part.edge))
            self._bias_at[:, own] = np.full(len(own), member), at
            self._output_at[:, part.output_place] = np.full(len(part.output), member), np.arange(len(part.output))
            self._inputs[member, : len(part.inputs)] = part.inputs
        transform = jax.jit(jax.vmap(self._genome.transform, in_axes=(None, 0, 0)))
        self._order, self._nodes, self._connected, self._places = transform(
            self._state, jnp.asarray(nodes), jnp.asarray(connected)
        )
        self._infer = jax.jit(self._run)
        self._forward = jax.jit(lambda *values: jax.vjp(self._run, *values))
        self._backward = jax.jit(lambda pull, grad_y: pull(grad_y))

    def _run(self, x: Array, weight: Array, bias: Array) -> Array:
        (bias_member, bias_node), (edge_member, edge_place) = self._bias_at, self._edge_at
        nodes = self._nodes.at[bias_member, bias_node, 1].set(bias)
        connected = self._connected.at[edge_member, edge_place, 2].set(weight)
        samples = jax.vmap(self._genome.forward, in_axes=(None, None, 0))
        members = jax.vmap(samples, in_axes=(None, 0, 0))
        values = jnp.swapaxes(x[:, self._inputs], 0, 1)
        member, place = self._output_at
        y = members(self._state, (self._order, nodes, connected, self._places), values)
        return y[member, :, place].T

    def infer(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The outputs ``[B, O]``."""
        return to_torch(self._infer(*map(to_jax, (x, weight, bias))))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Any]:
        """The outputs ``[B, O]``, and the function that `backward` needs."""
        y, pull = self._forward(*map(to_jax, (x, weight, bias)))
        return to_torch(y), pull

    def backward(self, grad_y: Tensor, weight: Tensor, pull: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x ``[B, I]``, weight ``[M]`` and bias ``[R - I]``."""
        grad_x, grad_weight, grad_bias = self._backward(pull, to_jax(grad_y))
        return to_torch(grad_x), to_torch(grad_weight), to_torch(grad_bias)


def _names(part: Part, inputs: int, outputs: int) -> Any:
    """The genome's number of each node of a component."""
    name = np.full(len(part.inputs) + len(part.computed), -1)
    name[: len(part.inputs)] = np.arange(len(part.inputs))
    name[part.output] = inputs + np.arange(len(part.output))
    others = np.flatnonzero(name < 0)
    name[others] = inputs + outputs + np.arange(len(others))
    return name
