# SPDX-License-Identifier: MIT
"""What the tests of recurrent networks share: graphs, and a plain loop that says what they must compute.

The loop knows neither freewire's plans nor its reference: it goes through time, and in each step through the nodes one
by one. Where 16 bits store the numbers, it rounds what the kernels store, and passes gradients unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from tests.support.tensors import NARROW, assert_within

SMOOTH = ("linear", "gelu", "silu", "softplus", "sigmoid", "tanh", "sin", "cos", "gaussian")
SUMS = ("sum", "mean", "product")

_LAGS = 65536  # freewire/plan/steps.py: a state's key is this times its node, plus its lag

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda z: z,
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.01),
    "elu": functional.elu,
    "selu": functional.selu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "gaussian": lambda z: torch.exp(-z * z),
    "abs": torch.abs,
    "square": lambda z: z * z,
    "step": lambda z: (z > 0).to(z) + 0 * z,
    "hard_tanh": functional.hardtanh,
    "hard_sigmoid": lambda z: functional.hardtanh(z + 3, 0, 6) / 6,
}
_AGGREGATIONS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "sum": sum,
    "mean": lambda terms: sum(terms) / len(terms),
    "product": math.prod,
    "max": lambda terms: reduce(lambda a, b: torch.where(b > a, b, a), terms),
    "min": lambda terms: reduce(lambda a, b: torch.where(b < a, b, a), terms),
    "maxabs": lambda terms: reduce(lambda a, b: torch.where(b.abs() > a.abs(), b, a), terms),
}


# ---------------------------------------------------------------------------------- graphs


def wired(
    seed: int,
    leak: bool = True,
    num_nodes: int = 12,
    num_edges: int = 36,
    activation: Sequence[str] = SMOOTH,
    aggregation: Sequence[str] = SUMS,
) -> fw.Graph:
    """A random graph of three inputs, one of which is an output, delays of 0 to 3, loops and parallel edges.

    Node 3 reaches no output, no input reaches node 4, and node 5 reads nothing; node 6 reads itself.
    """
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, num_nodes, num_edges), rng.integers(6, num_nodes, num_edges)
    src[src == 3] = 0
    src = np.concatenate((src, [0, 5, 4, 4, 6, 1, 2]))
    dst = np.concatenate((dst, [3, 4, 4, 6, 6, 6, 7]))
    delay = np.where(src < dst, rng.integers(0, 3, len(src)), rng.integers(1, 4, len(src)))
    leaks = np.where(rng.random(num_nodes) < 0.5, rng.uniform(0.05, 0.95, num_nodes), 1)
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=num_nodes,
        inputs=[0, 1, 2],
        outputs=[num_nodes - 1, 7, 1, 6],
        delay=delay,
        leak=leaks if leak else None,
        activation=rng.choice(activation, num_nodes).tolist(),
        aggregation=rng.choice(aggregation, num_nodes).tolist(),
    )


def every_kind(seed: int = 0) -> fw.Graph:
    """A node of each activation with each aggregation, most of them read by others; 4 inputs, 30 outputs."""
    rng = np.random.default_rng(seed)
    count = len(ACTIVATIONS) * len(AGGREGATIONS)
    dst = np.repeat(np.arange(4, 4 + count), rng.integers(0, 5, count))
    src = np.where(rng.random(len(dst)) < 0.4, rng.integers(0, 4, len(dst)), rng.integers(0, 4 + count, len(dst)))
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=4 + count,
        inputs=range(4),
        outputs=rng.choice(np.arange(4, 4 + count), 30, replace=False),
        delay=np.where(src < dst, rng.integers(0, 3, len(src)), rng.integers(1, 4, len(src))),
        leak=rng.choice((1, 0.5, 0.125), 4 + count),
        activation=["linear"] * 4 + list(ACTIVATIONS) * len(AGGREGATIONS),
        aggregation=["sum"] * 4 + np.repeat(AGGREGATIONS, len(ACTIVATIONS)).tolist(),
    )


def recurrent(graph: fw.Graph, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> fw.Recurrent:
    """A network with random weights and biases, small enough that values stay of order one."""
    torch.manual_seed(seed)
    net = fw.Recurrent(graph, dtype=dtype, init="self_normalized", **options)
    with torch.no_grad():
        net.weight.mul_(0.9)
        if net.bias is not None:
            net.bias.normal_(std=0.5)
    return net


def sequence_of(net: fw.Recurrent, steps: int, *batch: int, seed: int = 1) -> Tensor:
    """X of this many frames, standard normal, of the network's type."""
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, *batch, len(net.graph.inputs))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(net.weight)


