# SPDX-License-Identifier: MIT
"""`NeuronModule`: parameters and plan, which `freewire.Network` and `freewire.Recurrent` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from freewire.constraints.application import apply_stored
from freewire.errors import InputError
from freewire.graph import Graph
from freewire.graph.networkx_conversion import write_networkx
from freewire.nn.checks import check_device, check_values
from freewire.nn.initialisers import InitFunction, Initialiser, draw_weights, fill_stored, start_weights, undivided
from freewire.nn.placement import PlacedPlan, pack, place
from freewire.nn.wired import Wired
from freewire.ops import library
from freewire.ops.dtypes import check_dtype
from freewire.ops.eager import eager
from freewire.pictures.subject import subject
from freewire.plan import Plan, make_plan

__all__ = ["NeuronModule"]


class NeuronModule(Wired):
    """A module with a weight for each edge of its graph, and perhaps a bias for each computed node.

    Arguments and errors are those of `freewire.Network`.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    _placed: PlacedPlan

    def __init__(
        self,
        graph: Graph,
        bias: bool,
        init: str | Initialiser | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if not bias and graph.bias is not None and np.any(np.nan_to_num(graph.bias)):
            raise InputError(
                "bias: expected True, since the graph stores biases, got False. Omit it, or remove the graph's biases."
            )
        self._graph = graph
        self._init = InitFunction(init) if callable(init) else init
        self._set_plan(self._make_plan())
        if device is not None:
            check_device(torch.device(device), "device")
            if torch.device(device).type == "cuda":
                library.load_cuda()  # its error says more than torch's about what is missing
        dtype = torch.get_default_dtype() if dtype is None else dtype
        check_dtype(dtype, "dtype")
        self._make_parameters(bias, device, dtype)
        self.reset_parameters()
        self._placed = place(self._packed_plan, self.weight.device)
        apply_stored(self)

    def _make_parameters(self, bias: bool, device: torch.device | str | None, dtype: torch.dtype) -> None:
        self.weight = nn.Parameter(torch.empty(self._graph.num_edges, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(len(self._graph.computed_index), device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)

    # ------------------------------------------------------------------ the wiring

    def _make_plan(self, every_node: bool = False) -> Plan:
        return make_plan(self._graph, every_node=every_node)

    @property
    def plan(self) -> Plan:
        """The plan that the kernels run; print it to see levels, edges, cost and memory."""
        return self._plan

    def _set_plan(self, plan: Plan) -> None:
        self._plan = plan
        # Not a buffer: `to_empty` would leave garbage in it, which the kernels would follow, and `stack_module_state`
        # would stack it. This copy stays on the CPU, and is copied to the weights' device whenever they move.
        self._placed = self._packed_plan = pack(plan)
        self._every_node: PlacedPlan | None = None  # for `activations`

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NeuronModule:
        try:
            super()._apply(fn, recurse)
        except AssertionError as error:  # torch's way of saying that it was built without CUDA, or without another
            if torch.version.cuda is None and "CUDA" in str(error):
                library.load_cuda()  # its error says how to get one
            raise
        self._placed = place(self._packed_plan, next(self.parameters()).device)
        return self

    def reset_parameters(self) -> None:
        """Draw new weights from torch's generator, as ``init`` says, and reset biases to the stored values, else 0.

        Raises:
            InputError: ``init`` was a function, which is not in the pickle that the network was read from.
        """
        graph = self._graph
        with start_weights(self) as weight:
            draw_weights(weight, graph, "he" if self._init is None else self._init)
            if self._init is None:
                fill_stored(weight, graph.weight)
        if self.bias is not None:
            with undivided(self.bias) as bias:
                bias.zero_()
                if self._init is None and graph.bias is not None:
                    fill_stored(bias, graph.bias[graph.computed_index])

    @eager  # numpy, which torch.compile would try to trace
    def _plan_every_node(self, device: torch.device) -> None:
        packed = pack(self._make_plan(every_node=True))
        self._every_node = place(packed, device)  # at worst two threads both do it

    # ------------------------------------------------------------------ what was learnt

    def to_networkx(self, grad: bool = False) -> nx.DiGraph | nx.MultiDiGraph:
        """The network as a networkx graph: that of `Graph.to_networkx`, with the learnt weights and biases.

        Args:
            grad: Whether to write the gradients too, of weights and biases, as attribute ``grad`` of edges and nodes. A
                tied edge has that of its group's scale, and a frozen one 0.

        Returns:
            A graph with edge attribute ``weight`` and node attributes ``bias``, ``activation`` and ``aggregation``.
            A module of the same kind that is built from ``Graph.from_networkx(...)`` of it computes the same.

        Raises:
            InputError: ``grad=True`` before a backward pass, or the network is on the meta device.

        Example:
            >>> import freewire as fw
            >>> net = fw.Network(fw.generators.mlp([1, 1], output_activation="tanh"), init="uniform")
            >>> net.to_networkx().nodes[1]["activation"]
            'tanh'
        """
        check_values(self.weight)
        values = subject(self)
        learnt = {"values": (values.weight, values.bias)}
        if grad:
            if values.weight_grad is None and values.bias_grad is None:
                raise InputError("grad: expected gradients, got none. Call backward() on a loss first.")
            learnt["grad"] = (values.weight_grad, values.bias_grad)
        return write_networkx(self._graph.to_data(), learnt)

    # ------------------------------------------------------------------ state

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_plan", "_placed", "_packed_plan", "_every_node")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._set_plan(self._make_plan())

    def extra_repr(self) -> str:
        """The line that ``print(net)`` shows."""
        return f"{self._graph}, bias={self.bias is not None}"
