# SPDX-License-Identifier: MIT
"""`Network`: a wiring with weights, as an ordinary ``nn.Module``.

It is built from a `Graph`, maps tensors to tensors, and returns the graph with what was learnt. The module holds two
parameters and a packed plan; all arithmetic is one call into `freewire.ops`. It keeps no state between calls, so
threads may share it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from freewire.errors import GraphError, InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import whole
from freewire.nn.checks import DEVICES, check_features, check_graph, check_input
from freewire.nn.initialisers import Initialiser
from freewire.nn.neurons import NeuronModule
from freewire.nn.placement import PlacedPlan, call_bytes, check_memory, place
from freewire.ops.autograd import called_plainly
from freewire.ops.dtypes import DTYPES, autocast
from freewire.ops.network import run_packed_plan, run_plainly

__all__ = ["Network"]


class Network(NeuronModule):
    """A freely wired network: ``y = net(x)`` runs every node of the graph in one kernel call.

    A node's value is ``activation(aggregation over in-edges of (weight * source value) + bias)``. Of no in-edges every
    aggregation is 0, the product too, so such a node is ``activation(bias)``.

    Args:
        graph: The wiring.
        bias: Whether computed nodes have a bias.
        init: How weights start. None: the graph's stored weights and biases, ``"he"`` where it has none. ``"he"``:
            normal, standard deviation ``sqrt(2 / fan_in)`` (He et al. 2015). ``"xavier"``: normal,
            ``sqrt(2 / (fan_in + fan_out))`` with the source's fan-out (Glorot and Bengio 2010). ``"uniform"``: -1 to 1.
            ``"self_normalized"``: normal, ``sqrt(1 / fan_in)`` (Klambauer et al. 2017). Or a function
            ``init(weight, graph)`` that fills the weights ``[E]`` in place, or returns them as a tensor, an array or
            a list, or one number for all. Biases start at 0 unless stored. A function that Python cannot pickle, such
            as a lambda, is not part of a pickled network, whose `reset_parameters` then raises.
        checkpoint: Keep no activations for the backward, which then runs the forward once more: less memory, a third
            more time.
        device: Device of the parameters.
        dtype: Type of the parameters: float32, float64, bfloat16 or float16. The default is torch's default type.

    Attributes:
        weight: Parameter ``[E]``, in the graph's canonical edge order. Without edges its gradient is None. Where the
            graph has ``sign``, ``frozen`` or ``group``, the weights are computed from other parameters, in
            ``parametrizations.weight``: see `freewire.constraints`.
        bias: Parameter ``[computed nodes]`` in node order, or None.

    Raises:
        GraphError: ``graph`` is recurrent, or its ``sign``, ``frozen`` and ``group`` do not fit each other or its
            stored weights.
        BuildError: ``device`` is a GPU, for which there are no kernels, and they cannot be built.
        InputError: An unknown ``init``, one that leaves a weight unset or returns something else, an unsupported
            ``dtype``, or stored biases with ``bias=False``.

    Example:
        >>> import torch, freewire as fw
        >>> net = fw.Network(fw.generators.random_graph(8, 32, 3, fan_in=4, seed=0))
        >>> net(torch.randn(5, 8)).shape
        torch.Size([5, 3])
    """

    _WHAT = "network"
    _REMEDY = "Build the network from the graph that was trained; fw.save and fw.load keep both together."

    def __init__(
        self,
        graph: Graph,
        bias: bool = True,
        init: str | Initialiser | None = None,
        checkpoint: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_graph(graph)
        if graph.recurrent:
            raise GraphError(
                "graph: expected one without delays, got a recurrent graph. Use freewire.Recurrent, which runs it step "
                "by step."
            )
        super().__init__(graph, bias, init, device, dtype)
        self.checkpoint = checkpoint

    # ------------------------------------------------------------------ running it

    def forward(self, x: Tensor) -> Tensor:
        """Run the network.

        Args:
            x: ``[..., I]``, any leading shape, of the parameters' type and device. Under autocast x and the parameters
                are cast, as those of ``nn.Linear`` are; float64 is left alone.

        Returns:
            ``[..., O]``, of the parameters' type, or autocast's. Where that is bfloat16 or float16, so are x,
            parameters, node values and results; sums, activations and the gradients of nodes are float32.

        Raises:
            InputError: The shape, type or device of x does not fit.
            OutOfMemoryError: The call needs more memory than is available; not checked inside ``torch.compile``.
        """
        if not isinstance(x, Tensor):
            return self._record_call(x)
        placed = self._placed
        if called_plainly():
            # The same with less around it, for small networks: looking up self.weight takes half a microsecond.
            parameters = self._parameters
            weight, bias = parameters.get("weight"), parameters.get("bias")
            if (
                weight is not None
                and "bias" in parameters
                and x.dtype == weight.dtype
                and x.dtype in DTYPES
                and x.device == weight.device == placed.device
                and x.dim() == 2
                and x.shape[1] == placed.num_inputs
                and x.shape[0] <= placed.max_unchecked_batch
            ):
                words, header, _, num_outputs, tape_rows, *_ = placed
                return run_plainly(x, weight, bias, words, header, num_outputs, tape_rows, self.checkpoint)
        weight = self.weight  # read once: constraints compute it
        if placed.words.device != weight.device:  # parameters were replaced without a call of `_apply`
            placed = self._placed = place(self._packed_plan, weight.device)
        return self._run(x, placed, weight)

    def _run(self, x: Tensor, placed: PlacedPlan, weight: Tensor) -> Tensor:
        own = weight
        bias: Tensor | None = self.bias
        words, header, num_inputs, num_outputs, tape_rows, plan, max_unchecked_batch, *_ = placed
        original, device_type = x, x.device.type
        if device_type != "meta" and torch.is_autocast_enabled(device_type):  # here, so that autograd casts gradients
            target = torch.get_autocast_dtype(device_type)
            x, weight = autocast(x, target), autocast(weight, target)
            bias = None if bias is None else autocast(bias, target)
        if (
            x.dtype != weight.dtype
            or x.device != weight.device
            or x.dim() == 0
            or x.shape[-1] != num_inputs
            or x.dtype not in DTYPES
            or device_type not in DEVICES
        ):
            check_input(original, own, num_inputs)  # raises
        shape = x.shape
        if len(shape) != 2:
            x = x.reshape(math.prod(shape[:-1]), num_inputs)
        if not torch.compiler.is_compiling() and x.shape[0] > max_unchecked_batch:
            check_memory(plan, x, any(p.requires_grad for p in self.parameters()))
        y = run_packed_plan(x, weight, bias, words, header, num_outputs, tape_rows, self.checkpoint)
        if len(shape) != 2:
            y = y.reshape(*shape[:-1], num_outputs)
        return y

    def _record_call(self, x: Any) -> Any:
        """The call as one node of a ``torch.fx`` graph, as modules of torch.nn are; raises for what is no proxy."""
        if not isinstance(x, Proxy):
            check_features(x, len(self._graph.inputs))  # raises
        path = x.tracer.path_of_module(self)
        if not path:
            raise InputError(
                "net: expected a part of the module that torch.fx traces, where it becomes one call_module node, got "
                "the module itself. Wrap it: torch.nn.Sequential(net)."
            )
        return x.tracer.create_proxy("call_module", path, (x,), {})

    def memory(self, batch: int, training: bool = True) -> int:
        """Peak memory of one call in bytes, besides x and the parameters; `forward` raises where it is not available.

        Args:
            batch: Number of samples.
            training: Whether to count a forward and a backward, with gradients of x and of all parameters. If not, a
                forward under ``torch.no_grad()``, which reuses rows of the tape.

        Raises:
            InputError: ``batch`` is not a whole number of at least 0.

        Example:
            >>> import freewire as fw
            >>> net = fw.Network(fw.generators.mlp([8, 16, 4]))
            >>> net.memory(1000) > net.memory(1000, training=False)
            True
        """
        samples = whole(batch)
        if samples is None or samples < 0:
            raise InputError(
                f"batch: expected a number of samples, got {shown(batch)}. Pass a whole number of at least 0."
            )
        return call_bytes(self._plan, samples, self.weight, bool(training))

    def activations(self, x: Tensor) -> dict[Hashable, Tensor]:
        """The values of all nodes, inputs and nodes that reach no output included; differentiable.

        Args:
            x: See `forward`.

        Returns:
            A dictionary from node names to values ``[...]`` (x's leading shape), in node order.

        Example:
            >>> import torch, freewire as fw
            >>> net = fw.Network(fw.generators.mlp([2, 3, 1]))
            >>> sorted(net.activations(torch.ones(2)))
            [0, 1, 2, 3, 4, 5]
        """
        weight = self.weight
        if self._every_node is None or self._every_node.words.device != weight.device:
            self._plan_every_node(weight.device)
        assert self._every_node is not None
        values = self._run(x, self._every_node, weight)
        return dict(zip(self._graph.nodes, values.unbind(-1), strict=True))
