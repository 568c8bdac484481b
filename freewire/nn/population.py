# SPDX-License-Identifier: MIT
"""`Population`: networks of different wiring that run in one kernel call, as an ``nn.Module``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import whole
from freewire.nn.checks import check_device, check_features, check_input
from freewire.nn.initialisers import InitFunction, Initialiser
from freewire.nn.members import Member, check_alike, common, graph_of, read_members, start_members
from freewire.nn.network import Network
from freewire.nn.optimizer_state import Piece, check_optimizer, resize_parameter
from freewire.nn.recurrent import Recurrent
from freewire.nn.recurrent_members import RecurrentMembers
from freewire.nn.wired import Wired
from freewire.ops import library
from freewire.ops.dtypes import autocast, check_dtype
from freewire.ops.population import PackedMembers, run_population
from freewire.plan.members import MemberPlans

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
        check_alike(graphs, graphs[0])
        bias = common(found, "bias", True) if bias is None else bool(bias)
        dtype = common(found, "dtype", torch.get_default_dtype()) if dtype is None else dtype
        check_dtype(dtype, "dtype")
        if device is not None:
            check_device(torch.device(device), "device")
            if torch.device(device).type == "cuda":
                library.load_cuda()  # its error says more than torch's about what is missing
        self._init = InitFunction(init) if callable(init) else init
        self._set_graphs(graphs)
        self.weight = nn.Parameter(torch.empty(int(self._edges[-1]), device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(int(self._nodes[-1]), device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        start_members(found, self.weight, self.bias, self._init)
        self._place()

    # ------------------------------------------------------------------ the wirings

    def _set_graphs(self, graphs: list[Graph], plans: MemberPlans | None = None) -> None:
        """Take over graphs, and their plans if somebody has made them."""
        self.graphs = tuple(graphs)
        self._recurrent = RecurrentMembers(self.graphs) if graphs[0].recurrent else None
        self._plans = None if self._recurrent is not None else MemberPlans(graphs) if plans is None else plans
        if self._plans is not None:
            self._edges, self._nodes = _ends(self._plans.num_edges), _ends(self._plans.num_biases)
        else:
            self._edges, self._nodes = _ends_of(graphs)
        self._placed: PackedMembers | None = None
        self.__dict__.pop("_union", None)

    def _place(self) -> None:
        """Copy the plans to the weights' device, and load the kernels for it."""
        if self._recurrent is not None or self._plans is None:
            return
        device = self.weight.device
        if device.type == "cuda":
            library.load_cuda()
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
        """All members as one graph, whose parts have no edges between them; see `Graph.union`."""
        return self._union

    @cached_property
    def _union(self) -> Graph:
        return Graph.union(self.graphs)

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
        if self._recurrent is not None:
            return self._recurrent.run(x, h, per_member, weight, bias)
        if h is not None:
            raise InputError("h: expected none, since the members are not recurrent, got one. Omit it.")
        if self._placed is None or self._placed.plans.device != weight.device:
            self._place()  # parameters were replaced without a call of `_apply`
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
            optimizer: One of the population's parameters. It keeps its state for the members that stay; for new
                parameters it starts from 0. `weight` and `bias` stay the objects that it knows.

        Raises:
            InputError: A number out of range, or no member would be left.
            GraphError: As for a new population.

        Example:
            >>> import freewire as fw
            >>> pop = fw.Population([fw.generators.mlp([2, n, 1]) for n in (3, 5)])
            >>> pop.replace({0: fw.generators.mlp([2, 9, 1]), 1: None})
            >>> len(pop), len(pop.weight)
            (1, 27)
        """
        check_optimizer(optimizer)
        count = len(self.graphs)
        changes = self._checked(members)
        new = {i: member for i, member in changes.items() if member is not None}
        if new:
            read_members(new.values())
            check_alike(map(graph_of, new.values()), self.graphs[0])
        order = [i for i in range(count) if changes.get(i, self) is not None] + [i for i in new if i >= count]
        if not order:
            raise InputError(f"members: expected at least one to stay, got None for all {count}. Keep one.")
        wirings = {i: graph_of(member) for i, member in new.items()}
        edges, nodes = self._edges, self._nodes
        if self._plans is not None:
            own = {i: wirings.get(i) for i in changes if i < count}
            self._plans.replace(own, [graph for i, graph in wirings.items() if i >= count])
        self._set_graphs([wirings[i] if i in wirings else self.graphs[i] for i in order], self._plans)
        weight = self.weight.new_empty(sum(graph.num_edges for graph in wirings.values()))
        bias = None
        if self.bias is not None:
            bias = self.bias.new_empty(sum(graph.num_nodes - len(graph.input_index) for graph in wirings.values()))
        if new:
            start_members(list(new.values()), weight, bias, self._init)
        runs = _runs(order, list(wirings))
        new_edges, new_nodes = _ends_of(list(wirings.values()))
        resize_parameter(self.weight, weight, _pieces(runs, edges, new_edges), optimizer)
        if self.bias is not None and bias is not None:
            resize_parameter(self.bias, bias, _pieces(runs, nodes, new_nodes), optimizer)
        self._place()

    def _checked(self, members: Mapping[Any, Member | None]) -> dict[int, Member | None]:
        """The argument of `replace`, by ascending numbers."""
        count = len(self.graphs)
        numbers = [whole(i) for i in members]
        end = count + sum(number is not None and number >= count for number in numbers)
        for i, number in zip(members, numbers, strict=True):
            if number is None or not 0 <= number < end or (number >= count and members[i] is None):
                raise InputError(
                    f"members: expected numbers from 0 to {count - 1}, or from {count} on without gaps to append, got "
                    f"{shown(i)}. Choose one of them."
                )
        return {number: member for number, member in sorted(zip(numbers, members.values(), strict=True), key=_first)}  # type: ignore[misc]

    def append(self, member: Member, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Add a member at the end; see `replace`."""
        self.replace({len(self.graphs): member}, optimizer)

    # ------------------------------------------------------------------ state

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_plans", "_placed", "_recurrent", "_union")
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


