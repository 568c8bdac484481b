# SPDX-License-Identifier: MIT
"""`Recurrent`: a wiring with cycles that runs step by step, as an ``nn.Module`` in the manner of ``nn.RNN``."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from freewire.errors import GraphError, InputError
from freewire.graph import Graph
from freewire.nn.checks import check_features, check_graph, check_input, check_whole
from freewire.nn.initialisers import Initialiser, fill_stored, undivided
from freewire.nn.neurons import NeuronModule
from freewire.nn.placement import PlacedPlan, check_sequence_memory, place, sequence_call_bytes
from freewire.ops.dtypes import autocast
from freewire.ops.sequence import run_sequence
from freewire.plan import Plan, make_plan

__all__ = ["Recurrent"]

# What a learnt leak is kept above; it is kept at 1 or below.
_LEAST_LEAK = 1e-4
# More than any sequence has; kernels count steps in 64 bits.
_MOST_STEPS = 2**31


class Recurrent(NeuronModule):
    """A freely wired recurrent network: ``y, h = net(x, h)`` runs all nodes over all time steps in one kernel call.

    With all values 0 before the first step, node v computes at time t::

        z_v(t) = (1 - leak_v) z_v(t - 1) + leak_v (aggregation over in-edges of (weight * a_u(t - delay)) + bias_v)
        a_v(t) = activation_v(z_v(t))

    Where leak = dt / tau these are the Euler steps of a rate model or CTRNN, whose potential decays; where all leaks
    and delays are 1, every step is a synchronous update. In neat-python's CTRNN the output decays instead: a node of it
    is two here, its function with leak 1, and after it a linear node with the leak and no delay. Without delays it
    computes what a `freewire.Network` does, step by step.

    Args:
        graph: A recurrent graph.
        bias: Whether computed nodes have a bias.
        init: How weights start, as in `freewire.Network`.
        batch_first: x and y are ``[B, T, ...]`` instead of ``[T, B, ...]``.
        steps: Time steps per frame of x, which is held meanwhile; y is what the last of them returns.
        learn_leak: Whether the leaks that the graph stores are parameters.
        checkpoint_every: Keep, for the backward, the states before every so many time steps instead of all values, and
            run the steps between them once more: less memory, a third more time.
        device: Device of the parameters.
        dtype: Type of the parameters: float32, float64, bfloat16 or float16. The default is torch's default type.

    Attributes:
        weight: Parameter ``[E]``, in the graph's canonical edge order.
        bias: Parameter ``[computed nodes]`` in node order, or None.
        leak: With ``learn_leak`` a parameter, one number for each computed node that stores a leak and reaches an
            output, in node order; else None. Where it is used it is held between 0.0001 and 1.
        num_states: ``S``, the numbers per sample that ``h`` holds: delayed values, and z of nodes with a leak.

    Raises:
        GraphError: ``graph`` is not recurrent.
        BuildError: ``device`` is a GPU, for which there are no kernels, and they cannot be built.
        InputError: As `freewire.Network`; ``steps`` or ``checkpoint_every`` is not a whole number of at least 1; or
            ``learn_leak`` where no node of the graph stores a leak.

    Example:
        >>> import torch, freewire as fw
        >>> g = fw.Graph.from_edges([0, 1, 2], [1, 2, 1], outputs=[2], recurrent=True)
        >>> y, h = fw.Recurrent(g)(torch.randn(7, 5, 1))
        >>> y.shape, h.shape
        (torch.Size([7, 5, 1]), torch.Size([5, 2]))
    """

    leak: nn.Parameter | None

    _WHAT = "recurrent network"
    _REMEDY = "Build it from the graph that was trained."

    def __init__(
        self,
        graph: Graph,
        bias: bool = True,
        init: str | Initialiser | None = None,
        batch_first: bool = False,
        steps: int = 1,
        learn_leak: bool = False,
        checkpoint_every: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_graph(graph)
        if not graph.recurrent:
            raise GraphError(
                "graph: expected a recurrent graph, got one without delays. Build it with recurrent=True, or use "
                "freewire.Network."
            )
        if learn_leak and graph.leak is None:
            raise InputError(
                "learn_leak: expected a graph that stores leaks, got one without. Build it with leak=1.0, for example."
            )
        self.learn_leak = bool(learn_leak)
        remedy = "Pass a number of time steps."
        steps = check_whole("steps", steps, 1, remedy)
        every = 0 if checkpoint_every is None else check_whole("checkpoint_every", checkpoint_every, 1, remedy)
        every = min(every, _MOST_STEPS)
        self.batch_first, self.steps, self.checkpoint_every = bool(batch_first), steps, every or None
        super().__init__(graph, bias, init, device, dtype)

    # ------------------------------------------------------------------ parameters

    def _make_plan(self, every_node: bool = False) -> Plan:
        return make_plan(self._graph, every_node=every_node, learn_leak=self.learn_leak)

    def _make_parameters(self, bias: bool, device: torch.device | str | None, dtype: torch.dtype) -> None:
        super()._make_parameters(bias, device, dtype)
        leaks = self._plan.leaks
        if self.learn_leak and leaks is not None:
            self.leak = nn.Parameter(torch.empty(len(leaks.bias_entry), device=device, dtype=dtype))
        else:
            self.register_parameter("leak", None)

    @property
    def num_states(self) -> int:
        """S: the numbers per sample that ``h`` holds."""
        return self._placed.num_states

    def reset_parameters(self) -> None:
        """Draw new weights, and reset biases and leaks to the stored values; see `freewire.Network`."""
        super().reset_parameters()
        if self.leak is not None:
            with undivided(self.leak) as leak:
                fill_stored(leak, self._plan.leaks.leak)  # type: ignore[union-attr]

    def _leak_of(self, placed: PlacedPlan, weight: Tensor) -> Tensor:
        """The leak of each leaky node of a plan, of the type and on the device of the weight."""
        plan, stored = placed.plan, placed.leak
        assert stored is not None
        if self.leak is None:
            return stored.to(weight)
        # The gradient is that of the parameter itself, so that one outside of the range can come back. The value is
        # exactly the clamped one, since what is added to it is 0.
        learnt = self.leak.to(weight.dtype)
        learnt = learnt - learnt.detach() + learnt.detach().clamp(_LEAST_LEAK, 1)
        own = self._plan.leaks
        assert own is not None and plan.leaks is not None  # noqa: PT018
        if plan is self._plan:
            return learnt
        place = np.searchsorted(plan.leaks.bias_entry, own.bias_entry)  # of all nodes', those that reach an output
        return stored.to(weight).index_copy(0, torch.from_numpy(place).to(weight.device), learnt)

    def step_parameters(
        self, weight: Tensor, bias: Tensor | None, placed: PlacedPlan | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Weights and biases of a step of a plan, the network's by default: with leaks, the graph's and theirs."""
        placed = self._placed if placed is None else placed
        if placed.leak is None:
            return weight, bias
        leak = self._leak_of(placed, weight)
        weight = torch.cat((weight, torch.stack((leak, 1 - leak), 1).flatten(), torch.ones_like(leak)))
        if placed.weight_entry is not None:
            weight = weight.index_select(0, placed.weight_entry)
        return weight, None if bias is None else torch.cat((bias, bias.new_zeros(1)))

    # ------------------------------------------------------------------ running it

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run a sequence.

        Args:
            x: ``[T, B, I]``, or ``[T, I]`` without a batch; with ``batch_first`` ``[B, T, I]``. Of the parameters' type
                and device.
            h: The state that an earlier call returned, ``[B, S]`` or ``[S]``; None: all values are 0 before the first
                step. ``h.detach()`` cuts the backward there. It has x's type, under autocast that of autocast.

        Returns:
            y, ``[T, B, O]`` in the layout of x, and the state after the last step.

        Raises:
            InputError: The shape, type or device of x or h does not fit.
            OutOfMemoryError: The call needs more memory than is available; not checked inside ``torch.compile``.
        """
        weight = self.weight  # read once: constraints compute it
        placed = self._placed
        if placed.words.device != weight.device:  # parameters were assigned or passed: assigning here is a side effect
            placed = self._placed = place(self._packed_plan, weight.device)
        return self.run_with(x, h, placed, weight, self.bias)

    def step(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run one frame.

        Args:
            x: ``[B, I]``, or ``[I]`` without a batch.
            h: As in `forward`.

        Returns:
            y, ``[B, O]`` or ``[O]``, and the state after it.
        """
        check_features(x, len(self._graph.inputs))
        if x.dim() > 2:
            raise InputError(
                f"x: expected one frame, [B, {x.shape[-1]}] or [{x.shape[-1]}], got {list(x.shape)}. "
                "Call the network itself for a sequence."
            )
        time = 1 if self.batch_first and x.dim() == 2 else 0
        y, h = self(x.unsqueeze(time), h)
        return y.squeeze(time), h

    def activations(self, x: Tensor, h: Tensor | None = None) -> dict[Hashable, Tensor]:
        """The values of all nodes at all frames, inputs and nodes that reach no output included; differentiable.

        Args:
            x: See `forward`.
            h: See `forward`. Nodes that reach no output start from 0.

        Returns:
            A dictionary from node names to values, ``[T, B]`` in the layout of x, in node order.
        """
        weight = self.weight
        if self._every_node is None or self._every_node.words.device != weight.device:
            self._plan_every_node(weight.device)
        assert self._every_node is not None
        values, _ = self.run_with(x, h, self._every_node, weight, self.bias)
        return dict(zip(self._graph.nodes, values.unbind(-1), strict=True))

    def run_with(
        self, x: Tensor, h: Tensor | None, placed: PlacedPlan, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`forward` of a plan of this network with given weights and biases, which need not be the network's."""
        plan, own = placed.plan, weight
        trained = any(p is not None and p.requires_grad for p in (weight, bias, self.leak))
        num_features = placed.num_inputs - placed.num_states
        check_features(x, num_features)
        original, device_type = x, x.device.type
        if device_type != "meta" and torch.is_autocast_enabled(device_type):  # here, so that autograd casts gradients
            target = torch.get_autocast_dtype(device_type)
            x, weight = autocast(x, target), autocast(weight, target)
            bias = None if bias is None else autocast(bias, target)
            h = autocast(h, target) if isinstance(h, Tensor) else h
        if x.dtype != weight.dtype or x.device != weight.device:
            check_input(original, own, num_features)  # raises
        check_input(x, weight, num_features)
        every = self.checkpoint_every or 0

        def run_steps(x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
            if not torch.compiler.is_compiling():
                check_sequence_memory(placed, x, states, every, trained)
            words, header, tape_rows = placed.words, placed.header, placed.tape_rows
            parameters = self.step_parameters(weight, bias, placed)
            return run_sequence(x, states, *parameters, words, header, plan.num_results, tape_rows, every)

        return self.run_frames(x, h, run_steps, placed)

    def run_frames(
        self,
        x: Tensor,
        h: Tensor | None,
        run_steps: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        placed: PlacedPlan | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Call a function of all time steps on what `forward` takes, and return what that returns.

        Args:
            x: As in `forward`, any type and device.
            h: As in `forward`.
            run_steps: ``(x [steps, B, I], states [B, V])`` to the outputs of all steps and the last states.
            placed: The plan whose states it takes; None: the network's.
        """
        placed = self._placed if placed is None else placed
        num_features = placed.num_inputs - placed.num_states
        if x.dim() not in (2, 3):
            layout = "[B, T, {0}]" if self.batch_first else "[T, B, {0}]"
            raise InputError(
                f"x: expected shape {layout.format(num_features)} or [T, {num_features}], got {list(x.shape)}. Put "
                "time and batch first, features last."
            )
        unbatched = x.dim() == 2
        x = x.unsqueeze(1) if unbatched else x.transpose(0, 1) if self.batch_first else x
        states = self._states(h, placed, x, unbatched)
        if self.steps > 1:
            x = x.repeat_interleave(self.steps, 0)
        y, last = run_steps(x, states)
        if self.steps > 1:
            y = y[self.steps - 1 :: self.steps]
        if unbatched:
            return y.squeeze(1), last.squeeze(0)
        return y.transpose(0, 1) if self.batch_first else y, last

    def _states(self, h: Tensor | None, placed: PlacedPlan, x: Tensor, unbatched: bool) -> Tensor:
        """The state ``h`` as the states before a plan's first step, ``[B, V]``, for x ``[T, B, I]``."""
        batch, own = x.shape[1], self._placed.num_states
        if h is None:
            return x.new_zeros(batch, placed.num_states)
        shape = [own] if unbatched else [batch, own]
        if not isinstance(h, Tensor) or list(h.shape) != shape:
            got = list(h.shape) if isinstance(h, Tensor) else type(h).__name__
            raise InputError(
                f"h: expected a state of shape {shape}, got {got}. Pass what an earlier call of this network with as "
                "many samples returned, or None."
            )
        if h.dtype != x.dtype or h.device != x.device:
            raise InputError(
                f"h: expected {x.dtype} on {x.device}, as x, got {h.dtype} on {h.device}. Convert it: h.to(x)."
            )
        states = h.unsqueeze(0) if unbatched else h
        if placed.plan is self._plan:
            return states
        place = torch.from_numpy(np.searchsorted(placed.plan.state_key, self._plan.state_key)).to(x.device)
        return states.new_zeros(batch, placed.num_states).index_copy(1, place, states)

    def memory(self, steps: int, batch: int, training: bool = True) -> int:
        """Peak memory of one call in bytes, besides x, the state and the parameters.

        Args:
            steps: Frames of the sequence.
            batch: Number of samples.
            training: Whether to count a forward and a backward; if not, a forward under ``torch.no_grad()``.

        Raises:
            InputError: ``steps`` or ``batch`` is not a whole number of at least 0.
        """
        frames = check_whole("steps", steps, 0, "Pass a number of frames.") * self.steps
        samples = check_whole("batch", batch, 0, "Pass a number of samples.")
        every = self.checkpoint_every or 0
        weight = self.weight
        held = 0  # x, once for each time step of a frame, and in training its gradient
        if self.steps > 1:
            held = (2 if training else 1) * frames * samples * self._plan.num_features * weight.dtype.itemsize
        return held + sequence_call_bytes(self._plan, samples, frames, every, weight, bool(training))

    # ------------------------------------------------------------------ what was learnt

    def to_networkx(self, grad: bool = False) -> nx.DiGraph | nx.MultiDiGraph:
        """The network as a networkx graph: see `freewire.Network.to_networkx`; learnt leaks replace the stored ones."""
        G = super().to_networkx(grad)  # noqa: N806
        if self.leak is not None:
            entries = self._graph.computed_index[self._plan.leaks.bias_entry]  # type: ignore[union-attr]
            for node, leak in zip(entries.tolist(), self._leak_of(self._placed, self.leak).tolist(), strict=True):
                G.nodes[self._graph.nodes[node]]["leak"] = leak
        return G

    def extra_repr(self) -> str:
        """The line that ``print(net)`` shows."""
        more = ", batch_first=True" * self.batch_first + f", steps={self.steps}" * (self.steps > 1)
        return super().extra_repr() + more
