# SPDX-License-Identifier: MIT
"""`Network`: a wiring with weights, as an ordinary ``nn.Module``.

Enters: a `Graph` and tensors. Leaves: outputs, and the graph again with what was learnt. The module holds two
parameters and the packed plan; all arithmetic is one call into `ops`. It keeps no state between calls, so threads may
share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from freewire.errors import GraphError, InputError, OutOfMemoryError
from freewire.graph import Graph
from freewire.graph.networkx_conversion import write_networkx
from freewire.nn.wired import Wired
from freewire.ops import library
from freewire.ops.network import evaluate
from freewire.ops.reference import check_features
from freewire.plan import Plan, make_plan, memory
from freewire.plan.plan import plan_header

__all__ = ["Network"]

Initialiser = Callable[[Tensor, Graph], Any]
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_DEVICES = ("cpu", "cuda", "meta")
_LARGE = 1 << 28  # values on the tape and sums: from here on a call asks first what memory is left
_SUMS_AN_EDGE = 16  # at most: one a group of tiles


class Network(Wired):
    """A freely wired network: ``y = net(x)`` runs every node of the graph in one kernel call.

    A node's value is ``activation(aggregation over in-edges of (weight * source value) + bias)``.

    Args:
        graph: The wiring.
        bias: Whether computed nodes have a bias.
        init: How weights start. None: the graph's stored weights and biases, ``"he"`` where it has none. ``"he"``:
            normal, standard deviation ``sqrt(2 / fan_in)`` (He et al. 2015). ``"xavier"``: normal,
            ``sqrt(2 / (fan_in + fan_out))`` with the source's fan-out (Glorot and Bengio 2010). ``"uniform"``: -1 to 1.
            ``"self_normalized"``: normal, ``sqrt(1 / fan_in)`` (Klambauer et al. 2017). Or a function
            ``init(weight, graph)`` that fills the weights ``[E]`` in place or returns them. Biases start at 0
            unless stored.
        checkpoint: Keep no activations for the backward, which then runs the forward once more: less memory, a third
            more time.
        device: Of the parameters.
        dtype: float32, float64, bfloat16 or float16; left out: torch's default type.

    Attributes:
        weight: Parameter ``[E]``, in the graph's canonical edge order.
        bias: Parameter ``[computed nodes]`` in node order, or None.

    Raises:
        GraphError: ``graph`` has ``sign`` or ``frozen`` edges, which are reserved.
        BuildError: ``device`` is a GPU, and its kernels are not there and cannot be built.
        InputError: An unknown ``init``, an unsupported ``dtype``, stored biases with ``bias=False``.

    Example:
        >>> import torch, freewire as fw
        >>> net = fw.Network(fw.generators.random_graph(8, 32, 3, fan_in=4, seed=0))
        >>> net(torch.randn(5, 8)).shape
        torch.Size([5, 3])
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    _placed: _Placed

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
        super().__init__()
        if not isinstance(graph, Graph):
            raise GraphError(
                f"graph: expected a freewire Graph, got {type(graph).__name__}. "
                "Convert it first, for example with Graph.from_networkx."
            )
        for name, values in (("sign", graph.sign), ("frozen", graph.frozen)):
            if values is not None:
                raise GraphError(
                    f"graph: expected no {name} attribute, got {int(np.count_nonzero(values))} edge(s) with one. "
                    f"This version does not apply {name} yet: remove it."
                )
        if not bias and graph.bias is not None and np.any(np.nan_to_num(graph.bias)):
            raise InputError("bias: expected True, since the graph stores biases, got False. Remove one or the other.")
        self._graph = graph
        self._init = init
        self.checkpoint = checkpoint
        self._set_plan(make_plan(graph))
        if device is not None and torch.device(device).type == "cuda":
            library.load_cuda()  # before torch says less of what is missing
        dtype = torch.get_default_dtype() if dtype is None else dtype
        check_dtype(dtype, "dtype")
        self.weight = nn.Parameter(torch.empty(graph.num_edges, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(len(graph.computed_index), device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()
        self._placed = _place(self._packed_plan, self.weight.device)

    # ------------------------------------------------------------------ the wiring

    @property
    def plan(self) -> Plan:
        """What the kernels run; print it to see levels, edges, cost and memory."""
        return self._plan

    def _set_plan(self, plan: Plan) -> None:
        self._plan = plan
        # No buffer: `to_empty` would leave garbage in it, which the kernels would follow, and `stack_module_state`
        # would stack it. It goes where the weights are, from this copy, whenever they have moved.
        self._placed = self._packed_plan = _pack(plan)
        self._every: _Placed | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Network:
        try:
            super()._apply(fn, recurse)
        except AssertionError:  # so torch says that it was built without CUDA, and no more
            if torch.version.cuda is None:
                library.load_cuda()  # says what is missing and how to get it
            raise
        self._placed = _place(self._packed_plan, self.weight.device)
        return self

    def reset_parameters(self) -> None:
        """Draw the weights again, from torch's generator, as ``init`` said; biases as stored, else 0."""
        graph, init = self._graph, "he" if self._init is None else self._init
        with torch.no_grad():
            if callable(init):
                drawn = init(self.weight, graph)
                if isinstance(drawn, Tensor) and drawn is not self.weight:
                    self.weight.copy_(drawn)
            elif init == "uniform":
                self.weight.uniform_(-1.0, 1.0)
            else:
                self.weight.normal_()
                self.weight.mul_(torch.from_numpy(_deviation(init, graph)).to(self.weight))
            if self.bias is not None:
                self.bias.zero_()
            if self._init is None:
                _fill(self.weight, graph.weight)
                if self.bias is not None and graph.bias is not None:
                    _fill(self.bias, graph.bias[graph.computed_index])

    # ------------------------------------------------------------------ running it

    def forward(self, x: Tensor) -> Tensor:
        """Run the network.

        Args:
            x: ``[..., I]``, any leading shape, of the parameters' type and device. Under autocast x and the parameters
                are cast, as those of ``nn.Linear`` are; float64 is left alone.

        Returns:
            ``[..., O]`` of the type computed in. bfloat16 and float16 hold x, parameters, node values and results;
            sums, activations and the gradients of nodes are float32.

        Raises:
            InputError: The shape, type or device does not fit.
            OutOfMemoryError: The call would take more memory than is left; not told inside ``torch.compile``.
        """
        placed = self._placed
        if placed.words.device != self.weight.device:  # the parameters were replaced without telling the module
            placed = self._placed = _place(self._packed_plan, self.weight.device)
        return self._run(x, placed)

    def _run(self, x: Tensor, plan: _Placed) -> Tensor:
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        words, header, num_inputs, num_outputs, tape_rows, _, _ = plan
        if not isinstance(x, Tensor):
            check_features(x, num_inputs)
        given, kind = x, x.device.type
        if kind != "meta" and torch.is_autocast_enabled(kind):  # out here, so that autograd casts gradients back
            target = torch.get_autocast_dtype(kind)
            x, weight = _autocast(x, target), _autocast(weight, target)
            bias = None if bias is None else _autocast(bias, target)
        if (
            x.dtype != weight.dtype
            or x.device != weight.device
            or x.dim() == 0
            or x.shape[-1] != num_inputs
            or x.dtype not in _DTYPES
            or kind not in _DEVICES
        ):
            self._explain(given, self.weight)
        shape = x.shape
        if len(shape) != 2:
            x = x.reshape(math.prod(shape[:-1]), num_inputs)
        if not torch.compiler.is_compiling() and x.shape[0] > plan.most_unasked:
            self._check_memory(x, plan.plan)
        y = evaluate(x, weight, bias, words, header, num_outputs, tape_rows, self.checkpoint)
        if len(shape) != 2:
            y = y.reshape(*shape[:-1], num_outputs)
        return y

    def _explain(self, x: Tensor, weight: Tensor) -> None:
        """Say what is wrong with x; called only when something is."""
        check_features(x, self._placed.num_inputs)
        check_dtype(weight.dtype, "network")
        if x.dtype != weight.dtype:
            other = f", or net.to({x.dtype})" if x.dtype in _DTYPES else ""
            raise InputError(
                f"x: expected {weight.dtype}, the network's type, got {x.dtype}. "
                f"Convert it: x.to({weight.dtype}){other}."
            )
        if x.device != weight.device:
            raise InputError(
                f"x: expected device {weight.device}, the network's, got {x.device}. Move one of them with .to()."
            )
        raise InputError(
            f"x: expected a tensor on the CPU or on a CUDA GPU, got one on {x.device}. This version has no kernels for "
            f'{x.device.type}: use net.to("cpu") and x.to("cpu").'
        )

    def memory(self, batch: int, training: bool = True) -> int:
        """Peak memory of one call in bytes, beside x and the parameters: what `forward` raises by.

        Args:
            batch: Samples.
            training: Forward and backward with gradients of x and of all parameters; else a forward under
                ``torch.no_grad()``, which uses rows of the tape again.

        Raises:
            InputError: ``batch`` is no number of samples.

        Example:
            >>> import freewire as fw
            >>> net = fw.Network(fw.generators.mlp([8, 16, 4]))
            >>> net.memory(1000) > net.memory(1000, training=False)
            True
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 0:
            raise InputError(f"batch: expected a number of samples, got {batch!r}. Give a whole number of at least 0.")
        return _call_bytes(self._plan, batch, self.weight, training)

    def _check_memory(self, x: Tensor, plan: Plan) -> None:
        """Raise before the allocation where a call cannot fit; asked of large calls only, since it takes a while."""
        if x.device.type == "meta" or isinstance(x, FakeTensor):
            return
        need_x, need_parameters = x.requires_grad, any(p.requires_grad for p in self.parameters())
        training = torch.is_grad_enabled() and (need_x or need_parameters)
        needed = _call_bytes(plan, x.shape[0], x, training, need_x=need_x, need_parameters=need_parameters)
        left = _available_bytes(x.device)
        if left is not None and needed > left:
            what = "a training step" if training else "a forward"
            raise OutOfMemoryError(
                f"x: expected a batch that fits into the {left / 2**30:,.1f} GiB left on {x.device}, got "
                f"{x.shape[0]:,} samples, for which {what} takes {needed / 2**30:,.1f} GiB. "
                "Use smaller batches, or torch.no_grad() where no gradient is wanted; net.memory(batch) tells more."
            )

    def activations(self, x: Tensor) -> dict[Hashable, Tensor]:
        """Every node's value, inputs and nodes that reach no output included; differentiable.

        Args:
            x: As in `forward`.

        Returns:
            Node name to values ``[...]`` (x's leading shape), in node order.

        Example:
            >>> import torch, freewire as fw
            >>> net = fw.Network(fw.generators.mlp([2, 3, 1]))
            >>> sorted(net.activations(torch.ones(2)))
            [0, 1, 2, 3, 4, 5]
        """
        if self._every is None or self._every.words.device != self.weight.device:
            self._plan_every_node()
        assert self._every is not None
        values = self._run(x, self._every)
        return dict(zip(self._graph.nodes, values.unbind(-1), strict=True))

    @torch.compiler.disable  # numpy, which torch.compile would try to trace
    def _plan_every_node(self) -> None:
        plan = _pack(make_plan(self._graph, every_node=True))
        self._every = _place(plan, self.weight.device)  # two threads at worst both make it

    # ------------------------------------------------------------------ out again

    def to_networkx(self, grad: bool = False) -> nx.DiGraph | nx.MultiDiGraph:
        """The network as a networkx graph, as `Graph.to_networkx` makes it, with what was learnt.

        Args:
            grad: Also write the gradients, as attribute ``grad`` of edges (of the weight) and nodes (of the bias).

        Returns:
            Edge attribute ``weight``; node attributes ``bias``, ``activation``, ``aggregation``.
            ``Network(Graph.from_networkx(...))`` of it computes the same.

        Raises:
            InputError: ``grad`` is asked for before a backward pass.

        Example:
            >>> import freewire as fw
            >>> net = fw.Network(fw.generators.mlp([1, 1], output_activation="tanh"), init="uniform")
            >>> net.to_networkx().nodes[1]["activation"]
            'tanh'
        """
        learnt = {"values": self._values(self.weight, self.bias)}
        if grad:
            weight_grad, bias_grad = self.weight.grad, None if self.bias is None else self.bias.grad
            if weight_grad is None and bias_grad is None:
                raise InputError("grad: expected gradients, got none. Call backward() on a loss first.")
            learnt["grad"] = self._values(weight_grad, bias_grad)
        return write_networkx(self._graph.to_data(), learnt)

    def _values(self, weight: Tensor | None, bias: Tensor | None) -> tuple[Any, Any]:
        """Edge values [E] and node values [N] (NaN at inputs) as float64 arrays, None where there are none."""
        nodes = None
        if bias is not None:
            nodes = np.full(self._graph.num_nodes, np.nan)
            nodes[self._graph.computed_index] = bias.detach().double().cpu().numpy()
        return None if weight is None else weight.detach().double().cpu().numpy(), nodes

    # ------------------------------------------------------------------ state

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_plan", "_placed", "_packed_plan", "_every")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._set_plan(make_plan(self._graph))

    def extra_repr(self) -> str:
        """What ``print(net)`` says."""
        return f"{self._graph!r}, bias={self.bias is not None}"


class _Placed(NamedTuple):
    """A packed plan on a device, and what a call needs to know of it on the host."""

    words: Tensor
    header: tuple[int, ...]  # empty where the words can be read on the host
    num_inputs: int
    num_outputs: int
    tape_rows: int
    plan: Plan
    most_unasked: int  # samples of a call that is too small to ask what memory is left


def _pack(plan: Plan) -> _Placed:
    with torch.inference_mode(False):  # or no backward could keep it
        words = torch.from_numpy(plan.pack())
    most = (_LARGE - _SUMS_AN_EDGE * plan.num_edges) // max(plan.tape_rows, 1)
    return _Placed(words, (), plan.num_inputs, plan.num_outputs, plan.tape_rows, plan, most)


def _place(plan: _Placed, device: torch.device) -> _Placed:
    """The plan, packed on the CPU, on the weights' device; the kernels for it are loaded."""
    if device.type == "cuda":
        library.load_cuda()
    with torch.inference_mode(False):
        words = plan.words.to(device)
    return plan._replace(words=words, header=plan_header(plan.words.numpy()) if device.type == "cuda" else ())


def _call_bytes(plan: Plan, batch: int, like: Tensor, training: bool, **needed: bool) -> int:
    itemsize = like.dtype.itemsize
    if like.device.type == "cuda":
        # Not among the names that torch's types know.
        shared = torch.cuda.get_device_properties(like.device).shared_memory_per_block_optin  # type: ignore[attr-defined]
        return memory.gpu_call_bytes(plan, batch, itemsize, training=training, shared_bytes=shared, **needed)
    return memory.call_bytes(plan, batch, itemsize, training=training, threads=torch.get_num_threads(), **needed)


def _available_bytes(device: torch.device) -> int | None:
    """What may still be allocated there. Of a GPU what torch has cached counts; other processes' memory does not."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return memory.available_bytes()


def check_dtype(dtype: torch.dtype, what: str) -> None:
    """Raise unless there are kernels for the type."""
    if dtype not in _DTYPES:
        raise InputError(
            f"{what}: expected torch.float32, torch.float64, torch.bfloat16 or torch.float16, got {dtype}. "
            "There are kernels for those four: convert with net.float()."
        )


def _autocast(tensor: Tensor, target: torch.dtype) -> Tensor:
    """What autocast makes of an argument: float64 and what is no floating-point number stay."""
    return tensor.to(target) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def _deviation(init: Any, graph: Graph) -> Any:
    """Standard deviation of each weight at the start, float64 [E]."""
    src, dst = graph.edge_index
    fan_in = np.bincount(dst, minlength=graph.num_nodes)[dst]
    if init == "he":
        return np.sqrt(2.0 / fan_in)
    if init == "xavier":
        return np.sqrt(2.0 / (fan_in + np.bincount(src, minlength=graph.num_nodes)[src]))
    if init == "self_normalized":
        return np.sqrt(1.0 / fan_in)
    raise InputError(
        f"init: expected None, 'he', 'xavier', 'uniform', 'self_normalized' or a function, got {init!r}. "
        "Choose one of those."
    )


def _fill(parameter: Tensor, stored: Any) -> None:
    """Copy stored values over a parameter where they are given (not NaN)."""
    if stored is not None:
        values = torch.from_numpy(stored.copy()).to(parameter)
        parameter.copy_(torch.where(values.isnan(), parameter, values))