def _first(item: tuple[Any, Any]) -> Any:
    return item[0]


def _ends(counts: Iterable[int]) -> NDArray[np.int64]:
    """Where parts of these lengths begin and end, one after the other."""
    return np.concatenate(([0], np.cumsum(np.asarray(counts, np.int64))))


def _ends_of(graphs: Sequence[Graph]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the edges and the computed nodes of graphs begin and end."""
    nodes = [graph.num_nodes - len(graph.input_index) for graph in graphs]
    return _ends([graph.num_edges for graph in graphs]), _ends(nodes)


def _runs(order: list[int], new: list[int]) -> list[tuple[bool, int, int]]:
    """The members after some were replaced, as runs ``(whether new, first, one past the last)``.

    Args:
        order: The members in order, by their numbers before, those to append by the numbers after these.
        new: Which of them are new, ascending; runs of new members count within this list.
    """
    where = {i: k for k, i in enumerate(new)}
    runs: list[tuple[bool, int, int]] = []
    for i in order:
        k = where.get(i)
        is_new, number = (False, i) if k is None else (True, k)
        if runs and runs[-1][0] == is_new and runs[-1][2] == number:
            runs[-1] = (is_new, runs[-1][1], number + 1)
        else:
            runs.append((is_new, number, number + 1))
    return runs


def _pieces(runs: list[tuple[bool, int, int]], ends: NDArray[np.int64], new_ends: NDArray[np.int64]) -> list[Piece]:
    """What a parameter is made of, from runs of members and where the elements of old and new ones end."""
    old, new = ends.tolist(), new_ends.tolist()
    return [
        (is_new, slice(new[first], new[last]) if is_new else slice(old[first], old[last]))
        for is_new, first, last in runs
    ]
