# SPDX-License-Identifier: MIT
"""`Population`: networks of different wiring that run in one kernel call, as an ``nn.Module``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import whole
from freewire.nn.checks import check_device, check_features, check_input
from freewire.nn.initialisers import InitFunction, Initialiser
from freewire.nn.member_runs import ends, ends_of, pieces, runs
from freewire.nn.members import Member, check_alike, check_biases, common, graph_of, read_members, start_members
from freewire.nn.network import Network
from freewire.nn.optimizer_state import Resized, check_optimizer
from freewire.nn.recurrent import Recurrent
from freewire.nn.recurrent_members import RecurrentMembers
from freewire.nn.wired import Wired
from freewire.ops import library
from freewire.ops.dtypes import autocast, check_dtype
from freewire.ops.population import PackedMembers, run_population
from freewire.plan.members import MemberPlans, pack_members

__all__ = ["Population"]


class Population(Wired):
    """Networks of different wiring that run in one kernel call: ``y = pop(x)``.

    Members may differ in everything but their numbers of inputs and outputs. Each computes what it would alone; nothing
    is padded. Parameters and memory are those of the members together.

    Args:
        members: Graphs and networks, whose weights are copied. All of them with delays, or none.
        bias: Whether computed nodes have a bias; by default as the networks among the members, else True.
        init: How weights of graphs start, as in `freewire.Network`.
        device: Device of the parameters.
        dtype: Type of the parameters, as in `freewire.Network`; by default that of the networks among the members.

    Attributes:
        weight: Parameter, the weights of all members one after the other; `weight_slice` has those of one.
        bias: Parameter, likewise the biases of computed nodes, or None.
        graphs: The wirings of the members, as a tuple.

    Raises:
        InputError: No members; or networks that differ in type, or of which only some have biases.
        GraphError: Members that differ in their numbers of inputs or outputs, of which only some have delays, or with
            constraints on weights.

    Example:
        >>> import torch, freewire as fw
        >>> pop = fw.Population([fw.generators.random_graph(3, n, 2, fan_in=2, seed=n) for n in (4, 9, 30)])
        >>> pop(torch.randn(5, 3)).shape
        torch.Size([3, 5, 2])
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    _WHAT = "population"
    _REMEDY = "Build it from the graphs that were trained."

    def __init__(
        self,
        members: Iterable[Member],
        bias: bool | None = None,
        init: str | Initialiser | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        found = read_members(members)
        graphs = [graph_of(member) for member in found]
        check_alike(dict(enumerate(graphs)), graphs[0])
        bias = common(found, "bias", True) if bias is None else bool(bias)
        check_biases(dict(enumerate(found)), bias)
        dtype = common(found, "dtype", torch.get_default_dtype()) if dtype is None else dtype
        check_dtype(dtype, "dtype")
        if device is not None:
            check_device(torch.device(device), "device")
            if torch.device(device).type == "cuda":
                library.load_cuda()  # its error says more than torch's about what is missing
        self._init = InitFunction(init) if callable(init) else init
        self._set_graphs(graphs)
        self.weight = nn.Parameter(torch.empty(self._lengths[0], device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(self._lengths[1], device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        start_members(found, self.weight, self.bias, self._init)
        self._place()

    # ------------------------------------------------------------------ the wirings

    def _set_graphs(
        self, graphs: list[Graph], plans: MemberPlans | None = None, recurrent: RecurrentMembers | None = None
    ) -> None:
        """Take over graphs, and their plans if somebody has made them."""
        self.graphs = tuple(graphs)
        self._recurrent, self._plans = recurrent, plans
        if recurrent is None and plans is None:
            if graphs[0].recurrent:
                self._recurrent = RecurrentMembers(graphs, torch.device("cpu"))
            else:
                self._plans = MemberPlans(graphs)
        if self._plans is not None:
            self._edges, self._nodes = ends(self._plans.num_edges), ends(self._plans.num_biases)
        else:
            self._edges, self._nodes = ends_of(graphs)
        self._lengths = int(self._edges[-1]), int(self._nodes[-1])
        self._placed: PackedMembers | None = None

    def _place(self) -> None:
        """Copy the plans to the weights' device, and load the kernels for it."""
        device = self.weight.device
        self._device = device
        if device.type == "cuda":
            library.load_cuda()
        if self._recurrent is not None:
            self._recurrent.place(device)
        if self._plans is None:
            return
        with torch.inference_mode(False):  # or no backward could keep them
            words, table = (torch.from_numpy(array).to(device) for array in (self._plans.words, self._plans.table()))
        first = self.graphs[0]
        sizes = len(first.input_index), len(first.output_index)
        self._placed = PackedMembers(words, table, self._plans.limits(), *sizes)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Population:
        super()._apply(fn, recurse)
        self._place()
        return self

    @property
    def graph(self) -> Graph:
        """None: `graphs` has those of the members. So nothing that reads a network's graph mistakes a population."""
        raise AttributeError("graph")

    @property
    def _wiring_hash(self) -> str:
        return hashlib.sha256("".join(graph.wiring_hash for graph in self.graphs).encode()).hexdigest()

    def edge_gradient(self) -> Tensor | None:
        """Gradients of the weights, in the order of `weight`; None before a backward."""
        return self.weight.grad

    def _repr_svg_(self) -> str | None:
        return None  # thousands of networks are no picture

    # ------------------------------------------------------------------ running it

    def forward(self, x: Tensor, h: Tensor | None = None, per_member: bool = False) -> Any:
        """Run all members.

        Args:
            x: ``[..., I]``, which all members read; or with ``per_member`` ``[P, ..., I]``. If members are recurrent
                ``[T, B, I]`` or ``[P, T, B, I]``. Of the parameters' type and device.
            h: Only if they are recurrent: the state that an earlier call returned; None: all values are 0 before the
                first step.
            per_member: Whether each member has an x of its own.

        Returns:
            ``[P, ..., O]``. If members are recurrent y, ``[P, T, B, O]``, and the state after the last step,
            ``[B, states of all members]``.

        Raises:
            InputError: The shape, type or device of x or h does not fit.
        """
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        num_inputs, count = len(self.graphs[0].input_index), len(self.graphs)
        check_features(x, num_inputs)
        if per_member and (x.dim() < 2 or x.shape[0] != count):
            raise InputError(
                f"x: expected shape [{count}, ..., {num_inputs}], samples of each member, got {list(x.shape)}. Put "
                "members first, or omit per_member if all of them read the same samples."
            )
        for name, parameter, length in (("weight", weight, self._lengths[0]), ("bias", bias, self._lengths[1])):
            if parameter is not None and parameter.shape != (length,):
                raise InputError(
                    f"{name}: expected shape [{length}], that of all members, got {list(parameter.shape)}. Change "
                    "members by pop.replace."
                )
        if self._device != weight.device:
            self._place()  # parameters were replaced without a call of `_apply`
        if self._recurrent is not None:
            return self._recurrent.run(x, h, per_member, weight, bias)
        if h is not None:
            raise InputError("h: expected none, since the members are not recurrent, got one. Omit it.")
        assert self._placed is not None
        original, own, device_type = x, weight, x.device.type
        if device_type != "meta" and torch.is_autocast_enabled(device_type):  # here, so that autograd casts gradients
            target = torch.get_autocast_dtype(device_type)
            x, weight = autocast(x, target), autocast(weight, target)
            bias = None if bias is None else autocast(bias, target)
        if x.dtype != weight.dtype or x.device != weight.device:
            check_input(original, own, num_inputs)  # raises
        check_input(x, weight, num_inputs)
        leading = x.shape[1:-1] if per_member else x.shape[:-1]
        rows = x.reshape(count if per_member else 1, math.prod(leading), num_inputs)
        y = run_population(rows, weight, bias, self._placed)
        return y.reshape(count, *leading, y.shape[-1])

    # ------------------------------------------------------------------ the members

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, i: int) -> Network | Recurrent:
        return self.member(i)

    def __iter__(self) -> Iterator[Network | Recurrent]:
        return map(self.member, range(len(self.graphs)))

    def weight_slice(self, i: int) -> slice:
        """Where the weights of member i are in `weight`, in its canonical edge order."""
        i = self._index(i)
        return slice(int(self._edges[i]), int(self._edges[i + 1]))

    def bias_slice(self, i: int) -> slice:
        """Where the biases of member i are in `bias`, in its node order."""
        i = self._index(i)
        return slice(int(self._nodes[i]), int(self._nodes[i + 1]))

    def _index(self, i: Any) -> int:
        number, count = whole(i), len(self.graphs)
        if number is None or not -count <= number < count:
            raise InputError(
                f"i: expected a member's number from 0 to {count - 1}, got {shown(i)}. Choose one of them."
            )
        return number % count

    def member(self, i: int) -> Network | Recurrent:
        """Copy one member.

        Args:
            i: Its number.

        Returns:
            A network with parameters of its own, which computes the same.

        Example:
            >>> import freewire as fw
            >>> pop = fw.Population([fw.generators.mlp([2, n, 1]) for n in (3, 5)])
            >>> pop.member(1)
            Network(Graph(8 nodes, 2 inputs, 1 outputs, 15 edges, depth 2), bias=True)
        """
        i = self._index(i)
        graph, has_bias = self.graphs[i], self.bias is not None
        if not has_bias and graph.bias is not None:
            graph = graph.with_values(bias=np.full(graph.num_nodes, np.nan))
        kind = Recurrent if graph.recurrent else Network
        drawn = [self.weight.device] if self.weight.is_cuda else []
        with torch.random.fork_rng(drawn):  # what it starts with is overwritten
            net = kind(graph, bias=has_bias, device=self.weight.device, dtype=self.weight.dtype)
        with torch.no_grad():
            net.weight.copy_(self.weight[self.weight_slice(i)])
            if net.bias is not None and self.bias is not None:
                net.bias.copy_(self.bias[self.bias_slice(i)])
        return net

    def replace(self, members: Mapping[int, Member | None], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Replace members, remove and append some; the others keep their parameters.

        Args:
            members: By number, what comes in a member's place; None removes it, and those after it move up. Numbers
                from ``len(pop)`` on append.
            optimizer: The one that trains the population. It keeps its state for the members that stay; for new
                parameters its state starts as the optimizer starts it. `weight` and `bias` stay the same objects.

        Raises:
            InputError: A number out of range; no member would stay; parametrized weights; LBFGS, or the optimizer of
                other parameters; a network whose biases or weights cannot be taken over.
            GraphError: As for a new population.

        Example:
            >>> import freewire as fw
            >>> pop = fw.Population([fw.generators.mlp([2, n, 1]) for n in (3, 5)])
            >>> pop.replace({0: fw.generators.mlp([2, 9, 1]), 1: None})
            >>> len(pop), len(pop.weight)
            (1, 27)
        """
        for name in ("weight", "bias"):
            if name not in self._parameters:
                raise InputError(
                    f"{name}: expected a plain parameter, got a parametrized one. Remove its parametrizations first."
                )
        check_optimizer(optimizer, self.parameters())
        with torch.inference_mode(False):  # or the parameters could not be trained afterwards
            self._replace(self._checked(members), optimizer)

    def _replace(self, changes: Mapping[int, Member | None], optimizer: torch.optim.Optimizer | None) -> None:
        """Replace members, by ascending numbers. Nothing is changed before all that may fail has been done."""
        count = len(self.graphs)
        new = {i: member for i, member in changes.items() if member is not None}
        if new:
            read_members(new.values(), list(new))
            check_alike({i: graph_of(member) for i, member in new.items()}, self.graphs[0])
            check_biases(new, self.bias is not None)
        order = [i for i in range(count) if changes.get(i, self) is not None] + [i for i in new if i >= count]
        if not order:
            raise InputError(f"members: expected at least one to stay, got None for all {count}. Keep one.")
        wirings = {i: graph_of(member) for i, member in new.items()}
        graphs = [wirings[i] if i in wirings else self.graphs[i] for i in order]
        recurrent = RecurrentMembers(graphs, self.weight.device) if self._recurrent is not None else None
        packed = None if self._plans is None else pack_members(list(wirings.values()))
        new_edges, new_nodes = ends_of(list(wirings.values()))
        weight = self.weight.detach().new_empty(int(new_edges[-1]))
        bias = None if self.bias is None else self.bias.detach().new_empty(int(new_nodes[-1]))
        if new:
            start_members(list(new.values()), weight, bias, self._init)
        order_runs = runs(order, list(wirings))
        resized = [Resized(self.weight, weight, pieces(order_runs, self._edges, new_edges), optimizer)]
        if self.bias is not None and bias is not None:
            resized.append(Resized(self.bias, bias, pieces(order_runs, self._nodes, new_nodes), optimizer))

        if self._plans is not None and packed is not None:
            replaced = [i for i in wirings if i < count]
            self._plans.replace(replaced, [i for i, member in changes.items() if member is None], packed)
        for change in resized:
            change.apply()
        self._set_graphs(graphs, self._plans, recurrent)
        self._place()

    def _checked(self, members: Any) -> dict[int, Member | None]:
        """The argument of `replace`, by ascending numbers."""
        count = len(self.graphs)
        if not isinstance(members, Mapping):
            raise InputError(
                f"members: expected a dictionary from numbers to members, got {type(members).__name__}. Write "
                "{number: graph}, or {number: None} to remove one."
            )
        numbers = [whole(i) for i in members]
        changes = {
            n + count if -count <= n < 0 else n: m
            for n, m in zip(numbers, members.values(), strict=True)
            if n is not None
        }
        end = count + sum(number >= count for number in changes)
        for i, number in zip(members, numbers, strict=True):
            if number is None or not -count <= number < end or (number >= count and members[i] is None):
                raise InputError(
                    f"members: expected numbers from 0 to {count - 1}, or from {count} on without gaps to append, got "
                    f"{shown(i)}. Choose one of them."
                )
        if len(changes) < len(members):
            raise InputError(f"members: expected each number once, got {shown(list(members))}. Remove one.")
        return dict(sorted(changes.items(), key=lambda change: change[0]))

    def append(self, member: Member, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Add a member at the end; see `replace`."""
        if member is None:
            raise InputError("member: expected a graph or a network, got None. Pass one.")
        self.replace({len(self.graphs): member}, optimizer)

    # ------------------------------------------------------------------ state

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_plans", "_placed", "_recurrent")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._set_graphs(list(self.graphs))
        self._place()

    def extra_repr(self) -> str:
        """The line that ``print(pop)`` shows."""
        first = self.graphs[0]
        return (
            f"{len(self.graphs):,} members, {len(first.input_index):,} inputs, {len(first.output_index):,} outputs, "
            f"{len(self.weight):,} edges, bias={self.bias is not None}"
        )