def state_of(net: fw.Recurrent, *batch: int, seed: int = 2) -> Tensor:
    """A random state."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, net.num_states, generator=generator, dtype=torch.float64).to(net.weight)


# ---------------------------------------------------------------------------------- the plain loop


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def plain_loop(
    net: fw.Recurrent, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, leak: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What ``net(x, h)`` must return, and the values of all nodes; differentiable.

    Args:
        net: Its graph, and the type that numbers are stored in, are used.
        x: Float64 ``[T, B, I]``.
        h: Float64 ``[B, S]``.
        weight: Float64 ``[E]``.
        bias: Float64, or None.
        leak: Float64, one for each leaky node that reaches an output; None: those that the graph stores.

    Returns:
        y ``[T, B, O]``, the last state ``[B, S]``, and all values ``[T, B, N]``.
    """
    g, dtype = net.graph, net.weight.dtype

    def stored(value: Tensor) -> Tensor:
        return _Rounded.apply(value, dtype) if dtype in NARROW else value

    assert g.delay is not None
    count, batch = g.num_nodes, x.shape[1]
    nothing = x.new_zeros(batch)
    in_edges: list[list[tuple[int, int, int]]] = [[] for _ in range(count)]
    for e, (u, v, k) in enumerate(zip(*g.edge_index.tolist(), g.delay.tolist(), strict=True)):
        in_edges[v].append((e, u, k))
    bias_entry = {v: i for i, v in enumerate(g.computed_index.tolist())}
    feature = {v: i for i, v in enumerate(g.input_index.tolist())}
    alphas = _alphas(net, leak)
    # The state: past[k][v] is the value of v k steps ago.
    keys = net.plan.state_key.tolist()
    past = [[nothing] * count for _ in range(1 + int(g.delay.max(initial=0)))]
    z = [nothing] * count
    for i, key in enumerate(keys):
        node, lag = divmod(key, _LAGS)
        if node < count:
            past[lag][node] = h[:, i]
        else:
            z[key - count * _LAGS] = h[:, i]
    frames = []
    for t in range(x.shape[0]):
        now = past[0] = [nothing] * count
        for v in sorted(range(count), key=lambda v: int(g.level[v])):
            if v in feature:
                now[v] = x[t, :, feature[v]]
                continue
            terms = [weight[e] * past[k][u] for e, u, k in in_edges[v]]
            m = _AGGREGATIONS[AGGREGATIONS[g.aggregation[v]]](terms) if terms else nothing
            if bias is not None:
                m = m + bias[bias_entry[v]]
            if v in alphas:
                alpha, beta = alphas[v]
                m = z[v] = stored(alpha * stored(m) + beta * z[v])
            now[v] = stored(_ACTIVATIONS[ACTIVATIONS[g.activation[v]]](m))
        frames.append(torch.stack(now, 1))
        past = [now, *past[:-1]]
    last = [past[k % _LAGS][k // _LAGS] if k < count * _LAGS else z[k - count * _LAGS] for k in keys]
    values = torch.stack(frames) if frames else x.new_zeros(0, batch, count)
    return values[:, :, g.output_index.tolist()], torch.stack(last, 1) if last else x.new_zeros(batch, 0), values


def _alphas(net: fw.Recurrent, leak: Tensor | None) -> dict[int, tuple[Any, Any]]:
    """The leak of each leaky node, and what of z remains, as the network's type holds them."""
    g, dtype = net.graph, net.weight.dtype
    if g.leak is None:
        return {}
    if leak is not None:
        nodes = [v for v in g.computed_index.tolist() if g.reaches_output[v] and not np.isnan(g.leak[v])]
        return {v: (leak[i], 1 - leak[i]) for i, v in enumerate(nodes)}
    alphas = {}
    for v in g.computed_index.tolist():
        if g.leak[v] < 1:
            alpha = torch.tensor(g.leak[v], dtype=dtype)
            alphas[v] = alpha.item(), (1 - alpha).item()
    return alphas


# ---------------------------------------------------------------------------------- comparing


def gradients(
    run: Callable[..., tuple[Tensor, ...]], leaves: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """Y, the last state, and the gradients of ``leaves``, detached; 0 for those without one."""
    results = run()[:2]
    live = [(y, grad.to(y.dtype)) for y, grad in zip(results, grads, strict=True) if y.requires_grad]
    ys, given = zip(*live, strict=True) if live else ((), ())
    found = torch.autograd.grad(ys, leaves, given, allow_unused=True) if live else [None] * len(leaves)
    return [y.detach() for y in results] + [
        torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, found, strict=True)
    ]


def own_gradients(net: fw.Recurrent, x: Tensor, h: Tensor, *grads: Tensor) -> list[Tensor]:
    """`gradients` of ``net(x, h)`` with respect to x, h and the parameters."""
    x, h = x.detach().requires_grad_(), h.detach().requires_grad_()
    return gradients(lambda: net(x, h), [x, h, *net.parameters()], grads)


def assert_matches_plain_loop(net: fw.Recurrent, steps: int, batch: int, seed: int = 3) -> None:
    """Outputs, the last state and all gradients are those of `plain_loop`, within rounding of the network's type."""
    x, h = sequence_of(net, steps, batch), state_of(net, batch)
    generator = torch.Generator().manual_seed(seed)
    shapes = ((steps, batch, len(net.graph.outputs)), (batch, net.num_states))
    grads = [torch.randn(shape, generator=generator, dtype=torch.float64).to(net.weight) for shape in shapes]
    names = ["y", "last", "x", "h", *(name for name, _ in net.named_parameters())]
    found = own_gradients(net, x, h, *grads)
    leaves = {
        name: value.detach().double().requires_grad_()
        for name, value in {"x": x, "h": h, **dict(net.named_parameters())}.items()
    }
    wanted = gradients(
        lambda: plain_loop(net, leaves["x"], leaves["h"], leaves["weight"], leaves.get("bias"), leaves.get("leak")),
        list(leaves.values()),
        [grad.double() for grad in grads],
    )
    own = [value.detach().requires_grad_() for value in (x, h)]
    rough = gradients(lambda: fw.reference(net, *own), [*own, *net.parameters()], grads)
    for name, got, want, about in zip(names, found, wanted, rough, strict=True):
        assert got.dtype == net.weight.dtype, name
        assert_within(got, want, about, name)


def with_parameters_of(net: fw.Recurrent, **options: Any) -> fw.Recurrent:
    other = fw.Recurrent(net.graph, dtype=net.weight.dtype, **options)
    other.load_state_dict(net.state_dict())
    return other
